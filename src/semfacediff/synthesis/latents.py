"""Photos, label maps and latents at the training size: made once, then read in place.

A training reads the same photos hundreds of times, and its first stage is frozen: decoding, resizing and encoding them
once is most of what can be saved. The files lie in a cache whose folder is named by what they depend on.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from semfacediff.data.sizes import resized_labels, resized_photo
from semfacediff.errors import UserError
from semfacediff.labels import LabelSpace
from semfacediff.types import Faces, FaceSample

VERSION = 1
"""Raised whenever the preparation changes."""


@dataclass(frozen=True)
class PreparedFaces:
    """Samples at one size; the arrays are mapped from files and not to be written to.

    Attributes:
        ids: of the samples, in the order of the data set.
        photos: uint8 ``[n, S, S, 3]``. labels: uint8 ``[n, S, S]`` in ``label_space``.
        latents: float32 ``[n, c, h, w]``, not quantised; ``None`` where no first stage has been asked.
    """

    ids: tuple[str, ...]
    label_space: LabelSpace
    photos: np.ndarray
    labels: np.ndarray
    latents: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.ids)


def at_size(sample: FaceSample, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Photo uint8 ``[size, size, 3]`` (bicubic) and labels uint8 ``[size, size]`` (nearest), by Pillow as published."""
    photo = resized_photo(sample.photo, (size, size), Image.Resampling.BICUBIC)
    return photo, resized_labels(sample.label_map.astype(np.uint8, copy=False), (size, size))


def to_signed(photos: np.ndarray | Tensor) -> Tensor:
    """float32 ``[N, 3, S, S]`` in [-1,1] from uint8 ``[N, S, S, 3]``."""
    x = torch.from_numpy(np.array(photos)) if isinstance(photos, np.ndarray) else photos
    return x.permute(0, 3, 1, 2).float() / 127.5 - 1


def from_signed(images: Tensor) -> np.ndarray:
    """uint8 ``[N, S, S, 3]`` from ``[N, 3, S, S]`` in [-1,1], clamped and rounded."""
    x = ((images.detach().float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return x.permute(0, 2, 3, 1).contiguous().cpu().numpy()


def prepared_faces(faces: Faces, digest: str, size: int, cache: Path) -> PreparedFaces:
    """Every sample of ``faces`` at ``size``, from the cache or made now.

    Args:
        faces: map-style data set with labels. digest: of its contents.
        cache: folder of all caches.

    Raises:
        UserError: the cache cannot be written, or what lies there is of other samples.
    """
    n, key = len(faces), {"faces": digest, "size": size, "space": faces.label_space.name, "version": VERSION}
    shapes = {"photos": ((n, size, size, 3), np.uint8), "labels": ((n, size, size), np.uint8)}

    def fill(arrays: Mapping[str, np.ndarray]) -> None:
        for i in tqdm(range(n), desc=f"prepare {size} px", unit="photo", leave=False, disable=None):
            arrays["photos"][i], arrays["labels"][i] = at_size(faces[i], size)

    made = _cached(cache, "faces", key, faces.ids, shapes, fill)
    return PreparedFaces(tuple(faces.ids), faces.label_space, made["photos"], made["labels"])


def with_latents(
    prepared: PreparedFaces,
    digest: str,
    encode: Callable[[Tensor], Tensor],
    first_stage_digest: str,
    batch_size: int,
    device: torch.device,
    cache: Path,
) -> PreparedFaces:
    """``prepared`` with what a frozen first stage makes of its photos, from the cache or made now.

    On the CPU photos go through one by one, so that latents do not depend on their neighbours; nothing is gained from
    batches there.

    Args:
        digest: of the data. encode: images in [-1,1] -> latents.
        first_stage_digest: of its weights.
    """
    batch = 1 if device.type == "cpu" else batch_size
    size = prepared.photos.shape[1]
    with torch.inference_mode():
        example = encode(to_signed(prepared.photos[:1]).to(device))
    key = {"faces": digest, "size": size, "first_stage": first_stage_digest, "version": VERSION}

    @torch.inference_mode()
    def fill(arrays: Mapping[str, np.ndarray]) -> None:
        for i in tqdm(range(0, len(prepared), batch), desc="encode", unit="batch", leave=False, disable=None):
            x = to_signed(prepared.photos[i : i + batch]).to(device)
            arrays["latents"][i : i + batch] = encode(x).float().cpu().numpy()

    shapes = {"latents": ((len(prepared), *example.shape[1:]), np.float32)}
    latents = _cached(cache, "latents", key, prepared.ids, shapes, fill)["latents"]
    return PreparedFaces(prepared.ids, prepared.label_space, prepared.photos, prepared.labels, latents)


def _cached(
    cache: Path,
    kind: str,
    key: dict,
    ids: Sequence[str],
    shapes: Mapping[str, tuple[tuple[int, ...], type]],
    fill: Callable[[Mapping[str, np.ndarray]], None],
) -> dict[str, np.ndarray]:
    """Arrays that ``fill`` made for ``key``; a folder is whole or absent, however many processes ask at once."""
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    folder = cache / f"{kind}_{digest}"
    _remove_leftovers(cache, kind)
    if not folder.is_dir():
        nbytes = sum(math.prod(shape) * np.dtype(dtype).itemsize for shape, dtype in shapes.values())
        with _new_folder(cache, folder, nbytes) as new:
            made = {name: _reserved(new / f"{name}.npy", dtype, shape) for name, (shape, dtype) in shapes.items()}
            fill(made)
            for array in made.values():
                array.flush()
            (new / "about.json").write_text(json.dumps({"key": key, "ids": list(ids)}))
    return _opened(folder, key, ids, shapes)


def _reserved(file: Path, dtype: type, shape: tuple[int, ...]) -> np.memmap:
    """A new array mapped from ``file``, with its space taken on the disk.

    Writing to a mapped file that finds the disk full would end the process by a signal (SIGBUS).

    Raises:
        OSError: there is no room.
    """
    array = np.lib.format.open_memmap(file, "w+", dtype, shape)
    with open(file, "r+b") as f:
        if hasattr(os, "posix_fallocate"):  # not on macOS
            os.posix_fallocate(f.fileno(), 0, os.fstat(f.fileno()).st_size)
        elif shutil.disk_usage(file.parent).free < array.nbytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return array


@contextlib.contextmanager
def _alone(folder: Path, wait: bool) -> Iterator[None]:
    """Hold a folder; :class:`BlockingIOError` where another process does and ``wait`` is not asked for."""
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(lock)


def _remove_leftovers(cache: Path, kind: str) -> None:
    """Remove the sets that killed processes began; what a living one fills is held."""
    with contextlib.suppress(OSError), _alone(cache, wait=True):
        for left in cache.glob(f".{kind}_*"):
            with contextlib.suppress(BlockingIOError), _alone(left, wait=False):
                shutil.rmtree(left, ignore_errors=True)


@contextlib.contextmanager
def _new_folder(cache: Path, folder: Path, nbytes: int) -> Iterator[Path]:
    """A folder to be filled with ``nbytes``, which then becomes ``folder``."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            with _alone(cache, wait=True):  # until it is held, the new folder looks left over
                new = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=cache))
                stack.callback(shutil.rmtree, new, ignore_errors=True)
                stack.enter_context(_alone(new, wait=True))
            yield new
            try:
                os.rename(new, folder)
            except OSError:
                if not folder.is_dir():  # else another process was quicker, with the same contents
                    raise
    except OSError as e:
        raise UserError(
            f"cannot keep prepared photos in {cache} ({e.strerror or e}, {nbytes / 1e6:.1f} MB are needed); free space "
            f"there, or set XDG_CACHE_HOME=DIR"
        ) from e


def _opened(folder: Path, key: dict, ids: Sequence[str], shapes: Mapping) -> dict[str, np.ndarray]:
    try:
        about = json.loads((folder / "about.json").read_text())
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in shapes}
        same = about["key"] == key and about["ids"] == list(ids)
        whole = same and all(arrays[n].shape == tuple(shape) for n, (shape, _) in shapes.items())
    except (OSError, ValueError, KeyError) as e:
        raise UserError(f"{folder}: a damaged cache ({type(e).__name__}); remove this folder and repeat") from e
    if not whole:
        raise UserError(f"{folder}: a damaged cache (other contents than its name says); remove this folder and repeat")
    return arrays

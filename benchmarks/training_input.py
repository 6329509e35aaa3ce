"""Training input: photos/s of our loader against Pillow in the main process.

    python benchmarks/training_input.py [--photos 192] [--size 256] [--workers 2] [--root SHARDS]

Draws faces (512 px, JPEG beside PNG) unless --root names WebDataset shards. Both ways end in normalised float32 batches
of photos and integer labels. The plain way: Pillow and torchvision's transforms on its images, batches of 2, no
workers. Ours: the training's loader, batches of 8 as uint8 (float32 for `ce7454`), normalised as a whole; with photos
decoded in each epoch, and with the decoded ones kept in memory (decoding not timed).

    none       nothing but decoding and resizing; at 512 px the batches must be equal
    standard   plain: flip, affine and jitter of about the same strength
    strong     plain: the same, with grey, gamma, blur and noise
    ce7454     the same sequence
    ... device the same, on whole batches where the network would be (an accelerator if there is one)

Each number is the better of two turns, ours and the plain way by turns, as others may be using the machine; processor
time (ms a photo, all processes, their start included) suffers less from that. Torch has one thread in every process: on
a busy machine more of them wait for each other, and the plain way would look bad.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"

import argparse
import functools
import io
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from comparing import Comparison, in_turns
from PIL import Image, ImageOps
from torchvision.transforms import ColorJitter, InterpolationMode
from torchvision.transforms import functional as F

from semfacediff.data.batches import TrainingView, loader
from semfacediff.data.files import FileFaces
from semfacediff.data.folder import index_folder
from semfacediff.data.shards import index_shards
from semfacediff.data.toy import ToyFaces
from semfacediff.labels import CELEBAMASK

MEAN, STD = (0.5192, 0.4182, 0.3640), (0.2684, 0.2415, 0.2340)
TURNS = 2
PLAIN_PHOTOS = 32
Pair = tuple[Image.Image, Image.Image]


def write_faces(root: Path, n: int) -> None:
    """A folder of ``n`` drawn faces."""
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    for sample in ToyFaces(n, 512):
        Image.fromarray(sample.photo).save(root / "images" / f"{sample.id}.jpg", quality=90)
        Image.fromarray(sample.labels).save(root / "masks" / f"{sample.id}.png")


def plain_geometry(photo: Image.Image, mask: Image.Image, degrees: float, shift: float, zoom: float) -> Pair:
    """Flip with p 0.5, then rotation, shift and zoom."""
    rng = np.random
    if rng.rand() < 0.5:
        photo = ImageOps.mirror(photo)
        mask = Image.fromarray(CELEBAMASK.mirrored[np.array(ImageOps.mirror(mask))].astype(np.uint8))
    shift_px = (rng.uniform(-shift, shift, 2) * photo.width).astype(int).tolist()
    moved = (rng.uniform(-degrees, degrees), shift_px, np.exp(rng.uniform(-zoom, zoom)), [0.0, 0.0])
    return F.affine(photo, *moved, interpolation=InterpolationMode.BILINEAR), F.affine(mask, *moved)


def plain_standard(photo: Image.Image, mask: Image.Image) -> tuple[torch.Tensor, Image.Image]:
    photo, mask = plain_geometry(photo, mask, 12, 0.06, 0.22)
    return F.to_tensor(ColorJitter(0.25, 0.25, 0.25)(photo)), mask


def plain_strong(photo: Image.Image, mask: Image.Image) -> tuple[torch.Tensor, Image.Image]:
    photo, mask = plain_geometry(photo, mask, 15, 0.1, 0.5)
    photo = ColorJitter(0.3, 0.3, 0.4)(photo)
    if np.random.rand() < 0.08:
        photo = ImageOps.grayscale(photo).convert("RGB")
    if np.random.rand() < 0.3:
        photo = F.adjust_gamma(photo, np.random.uniform(0.7, 1.4))
    if np.random.rand() < 0.15:
        photo = F.gaussian_blur(photo, 5, np.random.uniform(0.3, 1.2))
    x = F.to_tensor(photo)
    if np.random.rand() < 0.15:
        x = (x + torch.randn_like(x) * np.random.uniform(0.004, 0.03)).clamp(0, 1)
    return x, mask


def plain_ce7454(photo: Image.Image, mask: Image.Image) -> tuple[torch.Tensor, Image.Image]:
    side = photo.width
    size = int(side * np.random.uniform(1.0, 1.1))
    photo = F.center_crop(photo.resize((size, size), Image.Resampling.BILINEAR), side)
    mask = F.center_crop(mask.resize((size, size), Image.Resampling.NEAREST), side)
    photo = ColorJitter(0.25, 0.25, 0.25, 0.1)(photo)
    if np.random.rand() < 0.5:
        photo = F.gaussian_blur(photo, 3)
    x = F.to_tensor(photo)
    return (x + torch.randn_like(x) * 0.03).clamp(0, 1), mask


PLAIN: dict[str, Callable[[Image.Image, Image.Image], tuple[torch.Tensor, Image.Image]]] = {
    "none": lambda photo, mask: (F.to_tensor(photo), mask),
    "standard": plain_standard,
    "strong": plain_strong,
    "ce7454": plain_ce7454,
}


def with_pillow(faces: FileFaces, size: int, recipe: str, order: list[int]) -> Iterator[tuple[torch.Tensor, ...]]:
    """The plain way, batches of 2."""
    for k in range(0, len(order), 2):
        photos, labels = [], []
        for i in order[k : k + 2]:
            entry = faces.entries[i]
            photo = (
                Image.open(io.BytesIO(entry.photo.read()), formats=("JPEG", "PNG"))
                .convert("RGB")
                .resize((size, size), 2)
            )
            mask = Image.open(io.BytesIO(entry.labels.read()), formats=("PNG",)).resize(
                (size, size), Image.Resampling.NEAREST
            )
            x, mask = PLAIN[recipe](photo, mask)
            photos.append(F.normalize(x, MEAN, STD))
            labels.append(torch.from_numpy(np.array(mask)).long())
        yield torch.stack(photos), torch.stack(labels)


def ours(view: TrainingView, workers: int, device: torch.device) -> Iterator[tuple[torch.Tensor, ...]]:
    """The training's way."""
    mean, std = (torch.tensor(v, device=device).view(1, 3, 1, 1) for v in (MEAN, STD))
    for photos, labels in view.placed(loader(view, 8, epoch=0, workers=workers), device):
        yield (photos.float() / 255 - mean) / std, labels.long()


def measured(batches: Iterator[tuple[torch.Tensor, ...]]) -> tuple[float, float]:
    """Photos a second, and minus the processor time a photo in ms (so that more is better in both)."""
    start, before = time.perf_counter(), sum(os.times()[:4])
    n = sum(len(photos) for photos, _ in batches)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return n / (time.perf_counter() - start), -1000 * (sum(os.times()[:4]) - before) / n


def check_equal(faces: FileFaces) -> None:
    """Without augmentation and resizing both ways give the same tensors."""
    side = faces[0].photo.shape[0]
    view = TrainingView(FileFaces(faces.entries[:8], faces.label_space), side, "none", seed=0)
    (mine,) = ours(view, workers=0, device=torch.device("cpu"))
    order = [key[1] for key in next(iter(loader(view, 8, 0).batch_sampler))]
    plain = [torch.cat(x) for x in zip(*with_pillow(faces, side, "none", order), strict=True)]
    if not torch.equal(mine[1], plain[1]) or (mine[0] - plain[0]).abs().max() > 1e-5:
        raise SystemExit("the two ways give different tensors")


def comparisons(photos: int = 96, size: int = 256, workers: int = 2) -> Iterator[Comparison]:
    """`standard` augmentation, photos decoded in each epoch."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    command = f"python benchmarks/training_input.py --photos {photos} --size {size} --workers {workers}"
    with tempfile.TemporaryDirectory() as temporary:
        write_faces(Path(temporary), 24)
        entries = index_folder(Path(temporary), "images", "masks", labels_needed=True).entries
        faces = FileFaces((entries * (1 + photos // len(entries)))[:photos], CELEBAMASK)
        check_equal(faces)
        view = TrainingView(faces, size, "standard", seed=0)
        plain = functools.partial(with_pillow, faces, size, "standard", list(range(photos)))
        mine = functools.partial(ours, view, workers, torch.device("cpu"))
        taken = in_turns(lambda: list(plain()), lambda: list(mine()), TURNS + 1)
        note = f"{workers} workers, whose processor time is not in cpu; unaugmented tensors equal"
        yield taken.compared(f"training input {size} px standard", photos, "photos/s", 1.5, command, note)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--photos", type=int, default=192)
    arguments.add_argument("--size", type=int, default=256)
    arguments.add_argument("--workers", type=int, default=2)
    arguments.add_argument("--root", type=Path, help="shards of real photos instead of drawn faces")
    a = arguments.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as temporary:
        if a.root is None:
            write_faces(Path(temporary), min(a.photos, 40))
            entries = index_folder(Path(temporary), "images", "masks", labels_needed=True).entries
            entries = (entries * (1 + a.photos // len(entries)))[: a.photos]
        else:
            entries = index_shards(a.root, "*.tar", labels_needed=True).entries[: a.photos]
        faces = FileFaces(entries, CELEBAMASK)
        check_equal(faces)
        print(f"{len(faces)} photos to {a.size} px, {a.workers} workers; photos/s")
        print(f"{'':14} {'photos/s':^40} {'processor ms a photo':^25}")
        ways = f"{'Pillow':>8} {'ours':>8} {'ratio':>5} {'in memory':>10} {'ratio':>5}"
        print(f"{'recipe':14} {ways} {'Pillow':>8} {'ours':>7} {'in memory':>10}")
        accelerator = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        for recipe, on_device in [*((name, False) for name in PLAIN), ("ce7454", True)]:
            device = accelerator if on_device else torch.device("cpu")
            options = {"size": a.size, "augment": recipe, "seed": 0, "on_device": on_device}
            views = [TrainingView(faces, **options, keep_in_memory=keep) for keep in (False, True)]
            order = np.random.default_rng(0).permutation(len(faces))[:PLAIN_PHOTOS].tolist()
            turns = []
            for _ in range(TURNS):
                plain = with_pillow(faces, a.size, recipe, order)
                turns.append([measured(plain), *(measured(ours(v, a.workers, device)) for v in views)])
            (plain, decoded, kept), ms = np.max(turns, axis=0).T
            rates = f"{plain:8.1f} {decoded:8.1f} {decoded / plain:5.2f} {kept:10.1f} {kept / plain:5.2f}"
            what = f"{recipe} {'device' if on_device else ''}"
            print(f"{what:14} {rates} {-ms[0]:8.1f} {-ms[1]:7.1f} {-ms[2]:10.1f}")


if __name__ == "__main__":
    main()

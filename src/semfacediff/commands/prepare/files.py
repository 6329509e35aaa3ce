"""Conversion of each photo for ``semfacediff prepare``: in worker processes, into files or tars."""

import hashlib
import io
import multiprocessing
import os
import signal
import tarfile
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from semfacediff.data.celebamask_layout import OfficialEntry, paint_order
from semfacediff.data.celebamask_paint import painted
from semfacediff.data.reading import MIN_SIDE_PX, photo_size
from semfacediff.errors import UserError
from semfacediff.labels import CELEBAMASK
from semfacediff.records.writing import write_errors

CHUNK = 16  # photos a worker takes at a time
# Label maps are runs of equal pixels: run-length matches alone make smaller files in less time than the full search.
_PNG = (cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE)


@dataclass(frozen=True)
class Settings:
    """Settings that determine the output; a folder started with other settings is refused.

    Attributes:
        layout: ``folder`` or ``shards``.
        split: ``train``, ``val``, ``test`` or ``all``.
        order: ``official`` or ``segface``.
        shard_size: photos per tar.
        allow_mask_resize: resize part masks that differ in size or aspect ratio instead of leaving the photo out.
    """

    layout: str = "folder"
    split: str = "all"
    order: str = "official"
    shard_size: int = 1000
    allow_mask_resize: bool = False


@dataclass(frozen=True)
class Prepared:
    """Result for one photo: bytes to write, or the error.

    Attributes:
        photo, labels: JPEG and PNG bytes; ``None`` after an error, or once they are written.
        absent: classes without a part mask.
        odd: messages about misnamed files.
        error: why the photo is left out.
        source: fingerprint of its source files.
        tar, tar_photos: name of its tar and number of photos in it; only in layout ``shards``.
    """

    id: str
    photo: bytes | None = None
    labels: bytes | None = None
    absent: tuple[str, ...] = ()
    odd: tuple[str, ...] = ()
    error: str | None = None
    source: str | None = None
    tar: str | None = None
    tar_photos: int | None = None

    def files(self) -> tuple[bytes, bytes]:
        """Photo and labels, while they are here."""
        if self.photo is None or self.labels is None:
            raise ValueError(f"{self.id}: nothing to write")
        return self.photo, self.labels

    def row(self) -> dict:
        """Row for the log."""
        row = {"id": self.id, "absent": list(self.absent), "odd": list(self.odd), "error": self.error}
        return row | {"source": self.source, "tar": self.tar, "tar_photos": self.tar_photos}


def fingerprint(entry: OfficialEntry) -> str:
    """Digest of names, sizes and modification times of the entry's files: the files are not read."""
    digest = hashlib.sha256()
    for blob in (entry.photo, *(entry.parts[part] for part in sorted(entry.parts))):
        try:
            stat = blob.path.stat()
            facts = f"{stat.st_size}:{stat.st_mtime_ns}"
        except OSError:
            facts = "unreadable"  # reading it will report the error
        digest.update(f"{blob.name}:{facts};".encode())
    return digest.hexdigest()[:16]


def prepare_one(entry: OfficialEntry, settings: Settings) -> Prepared:
    """Photo bytes and label map of one entry; an error in its files becomes its ``error``."""
    source = fingerprint(entry)  # before reading: files that change meanwhile are converted again next time
    try:
        photo = entry.photo.read()
        height, width = photo_size(photo, entry.photo.name)
        if min(height, width) < MIN_SIDE_PX:
            raise UserError(f"{entry.photo.name}: {width}x{height} px; a photo needs at least {MIN_SIDE_PX} px a side")
        parts = {part: (blob.name, blob.read()) for part, blob in entry.parts.items()}
        seen = (entry.photo.name, (height, width))
        labels, odd = painted(parts, paint_order(settings.order), seen, settings.allow_mask_resize)
    except UserError as e:
        return Prepared(entry.id, error=str(e), source=source)
    absent = tuple(c for c in CELEBAMASK.classes[1:] if c not in parts)
    return Prepared(entry.id, photo, label_png(labels), absent, tuple(odd), source=source)


def label_png(labels: np.ndarray) -> bytes:
    """PNG (mode L) of a label map uint8 ``[H, W]``."""
    return cv2.imencode(".png", labels, _PNG)[1].tobytes()


def make(todo: list[OfficialEntry], settings: Settings, out: Path, workers: int) -> Iterator[Prepared]:
    """Convert ``todo`` in order with ``workers`` processes; in layout ``folder`` also write the files."""
    work = _in_memory
    if settings.layout == "folder":
        work = _in_folder
        with write_errors(out):
            for name in ("images", "masks"):
                (out / name).mkdir(exist_ok=True)
    chunks = [todo[k : k + CHUNK] for k in range(0, len(todo), CHUNK)]
    workers = min(workers, len(chunks))
    if workers > 1:
        yield from _in_processes(work, chunks, settings, out, workers)
        return
    for chunk in chunks:
        yield from work(chunk, settings, out)


def _in_memory(entries: list[OfficialEntry], settings: Settings, out: Path) -> list[Prepared]:
    return [prepare_one(e, settings) for e in entries]


def _in_folder(entries: list[OfficialEntry], settings: Settings, out: Path) -> list[Prepared]:
    return [_written(prepare_one(e, settings), out) for e in entries]


def folder_files(id_: str) -> tuple[str, str]:
    """Paths of photo and label map in layout ``folder``."""
    return f"images/{id_}.jpg", f"masks/{id_}.png"


def _written(made: Prepared, out: Path) -> Prepared:
    if made.error is not None:
        return made
    for file, data in zip(folder_files(made.id), made.files(), strict=True):
        new = out / f"{file}.new"  # not a suffix that readers accept as a photo
        with write_errors(out / file):
            new.write_bytes(data)
            os.replace(new, out / file)
    return replace(made, photo=None, labels=None)


def _in_processes(
    work: Callable, chunks: list[list[OfficialEntry]], settings: Settings, out: Path, workers: int
) -> Iterator[Prepared]:
    """Results in order, with a bounded number of chunks in progress."""
    context = multiprocessing.get_context("spawn")  # a fork would copy locks of running threads
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_as_worker) as pool:
        waiting: list[Future] = []
        source = iter(chunks)
        try:
            while True:
                waiting += [pool.submit(work, c, settings, out) for c in islice(source, 3 * workers - len(waiting))]
                if not waiting:
                    return
                yield from waiting.pop(0).result()
        except BrokenProcessPool as e:
            raise UserError(
                "a worker process was killed (out of memory?); repeat the command with fewer --workers: it "
                "continues where it stopped"
            ) from e
        finally:
            pool.shutdown(cancel_futures=True)


def _as_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    cv2.setNumThreads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    # A killed parent cannot notify its workers, which would wait for ever.
    if parent := multiprocessing.parent_process():
        parent.join()
    os._exit(1)


# --------------------------------------------------------------------------------------------------------------------
# Shards: one tar after another, each under another name until it is whole.


def shards(entries: list[OfficialEntry], size: int, out: Path) -> Iterator[tuple[Path, list[OfficialEntry]]]:
    """(tar, its photos); each tar holds a single split, so that a split can be copied as a list of tars."""
    k = 0
    for split in ("train", "val", "test", None):
        of_split = [e for e in entries if e.split == split]
        for start in range(0, len(of_split), size):
            yield out / f"celebamask_hq-{k:05d}.tar", of_split[start : start + size]
            k += 1


def into_tars(made: Iterator[Prepared], tars: Iterable[tuple[Path, list[OfficialEntry]]]) -> Iterator[Prepared]:
    """Write ``made`` tar by tar; yields a tar's photos once it has its final name."""
    for file, photos in tars:
        new, done = file.with_suffix(".tar.new"), []
        with write_errors(file):
            with tarfile.open(new, "w") as tar:
                for one in islice(made, len(photos)):
                    if one.error is None:
                        photo, labels = one.files()
                        _add(tar, f"{one.id}.jpg", photo)
                        _add(tar, f"{one.id}.png", labels)
                    done.append(replace(one, photo=None, labels=None, tar=file.name, tar_photos=len(photos)))
            os.replace(new, file)
        yield from done


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)  # no time stamp, no owner: the same photos make the same tar
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))

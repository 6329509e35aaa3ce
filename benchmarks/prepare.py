"""Label maps from part masks: ours against reading and painting the parts one after another with Pillow.

python benchmarks/prepare.py [--photos 24] [--mode RGB|L] [--root OFFICIAL]

Draws a miniature of the official layout (parts 512 px, RGB PNG like the official ones) unless --root names the real
one. Prints milliseconds of processor time a photo, on one core, and the ratio; the label maps must be equal.

    read and paint   part files to a label map in memory
    whole            the same, and photo and label map written to a folder
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"

import argparse
import functools
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
from comparing import Comparison, in_turns
from PIL import Image

from semfacediff.commands.prepare.files import Settings, make
from semfacediff.data.celebamask_layout import OfficialEntry, index_official
from semfacediff.data.celebamask_paint import painted
from semfacediff.data.part_masks import fast_zlib
from semfacediff.data.toy_official import write_official
from semfacediff.labels import CELEBAMASK

REPEATS = 5


def with_pillow(entry: OfficialEntry) -> np.ndarray:
    """The plain way: every part in paint order, full frame."""
    labels = np.zeros((512, 512), np.uint8)
    for label, part in enumerate(CELEBAMASK.classes):
        if part in entry.parts:
            mask = np.array(Image.open(entry.parts[part].path, formats=("PNG",)).convert("L"))
            labels[mask > 0] = label
    return labels


def ours(entry: OfficialEntry) -> np.ndarray:
    """Reading and painting as ``semfacediff prepare`` does it."""
    parts = {part: (blob.name, blob.read()) for part, blob in entry.parts.items()}
    return painted(parts, CELEBAMASK.paint_order, (entry.id, (1024, 1024)))[0]


def with_pillow_to_folder(entries: list[OfficialEntry], out: Path) -> None:
    """The plain way, photo copied and label map saved."""
    for entry in entries:
        (out / f"{entry.id}.jpg").write_bytes(entry.photo.read())
        Image.fromarray(with_pillow(entry)).save(out / f"{entry.id}.png")


def seconds(work: Callable[[], object]) -> float:
    """Processor time of the fastest of some repeats; others may be using the machine."""
    times = []
    for _ in range(REPEATS):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def row(what: str, plain: float, fast: float, n: int) -> str:
    """A line of the table, in ms a photo."""
    return f"{what:16} {1000 * plain / n:8.2f} {1000 * fast / n:8.2f} {plain / fast:8.2f}"


def comparisons(photos: int = 12) -> Iterator[Comparison]:
    """Read and paint, and the whole, on drawn faces; RGB part masks as the official ones."""
    cv2.setNumThreads(1)
    command, note = f"python benchmarks/prepare.py --photos {photos}", f"{photos} photos, one core; label maps equal"
    with tempfile.TemporaryDirectory() as temporary:
        root, out = Path(temporary) / "official", Path(temporary) / "out"
        write_official(root, range(photos), photo_px=1024, mask_px=512, mode="RGB")
        entries = list(index_official(root).entries)
        out.mkdir()
        check_equal(entries)
        taken = in_turns(lambda: [with_pillow(e) for e in entries], lambda: [ours(e) for e in entries], REPEATS)
        yield taken.compared("part masks: read and paint", photos, "ms/photo", 4.0, command, note)
        plain = functools.partial(with_pillow_to_folder, entries, out)
        taken = in_turns(plain, lambda: list(make(entries, Settings(), out, workers=1)), REPEATS)
        yield taken.compared("part masks: whole", photos, "ms/photo", None, command, note)


def check_equal(entries: list[OfficialEntry]) -> None:
    for entry in entries:
        if not np.array_equal(with_pillow(entry), ours(entry)):
            raise SystemExit(f"photo {entry.id}: the label maps differ")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--photos", type=int, default=24)
    arguments.add_argument("--mode", choices=("RGB", "L"), default="RGB", help="of the drawn part masks")
    arguments.add_argument("--root", type=Path, help="the official folder instead of drawn faces")
    a = arguments.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as temporary:
        root, out = a.root or Path(temporary) / "official", Path(temporary) / "out"
        if a.root is None:
            write_official(root, range(a.photos), photo_px=1024, mask_px=512, mode=a.mode)
        entries = list(index_official(root).entries[: a.photos])
        out.mkdir()
        check_equal(entries)
        n, parts = len(entries), sum(len(e.parts) for e in entries)
        print(f"{n} photos, {parts / n:.1f} part masks each; label maps equal; inflate by {fast_zlib.__name__}")
        print(f"{'ms a photo':16} {'Pillow':>8} {'ours':>8} {'ratio':>8}")
        plain, fast = seconds(lambda: [with_pillow(e) for e in entries]), seconds(lambda: [ours(e) for e in entries])
        print(row("read and paint", plain, fast, n))
        plain = seconds(lambda: with_pillow_to_folder(entries, out))
        fast = seconds(lambda: list(make(entries, Settings(), out, workers=1)))
        print(row("whole", plain, fast, n))


if __name__ == "__main__":
    main()

"""A drawn miniature of the official CelebAMask-HQ layout: toy faces in files, for tests and trials."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from semfacediff.data.toy import ToyFaces
from semfacediff.labels import CELEBAMASK
from semfacediff.types import FaceSample

# Which photos belong to which part of CelebA: of every ten, one is for validation and one for the test.
GROUPS = (0, 0, 0, 1, 0, 0, 0, 0, 2, 0)


def write_part(root: Path, number: int, part: str, mask: np.ndarray | Image.Image, mode: str = "RGB") -> Path:
    """One part mask in its place; ``mask`` is bool ``[H, W]`` (written as RGB, like the official ones) or an image."""
    if isinstance(mask, np.ndarray):
        mask = Image.fromarray(np.uint8(255) * mask.astype(np.uint8)).convert(mode)
    file = root / "CelebAMask-HQ-mask-anno" / str(number // 2000) / f"{number:05d}_{part}.png"
    file.parent.mkdir(parents=True, exist_ok=True)
    mask.save(file)
    return file


def write_official(
    root: Path,
    numbers: Sequence[int],
    photo_px: int = 64,
    mask_px: int = 32,
    header: bool = True,
    lists: bool = True,
    mode: str = "RGB",
    groups: Sequence[int] = GROUPS,
) -> list[FaceSample]:
    """The layout in ``root`` with a toy face for every number; returns the samples drawn at ``mask_px``.

    Args:
        header: begin the mapping with its header line.
        lists: write the mapping, the partition and the annotations.
        mode: of the part masks, ``RGB`` like the official ones or ``L``.
        groups: part of CelebA of each photo in turn: 0 train, 1 val, 2 test.

    Parts do not overlap. Originals are numbered backwards, so that the mapping cannot be skipped unnoticed; the
    partition names CelebA photos that are in no HQ photo, as the official one does.
    """
    numbers = list(numbers)
    photos, masks = ToyFaces(len(numbers), photo_px), ToyFaces(len(numbers), mask_px)
    (root / "CelebA-HQ-img").mkdir(parents=True)
    drawn = []
    for k, number in enumerate(numbers):
        Image.fromarray(photos[k].photo).save(root / "CelebA-HQ-img" / f"{number}.jpg", quality=90)
        drawn.append(masks[k])
        for label in np.unique(drawn[k].label_map):
            if label:
                write_part(root, number, CELEBAMASK.classes[label], drawn[k].labels == label, mode)
    if lists:
        _write_lists(root, numbers, header, groups)
    return drawn


def original_of(number: int) -> int:
    """Number of the CelebA photo that photo ``number`` was made of."""
    return 100_000 - number


def _write_lists(root: Path, numbers: list[int], header: bool, parts: Sequence[int]) -> None:
    rows = [f"{n:<12}{original_of(n):<12}{original_of(n):06d}.jpg" for n in numbers]
    head = ["idx         orig_idx    orig_file"] if header else []
    (root / "CelebA-HQ-to-CelebA-mapping.txt").write_text("\n".join(head + rows) + "\n")
    groups = {original_of(n): parts[k % len(parts)] for k, n in enumerate(numbers)} | {1: 0, 2: 2}
    lines = [f"{original:06d}.jpg {group}" for original, group in sorted(groups.items())]
    (root / "list_eval_partition.txt").write_text("\n".join(lines) + "\n")
    told = numbers[:-1]  # the last photo has no annotation
    attributes = [str(len(told)), "Eyeglasses Smiling", *(f"{n}.jpg  {'1' if n % 2 else '-1'} -1" for n in told)]
    (root / "CelebAMask-HQ-attribute-anno.txt").write_text("\n".join(attributes) + "\n")
    pose = [str(len(told)), "Yaw Pitch Raw", *(f"{n}.jpg {n}.5 -3.25 0.0" for n in told)]
    (root / "CelebAMask-HQ-pose-anno.txt").write_text("\n".join(pose) + "\n")

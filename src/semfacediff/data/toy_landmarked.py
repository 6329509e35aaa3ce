"""Drawn miniatures of the layouts of LaPa and Helen: toy faces with landmarks in files, for tests and trials."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from semfacediff.data import helen, lapa
from semfacediff.data.toy import ToyFaces
from semfacediff.labels import CELEBAMASK, SPACES, LabelSpace
from semfacediff.types import FaceSample

PARTS: Mapping[str, int] = {"train": 6, "val": 2, "test": 2}
# Where landmarks are in the face's box if hair, hat or glasses hide what they mark.
_PLACES = ((0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8))
_FACE = "skin l_eye r_eye l_brow r_brow nose mouth u_lip l_lip eye_g".split()


def eleven_classes(labels: np.ndarray, space: LabelSpace) -> np.ndarray:
    """uint8 ``[H, W]`` in ``space`` from labels in ``celebamask``: ears and glasses are skin, the rest background."""
    as_skin = {"l_ear": "skin", "r_ear": "skin", "eye_g": "skin"}
    names = [as_skin.get(c, c) for c in CELEBAMASK.classes]
    return np.array([space.index(c) if c in space.classes else 0 for c in names], np.uint8)[labels]


def drawn_landmarks(labels: np.ndarray) -> np.ndarray:
    """float64 ``[5, 2]``, (x, y) in px, of labels in ``celebamask``: see :attr:`FaceSample.landmarks`."""
    face = _pixels(labels, _FACE)
    low, high = face.min(0), face.max(0)
    points = low + np.array(_PLACES) * (high - low)
    eyes = [_pixels(labels, [c]) for c in ("l_eye", "r_eye")]
    if all(len(e) for e in eyes):
        points[:2] = sorted(e.mean(0).tolist() for e in eyes)
    nose, mouth = _pixels(labels, ["nose"]), _pixels(labels, ["mouth", "u_lip", "l_lip"])
    if len(nose):
        points[2] = nose[nose[:, 1].argmax()]
    if len(mouth):
        points[3:] = mouth[mouth[:, 0].argmin()], mouth[mouth[:, 0].argmax()]
    return points


def _pixels(labels: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """int64 ``[n, 2]``: (x, y) of the pixels of ``classes``."""
    rows, columns = np.isin(labels, [CELEBAMASK.index(c) for c in classes]).nonzero()
    return np.stack([columns, rows], axis=1)


def _spread(five: np.ndarray, groups: Sequence[Sequence[int]], n: int) -> np.ndarray:
    """``[n, 2]`` landmarks of which the means of ``groups`` are ``five``; the others are the middle of those."""
    points = np.tile(five.mean(0), (n, 1))
    for place, group in zip(five, groups, strict=True):
        points[list(group)] = place
    return points


def write_lapa(root: Path, parts: Mapping[str, int] = PARTS, size: int = 64) -> list[FaceSample]:
    """LaPa's layout in ``root`` with so many toy faces a part, all PNG-exact; the samples as they should be read.

    Files are ``<part>/images/<part>_<k>.jpg`` (PNGs under that name, so that nothing is lost) and so on.
    """
    samples = []
    for part, sample, marks in _drawn(parts, size, "lapa"):
        points = _spread(marks, lapa.FIVE, lapa.COUNT)
        text = "\n".join([str(lapa.COUNT), *(f"{x:.6f} {y:.6f}" for x, y in points)])
        for folder, suffix in (("images", "jpg"), ("labels", "png"), ("landmarks", "txt")):
            (root / part / folder).mkdir(parents=True, exist_ok=True)
            file = root / part / folder / f"{sample.id}.{suffix}"
            if folder == "landmarks":
                file.write_text(text + "\n")
            else:
                image = sample.photo if folder == "images" else sample.label_map
                Image.fromarray(image).save(file, "png")
        samples.append(sample)
    return samples


def write_helen(root: Path, parts: Mapping[str, int] = PARTS, size: int = 64) -> list[FaceSample]:
    """Helen's layout in ``root``; the samples before they are cropped. What ``parts`` has for ``val`` joins ``train``.

    The outermost landmarks span the face, as those of a jaw and brows do, and are written twice as large.
    """
    lines: dict[str, list[str]] = {"train": [], "test": []}
    samples = []
    for part, sample, marks in _drawn(parts, size, "helen"):
        part = "test" if part == "test" else "train"
        points = _spread(marks, helen.FIVE, helen.COUNT)
        face = np.argwhere(sample.label_map > 0)[:, ::-1]
        points[0], points[16] = face.min(0), face.max(0)
        (root / part).mkdir(parents=True, exist_ok=True)
        Image.fromarray(sample.photo).save(root / part / f"{sample.id}_image.jpg", "png")
        Image.fromarray(sample.label_map).save(root / part / f"{sample.id}_label.png")
        numbers = " ".join(f"{v / helen.SCALE:.6f}" for v in points.flatten())
        lines[part].append(f"{numbers} {sample.id}")
        samples.append(sample)
    for part, of_part in lines.items():
        if of_part:
            (root / part / helen.LANDMARKS).write_text("\n".join(of_part) + "\n")
    return samples


def _drawn(parts: Mapping[str, int], size: int, space: str) -> Iterator[tuple[str, FaceSample, np.ndarray]]:
    """(part, sample, its landmarks) in label space ``space``; photos are half as high again as the face is drawn."""
    faces, k = ToyFaces(sum(parts.values()), size), 0
    for part, n in parts.items():
        for i in range(n):
            drawn, margin = faces[k], size // 4
            labels = eleven_classes(drawn.label_map, SPACES[space])
            marks = (drawn_landmarks(drawn.label_map) + (0, margin)).astype(np.float32)
            yield (
                part,
                FaceSample(
                    f"{part}_{i}",
                    np.pad(drawn.photo, ((margin, margin), (0, 0), (0, 0)), mode="edge"),
                    np.pad(labels, ((margin, margin), (0, 0))),
                    landmarks=marks,
                ),
                marks,
            )
            k += 1

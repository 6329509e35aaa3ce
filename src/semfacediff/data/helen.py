"""Helen with the eleven classes of its relabelling (Lin et al., 2019), as SegFace reads it: 68 landmarks a photo.

    {train,test}/<id>_image.jpg, {train,test}/<id>_label.png
    {train,test}/landmarks.txt, or one landmarks.txt for both     a line a photo: x y of each landmark, name last

Landmarks are of photos twice as large. SegFace crops every photo, also of the test, to a square about them; they end at
the brows, so that much of forehead and hair lies outside. The published parts hold 2,000 and 100 photos.
"""

import dataclasses
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from semfacediff import config
from semfacediff.data.files import is_file, paired
from semfacediff.data.landmarks import LandmarkedEntry, LandmarkedFaces, five_points, points_of, told_apart
from semfacediff.data.reading import Blob
from semfacediff.data.selection import Data, of_parts
from semfacediff.errors import UserError
from semfacediff.labels import SPACES
from semfacediff.types import FaceSample

PARTS = ("train", "test")
LANDMARKS = "landmarks.txt"
COUNT = 68
FIVE = (range(36, 42), range(42, 48), (30,), (48,), (54,))
"""Landmarks whose means are left eye, right eye, tip of the nose, left and right corner of the mouth."""
SCALE = 0.5
"""Of the landmarks, to be those of the photos."""
CROP_FACTOR = 1.2
"""Side of the crop, in longer sides of the landmarks' box."""
HELD_OUT = 10
"""Of the training photos by name, the first of each so many validates."""
_PHOTO, _LABEL = "_image", "_label"


def index_helen(root: Path, labels_needed: bool = True) -> tuple[LandmarkedEntry, ...]:
    """Everything in the parts that are there, sorted by id. A photo may be without landmarks.

    Raises:
        UserError: no part is there, or a landmark file cannot be read.
    """
    there = [part for part in PARTS if (root / part).is_dir()]
    if not there:
        raise UserError(
            f"data.root: expected Helen's folders {' and '.join(PARTS)} (one of them at least) in {root}, found none; "
            f"set data.root=DIR or SEMFACEDIFF_DATA"
        )
    return told_apart(entry for part in there for entry in _part(root, part, labels_needed))


def _part(root: Path, part: str, labels_needed: bool) -> Iterable[LandmarkedEntry]:
    photos = [(id_, blob, None) for id_, blob in _files(root, part, _PHOTO, (".jpg", ".jpeg", ".png"))]
    masks = _files(root, part, _LABEL, (".png",)) if labels_needed else []
    lines = next((_lines(root, f) for f in (f"{part}/{LANDMARKS}", LANDMARKS) if (root / f).is_file()), {})
    for entry in paired(photos, masks, labels_needed, {}).candidates:
        yield LandmarkedEntry(**vars(entry), part=part, landmarks=lines.get(entry.id))


def _files(root: Path, part: str, ending: str, suffixes: tuple[str, ...]) -> list[tuple[str, Blob]]:
    found = sorted((root / part).iterdir())
    return [
        (p.stem.removesuffix(ending), Blob(p, f"{part}/{p.name}"))
        for p in found
        if is_file(p, suffixes) and p.stem.endswith(ending)
    ]


def _lines(root: Path, file: str) -> dict[str, Blob]:
    """Id -> its line in a landmark file, left where it is."""
    try:
        data = (root / file).read_bytes()
    except OSError as e:
        raise UserError(f"{file}: cannot be read ({e.strerror}); copy the file again") from e
    found, at = {}, 0
    for number, line in enumerate(data.splitlines(keepends=True), 1):
        if words := line.split():
            id_ = Path(words[-1].decode(errors="replace")).stem.removesuffix(_PHOTO)
            found[id_] = Blob(root / file, f"{file}, line {number}", at, len(line))
        at += len(line)
    return found


def held_out(entries: Iterable[LandmarkedEntry]) -> frozenset[str]:
    """Ids of the training photos that validate instead: the published layout has no part for it."""
    return frozenset([e.id for e in entries if e.part == "train"][::HELD_OUT])


def crop_box(points: np.ndarray, height: int, width: int) -> tuple[slice, slice]:
    """Rows and columns of the square about landmarks ``[68, 2]``, cut off at the photo's edges.

    Raises:
        ValueError: nothing of the photo is inside.
    """
    low, extent = points.min(0), points.max(0) - points.min(0) + 1
    side = int(CROP_FACTOR * extent.max())
    first = (low + extent / 2).astype(int) - side // 2
    last = np.minimum(first + side, (width, height))
    first = np.maximum(first, 0)
    if (last <= first).any():
        raise ValueError(f"landmarks lie outside the photo of {width}x{height} px")
    return slice(int(first[1]), int(last[1])), slice(int(first[0]), int(last[0]))


class HelenFaces(LandmarkedFaces):
    """Photos and label maps cut out about the landmarks, at their own size.

    Args:
        crop: ``False``: whole photos.
    """

    def __init__(self, entries: Iterable[LandmarkedEntry], crop: bool = True, allow_mask_resize: bool = False):
        super().__init__(entries, SPACES["helen"], allow_mask_resize)
        self.crop = crop

    @classmethod
    def opened(cls, settings: config.HelenData, split: str, labels_needed: bool, limit: int | None) -> Data:
        """What the configuration describes, checked file by file."""
        entries = index_helen(settings.folder, labels_needed)
        parts = {e.id: e.part for e in entries}
        if settings.val == "held_out":
            parts |= dict.fromkeys(held_out(entries), "val")
        elif split == "val":
            split = "test"
        faces = cls(entries, settings.crop, settings.allow_mask_resize)
        return of_parts(faces, parts, settings, split, limit)

    @property
    def facts(self) -> str:
        return f"{self.label_space.name}:crop={self.crop}"

    def _marked(self, sample: FaceSample, text: str, name: str) -> FaceSample:
        points = points_of(text.split()[:-1], COUNT, name) * SCALE
        if not self.crop:
            return dataclasses.replace(sample, landmarks=five_points(points, FIVE))
        try:
            rows, columns = crop_box(points, *sample.photo.shape[:2])
        except ValueError as e:
            raise UserError(f"{name}: {e}; correct the line, or set data.crop=false to use whole photos") from e
        labels = sample.labels
        if labels is not None and labels.shape != sample.photo.shape[:2]:
            raise UserError(
                f"{name}: label map and photo of '{sample.id}' differ in size and cannot be cropped alike; set "
                f"data.crop=false, or resize the label map"
            )
        return dataclasses.replace(
            sample,
            photo=np.ascontiguousarray(sample.photo[rows, columns]),
            labels=None if labels is None else np.ascontiguousarray(labels[rows, columns]),
            landmarks=five_points(points - (columns.start, rows.start), FIVE),
        )

    def _unmarked(self, sample: FaceSample, entry: LandmarkedEntry) -> FaceSample:
        if self.crop:
            raise UserError(
                f"{entry.photo_file.name}: no line of {LANDMARKS} is about '{entry.id}', and photos are cropped about "
                f"their landmarks; add it, or set data.crop=false to use whole photos"
            )
        return sample


DATA = HelenFaces

"""LaPa (Liu et al., AAAI 2020) as it is published: 106 landmarks a photo.

    {train,val,test}/images/<id>.jpg        photos of any size
    {train,val,test}/labels/<id>.png        label maps in space ``lapa``
    {train,val,test}/landmarks/<id>.txt     a first line 106, then x y of each landmark

The published parts hold 18,176 / 2,000 / 2,000 photos.
"""

import dataclasses
from collections.abc import Iterable
from pathlib import Path

from semfacediff import config
from semfacediff.data.files import PHOTO_SUFFIXES, is_file, paired
from semfacediff.data.landmarks import LandmarkedEntry, LandmarkedFaces, five_points, points_of, told_apart
from semfacediff.data.reading import Blob
from semfacediff.data.selection import Data, of_parts
from semfacediff.errors import UserError
from semfacediff.labels import SPACES
from semfacediff.types import FaceSample

PARTS = ("train", "val", "test")
COUNT = 106
FIVE = ((74, 104), (83, 105), (54,), (84,), (90,))
"""Landmarks whose means are left eye, right eye, tip of the nose, left and right corner of the mouth."""


def index_lapa(root: Path, labels_needed: bool = True) -> tuple[LandmarkedEntry, ...]:
    """Everything in the parts that are there, sorted by id. A photo may be without landmarks.

    Raises:
        UserError: no part is there.
    """
    there = [part for part in PARTS if (root / part / "images").is_dir()]
    if not there:
        raise UserError(
            f"data.root: expected LaPa's folders {', '.join(f'{part}/images' for part in PARTS)} (one of them at "
            f"least) in {root}, found none; set data.root=DIR or SEMFACEDIFF_DATA"
        )
    return told_apart(entry for part in there for entry in _part(root, part, labels_needed))


def _part(root: Path, part: str, labels_needed: bool) -> Iterable[LandmarkedEntry]:
    photos = [(stem, blob, None) for stem, blob in _files(root, f"{part}/images", PHOTO_SUFFIXES)]
    masks = _files(root, f"{part}/labels", (".png",)) if labels_needed else []
    landmarks = dict(_files(root, f"{part}/landmarks", (".txt",)))
    for entry in paired(photos, masks, labels_needed, {}).candidates:
        yield LandmarkedEntry(**vars(entry), part=part, landmarks=landmarks.get(entry.id))


def _files(root: Path, folder: str, suffixes: tuple[str, ...]) -> list[tuple[str, Blob]]:
    place = root / folder
    found = sorted(place.iterdir()) if place.is_dir() else []
    return [(p.stem, Blob(p, f"{folder}/{p.name}")) for p in found if is_file(p, suffixes)]


class LapaFaces(LandmarkedFaces):
    """Photos and label maps at their own size, with five landmarks where there is a landmark file."""

    def __init__(self, entries: Iterable[LandmarkedEntry], allow_mask_resize: bool = False):
        super().__init__(entries, SPACES["lapa"], allow_mask_resize)

    @classmethod
    def opened(cls, settings: config.LapaData, split: str, labels_needed: bool, limit: int | None) -> Data:
        """What the configuration describes, checked file by file."""
        faces = cls(index_lapa(settings.folder, labels_needed), settings.allow_mask_resize)
        return of_parts(faces, {e.id: e.part for e in faces.entries}, settings, split, limit)

    def _marked(self, sample: FaceSample, text: str, name: str) -> FaceSample:
        count, *words = text.split() or [""]
        if count != str(COUNT):
            raise UserError(f"{name}: expected a first line '{COUNT}', got '{count[:20]}'; copy the file again")
        return dataclasses.replace(sample, landmarks=five_points(points_of(words, COUNT, name), FIVE))


DATA = LapaFaces

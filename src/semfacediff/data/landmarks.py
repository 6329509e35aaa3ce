"""Photos with facial landmarks beside their label maps: what LaPa and Helen have in common."""

import dataclasses
import hashlib
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from semfacediff.data.files import Entry, FileFaces
from semfacediff.data.reading import Blob
from semfacediff.errors import UserError
from semfacediff.types import FaceSample


@dataclass(frozen=True)
class LandmarkedEntry(Entry):
    """One sample before it is read.

    Attributes:
        part: folder that it lies in, e.g. ``train``.
        landmarks: where the text with its landmarks lies; ``None``: it has none.
    """

    part: str = ""
    landmarks: Blob | None = None

    @property
    def blobs(self) -> list[Blob]:
        return [*super().blobs, *([self.landmarks] if self.landmarks else [])]


def points_of(words: Sequence[str], n: int, name: str) -> np.ndarray:
    """float64 ``[n, 2]``: ``n`` landmarks (x, y) in px from their numbers in a text.

    Raises:
        UserError: another count, or words that are no finite numbers.
    """
    if len(words) != 2 * n:
        raise UserError(
            f"{name}: expected {n} landmarks (x and y of each: {2 * n} numbers), got {len(words)} numbers; copy the "
            f"file again"
        )
    try:
        points = np.array(words, np.float64).reshape(n, 2)
    except ValueError as e:
        raise UserError(f"{name}: expected numbers for landmarks ({e}); copy the file again") from e
    if not np.isfinite(points).all():
        raise UserError(f"{name}: a landmark's place is not finite; copy the file again")
    return points


def five_points(points: np.ndarray, groups: Sequence[Sequence[int]]) -> np.ndarray:
    """float32 ``[5, 2]``: means of ``groups`` of indices, in the order of :attr:`FaceSample.landmarks`."""
    return np.stack([points[list(group)].mean(0) for group in groups]).astype(np.float32)


def decoded_text(data: bytes, name: str) -> str:
    """A text file's contents; a :class:`UserError` if it is none."""
    try:
        return data.decode()
    except UnicodeDecodeError as e:
        raise UserError(f"{name}: expected a text with landmarks, got other bytes ({e.reason}); copy it again") from e


def told_apart(entries: Iterable[LandmarkedEntry]) -> tuple[LandmarkedEntry, ...]:
    """``entries`` sorted by id; those that share an id become one with a defect."""
    by_id = defaultdict(list)
    for entry in entries:
        by_id[entry.id].append(entry)
    return tuple(
        same[0] if len(same) == 1 else dataclasses.replace(same[0], defect=_twice(same))
        for _, same in sorted(by_id.items())
    )


def _twice(same: Sequence[LandmarkedEntry]) -> str:
    where = ", ".join(e.blobs[0].name for e in same)
    return f"id '{same[0].id}' occurs {len(same)} times: {where}; rename all but one"


class LandmarkedFaces(FileFaces[LandmarkedEntry], ABC):
    """Map-style data set over :class:`LandmarkedEntry`; a subclass says what the landmarks do to a sample."""

    def __getitem__(self, i: int) -> FaceSample:
        return self._examined(self.entries[i])[0]

    def _examined(self, entry: LandmarkedEntry) -> tuple[FaceSample, str]:
        sample, digest = super()._examined(entry)
        if entry.landmarks is None:
            return self._unmarked(sample, entry), digest
        text = entry.landmarks.read()
        sample = self._marked(sample, decoded_text(text, entry.landmarks.name), entry.landmarks.name)
        return sample, digest + hashlib.sha256(text).hexdigest()

    @abstractmethod
    def _marked(self, sample: FaceSample, text: str, name: str) -> FaceSample:
        """``sample`` with ``landmarks`` (float32 ``[5, 2]``, px of its photo) read from ``text``, file ``name``."""

    def _unmarked(self, sample: FaceSample, entry: LandmarkedEntry) -> FaceSample:
        return sample

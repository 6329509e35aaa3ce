"""Photos and label maps on their way into the model: paired by id, of one space, square, at the model's size."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from semfacediff.data.sizes import same_aspect
from semfacediff.errors import UserError
from semfacediff.labels import LabelSpace, conversion
from semfacediff.synthesis.latents import at_size, to_signed
from semfacediff.synthesis.layouts import one_hot
from semfacediff.types import FaceSample

Faces = Sequence[FaceSample]


def paired(photos: Mapping[str, np.ndarray], labels: Mapping[str, np.ndarray]) -> list[FaceSample]:
    """Photos and label maps of the same ids, in the order of the photos; position decides nothing.

    Args:
        photos: uint8 ``[H,W,3]`` by id.
        labels: uint8 ``[H,W]`` by id.

    Raises:
        UserError: ids that only one of the two has.
    """
    alone = [("label map", photos.keys() - labels.keys()), ("photo", labels.keys() - photos.keys())]
    faults = [f"no {what} for {', '.join(sorted(ids)[:4])} ({len(ids)} in all)" for what, ids in alone if ids]
    if faults:
        raise UserError(f"photos and label maps are paired by id: {'; '.join(faults)}; name the files alike")
    return [FaceSample(id, photo, labels[id]) for id, photo in photos.items()]


def layout(id: str, labels: np.ndarray) -> FaceSample:
    """A label map without a photo, uint8 ``[H,W]``: for tasks that take only the layout from it."""
    return FaceSample(id, np.full((*labels.shape, 3), 127, dtype=np.uint8), labels)


def relaid(faces: Faces, layouts: Faces) -> list[FaceSample]:
    """``faces`` with the label maps of ``layouts``, which are found by id.

    Raises:
        UserError: the ids of the two differ.
    """
    edited = {face.id: face.labels for face in layouts}
    if edited.keys() != {face.id for face in faces}:
        raise UserError(
            f"expected a layout for every photo, by id; got layouts {', '.join(edited)} for "
            f"photos {', '.join(face.id for face in faces)}"
        )
    return [replace(face, labels=edited[face.id]) for face in faces]


def one_each(references: Faces, layouts: Faces) -> Faces:
    """As many references as layouts; a single one serves all.

    Raises:
        UserError: another number of them.
    """
    if len(references) not in (1, len(layouts)):
        raise UserError(f"expected one reference, or one for each of the {len(layouts)} layouts, got {len(references)}")
    return list(references) * len(layouts) if len(references) == 1 else references


class Preprocessor:
    """What a model takes of faces.

    Args:
        size: side in px of the model's photos and label maps.
        space: the model's label space.
        data_space: that of the faces; converted by class name.

    Raises:
        UserError: classes of ``data_space`` that ``space`` lacks.
    """

    def __init__(self, size: int, space: LabelSpace, data_space: LabelSpace):
        self.size, self.space, self.data_space = size, space, data_space
        self._table = conversion(data_space, space)

    def images(self, faces: Faces) -> Tensor:
        """float32 ``[N,3,S,S]`` in [-1,1]; photos (uint8) are resized as published (Pillow, bicubic).

        Raises:
            UserError: as of :meth:`masks`.
        """
        return to_signed(np.stack([self._at_size(face)[0] for face in faces]))

    def masks(self, faces: Faces) -> Tensor:
        """float32 one-hot ``[N,K,S,S]``; label maps are resized by nearest neighbour.

        Raises:
            UserError: no label map, one of another aspect ratio than its photo's, a photo that is not square, labels of
                another space, or all background.
        """
        if not faces:
            raise UserError("expected at least one face, got none")
        labels = np.stack([self._table[self._at_size(face)[1]] for face in faces])
        for face, one in zip(faces, labels, strict=True):
            if not one.any():
                raise UserError(f"'{face.id}': the label map is all background; expected at least one part of a face")
        return one_hot(torch.from_numpy(labels), self.space.n)

    def _at_size(self, face: FaceSample) -> tuple[np.ndarray, np.ndarray]:
        if face.labels is None:
            raise UserError(f"'{face.id}' has no label map; parse the photo first")
        if face.photo.dtype != np.uint8 or face.photo.ndim != 3 or face.photo.shape[2] != 3:
            raise UserError(
                f"'{face.id}': expected a photo uint8 [H, W, 3], got {face.photo.dtype} {list(face.photo.shape)}"
            )
        mapped, shown = ("x".join(map(str, a.shape[:2])) for a in (face.labels, face.photo))
        if not same_aspect(face.photo.shape[:2], face.labels.shape):
            raise UserError(
                f"'{face.id}': the label map is {mapped}, its photo {shown}, which is another aspect ratio; "
                f"crop one of the two"
            )
        if face.photo.shape[0] != face.photo.shape[1]:
            raise UserError(
                f"'{face.id}' is {shown}, expected a square, for it becomes {self.size} px a side; "
                f"crop or pad photo and label map first"
            )
        low, high, space = int(face.labels.min()), int(face.labels.max()), self.data_space
        if low < 0 or high >= space.n:
            raise UserError(
                f"'{face.id}': expected labels 0..{space.n - 1} of space '{space.name}', got {low}..{high}; "
                f"name the space of the label maps (data_space)"
            )
        return at_size(face, self.size)

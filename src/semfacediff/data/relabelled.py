"""A data set whose labels are read in another label space."""

import dataclasses

import numpy as np

from semfacediff.labels import LabelSpace, conversion
from semfacediff.types import Faces, FaceSample


class Relabelled:
    """``faces`` with labels in ``space``, converted by class name; same interface.

    Raises:
        UserError: ``space`` lacks a class of theirs.
    """

    def __init__(self, faces: Faces, space: LabelSpace):
        self.faces, self.label_space, self.ids = faces, space, faces.ids
        self._table = conversion(faces.label_space, space).astype(np.uint8)

    def __len__(self) -> int:
        return len(self.faces)

    def __getitem__(self, i: int) -> FaceSample:
        sample = self.faces[i]
        return dataclasses.replace(sample, labels=None if sample.labels is None else self._table[sample.labels])

"""Training-time changes of a photo and its label map, seeded by what is changed, not by when."""

from collections.abc import Callable
from types import MappingProxyType

import numpy as np

from semfacediff.data.augment.geometry import flip, resized
from semfacediff.data.augment.lapa import landmarks_of, lapa
from semfacediff.data.augment.recipes import affine, ce7454, flipped, none, standard, strong
from semfacediff.labels import LabelSpace
from semfacediff.types import FaceSample

__all__ = ["AT_OWN_SIZE", "RECIPES", "Recipe", "flip", "landmarks_of", "resized"]

Recipe = Callable[[np.ndarray, np.ndarray, LabelSpace, np.random.Generator], tuple[np.ndarray, np.ndarray]]
"""Photo uint8 ``[S, S, 3]``, labels uint8 ``[S, S]``, their space, generator -> photo and labels of the same size.

The labels stay uint8 in the space. The photo stays in 0..255: uint8, or float32 where a recipe ends in floats.
"""

RECIPES: MappingProxyType[str, Recipe] = MappingProxyType(
    {"none": none, "flip": flipped, "affine": affine, "standard": standard, "strong": strong, "ce7454": ce7454}
)

AT_OWN_SIZE: MappingProxyType[
    str, Callable[[FaceSample, int, np.random.Generator], tuple[np.ndarray, np.ndarray, np.ndarray]]
] = MappingProxyType({"lapa": lapa})
"""Recipes that work on a sample at its own size: sample, training size, generator -> photo, labels, landmarks."""

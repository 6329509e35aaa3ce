"""Where an edit paints what the photo does not show yet, and the region of any task.

A class that is absent has no region of its own. What can be added to a face has a fixed place on it:

- glasses: the convex hull of eyes and eyebrows, grown by a quarter of the distance between the eyes;
- hat: the hair above the lower edge of the eyebrows;
- earrings: from the middle of each visible ear to half an ear's height below it, as wide as the ear;
- necklace: the neck.
"""

from collections.abc import Callable

import cv2
import numpy as np
from torch import Tensor

from semfacediff.config.prompts import ADD
from semfacediff.labels import LabelSpace
from semfacediff.regions.masks import attribute_region

_Part = Callable[[str], np.ndarray]
"""Class name -> bool ``[H, W]``: its pixels."""


def task_region(labels: Tensor, attribute: str, space: LabelSpace, kind: str | None = None) -> np.ndarray:
    """bool ``[H, W]``: what a task of ``kind`` edits in an int64 ``[H, W]`` label map.

    The attribute's region in the parse; of ``add`` the place where it belongs (a key of :data:`ADDABLE`), empty where
    the face does not show that place.
    """
    if kind != ADD:
        return attribute_region(labels, attribute, space)
    plain = labels.numpy()
    return ADDABLE[attribute](lambda name: plain == space.index(name))


def _over_the_eyes(part: _Part) -> np.ndarray:
    eyes = [part("l_eye"), part("r_eye")]
    seen = np.logical_or.reduce([*eyes, part("l_brow"), part("r_brow")])
    if not all(eye.any() for eye in eyes):
        return np.zeros_like(seen)
    beyond = cv2.fillConvexPoly(np.ones(seen.shape, np.uint8), cv2.convexHull(_points(seen)), 0)
    middles = [_points(eye).mean(0) for eye in eyes]
    return cv2.distanceTransform(beyond, cv2.DIST_L2, 5) <= np.linalg.norm(middles[0] - middles[1]) / 4


def _top_of_the_hair(part: _Part) -> np.ndarray:
    hair, brows = part("hair"), np.flatnonzero((part("l_brow") | part("r_brow")).any(1))
    if not len(brows):
        return np.zeros_like(hair)
    hair[brows[-1] + 1 :] = False
    return hair


def _below_the_ears(part: _Part) -> np.ndarray:
    ears = [part("l_ear"), part("r_ear")]
    lobes = np.zeros_like(ears[0])
    for ear in ears:
        if ear.any():
            rows, columns = (np.flatnonzero(ear.any(axis)) for axis in (1, 0))
            height = rows[-1] + 1 - rows[0]
            lobes[rows[0] + height // 2 : rows[-1] + 1 + height // 2, columns[0] : columns[-1] + 1] = True
    return lobes


def _points(mask: np.ndarray) -> np.ndarray:
    """int32 ``[N, 2]``: (x, y) of the pixels of a bool ``[H, W]`` mask."""
    return np.argwhere(mask)[:, ::-1].astype(np.int32)


ADDABLE: dict[str, Callable[[_Part], np.ndarray]] = {
    "glasses": _over_the_eyes,
    "earrings": _below_the_ears,
    "necklace": lambda part: part("neck"),
    "hat": _top_of_the_hair,
}
"""Attribute that a face may lack -> where it belongs, bool ``[H, W]``."""

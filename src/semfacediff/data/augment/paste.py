"""Rare accessories of one face put on another: a class in a few per cent of the photos is seen more often.

The photos are aligned (eyes and mouth lie at the same place in all of them), so a region keeps its position.
"""

import cv2
import numpy as np

from semfacediff.labels import LONG_TAIL, LabelSpace

EDGE_PX = 2
"""How far around the pasted region the photo changes."""

FITS = {
    "eye_g": ("skin", "nose", "l_eye", "r_eye", "l_brow", "r_brow", "hair"),
    "hat": ("hair", "background", "skin"),
    "ear_r": ("l_ear", "r_ear", "hair", "neck", "skin"),
    "neck_l": ("neck", "cloth", "skin"),
}
"""What each accessory may cover."""

_LEAST_SHARE_THAT_FITS = 0.8


def accessories(space: LabelSpace) -> tuple[str, ...]:
    """The rare accessories among the classes of ``space``."""
    return tuple(c for c in LONG_TAIL if c in space.classes)


def fits(accessory: str, labels: np.ndarray, donor_labels: np.ndarray, space: LabelSpace) -> bool:
    """Whether the donor's ``accessory`` would come to lie where one can be: a hat on hair and not on a mouth.

    Args:
        labels, donor_labels: uint8 ``[S, S]`` in ``space``.
    """
    under = labels[donor_labels == space.index(accessory)]
    allowed = np.zeros(space.n, bool)
    allowed[[space.index(c) for c in FITS[accessory]]] = True
    return under.size > 0 and float(allowed[under].mean()) >= _LEAST_SHARE_THAT_FITS


def pasted(
    photo: np.ndarray, labels: np.ndarray, donor_photo: np.ndarray, donor_labels: np.ndarray, label: int
) -> tuple[np.ndarray, np.ndarray]:
    """The donor's pixels of ``label`` over the photo, at the same place.

    Within the region the labels become ``label``; the photo's edge is a soft one, so that it also changes up to
    :data:`EDGE_PX` around it. Nothing is written to.

    Args:
        photo, donor_photo: uint8 ``[S, S, 3]``. labels, donor_labels: uint8 ``[S, S]``.
    """
    region = donor_labels == label
    kernel = 2 * EDGE_PX + 1
    alpha = cv2.GaussianBlur(region.astype(np.float32), (kernel, kernel), 1.0)[..., None]
    mixed = photo + alpha * (donor_photo.astype(np.float32) - photo)
    return np.rint(mixed).astype(np.uint8), np.where(region, np.uint8(label), labels)

"""Photos of a data set that are nearly the same: a perceptual hash of the whole photo, checked on small copies."""

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.fft import dctn

THUMB_PX = 32
BITS = 63
MAX_BITS, MAX_LEVELS = 8, 12.0
"""Two photos are near-duplicates within both. Of the pairs of 5,000 photos of CelebAMask-HQ within ``MAX_BITS``, ten
differ by at most 8.9 levels, all others by at least 13.3."""


@dataclass(frozen=True)
class Pair:
    """Positions of two photos, the bits of the hash that differ, the mean difference of luma in levels of 255."""

    first: int
    second: int
    bits: int
    levels: float


def thumb(photo: np.ndarray) -> np.ndarray:
    """float32 ``[32, 32]``: luma, 0..255, of a uint8 RGB ``[H, W, 3]``, squeezed to a square."""
    grey = cv2.cvtColor(np.ascontiguousarray(photo), cv2.COLOR_RGB2GRAY)
    return cv2.resize(grey, (THUMB_PX, THUMB_PX), interpolation=cv2.INTER_AREA).astype(np.float32)


def hashes(thumbs: np.ndarray) -> np.ndarray:
    """bool ``[N, 63]`` of ``[N, 32, 32]``: which of the lowest 8 x 8 DCT coefficients exceed their median."""
    low = dctn(thumbs, axes=(1, 2), norm="ortho")[:, :8, :8].reshape(len(thumbs), -1)[:, 1:]
    return low > np.median(low, axis=1, keepdims=True)


def near_duplicates(thumbs: np.ndarray, block: int = 1024) -> list[Pair]:
    """Every pair within :data:`MAX_BITS` and :data:`MAX_LEVELS`, in the order of the photos.

    Args:
        thumbs: float32 ``[N, 32, 32]``. block: rows compared at once; memory grows with N times it.
    """
    if not len(thumbs):
        return []
    signs = np.where(hashes(thumbs), 1, -1).astype(np.float32)
    pairs = []
    for start in range(0, len(signs), block):
        differ = (BITS - signs[start : start + block] @ signs.T) / 2
        for row, column in np.argwhere(differ <= MAX_BITS):
            i = start + int(row)
            if i < column and (levels := float(np.abs(thumbs[i] - thumbs[column]).mean())) <= MAX_LEVELS:
                pairs.append(Pair(i, int(column), round(float(differ[row, column])), levels))
    return pairs

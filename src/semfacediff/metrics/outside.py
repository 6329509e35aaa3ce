"""What lies outside the edit, by protocol, and other parts of the frame."""

import cv2
import numpy as np

SSIM_ERODE_PX = 3
"""Half of SSIM's 7x7 window: no window that is averaged then looks into the region."""


def outside(blend: np.ndarray, protocol: str) -> np.ndarray:
    """bool ``[H, W]``: the pixels an edit should have left alone, from the uint8 blend mask.

    ``thesis``: mask < 128, so half of the feathered rim counts as outside. ``strict``: mask == 0.
    """
    return blend < 128 if protocol == "thesis" else blend == 0


def eroded(region: np.ndarray, radius: int) -> np.ndarray:
    """bool ``[H, W]``: pixels whose (2r+1)-square neighbourhood within the frame lies in ``region``."""
    kernel = np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
    return cv2.erode(region.astype(np.uint8), kernel).astype(bool)


def box(where: np.ndarray, margin: int) -> tuple[slice, slice]:
    """Rows and columns that hold what is true in ``where`` (bool ``[H, W]``), and ``margin`` px more on each side."""
    spans = (np.flatnonzero(where.any(axis)) for axis in (1, 0))
    rows, columns = (slice(max(0, span[0] - margin), span[-1] + 1 + margin) for span in spans)
    return rows, columns

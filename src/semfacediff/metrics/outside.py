"""What lies outside the edit, by protocol."""

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

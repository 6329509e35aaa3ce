"""Where pixels go: photo and label map move together, photos bilinear, labels nearest."""

from collections.abc import Sequence

import cv2
import numpy as np

from semfacediff.data.sizes import resized_labels
from semfacediff.labels import LabelSpace


def resized(photo: np.ndarray, labels: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Photo uint8 ``[size, size, 3]`` (area average when shrinking) and labels uint8 ``[size, size]`` (nearest)."""
    if photo.shape[:2] != (size, size):
        shrink = min(photo.shape[:2]) >= size
        photo = cv2.resize(photo, (size, size), interpolation=cv2.INTER_AREA if shrink else cv2.INTER_LINEAR)
    return photo, resized_labels(labels, (size, size))


def flip(photo: np.ndarray, labels: np.ndarray, space: LabelSpace) -> tuple[np.ndarray, np.ndarray]:
    """Mirror left to right; left and right parts change names. Applied twice, nothing has happened."""
    return photo[:, ::-1], space.mirrored.astype(np.uint8)[labels[:, ::-1]]


def similarity(side: int, angle_deg: float, zoom: float, shift_px: np.ndarray) -> np.ndarray:
    """float64 ``[2, 3]``, source to target: turn (counter-clockwise) and zoom about the middle, then shift."""
    matrix = cv2.getRotationMatrix2D((side / 2, side / 2), angle_deg, zoom)
    matrix[:, 2] += shift_px
    return matrix


def warped(
    photo: np.ndarray, labels: np.ndarray, matrix: np.ndarray, border: int, fill: tuple[float, ...] = ()
) -> tuple[np.ndarray, np.ndarray]:
    """Photo uint8 ``[S, S, 3]`` and labels uint8 ``[S, S]`` moved by ``matrix`` ``[2, 3]``.

    Args:
        border: an OpenCV border mode. With ``BORDER_CONSTANT`` the photo gets ``fill`` (RGB, 0..255) and the labels 0,
            the background.
    """

    def moved(image: np.ndarray, flags: int, fill: Sequence[float]) -> np.ndarray:
        size = (labels.shape[1], labels.shape[0])
        image = np.ascontiguousarray(image)
        return cv2.warpAffine(image, matrix, size, flags=flags, borderMode=border, borderValue=fill)

    return moved(photo, cv2.INTER_LINEAR, fill), moved(labels, cv2.INTER_NEAREST, (0,))

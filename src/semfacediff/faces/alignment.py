"""From the five points of a face to an upright square picture of it."""

import cv2
import numpy as np

MEAN_POINTS = np.array(
    [
        (0.8595674595992, 0.2134981538014),
        (0.6460604764104, 0.2289674387677),
        (0.1205750620789, 0.2137274526848),
        (0.3340850613712, 0.2290642403242),
        (0.4901123135679, 0.6277975316475),
    ]
)
"""Where the five points lie in dlib's mean face, x and y in sides of a square about it (``get_face_chip_details``)."""


def places(size: int, padding: float) -> np.ndarray:
    """float64 ``[5, 2]``, pixel indices: where the points go in a square of ``size`` px that holds dlib's mean face and
    ``padding`` of its sides more on each side."""
    return size * (MEAN_POINTS + padding) / (1 + 2 * padding) - 0.5  # a pixel's index is that of its centre


def similarity(points: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """float64 ``[2, 3]``: shift, turn and zoom that bring ``points`` nearest to ``targets``, both ``[N, 2]``.

    In complex numbers it is linear: the least squares of target = a point + b.
    """
    z, w = (xy @ (1, 1j) for xy in (points, targets))
    from_middle = z - z.mean()
    a = np.vdot(from_middle, w - w.mean()) / np.vdot(from_middle, from_middle).real
    b = w.mean() - a * z.mean()
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def aligned(photo: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    """The square of ``size`` px that ``matrix`` brings there from a uint8 photo or mask ``[H, W]`` or ``[H, W, 3]``.

    Where the square is smaller than its part of the photo, that is averaged first, so that nothing aliases. What lies
    beyond the photo is 0.

    Args:
        matrix: ``[2, 3]``, from pixel indices of the photo to those of the square.
    """
    linear, shift = matrix[:, :2], matrix[:, 2]
    zoom = float(np.hypot(*linear[:, 0]))
    if zoom < 1:
        sides = np.array(photo.shape[1::-1])
        small = np.maximum(1, np.rint(zoom * sides)).astype(int)
        photo = cv2.resize(photo, tuple(map(int, small)), interpolation=cv2.INTER_AREA)
        enlarged = sides / small
        shift = shift + linear @ ((enlarged - 1) / 2)
        linear = linear * enlarged
    return cv2.warpAffine(photo, np.column_stack([linear, shift]), (size, size), flags=cv2.INTER_LINEAR)

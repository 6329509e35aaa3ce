"""sRGB to OKLab and back: the perceptual space in which named colours are mixed and adjusted."""

import numpy as np


def rgb_to_oklab(rgb: np.ndarray) -> np.ndarray:
    """OKLab of sRGB, ``[3, ...]`` in [0, 1] -> L in [0, 1], a, b about [-0.4, 0.4] (Björn Ottosson, 2020)."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return np.tensordot(FROM_LMS, np.cbrt(np.tensordot(TO_LMS, linear, 1)), 1)


def oklab_to_rgb(lab: np.ndarray) -> np.ndarray:
    """sRGB of OKLab, ``[3, ...]``; not clipped: values outside [0, 1] have no sRGB colour."""
    linear = np.tensordot(_FROM_LMS_LINEAR, np.tensordot(_TO_LMS_ROOT, lab, 1) ** 3, 1)
    root = np.maximum(linear, 0.0031308) ** (1 / 2.4)
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * root - 0.055)


TO_LMS = np.array(
    [[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566],
     [0.0883024619, 0.2817188376, 0.6299787005]]
)  # fmt: skip
FROM_LMS = np.array(
    [[0.2104542553, 0.7936177850, -0.0040720468], [1.9779984951, -2.4285922050, 0.4505937099],
     [0.0259040371, 0.7827717662, -0.8086757660]]
)  # fmt: skip
_TO_LMS_ROOT, _FROM_LMS_LINEAR = np.linalg.inv(FROM_LMS), np.linalg.inv(TO_LMS)

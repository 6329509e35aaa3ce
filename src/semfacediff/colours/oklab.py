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


_CODES = 4096
_LINEAR_OF_SRGB = np.linspace(0, 1, _CODES)
_LINEAR_OF_SRGB = np.where(
    _LINEAR_OF_SRGB <= 0.04045, _LINEAR_OF_SRGB / 12.92, ((_LINEAR_OF_SRGB + 0.055) / 1.055) ** 2.4
).astype(np.float32)
# Indexed by the square root, which spends the codes where the eye sees differences.
_SRGB_OF_ROOT = np.linspace(0, 1, _CODES) ** 2
_SRGB_OF_ROOT = np.where(
    _SRGB_OF_ROOT <= 0.0031308, _SRGB_OF_ROOT * 12.92, 1.055 * np.maximum(_SRGB_OF_ROOT, 1e-9) ** (1 / 2.4) - 0.055
).astype(np.float32)
_TO_LMS, _FROM_LMS = TO_LMS.astype(np.float32), FROM_LMS.astype(np.float32)
_TO_ROOT, _TO_LINEAR = (np.linalg.inv(m).astype(np.float32) for m in (FROM_LMS, TO_LMS))


def fast_rgb_to_oklab(rgb: np.ndarray) -> np.ndarray:
    """float32 ``[3, N]`` OKLab of sRGB in [0, 1]; tables instead of powers, exact to a fifteenth of an 8-bit step."""
    linear = _LINEAR_OF_SRGB[(rgb.clip(0, 1) * (_CODES - 1) + 0.5).astype(np.int32)]
    return _FROM_LMS @ np.cbrt(_TO_LMS @ linear)


def fast_oklab_to_rgb(lab: np.ndarray) -> np.ndarray:
    """float32 ``[3, N]`` sRGB in [0, 1] of OKLab."""
    linear = _TO_LINEAR @ (_TO_ROOT @ lab) ** 3
    return _SRGB_OF_ROOT[(np.sqrt(linear.clip(0, 1)) * (_CODES - 1) + 0.5).astype(np.int32)]

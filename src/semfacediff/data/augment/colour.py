"""What pixels look like: colour, blur and noise of a photo; labels do not change."""

import cv2
import numpy as np

_LUMA = np.array([0.299, 0.587, 0.114])


def mild(photo: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Saturation, contrast about the mean, brightness and a slight tint, each +-25 % at most; uint8 in, uint8 out."""
    saturation, contrast, brightness = rng.uniform(0.75, 1.25, 3)
    tint = rng.uniform(0.94, 1.06, 3)
    x = photo.astype(np.float32)
    grey = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY).astype(np.float32)[..., None]
    x = grey + (x - grey) * saturation
    mean = float(grey.mean())
    x = (mean + (x - mean) * contrast) * (brightness * tint).astype(np.float32)
    return np.clip(x, 0, 255).astype(np.uint8)


def recoloured(photo: np.ndarray, saturation: float, contrast: float, gain: np.ndarray) -> np.ndarray:
    """uint8 ``[S, S, 3]``: saturation about each pixel's luma, contrast about the mean luma, gain per channel ``[3]``.

    The three are linear, so they are one 3x4 matrix, rounded and clamped once.
    """
    mean = float(_LUMA @ cv2.mean(photo)[:3])
    desaturated = saturation * np.eye(3) + (1 - saturation) * np.outer(np.ones(3), _LUMA)
    matrix = np.concatenate([contrast * desaturated, np.full((3, 1), (1 - contrast) * mean)], axis=1)
    return cv2.transform(photo, gain[:, None] * matrix)


def gamma_curve(photo: np.ndarray, gamma: float) -> np.ndarray:
    """uint8 of any shape: 255 (x / 255)^gamma, rounded."""
    return cv2.LUT(photo, np.rint(255 * (np.arange(256) / 255) ** gamma).astype(np.uint8))


def noisy(photo: np.ndarray, sd: float, rng: np.random.Generator) -> np.ndarray:
    """uint8 ``[S, S, 3]`` plus normal noise of standard deviation ``sd`` (8-bit levels), rounded and clamped."""
    noise = rng.standard_normal(photo.shape, dtype=np.float32)
    return np.clip(np.rint(photo + sd * noise), 0, 255).astype(np.uint8)

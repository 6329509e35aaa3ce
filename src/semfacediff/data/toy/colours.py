"""Colours of the drawings: float32 RGB 0..255."""

import cv2
import numpy as np

WHITE = np.full(3, 255, np.float32)


def rgb(red: float, green: float, blue: float) -> np.ndarray:
    return np.array([red, green, blue], np.float32)


def vivid(rng: np.random.Generator) -> np.ndarray:
    """A random colour of some saturation, float32 RGB 0..255."""
    hsv = np.array([[[rng.uniform(0, 360), rng.uniform(0.25, 0.8), rng.uniform(0.3, 0.95)]]], np.float32)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0] * 255


def mix(a: np.ndarray, b: np.ndarray, share_of_b: float) -> np.ndarray:
    return (a + (b - a) * np.float32(share_of_b)).astype(np.float32)

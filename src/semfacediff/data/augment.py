"""Training-time changes of a photo and its label map, seeded by what is changed, not by when."""

import cv2
import numpy as np

from semfacediff.labels import LabelSpace


def resized(photo: np.ndarray, labels: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Photo uint8 ``[size, size, 3]`` (area average when shrinking) and labels uint8 ``[size, size]`` (nearest)."""
    if photo.shape[:2] != (size, size):
        shrink = min(photo.shape[:2]) >= size
        photo = cv2.resize(photo, (size, size), interpolation=cv2.INTER_AREA if shrink else cv2.INTER_LINEAR)
    if labels.shape != (size, size):
        labels = cv2.resize(labels, (size, size), interpolation=cv2.INTER_NEAREST_EXACT)
    return photo, labels


def flip(photo: np.ndarray, labels: np.ndarray, space: LabelSpace) -> tuple[np.ndarray, np.ndarray]:
    """Mirror left to right; left and right parts change names. Applied twice, nothing has happened."""
    return photo[:, ::-1], space.mirrored.astype(np.uint8)[labels[:, ::-1]]


def standard(
    photo: np.ndarray, labels: np.ndarray, space: LabelSpace, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Flip (p 0.5), zoom 0.8..1.25, rotate +-12 degrees, shift +-6 %, then brightness, contrast and saturation.

    Args:
        photo: uint8 ``[S, S, 3]``. labels: uint8 ``[S, S]`` in ``space``. Both come back at the same size.
    """
    if rng.random() < 0.5:
        photo, labels = flip(photo, labels, space)
    side = photo.shape[0]
    matrix = cv2.getRotationMatrix2D((side / 2, side / 2), rng.uniform(-12, 12), np.exp(rng.uniform(-0.22, 0.22)))
    matrix[:, 2] += rng.uniform(-0.06, 0.06, 2) * side
    frame = {"dsize": (side, side), "borderMode": cv2.BORDER_REFLECT_101}
    photo = cv2.warpAffine(np.ascontiguousarray(photo), matrix, flags=cv2.INTER_LINEAR, **frame)
    labels = cv2.warpAffine(np.ascontiguousarray(labels), matrix, flags=cv2.INTER_NEAREST, **frame)
    return _colour(photo, rng), labels


def _colour(photo: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Saturation, contrast about the mean, brightness and a slight tint, each +-25 % at most; uint8 in, uint8 out."""
    saturation, contrast, brightness = rng.uniform(0.75, 1.25, 3)
    tint = rng.uniform(0.94, 1.06, 3)
    x = photo.astype(np.float32)
    grey = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY).astype(np.float32)[..., None]
    x = grey + (x - grey) * saturation
    mean = float(grey.mean())
    x = (mean + (x - mean) * contrast) * (brightness * tint).astype(np.float32)
    return np.clip(x, 0, 255).astype(np.uint8)

"""SegFace's augmentation for LaPa: one affine change of the photo at its own size, and its landmarks with it."""

import math

import numpy as np
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F

from semfacediff.data.sizes import resized_labels
from semfacediff.types import FaceSample

ANGLE_DEG, SCALE, SHIFT_PX = (-30, 30), (0.5, 3), (-20, 20)


def lapa(sample: FaceSample, side: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rotate +-30 degrees and scale 0.5..3 about the photo's middle, shift +-20 px each way; then resize.

    Photo bicubic, labels (brought to the photo's size) nearest, as Pillow does; aspect is not kept. What moves in from
    outside is black, labelled 0, the background.

    Returns:
        photo: uint8 ``[side, side, 3]``. labels: uint8 ``[side, side]``.
        landmarks: float32 ``[5, 2]`` in px of it, NaN where the sample has none.
    """
    angle_deg, scale = rng.uniform(*ANGLE_DEG), rng.uniform(*SCALE)
    shift_px = rng.uniform(*SHIFT_PX, 2)
    photo = Image.fromarray(sample.photo)
    labels = Image.fromarray(resized_labels(sample.label_map, sample.photo.shape[:2]))
    photo, labels = (
        F.affine(image, angle_deg, shift_px.tolist(), scale, [0.0, 0.0], interpolation=how, fill=0)
        for image, how in ((photo, InterpolationMode.BICUBIC), (labels, InterpolationMode.NEAREST))
    )
    landmarks = _moved(landmarks_of(sample), photo.size, angle_deg, scale, shift_px) * side / photo.size
    photo = photo.resize((side, side), Image.Resampling.BICUBIC)
    labels = labels.resize((side, side), Image.Resampling.NEAREST)
    return np.array(photo), np.array(labels), landmarks.astype(np.float32)


def landmarks_of(sample: FaceSample) -> np.ndarray:
    """float32 ``[5, 2]``: the sample's landmarks, NaN where it has none."""
    return np.full((5, 2), np.nan, np.float32) if sample.landmarks is None else sample.landmarks


def _moved(
    points: np.ndarray, size_xy: tuple[int, int], angle_deg: float, scale: float, shift: np.ndarray
) -> np.ndarray:
    """``[P, 2]``: turned (clockwise, as y points down) and scaled about the middle, then shifted."""
    middle, angle = np.array(size_xy) / 2, math.radians(angle_deg)
    turn = scale * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return (points - middle) @ turn.T + middle + shift

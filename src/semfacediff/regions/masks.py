"""Class union, erosion and dilation, feathering, coverage (thesis, chapters 1.1 and 2.7)."""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from semfacediff.labels import LabelSpace, attribute_indices
from semfacediff.types import RegionMasks

REFERENCE_PX = 1024
MIN_COVERAGE = 0.001
"""Below this share of the photo a region counts as empty."""


@dataclass(frozen=True)
class RegionRule:
    """How a region becomes masks; pixels at a long side of 1024, scaled by max(H, W) / 1024.

    Attributes:
        erode_px, dilate_px: radii of square kernels (3 is the thesis's 7x7), erosion first.
        feather_sigma_px: of the Gaussian; its kernel is cut at 2 * round(sigma) + 1 (thesis: sigma 7, kernel 15).
    """

    erode_px: float = 0.0
    dilate_px: float = 0.0
    feather_sigma_px: float = 7.0


def attribute_region(labels: Tensor, attribute: str, space: LabelSpace) -> np.ndarray:
    """bool ``[H, W]``: union of the attribute's classes in an int64 ``[H, W]`` label map."""
    table = np.zeros(space.n, dtype=bool)
    table[list(attribute_indices(attribute, space))] = True
    return table[labels.numpy()]


def _square(radius: int) -> np.ndarray:
    return np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)


def _morphed(mask: np.ndarray, rule: RegionRule, scale: float) -> np.ndarray:
    """uint8 {0, 255} in and out; beyond the frame nothing is assumed (the border neither erodes nor grows)."""
    erode, dilate = round(rule.erode_px * scale), round(rule.dilate_px * scale)
    if erode:
        mask = cv2.erode(mask, _square(erode))
    if dilate:
        mask = cv2.dilate(mask, _square(dilate))
    return mask


def feather(mask: np.ndarray, sigma: float) -> np.ndarray:
    """uint8 ``[H, W]``: Gaussian blur of a {0, 255} mask, kernel 2 * round(sigma) + 1; none below half a pixel."""
    kernel = 2 * round(sigma) + 1
    return cv2.GaussianBlur(mask, (kernel, kernel), sigma) if kernel > 1 else mask


def region_masks(labels: Tensor, attribute: str, space: LabelSpace, rule: RegionRule) -> RegionMasks:
    """The three masks of ``attribute`` in an int64 ``[H, W]`` label map."""
    return masks_of(attribute_region(labels, attribute, space), rule)


def masks_of(semantic: np.ndarray, rule: RegionRule) -> RegionMasks:
    """The three masks of a region, bool ``[H, W]``.

    The blend mask is kept at 8 bits, as the thesis makes it, so that every rule of the kind "mask < 128" means the same
    for us and for a file on disk.
    """
    scale = max(semantic.shape) / REFERENCE_PX
    generation = _morphed(semantic.astype(np.uint8) * 255, rule, scale)
    blend = feather(generation, rule.feather_sigma_px * scale)
    return RegionMasks(
        semantic=torch.from_numpy(semantic[None].astype(np.float32)),
        generation=torch.from_numpy((generation[None] > 0).astype(np.float32)),
        blend=torch.from_numpy(blend[None].astype(np.float32) / 255),
        coverage=float((blend > 128).mean()),
    )

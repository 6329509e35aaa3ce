"""The boundary F-score: how much of each class's outline was found, whatever its area.

Csurka, Larlus, Perronnin, "What is a good evaluation measure for semantic segmentation?", BMVC 2013: a boundary pixel
counts as matched if the other map has a boundary pixel of the same class within 0.75 % of the image's diagonal (5.4 px
at 512 x 512). Precision is the matched share of the predicted outline, recall that of the true one, F their harmonic
mean. Unlike there, counts are pooled over the data set before the ratio is taken, as IoU's are: a class that occurs
in few photos is not averaged over photos without it, and records of parts can be added.
"""

import math
from functools import cache

import cv2
import numpy as np

from semfacediff.metrics.base import declared

TOLERANCE = 0.0075
"""Share of the image's diagonal."""
PARTS = ("predicted_matched", "predicted", "true_matched", "true")


def tolerance_px(shape: tuple[int, int]) -> float:
    """Distance in px up to which boundary pixels of a map of this (height, width) match; at least 1."""
    return max(1.0, TOLERANCE * math.hypot(*shape))


def outline(inside: np.ndarray) -> np.ndarray:
    """uint8 ``[H, W]`` in {0, 1}: the pixels of a bool region with a 4-neighbour that is not in it.

    The frame is no boundary: a region that goes on beyond the photo has no outline there.
    """
    edge = np.zeros(inside.shape, bool)
    down, right = inside[1:] != inside[:-1], inside[:, 1:] != inside[:, :-1]
    edge[1:] |= down
    edge[:-1] |= down
    edge[:, 1:] |= right
    edge[:, :-1] |= right
    return (edge & inside).astype(np.uint8)


@cache
def _disk(radius: float) -> np.ndarray:
    k = math.floor(radius)
    y, x = np.mgrid[-k : k + 1, -k : k + 1]
    return (y * y + x * x <= radius * radius).astype(np.uint8)


def boundary_counts(truth: np.ndarray, predicted: np.ndarray, n: int, tolerance: float | None = None) -> np.ndarray:
    """int64 ``[n, 4]``: of each class, pixels of the predicted outline that match and in all, and of the true one.

    Args:
        truth, predicted: integer ``[H, W]`` with values in 0..n-1, equal shapes; n is 256 at most.
        tolerance: distance in px (Euclidean, between pixel centres); by default :func:`tolerance_px`.

    Raises:
        ValueError: shapes differ.
    """
    if truth.shape != predicted.shape:
        raise ValueError(f"label maps differ in shape: {truth.shape} and {predicted.shape}")
    disk = _disk(tolerance_px(truth.shape) if tolerance is None else tolerance)
    truth, predicted = truth.astype(np.uint8), predicted.astype(np.uint8)  # eight times as fast to compare
    margin = disk.shape[0] // 2 + 1
    boxes = _boxes(truth, n), _boxes(predicted, n)
    counts = np.zeros((n, 4), np.int64)
    for c in range(n):
        found = [box[c] for box in boxes if c in box]
        if not found:
            continue
        # The outline outside the crop is none: a class ends inside its box, or at the frame.
        top, left = (max(0, min(box[i] for box in found) - margin) for i in (0, 1))
        bottom, right = (max(box[i] for box in found) + margin for i in (2, 3))
        true, called = (outline(x[top:bottom, left:right] == c) for x in (truth, predicted))
        counts[c] = (
            np.count_nonzero(called & cv2.dilate(true, disk)),
            np.count_nonzero(called),
            np.count_nonzero(true & cv2.dilate(called, disk)),
            np.count_nonzero(true),
        )
    return counts


def _boxes(labels: np.ndarray, n: int) -> dict[int, tuple[int, int, int, int]]:
    """Class -> (top, left, bottom, right), half open, of the classes that occur."""
    boxes = {}
    for c in range(n):
        left, top, width, height = cv2.boundingRect((labels == c).view(np.uint8))
        if width:
            boxes[c] = top, left, top + height, left + width
    return boxes


def boundary_f1(counts: np.ndarray) -> np.ndarray:
    """float64 ``[..., n]`` in [0,1] from (summed) counts ``[..., n, 4]``; higher is better.

    NaN where a class has an outline in neither map; 0 where it has one in one of them only.
    """
    called_hit, called, true_hit, true = np.moveaxis(np.asarray(counts, np.float64), -1, 0)
    precision, recall = called_hit / np.maximum(called, 1), true_hit / np.maximum(true, 1)
    f1 = 2 * precision * recall / np.maximum(precision + recall, np.finfo(float).tiny)
    return np.where(called + true > 0, f1, np.nan)


def identity() -> dict[str, object]:
    """What :func:`semfacediff.metrics.base.declared` makes."""
    return declared(
        "boundary_f1",
        implementation="semfacediff",
        version="1",
        bounds=[0, 1],
        unit="1",
        higher_is_better=True,
        resize="as the protocol scores",
        tolerance=f"{100 * TOLERANCE:g} % of the map's diagonal, Euclidean (Csurka et al., BMVC 2013)",
        outline="inner, 4-neighbours, not along the frame",
        pooled="boundary pixels of all photos, one score a class",
    )

"""Scores of label maps from one pooled confusion matrix: counts are kept, reduction comes last."""

import numpy as np
import pandas as pd

AGGREGATES = ("miou", "miou_no_background", "mean_f1_no_background", "pixel_accuracy")


def confusion_matrix(truth: np.ndarray, predicted: np.ndarray, n: int) -> np.ndarray:
    """int64 ``[n, n]``: pixels of true class (row) that were given a class (column).

    Args:
        truth, predicted: integer ``[H, W]`` with values in 0..n-1, equal shapes.

    Raises:
        ValueError: shapes differ, or a value lies outside; it would be counted as another class.
    """
    if truth.shape != predicted.shape:
        raise ValueError(f"label maps differ in shape: {truth.shape} and {predicted.shape}")
    for name, labels in (("truth", truth), ("predicted", predicted)):
        if labels.size and not 0 <= labels.min() <= labels.max() < n:
            raise ValueError(f"{name}: expected labels in 0..{n - 1}, got {labels.min()}..{labels.max()}")
    joint = truth.astype(np.int64).ravel() * n + predicted.astype(np.int64).ravel()
    return np.bincount(joint, minlength=n * n).reshape(n, n)


def _ratio(a: np.ndarray, b: np.ndarray, defined: np.ndarray) -> np.ndarray:
    """a / b where ``defined``, NaN elsewhere; 0 / 0 counts as 0 where defined."""
    return np.where(defined, a / np.maximum(b, 1), np.nan)


def class_scores(confusion: np.ndarray, classes: tuple[str, ...], images: np.ndarray) -> pd.DataFrame:
    """One row a class, then the aggregates; fractions 0..1.

    A class absent from truth and prediction has empty cells and enters no mean; one that is only predicted, or only
    true, scores 0. ``miou`` stands in column ``iou``, ``mean_f1_no_background`` in ``f1``; ``pixel_accuracy`` is the
    micro average of precision, recall and F1, which coincide when every pixel has one label.

    Args:
        confusion: int64 ``[n, n]``, rows = truth.
        classes: names; the first is the background.
        images: int64 ``[n]``: number of label maps (truth) that contain the class.
    """
    tp = np.diag(confusion).astype(np.float64)
    true, predicted = confusion.sum(1).astype(np.float64), confusion.sum(0).astype(np.float64)
    present = true + predicted > 0
    table = pd.DataFrame(
        {
            "class": list(classes),
            "iou": _ratio(tp, true + predicted - tp, present),
            "f1": _ratio(2 * tp, true + predicted, present),
            "precision": _ratio(tp, predicted, present),
            "recall": _ratio(tp, true, present),
            "pixels": confusion.sum(1),
            "images": images,
        }
    )
    accuracy = tp.sum() / confusion.sum() if confusion.any() else np.nan
    aggregates = pd.DataFrame(
        {
            "class": list(AGGREGATES),
            "iou": [table["iou"].mean(), table["iou"][1:].mean(), np.nan, np.nan],
            "f1": [np.nan, np.nan, table["f1"][1:].mean(), accuracy],
            "precision": [np.nan, np.nan, np.nan, accuracy],
            "recall": [np.nan, np.nan, np.nan, accuracy],
            "pixels": int(confusion.sum()),
        }
    )
    return pd.concat([table, aggregates], ignore_index=True).astype({"images": "Int64"})


def mean_iou(confusion: np.ndarray) -> float:
    """Mean over the classes present in truth or prediction, background included; 0..1."""
    tp = np.diag(confusion).astype(np.float64)
    union = confusion.sum(1) + confusion.sum(0) - tp
    return float((tp[union > 0] / union[union > 0]).mean())

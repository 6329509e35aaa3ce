"""Scores of label maps from one pooled confusion matrix: counts are kept, reduction comes last.

Three protocols score the same counts. ``strict``: a class absent from truth and prediction has no score and enters no
mean. ``ce7454`` (the course report): IoU is I / (U + 1e-6), its mean goes over the classes with U > 0, background
included. ``segface`` (AAAI 2025): IoU is M / max(1, U), so that an absent class counts as 0 in every mean IoU; its mean
F1 goes over all classes but the background, and is undefined where one of them is absent.
"""

from typing import Literal

import cv2
import numpy as np
import pandas as pd

from semfacediff.labels import LONG_TAIL

ParsingProtocol = Literal["strict", "ce7454", "segface"]
AGGREGATES = (
    "miou",
    "miou_no_background",
    "mean_f1_no_background",
    "pixel_accuracy",
    "mean_accuracy",
    "long_tail_miou",
)
_COLUMNS_OF = {
    "mean_f1_no_background": ("f1",),
    "mean_accuracy": ("recall",),
    "pixel_accuracy": ("f1", "precision", "recall"),
}
"""Columns of ``summary.csv`` that hold an aggregate, where that is not ``iou``."""
_CE7454_EPSILON = 1e-6
_EYES, _BROWS, _MOUTH = ("l_eye", "r_eye"), ("l_brow", "r_brow"), ("u_lip", "mouth", "l_lip")
HELEN_REGIONS = {
    "merged_eyes": _EYES,
    "merged_brows": _BROWS,
    "merged_mouth": _MOUTH,
    "merged_overall": (*_EYES, *_BROWS, "nose", *_MOUTH),
}
"""Unions of classes that works on Helen report beside the classes (Smith et al. 2013); in no mean."""
_EXACT_COUNT = 2**24
"""OpenCV counts in float32, which holds every whole number up to here."""


def confusion_matrix(truth: np.ndarray, predicted: np.ndarray, n: int, ignore: int | None = None) -> np.ndarray:
    """int64 ``[n, n]``: pixels of true class (row) that were given a class (column).

    Args:
        truth, predicted: integer ``[H, W]`` with values in 0..n-1, equal shapes.
        ignore: pixels whose true label this is are not counted (255 in several data sets).

    Raises:
        ValueError: shapes differ, or a value lies outside; it would be counted as another class.
    """
    if truth.shape != predicted.shape:
        raise ValueError(f"label maps differ in shape: {truth.shape} and {predicted.shape}")
    if ignore is not None:
        truth, predicted = truth[truth != ignore], predicted[truth != ignore]
    for name, labels in (("truth", truth), ("predicted", predicted)):
        if labels.size and not 0 <= labels.min() <= labels.max() < n:
            raise ValueError(f"{name}: expected labels in 0..{n - 1}, got {labels.min()}..{labels.max()}")
    if truth.dtype == predicted.dtype == np.uint8 and 0 < truth.size <= _EXACT_COUNT:
        maps = [np.ascontiguousarray(labels).reshape(-1, 1) for labels in (truth, predicted)]
        return cv2.calcHist(maps, [0, 1], None, [n, n], [0, n, 0, n]).astype(np.int64)
    joint = truth.astype(np.int64).ravel() * n + predicted.astype(np.int64).ravel()
    return np.bincount(joint, minlength=n * n).reshape(n, n)


def _ratio(a: np.ndarray, b: np.ndarray, defined: np.ndarray) -> np.ndarray:
    """a / b where ``defined``, NaN elsewhere; 0 / 0 counts as 0 where defined."""
    return np.where(defined, a / np.maximum(b, 1), np.nan)


def class_iou(
    hits: np.ndarray, true: np.ndarray, predicted: np.ndarray, protocol: ParsingProtocol = "strict"
) -> np.ndarray:
    """float64 ``[..., n]`` in [0,1]: IoU of every class; NaN where a protocol leaves an absent class without one.

    Args:
        hits, true, predicted: ``[..., n]`` pixels of a class that were found, that there are, that were called so.
    """
    union = np.asarray(true, np.float64) + predicted - hits
    if protocol == "segface":
        return hits / np.maximum(union, 1)
    if protocol == "ce7454":
        return np.where(union > 0, hits / (union + _CE7454_EPSILON), np.nan)
    return _ratio(hits, union, union > 0)


def mean_of(scores: np.ndarray, protocol: ParsingProtocol = "strict") -> np.ndarray:
    """Mean over the last axis: over the classes that have a score, under ``segface`` over all of them; else NaN."""
    if protocol == "segface":
        return scores.mean(-1) if scores.shape[-1] else np.full(scores.shape[:-1], np.nan)
    there = ~np.isnan(scores)
    n = there.sum(-1)
    return np.where(n > 0, np.where(there, scores, 0).sum(-1) / np.maximum(n, 1), np.nan)


def long_tail(classes: tuple[str, ...]) -> list[int]:
    """Positions of glasses, hat, earring and necklace, as far as the space has them."""
    return [i for i, name in enumerate(classes) if name in LONG_TAIL]


def iou_aggregates(
    iou: np.ndarray, classes: tuple[str, ...], protocol: ParsingProtocol = "strict"
) -> dict[str, np.ndarray]:
    """The means of ``iou`` (``[..., n]``) that a summary has, by row name; each ``[...]``."""
    return {
        "miou": mean_of(iou, protocol),
        "miou_no_background": mean_of(iou[..., 1:], protocol),
        "long_tail_miou": mean_of(iou[..., long_tail(classes)], protocol),
    }


def aggregates(
    hits: np.ndarray,
    true: np.ndarray,
    predicted: np.ndarray,
    classes: tuple[str, ...],
    protocol: ParsingProtocol = "strict",
) -> dict[str, np.ndarray]:
    """Each of the :data:`AGGREGATES` from pooled pixels ``[..., n]`` (see :func:`class_iou`); each ``[...]``."""
    present, pixels = true + predicted > 0, true.sum(-1)
    f1 = _ratio(2 * hits, true + predicted, present)
    recall = _ratio(hits, true, present | (protocol == "segface"))
    return iou_aggregates(class_iou(hits, true, predicted, protocol), classes, protocol) | {
        "mean_f1_no_background": mean_of(f1[..., 1:], protocol),
        "mean_accuracy": mean_of(recall, protocol),
        "pixel_accuracy": _ratio(hits.sum(-1), pixels, pixels > 0),
    }


def class_scores(
    confusion: np.ndarray, classes: tuple[str, ...], images: np.ndarray, protocol: ParsingProtocol = "strict"
) -> pd.DataFrame:
    """One row a class, then the aggregates; fractions 0..1.

    A class absent from truth and prediction has empty cells and enters no mean; one that is only predicted, or only
    true, scores 0 (protocols other than ``strict``: see the module). Mean IoUs stand in column ``iou``,
    ``mean_f1_no_background`` in ``f1``, ``mean_accuracy`` (over classes, background included) in ``recall``;
    ``pixel_accuracy`` is the micro average of precision, recall and F1, which coincide when every pixel has one label.

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
            "iou": class_iou(tp, true, predicted, protocol),
            "f1": _ratio(2 * tp, true + predicted, present),
            "precision": _ratio(tp, predicted, present),
            "recall": _ratio(tp, true, present | (protocol == "segface")),
            "pixels": confusion.sum(1),
            "images": images,
        }
    )
    means = pd.DataFrame({"class": list(AGGREGATES), "pixels": int(confusion.sum())}).set_index("class")
    for name, value in aggregates(tp, true, predicted, classes, protocol).items():
        for column in _COLUMNS_OF.get(name, ("iou",)):
            means.loc[name, column] = float(value)
    return pd.concat([table, means.reset_index()], ignore_index=True).astype({"images": "Int64"})


def region_scores(confusion: np.ndarray, classes: tuple[str, ...], regions: dict[str, tuple[str, ...]]) -> pd.DataFrame:
    """A row a union of classes, as :func:`class_scores`: confusions within it are no errors.

    Args:
        regions: name -> class names.
    """
    rows = []
    for name, members in regions.items():
        of = [classes.index(c) for c in members]
        tp, true, predicted = confusion[np.ix_(of, of)].sum(), confusion[of].sum(), confusion[:, of].sum()
        parts = {"iou": (tp, true + predicted - tp), "f1": (2 * tp, true + predicted)}
        parts |= {"precision": (tp, predicted), "recall": (tp, true)}
        rows.append({"class": name, **{k: a / b if b else np.nan for k, (a, b) in parts.items()}, "pixels": true})
    return pd.DataFrame(rows)


def mean_iou(confusion: np.ndarray) -> float:
    """Mean over the classes present in truth or prediction, background included; 0..1."""
    tp = np.diag(confusion).astype(np.float64)
    union = confusion.sum(1) + confusion.sum(0) - tp
    return float((tp[union > 0] / union[union > 0]).mean())

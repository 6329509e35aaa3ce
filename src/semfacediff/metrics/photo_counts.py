"""What is kept of every scored photo, and the summary of any set of photos: pooled scores, spread and intervals."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from semfacediff.metrics import boundary
from semfacediff.metrics.base import declared
from semfacediff.metrics.bootstrap import LEVEL, RESAMPLES, interval, resampled_sums
from semfacediff.metrics.segmentation import (
    ParsingProtocol,
    class_iou,
    class_scores,
    confusion_matrix,
    iou_aggregates,
    mean_iou,
    mean_of,
)

QUANTILES = (("q05", 0.05), ("q25", 0.25), ("median", 0.5), ("q75", 0.75), ("q95", 0.95))
SPREAD = ("image_miou_mean", "image_miou_sd", *(f"image_miou_{name}" for name, _ in QUANTILES))
CHALLENGE_F = "challenge_f"
"""Row of ``protocol=ce7454`` alone: the F-score of the course's challenge."""
SUMMARY_ROWS = ("boundary_f1", *SPREAD, "loss")
"""Rows of ``summary.csv`` after those of :data:`semfacediff.metrics.segmentation.AGGREGATES`."""
SUMMARY_COLUMNS = (
    *("class", "iou", "f1", "precision", "recall", "pixels", "images"),
    *("boundary_f1", "iou_low", "iou_high", "loss"),
)


def sparse(confusion: np.ndarray) -> list[list[int]]:
    """[true, predicted, pixels] triples of a confusion matrix, without its zeros."""
    return [[int(t), int(p), int(confusion[t, p])] for t, p in np.argwhere(confusion)]


def dense(triples: Sequence[Sequence[int]] | None, n: int) -> np.ndarray:
    """int64 ``[n, n]`` from the triples of :func:`sparse`."""
    confusion = np.zeros((n, n), np.int64)
    if triples is not None and len(triples):
        true, predicted, pixels = np.array([list(t) for t in triples], np.int64).T
        confusion[true, predicted] = pixels
    return confusion


def photo_counts(truth: np.ndarray, predicted: np.ndarray, n: int) -> dict:
    """The scores of one photo, and the counts that any pooled score can be made from.

    ``miou`` is over the classes present in truth or prediction. ``confusion`` holds [true, predicted, pixels] triples,
    ``boundary`` a class followed by its four counts (:data:`semfacediff.metrics.boundary.PARTS`).

    Args:
        truth, predicted: integer ``[H, W]`` with values in 0..n-1, equal shapes.
    """
    confusion = confusion_matrix(truth, predicted, n)
    outlines = boundary.boundary_counts(truth, predicted, n)
    by_class = boundary.boundary_f1(outlines)
    faces = by_class[1:][~np.isnan(by_class[1:])]
    return {
        "miou": mean_iou(confusion),
        "pixel_accuracy": float(np.trace(confusion) / confusion.sum()),
        "boundary_f1": float(faces.mean()) if len(faces) else None,
        "confusion": sparse(confusion),
        "boundary": [[int(c), *map(int, outlines[c])] for c in np.flatnonzero(outlines.any(1))],
    }


@dataclass(frozen=True)
class PhotoCounts:
    """N photos with labels of n classes.

    Attributes:
        confusion: int64 ``[n, n]``, pooled. images: int64 ``[n]``: photos whose truth has the class.
        hits, true, predicted: int64 ``[N, n]``.
        boundary: int64 ``[N, n, 4]``.
        miou: float64 ``[N]``: of each photo on its own.
        loss: mean over the pooled pixels (or their weights), NaN where the parser gives no logits.
    """

    confusion: np.ndarray
    images: np.ndarray
    hits: np.ndarray
    true: np.ndarray
    predicted: np.ndarray
    boundary: np.ndarray
    miou: np.ndarray
    loss: float

    @classmethod
    def of(cls, rows: Sequence[dict], n: int, confusion: str = "confusion") -> "PhotoCounts":
        """From rows of :func:`photo_counts` with a ``sample_id``; in the order of the ids, whatever that of the rows.

        Args:
            confusion: the column that holds the counts. Rows without it (failed photos) are left out.
        """
        rows = sorted((r for r in rows if r.get(confusion) is not None), key=lambda r: str(r["sample_id"]))
        pooled, boundaries = np.zeros((n, n), np.int64), np.zeros((len(rows), n, 4), np.int64)
        hits, true, predicted = np.zeros((3, len(rows), n), np.int64)
        for i, row in enumerate(rows):
            counts = dense(row[confusion], n)
            pooled += counts
            hits[i], true[i], predicted[i] = np.diag(counts), counts.sum(1), counts.sum(0)
            outlines = row.get("boundary")  # a record older than this score has none
            for c, *parts in [] if outlines is None else outlines:
                boundaries[i, c] = parts
        miou = np.array([row["miou"] for row in rows], np.float64)
        return cls(pooled, (true > 0).sum(0), hits, true, predicted, boundaries, miou, _pooled_loss(rows))

    @property
    def n(self) -> int:
        """Photos."""
        return len(self.miou)


def _pooled_loss(rows: Sequence[dict]) -> float:
    known = [(row["loss"], row["loss_weight"]) for row in rows if row.get("loss") is not None]
    total = sum(weight for _, weight in known)
    return sum(loss * weight for loss, weight in known) / total if total and len(known) == len(rows) else np.nan


def intervals(
    photos: PhotoCounts, classes: tuple[str, ...], seed: int, protocol: ParsingProtocol = "strict"
) -> dict[str, tuple[float, float]]:
    """Row name -> 95 % interval of its IoU, for every class and the mean IoUs: photos resampled, counts pooled again.

    NaN with fewer than two photos.
    """
    names = [*classes, *iou_aggregates(np.zeros(len(classes)), classes)]
    if photos.n < 2:
        return dict.fromkeys(names, (np.nan, np.nan))
    counts = np.stack([photos.hits, photos.true, photos.predicted], axis=1)
    hits, true, predicted = np.moveaxis(resampled_sums(counts, seed), 1, 0)
    iou = class_iou(hits, true, predicted, protocol)
    low, high = interval(np.column_stack([iou, *iou_aggregates(iou, classes, protocol).values()]))
    return {name: (float(a), float(b)) for name, a, b in zip(names, low, high, strict=True)}


def summary(
    photos: PhotoCounts, classes: tuple[str, ...], seed: int, protocol: ParsingProtocol = "strict"
) -> pd.DataFrame:
    """``summary.csv`` of a parsing run: :func:`class_scores`, boundaries, intervals, the spread over photos, the loss.

    ``image_miou_*`` (column ``iou``): mean, sd (ddof 1) and quantiles of the photos' own mIoU. ``boundary_f1`` as a
    row is the mean over classes without the background. ``loss`` stands in a column of its own: it is no fraction.
    ``protocol=ce7454`` adds the row ``challenge_f`` (column ``f1``): :func:`challenge_f`.

    Args:
        classes: names; the first is the background.
        seed: of the resampling.
    """
    table = class_scores(photos.confusion, classes, photos.images, protocol)
    table["boundary_f1"] = np.nan
    by_class = boundary.boundary_f1(photos.boundary.sum(0))
    table.loc[: len(classes) - 1, "boundary_f1"] = by_class
    ranges = intervals(photos, classes, seed, protocol)
    for i, end in enumerate(("iou_low", "iou_high")):
        table[end] = [ranges.get(name, (np.nan, np.nan))[i] for name in table["class"]]
    more = pd.DataFrame({"class": list(SUMMARY_ROWS)}).set_index("class")
    more.loc["boundary_f1", "boundary_f1"] = mean_of(by_class[1:])
    for name, value in _spread(photos.miou).items():
        more.loc[name, "iou"] = value
    more.loc["loss", "loss"] = photos.loss
    if protocol == "ce7454":
        more.loc[CHALLENGE_F, "f1"] = challenge_f(photos)
    joined = pd.concat([table, more.reset_index()], ignore_index=True)
    joined["pixels"] = joined["pixels"].astype("Int64")
    return joined[list(SUMMARY_COLUMNS)]


def challenge_f(photos: PhotoCounts) -> float:
    """F-score of the CE7454 course's challenge: mean over photos of the mean F1 over the classes in a photo's truth.

    The background is a class like any other; a class that only the parser sees has no part in it. NaN without photos.
    """
    there = photos.true > 0
    f1 = np.where(there, 2 * photos.hits / np.maximum(1, photos.true + photos.predicted), 0.0)
    return float((f1.sum(1) / there.sum(1)).mean()) if photos.n else np.nan


def _spread(miou: np.ndarray) -> dict[str, float]:
    if not len(miou):
        return dict.fromkeys(SPREAD, np.nan)
    sd = miou.std(ddof=1) if len(miou) > 1 else np.nan
    quantiles = np.quantile(miou, [q for _, q in QUANTILES])
    return dict(zip(SPREAD, map(float, (miou.mean(), sd, *quantiles)), strict=True))


def confusion_table(confusion: np.ndarray, classes: tuple[str, ...]) -> pd.DataFrame:
    """``confusion.csv``: a row a true class (column ``truth``), pixels that were given each class."""
    table = pd.DataFrame(confusion, columns=list(classes))
    table.insert(0, "truth", list(classes))
    return table


def identities(seed: int, n: int, loss: str | None) -> list[dict[str, object]]:
    """What the numbers of a summary depend on, for the record.

    Args:
        seed, n: of the resampling, and photos that are resampled. loss: what it is; ``None`` where there is none.
    """
    same = {"implementation": "semfacediff", "version": "1", "unit": "1", "resize": "as the protocol scores"}
    resampling = declared(
        "iou_low, iou_high",
        bounds=[0, 1],
        higher_is_better=True,
        method="percentile bootstrap: photos drawn with replacement, counts pooled again",
        level=LEVEL,
        resamples=RESAMPLES,
        seed=seed,
        photos=n,
        **same,
    )
    each = declared("miou, pixel_accuracy", bounds=[0, 1], higher_is_better=True, of="each photo on its own", **same)
    losses = [declared("loss", bounds=[0, None], higher_is_better=False, criterion=loss, **same)] if loss else []
    return [each, boundary.identity(), resampling, *losses]

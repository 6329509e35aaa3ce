"""From photos to the summary: everything but the resampled intervals counted again by hand."""

import json

import numpy as np
import pytest

from semfacediff.labels import CELEBAMASK
from semfacediff.metrics.photo_counts import (
    SPREAD,
    SUMMARY_COLUMNS,
    SUMMARY_ROWS,
    PhotoCounts,
    confusion_table,
    dense,
    identities,
    photo_counts,
    sparse,
    summary,
)
from semfacediff.metrics.segmentation import AGGREGATES, class_scores, confusion_matrix, mean_iou

CLASSES = ("background", "skin", "eye_g", "hat", "absent")
N = len(CLASSES)


def maps(k=6, size=32):
    """``k`` pairs of truth and prediction; the hat is in one photo only."""
    random = np.random.default_rng(0)
    pairs = []
    for i in range(k):
        truth = np.kron(random.integers(0, 3, (4, 4)), np.ones((size // 4,) * 2, int))
        if i == 0:
            truth[:8, :8] = 3
        predicted = np.roll(truth, random.integers(-4, 5), 1)
        pairs.append((truth, predicted))
    return pairs


def rows_of(pairs, **more):
    return [{"sample_id": f"{i:03d}", **photo_counts(t, p, N), **more} for i, (t, p) in enumerate(pairs)]


@pytest.fixture(scope="module")
def rows():
    return rows_of(maps())


@pytest.fixture(scope="module")
def table(rows):
    return summary(PhotoCounts.of(rows, N), CLASSES, seed=1).set_index("class")


def test_rows_are_plain_data(rows):
    assert json.loads(json.dumps(rows)) == rows


def test_a_photos_own_scores(rows):
    truth, predicted = maps()[2]
    assert rows[2]["miou"] == mean_iou(confusion_matrix(truth, predicted, N))
    assert rows[2]["pixel_accuracy"] == (truth == predicted).mean()
    assert 0 < rows[2]["boundary_f1"] < 1


def test_a_photo_without_any_outline_has_no_boundary_score():
    assert photo_counts(np.zeros((8, 8), int), np.zeros((8, 8), int), N)["boundary_f1"] is None


def test_sparse_counts_lose_nothing():
    confusion = np.random.default_rng(0).integers(0, 3, (N, N))
    assert np.array_equal(dense(sparse(confusion), N), confusion)
    assert not dense(None, N).any()
    assert not dense([], N).any()


def test_pooled_rows_are_the_class_scores_of_all_pixels_together(table):
    pairs = maps()
    confusion = confusion_matrix(np.stack([t for t, _ in pairs]), np.stack([p for _, p in pairs]), N)
    images = np.array([sum((t == c).any() for t, _ in pairs) for c in range(N)])
    expected = class_scores(confusion, CLASSES, images).set_index("class")
    assert table.loc[expected.index, expected.columns].astype(float).equals(expected.astype(float))


def test_documented_rows_and_columns(rows):
    table = summary(PhotoCounts.of(rows, N), CLASSES, seed=1)
    assert tuple(table) == SUMMARY_COLUMNS
    assert SUMMARY_COLUMNS[:7] == ("class", "iou", "f1", "precision", "recall", "pixels", "images")
    assert tuple(table["class"]) == (*CLASSES, *AGGREGATES, *SUMMARY_ROWS)


def test_spread_over_photos(table, rows):
    own = [row["miou"] for row in rows]
    expected = [np.mean(own), np.std(own, ddof=1), *np.quantile(own, [0.05, 0.25, 0.5, 0.75, 0.95])]
    assert table.loc[list(SPREAD), "iou"].tolist() == pytest.approx(expected, abs=1e-12)


def test_boundary_row_is_the_mean_over_classes_without_the_background(table):
    assert np.isnan(table.loc["absent", "boundary_f1"])
    assert table.loc["boundary_f1", "boundary_f1"] == pytest.approx(table["boundary_f1"].iloc[1:4].mean(), abs=1e-12)


def test_intervals_hold_the_estimate_and_are_seeded(table, rows):
    for name in ("background", "skin", "eye_g", "miou", "miou_no_background", "long_tail_miou"):
        low, iou, high = table.loc[name, ["iou_low", "iou", "iou_high"]]
        assert 0 <= low < iou < high <= 1, name
    counts = PhotoCounts.of(rows, N)
    assert summary(counts, CLASSES, 1).equals(table.reset_index())
    assert not summary(counts, CLASSES, 2).equals(table.reset_index())


def test_intervals_are_those_of_photos_drawn_again(rows):
    """The same resamples, each scored from the drawn photos' label maps."""
    pairs, random = maps(), np.random.default_rng(1)
    ious, means = [], []
    for drawn in random.integers(0, len(pairs), (1000, len(pairs))):
        confusion = sum(dense(rows[i]["confusion"], N) for i in drawn)
        scores = (
            class_scores(confusion, CLASSES, np.zeros(N, int)).set_index("class")["iou"] if len(ious) < 60 else None
        )
        hits, union = np.diag(confusion), confusion.sum(0) + confusion.sum(1) - np.diag(confusion)
        ious.append(hits[1] / union[1])
        means.append((hits[union > 0] / union[union > 0]).mean())
        if scores is not None:
            assert scores["skin"] == pytest.approx(ious[-1])
            assert scores["miou"] == pytest.approx(means[-1])
    table = summary(PhotoCounts.of(rows, N), CLASSES, seed=1).set_index("class")
    for name, values in (("skin", ious), ("miou", means)):
        assert table.loc[name, ["iou_low", "iou_high"]].tolist() == pytest.approx(np.quantile(values, [0.025, 0.975]))


def test_an_absent_class_has_no_interval_and_a_rare_one_that_of_the_resamples_it_is_in(table):
    assert table.loc["absent", ["iou", "iou_low", "iou_high"]].isna().all()
    hat = table.loc["hat", ["iou_low", "iou", "iou_high"]]
    assert hat.nunique() == 1, "one photo has hats: wherever it is drawn, its IoU is the same"


def test_one_photo_has_no_interval_and_no_sd():
    table = summary(PhotoCounts.of(rows_of(maps(1)), N), CLASSES, seed=1).set_index("class")
    assert table[["iou_low", "iou_high"]].isna().all(axis=None)
    assert np.isnan(table.loc["image_miou_sd", "iou"])
    assert table.loc["image_miou_mean", "iou"] == table.loc["image_miou_median", "iou"]


def test_no_photo_at_all_has_no_score():
    table = summary(PhotoCounts.of([], N), CLASSES, seed=1)
    assert table.drop(columns=["class", "pixels", "images"]).isna().all(axis=None)


@pytest.mark.parametrize("order", [[5, 4, 3, 2, 1, 0], [2, 0, 5, 1, 4, 3]])
def test_the_order_of_rows_changes_nothing(rows, order):
    again = summary(PhotoCounts.of([rows[i] for i in order], N), CLASSES, seed=1)
    assert again.equals(summary(PhotoCounts.of(rows, N), CLASSES, seed=1))


def test_failed_photos_are_left_out(rows):
    failed = {"sample_id": "zzz", "status": "error"}
    assert summary(PhotoCounts.of([*rows, failed], N), CLASSES, 1).equals(summary(PhotoCounts.of(rows, N), CLASSES, 1))


def test_the_loss_is_weighted_by_pixels_and_missing_where_one_is():
    pairs = maps(3)
    rows = rows_of(pairs)
    for row, loss, weight in zip(rows, (1.0, 2.0, 4.0), (100, 300, 600), strict=True):
        row |= {"loss": loss, "loss_weight": weight}
    table = summary(PhotoCounts.of(rows, N), CLASSES, 1).set_index("class")
    assert table.loc["loss", "loss"] == pytest.approx(3.1)
    rows[1] |= {"loss": None, "loss_weight": None}
    assert np.isnan(PhotoCounts.of(rows, N).loss)


def test_a_record_older_than_the_boundary_score_still_has_the_others(rows):
    old = [{k: v for k, v in row.items() if k != "boundary"} for row in rows]
    new, table = (summary(PhotoCounts.of(r, N), CLASSES, 1).set_index("class") for r in (rows, old))
    assert table["boundary_f1"].isna().all()
    assert table.drop(columns="boundary_f1").equals(new.drop(columns="boundary_f1"))


def test_confusion_is_kept_with_names(rows):
    counts = PhotoCounts.of(rows, N)
    table = confusion_table(counts.confusion, CLASSES)
    assert list(table) == ["truth", *CLASSES]
    assert table.set_index("truth").loc["skin", "eye_g"] == counts.confusion[1, 2] > 0


def test_resampled_counts_of_the_canonical_space_stay_exact():
    """Pixel counts of a large data set are far below 2^53."""
    confusion = np.zeros((19, 19), np.int64)
    np.fill_diagonal(confusion, 2**33)
    rows = [{"sample_id": str(i), "miou": 1.0, "confusion": sparse(confusion)} for i in range(5)]
    table = summary(PhotoCounts.of(rows, 19), CELEBAMASK.classes, 0).set_index("class")
    assert (table.loc[list(CELEBAMASK.classes), ["iou_low", "iou", "iou_high"]] == 1).all(axis=None)


def test_what_the_numbers_depend_on_is_said():
    said = {entry["metric"]: entry for entry in identities(seed=5, n=7, loss="cross-entropy")}
    assert said["boundary_f1"]["tolerance"].startswith("0.75 % of the map's diagonal")
    interval = said["iou_low, iou_high"]
    assert (interval["seed"], interval["photos"], interval["resamples"], interval["level"]) == (5, 7, 1000, 0.95)
    assert said["loss"]["criterion"] == "cross-entropy"
    assert "loss" not in {entry["metric"] for entry in identities(5, 7, None)}


def test_the_challenges_f_score_is_that_of_precision_and_recall_by_photo():
    truth = np.array([[[0, 0, 1, 1], [2, 2, 2, 1]], [[0, 0, 0, 0], [0, 0, 1, 1]]])
    seen = np.array([[[0, 1, 1, 1], [2, 2, 3, 0]], [[0, 0, 0, 3], [0, 0, 0, 0]]])
    of_photos = []
    for t, p in zip(truth, seen, strict=True):
        scores = []
        for c in np.unique(t):
            tp, fp, fn = (t == c) & (p == c), (t != c) & (p == c), (t == c) & (p != c)
            precision, recall = tp.sum() / max(1, (tp | fp).sum()), tp.sum() / (tp | fn).sum()
            scores.append(2 * precision * recall / (precision + recall) if precision + recall else 0.0)
        of_photos.append(np.mean(scores))
    counts = PhotoCounts.of(rows_of(zip(truth, seen, strict=True)), N)
    table = summary(counts, CLASSES, 0, "ce7454").set_index("class")
    assert table.loc["challenge_f", "f1"] == pytest.approx(np.mean(of_photos), rel=1e-12)
    assert np.mean(of_photos) not in (0, 1)
    assert "challenge_f" not in set(summary(counts, CLASSES, 0)["class"])

"""Scores of label maps against a plain loop over classes, and against what the published protocols computed."""

from pathlib import Path

import numpy as np
import pytest

from semfacediff.labels import CELEBAMASK, SPACES
from semfacediff.metrics.segmentation import AGGREGATES, class_iou, class_scores, confusion_matrix, mean_iou, mean_of

FIXTURES = Path(__file__).parents[1] / "fixtures"

CLASSES = ("background", "a", "b", "only predicted", "only true", "absent")
N = len(CLASSES)


def label_maps(seed=0, images=5):
    """Truth without class 3 and 5, predictions without class 4 and 5; class 2 in some photos only."""
    random = np.random.default_rng(seed)
    truth, predicted = [], []
    for i in range(images):
        size = (10 + i, 14)
        truth.append(random.choice([0, 1, 2, 4] if i % 2 else [0, 1], size))
        other = random.choice([0, 1, 2, 3], size)
        predicted.append(np.where((random.random(size) < 0.7) & (truth[-1] != 4), truth[-1], other))
    return truth, predicted


def scored(truth, predicted, classes=CLASSES):
    n = len(classes)
    confusion = sum(confusion_matrix(t, p, n) for t, p in zip(truth, predicted, strict=True))
    images = np.array([sum((t == c).any() for t in truth) for c in range(n)])
    return class_scores(confusion, classes, images), confusion


def plain(truth, predicted, n):
    """class -> (iou, f1, precision, recall, pixels), counted pixel by pixel; ``None`` where the class is absent."""
    t, p = (np.concatenate([x.ravel() for x in maps]) for maps in (truth, predicted))
    rows = []
    for c in range(n):
        hit = int(((t == c) & (p == c)).sum())
        missed, false = int(((t == c) & (p != c)).sum()), int(((t != c) & (p == c)).sum())
        if hit + missed + false == 0:
            rows.append(None)
            continue
        precision = hit / (hit + false) if hit + false else 0
        recall = hit / (hit + missed) if hit + missed else 0
        f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0
        rows.append((hit / (hit + missed + false), f1, precision, recall, hit + missed))
    return rows, float((t == p).mean())


def test_a_map_scored_against_itself_is_perfect():
    truth, _ = label_maps()
    table = scored(truth, truth)[0].set_index("class")
    present = ["background", "a", "b", "only true"]
    assert (table.loc[present, ["iou", "f1", "precision", "recall"]] == 1).all(axis=None)
    assert table.loc["miou", "iou"] == table.loc["miou_no_background", "iou"] == 1
    assert table.loc["mean_f1_no_background", "f1"] == table.loc["pixel_accuracy", "f1"] == 1


@pytest.mark.parametrize("seed", range(4))
def test_equals_a_plain_loop_over_classes(seed):
    truth, predicted = label_maps(seed)
    table = scored(truth, predicted)[0].set_index("class")
    rows, accuracy = plain(truth, predicted, N)
    for name, row in zip(CLASSES, rows, strict=True):
        cells = table.loc[name, ["iou", "f1", "precision", "recall"]]
        if row is None:
            assert cells.isna().all()
        else:
            assert list(cells) == pytest.approx(row[:4], abs=1e-12)
            assert table.loc[name, "pixels"] == row[4]
    present = [r for r in rows if r]
    assert table.loc["miou", "iou"] == pytest.approx(np.mean([r[0] for r in present]), abs=1e-12)
    assert table.loc["miou_no_background", "iou"] == pytest.approx(np.mean([r[0] for r in present[1:]]), abs=1e-12)
    assert table.loc["mean_f1_no_background", "f1"] == pytest.approx(np.mean([r[1] for r in present[1:]]), abs=1e-12)
    assert table.loc["pixel_accuracy", "precision"] == pytest.approx(accuracy, abs=1e-12)


def test_rows_and_columns_are_the_documented_ones():
    table = scored(*label_maps())[0]
    assert list(table) == ["class", "iou", "f1", "precision", "recall", "pixels", "images"]
    first = ["miou", "miou_no_background", "mean_f1_no_background", "pixel_accuracy"]
    assert list(table["class"]) == [*CLASSES, *first, "mean_accuracy", "long_tail_miou"]
    assert tuple(table["class"][N:]) == AGGREGATES


def test_absent_class_is_empty_and_a_class_on_one_side_only_scores_zero():
    table = scored(*label_maps())[0].set_index("class")
    assert table.loc["absent", ["iou", "f1", "precision", "recall"]].isna().all()
    assert table.loc["absent", "pixels"] == table.loc["absent", "images"] == 0
    for name in ("only predicted", "only true"):
        assert (table.loc[name, ["iou", "f1", "precision", "recall"]] == 0).all()


def test_images_are_counted_where_the_truth_has_the_class():
    truth, predicted = label_maps()
    table = scored(truth, predicted)[0].set_index("class")
    assert table.loc["b", "images"] == sum((t == 2).any() for t in truth) < len(truth)
    assert table.loc["only predicted", "images"] == 0


def test_without_background_the_mean_is_still_defined_where_there_is_one():
    truth = [np.ones((4, 4), int)]
    table = scored(truth, truth)[0].set_index("class")
    assert table.loc["miou", "iou"] == table.loc["miou_no_background", "iou"] == 1


def test_more_damage_is_worse():
    truth, _ = label_maps()
    random = np.random.default_rng(1)
    previous = 2.0
    for share in (0.0, 0.1, 0.4, 0.9):
        predicted = [np.where(random.random(t.shape) < share, random.integers(0, 3, t.shape), t) for t in truth]
        now = scored(truth, predicted)[0].set_index("class").loc["miou", "iou"]
        assert now < previous
        previous = now


def test_order_and_grouping_change_nothing():
    truth, predicted = label_maps()
    forward, counts = scored(truth, predicted)
    backward, again = scored(truth[::-1], predicted[::-1])
    assert forward.equals(backward)
    assert np.array_equal(counts, again)
    joined = confusion_matrix(
        np.concatenate([t.ravel() for t in truth]), np.concatenate([p.ravel() for p in predicted]), N
    )
    assert np.array_equal(joined, counts)


def test_pooled_is_not_the_mean_over_photos():
    truth = [np.array([[1, 0]]), np.array([[1, 1, 1, 1]])]
    predicted = [np.array([[0, 0]]), np.array([[1, 1, 1, 1]])]
    assert scored(truth, predicted)[0].set_index("class").loc["a", "iou"] == pytest.approx(4 / 5)


def test_mean_iou_is_the_tables():
    table, confusion = scored(*label_maps())
    assert mean_iou(confusion) == pytest.approx(table.set_index("class").loc["miou", "iou"], abs=1e-12)


def test_counts_do_not_overflow_narrow_label_types():
    labels = np.full((40, 40), 18, np.uint8)
    counts = confusion_matrix(labels, labels, CELEBAMASK.n)
    assert counts[18, 18] == counts.sum() == 1600


@pytest.mark.parametrize(
    ("truth", "predicted", "message"),
    [
        (np.zeros((4, 4), int), np.zeros((4, 5), int), r"label maps differ in shape: \(4, 4\) and \(4, 5\)"),
        (np.zeros((2, 2), int), np.full((2, 2), N), rf"predicted: expected labels in 0..{N - 1}, got {N}..{N}"),
        (np.full((2, 2), 255, np.uint8), np.zeros((2, 2), np.uint8), rf"truth: .*0..{N - 1}, got 255..255"),
        (np.full((2, 2), -1), np.zeros((2, 2), int), "truth: .*got -1..-1"),
    ],
)
def test_bad_labels_are_refused(truth, predicted, message):
    with pytest.raises(ValueError, match=message):
        confusion_matrix(truth, predicted, N)


def test_pixels_to_be_ignored_are_in_no_count():
    truth = np.array([[0, 255], [1, 1]], np.uint8)
    predicted = np.array([[0, 1], [200, 1]])
    with pytest.raises(ValueError, match=r"predicted: .*got 0..200"):
        confusion_matrix(truth, predicted, 2, ignore=255)
    predicted[1, 0] = 0
    assert confusion_matrix(truth, predicted, 2, ignore=255).tolist() == [[1, 0], [1, 1]]


def test_long_tail_is_the_mean_of_glasses_hat_earring_and_necklace():
    confusion = np.zeros((19, 19), int)
    for name, hits in (("eye_g", 9), ("hat", 4), ("ear_r", 1), ("skin", 10)):
        c = CELEBAMASK.index(name)
        confusion[c, c], confusion[c, 0] = hits, 10 - hits
    table = class_scores(confusion, CELEBAMASK.classes, np.zeros(19, int)).set_index("class")
    assert table.loc["long_tail_miou", "iou"] == pytest.approx((0.9 + 0.4 + 0.1) / 3), "no necklace: it does not count"
    eleven = SPACES["lapa"]
    table = class_scores(np.eye(11, dtype=int), eleven.classes, np.ones(11, int)).set_index("class")
    assert np.isnan(table.loc["long_tail_miou", "iou"]), "that space has none of them"


def test_mean_accuracy_is_the_mean_recall_of_the_classes():
    table = scored(*label_maps())[0].set_index("class")
    assert table.loc["mean_accuracy", "recall"] == pytest.approx(table["recall"].iloc[:5].mean(), abs=1e-12)


@pytest.fixture(scope="module")
def segface():
    """(rows by class name, published value by key) of the released metric's fixture; 255 is not counted."""
    with np.load(FIXTURES / "segface" / "segface_metric_celebamaskhq.npz") as f:
        truth, predicted = f["gt"], f["pred"]
        values = dict(zip(f["keys"].tolist(), f["values"].tolist(), strict=True))
    space = SPACES["segface"]
    assert (truth == 255).any()
    confusion = sum(confusion_matrix(t, p, space.n, ignore=255) for t, p in zip(truth, predicted, strict=True))
    table = class_scores(confusion, space.classes, (confusion.sum(1) > 0).astype(int), "segface")
    return table.set_index("class"), values


def test_segfaces_class_scores_are_those_of_its_code(segface):
    table, values = segface
    for name in SPACES["segface"].classes:
        assert 100 * table.loc[name, "iou"] == pytest.approx(values[f"iou:{name}"], abs=1e-6), name
        assert table.loc[name, "f1"] == pytest.approx(values[f"f1:{name}"], abs=1e-8), name
    assert table.loc["hat", "pixels"] == 0, "the fixture holds a class that is only imagined"


@pytest.mark.parametrize(
    ("row", "column", "key", "factor"),
    [
        ("miou", "iou", "iou:Mean IU", 100),
        ("pixel_accuracy", "f1", "iou:Pixel accuracy", 100),
        ("mean_accuracy", "recall", "iou:Mean accuracy", 100),
        ("mean_f1_no_background", "f1", "f1:Mean_F1", 1),
    ],
)
def test_segfaces_means_are_those_of_its_code(segface, row, column, key, factor):
    table, values = segface
    assert factor * table.loc[row, column] == pytest.approx(values[key], abs=1e-6)


def test_segface_counts_an_absent_class_as_nought_and_has_no_mean_f1_then():
    confusion = np.diag([5, 5, 0])
    table = class_scores(confusion, ("background", "a", "absent"), np.array([1, 1, 0]), "segface").set_index("class")
    assert table.loc["absent", "iou"] == 0
    assert np.isnan(table.loc["absent", "f1"])
    assert table.loc["miou", "iou"] == table.loc["mean_accuracy", "recall"] == pytest.approx(2 / 3)
    assert np.isnan(table.loc["mean_f1_no_background", "f1"])
    strict = class_scores(confusion, ("background", "a", "absent"), np.array([1, 1, 0])).set_index("class")
    assert strict.loc["miou", "iou"] == strict.loc["mean_f1_no_background", "f1"] == 1


def test_the_reports_iou_is_that_of_its_notebook():
    with np.load(FIXTURES / "lite_parsers" / "ce7454_loss_metric.npz") as f:
        truth, predicted = f["gt"], f["pred"]
        intersections, unions, miou = f["intersect"], f["union"], float(f["miou_percent"])
    confusion = sum(confusion_matrix(t, p, 19) for t, p in zip(truth, predicted, strict=True))
    table = class_scores(confusion, CELEBAMASK.classes, np.zeros(19, int), "ce7454").set_index("class")
    assert 100 * table.loc["miou", "iou"] == pytest.approx(miou, abs=1e-9)
    assert (unions == 0).any(), "an absent class enters no mean"
    for name, i, u in zip(CELEBAMASK.classes, intersections, unions, strict=True):
        cell = table.loc[name, "iou"]
        assert np.isnan(cell) if u == 0 else cell == i / (u + 1e-6)


@pytest.mark.parametrize("protocol", ["strict", "ce7454", "segface"])
def test_stacked_counts_score_as_single_ones(protocol):
    """Resampling scores many sums at once."""
    random = np.random.default_rng(0)
    hits, missed, false = random.integers(0, 9, (3, 4, 6)) * (random.random((3, 4, 6)) < 0.6)
    together = class_iou(hits, hits + missed, hits + false, protocol)
    for i in range(4):
        alone = class_iou(hits[i], hits[i] + missed[i], hits[i] + false[i], protocol)
        assert np.array_equal(together[i], alone, equal_nan=True)
        np.testing.assert_allclose(mean_of(together, protocol)[i], mean_of(alone, protocol), rtol=1e-14)

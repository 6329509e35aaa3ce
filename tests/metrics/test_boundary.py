"""The boundary F-score on outlines that can be counted by hand, and against a search over all pairs of pixels."""

import math

import numpy as np
import pytest

from semfacediff.metrics.boundary import boundary_counts, boundary_f1, outline, tolerance_px


def square(top, left, side, size=24, label=1):
    labels = np.zeros((size, size), np.uint8)
    labels[top : top + side, left : left + side] = label
    return labels


def searched(truth, predicted, n, tolerance):
    """[class, part] by looking at every pair of boundary pixels."""

    def edge(labels, c):
        height, width = labels.shape
        found = []
        for y, x in np.argwhere(labels == c).tolist():
            near = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
            if any(0 <= i < height and 0 <= j < width and labels[i, j] != c for i, j in near):
                found.append((y, x))
        return found

    def matched(a, b):
        return sum(any(math.dist(p, q) <= tolerance for q in b) for p in a)

    rows = []
    for c in range(n):
        true, called = edge(truth, c), edge(predicted, c)
        rows.append([matched(called, true), len(called), matched(true, called), len(true)])
    return np.array(rows)


@pytest.mark.parametrize("tolerance", [0, 1, 1.5, 2, 3.7])
@pytest.mark.parametrize("seed", range(3))
def test_equals_a_search_over_all_pairs(seed, tolerance):
    random = np.random.default_rng(seed)
    truth = np.kron(random.integers(0, 4, (4, 5)), np.ones((5, 4), int))
    predicted = np.roll(truth, random.integers(-3, 4, 2), (0, 1))
    predicted[random.random(predicted.shape) < 0.05] = 4
    assert np.array_equal(boundary_counts(truth, predicted, 6, tolerance), searched(truth, predicted, 6, tolerance))


def test_outline_of_a_square_is_its_ring():
    ring = outline(square(5, 5, 6) == 1)
    assert ring.sum() == 20
    assert ring[5:11, 5:11].sum() == 20
    assert ring[6:10, 6:10].sum() == 0


def test_the_frame_is_no_boundary():
    labels = square(0, 0, 8)
    assert outline(labels == 1).sum() == 15, "two of the four sides lie along the frame"
    assert outline(np.ones((6, 6), bool)).sum() == 0


def test_a_map_against_itself_is_perfect():
    truth = square(5, 5, 8)
    assert boundary_f1(boundary_counts(truth, truth, 2)).tolist() == [1, 1]


@pytest.mark.parametrize(("shift", "expected"), [(2, 1.0), (3, None), (14, 0.0)])
def test_a_shift_within_the_tolerance_costs_nothing(shift, expected):
    truth, predicted = square(5, 2, 7, 40), square(5, 2 + shift, 7, 40)
    f1 = boundary_f1(boundary_counts(truth, predicted, 2, tolerance=2))[1]
    assert f1 == expected if expected is not None else 0 < f1 < 1


def test_more_displacement_is_worse():
    truth = square(10, 10, 16, 64)
    scores = [boundary_f1(boundary_counts(truth, np.roll(truth, k, 1), 2, 2))[1] for k in (0, 3, 6, 9)]
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) == 4


def test_a_hole_costs_the_outline_more_than_the_area():
    truth = square(10, 10, 40, 60)
    predicted = truth.copy()
    predicted[28:32, 28:32] = 0
    counts = boundary_counts(truth, predicted, 2, 1)
    area = (truth & predicted).sum() / (truth | predicted).sum()
    assert boundary_f1(counts)[1] < area


def test_absent_classes_have_no_score_and_one_sided_ones_score_nought():
    counts = boundary_counts(square(5, 5, 5), square(5, 5, 5, label=2), 4)
    scores = boundary_f1(counts)
    assert scores[1] == scores[2] == 0
    assert np.isnan(scores[3])
    assert not counts[3].any()


def test_photos_are_pooled_before_the_ratio():
    good, bad = (
        boundary_counts(square(5, 5, 9), square(5, 5, 9), 2, 1),
        boundary_counts(square(5, 5, 3), square(16, 16, 3), 2, 1),
    )
    assert boundary_f1(good + bad)[1] == pytest.approx(32 / 40), "32 of 40 boundary pixels match, on both sides"


def test_tolerance_is_a_share_of_the_diagonal():
    assert tolerance_px((512, 512)) == pytest.approx(5.43, abs=0.01)
    assert tolerance_px((1024, 1024)) == pytest.approx(2 * tolerance_px((512, 512)))
    assert tolerance_px((16, 16)) == 1, "never less than the nearest pixel"


def test_the_tolerance_used_is_the_maps_own():
    truth, predicted = square(60, 60, 100, 400), square(60, 64, 100, 400)
    assert tolerance_px(truth.shape) > 4
    assert boundary_f1(boundary_counts(truth, predicted, 2))[1] == 1


def test_maps_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"label maps differ in shape: \(4, 4\) and \(4, 5\)"):
        boundary_counts(np.zeros((4, 4), int), np.zeros((4, 5), int), 2)

"""Resampling: sums of drawn rows, seeded, and intervals that cover what they promise."""

import numpy as np
import pytest

from semfacediff.metrics import bootstrap
from semfacediff.metrics.bootstrap import interval, resampled_sums


def test_sums_are_those_of_as_many_rows_drawn_with_replacement(monkeypatch):
    drawn = []
    default_rng = np.random.default_rng

    class Watching:
        def __init__(self, seed):
            self.inner = default_rng(seed)

        def integers(self, low, high, size):
            drawn.append(self.inner.integers(low, high, size))
            return drawn[-1].copy()

    monkeypatch.setattr(np.random, "default_rng", Watching)
    counts = default_rng(1).integers(0, 1000, (7, 3, 2))
    sums = resampled_sums(counts, seed=3, resamples=50)
    expected = [counts[rows].sum(0) for rows in np.concatenate(drawn)]
    assert np.array_equal(sums, expected)


def test_seeded_and_split_into_blocks_of_any_size(monkeypatch):
    counts = np.random.default_rng(0).integers(0, 2**40, (9, 4))
    whole = resampled_sums(counts, 5, 40)
    assert np.array_equal(resampled_sums(counts, 5, 40), whole)
    assert not np.array_equal(resampled_sums(counts, 6, 40), whole)
    monkeypatch.setattr(bootstrap, "_CHUNK", 9 * 7)
    assert np.array_equal(resampled_sums(counts, 5, 40), whole)


def test_whole_numbers_are_added_without_rounding():
    counts = np.full((3, 1), 2**50 + 1)
    assert (resampled_sums(counts, 0, 20) == 3 * (2**50 + 1)).all()


def test_interval_holds_the_middle_95_per_cent_and_leaves_out_what_is_undefined():
    values = np.full((1001, 3), np.nan)
    values[:, 0] = np.arange(1001)
    values[:501, 1] = 7
    low, high = interval(values)
    assert (low[0], high[0]) == pytest.approx((25, 975))
    assert (low[1], high[1]) == (7, 7)
    assert np.isnan([low[2], high[2]]).all()


def test_intervals_cover_the_truth_about_as_often_as_promised():
    """A ratio of sums, as IoU is: of 200 studies of 60 photos each, 95 % of the intervals should hold the truth."""
    random = np.random.default_rng(0)
    true_share, inside = 0.7, 0
    for study in range(200):
        pixels = random.integers(50, 150, 60)
        hits = random.binomial(pixels, random.beta(7, 3, 60))
        sums = resampled_sums(np.stack([hits, pixels], 1), seed=study, resamples=300)
        low, high = interval((sums[:, 0] / sums[:, 1])[:, None])[:, 0]
        inside += low <= true_share <= high
    assert 178 <= inside <= 198, "within three standard errors of the nominal level, a little under it being usual"


def test_more_photos_give_narrower_intervals():
    random = np.random.default_rng(0)

    def width(n):
        counts = np.stack([random.integers(0, 100, n), np.full(n, 100)], 1)
        sums = resampled_sums(counts, 0)
        return np.ptp(interval((sums[:, 0] / sums[:, 1])[:, None]))

    assert width(400) == pytest.approx(width(25) / 4, rel=0.35)

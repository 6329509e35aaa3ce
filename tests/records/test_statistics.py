"""Intervals, tests and effects against scipy, against counting by hand, and against what must not matter."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from semfacediff.records import statistics
from semfacediff.records.comparing import paired_differences, significantly_best
from semfacediff.records.statistics import (
    MIN_BLOCKS,
    blocks_of,
    bootstrap_intervals,
    holm,
    max_min_p,
    rank_biserial,
    replicates,
    sign_flip_p,
    swap_p,
)

RNG = np.random.default_rng


def rows(values, attribute="hair", score="ssim", ids=None):
    """A samples table with one value a photo."""
    ids = [f"{i:04d}" for i in range(len(values))] if ids is None else ids
    return pd.DataFrame({"sample_id": ids, "attribute": attribute, score: values})


def skewed(n, seed=0):
    return 1 - RNG(seed).gamma(1.2, 0.05, n)


def only(pair):
    low, high = pair
    return low[0], high[0]


# --- blocks ----------------------------------------------------------------------------------------------------------


def test_means_are_those_of_the_finite_values():
    table = pd.concat([rows([1.0, np.nan, 4.0]), rows([np.inf, 2.0, 6.0], "lips")])
    blocks = blocks_of(table, ["ssim"])
    assert blocks.cells == [("hair", "ssim"), ("lips", "ssim")]
    assert blocks.means.tolist() == [2.5, 4.0]
    assert blocks.sizes.tolist() == [2, 2]


def test_a_cell_without_values_has_no_mean_and_no_interval():
    blocks = blocks_of(rows([np.nan, np.nan]), ["ssim"])
    assert np.isnan(blocks.means).all()
    assert np.isnan(only(bootstrap_intervals(blocks))).all()


def test_nothing_at_all():
    blocks = blocks_of(rows([]), ["ssim"])
    assert len(bootstrap_intervals(blocks)[0]) == 0


# --- intervals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [0.9, 0.95])
@pytest.mark.parametrize("seed", range(3))
def test_intervals_are_scipys_bca(level, seed):
    values = skewed(60, seed)
    found = only(bootstrap_intervals(blocks_of(rows(values), ["ssim"]), level, resamples=20_000))
    expected = stats.bootstrap(
        (values,), np.mean, confidence_level=level, n_resamples=20_000, method="BCa", rng=RNG(1)
    ).confidence_interval
    width = expected.high - expected.low
    assert found == pytest.approx(tuple(expected), abs=0.03 * width)


def test_skewed_values_have_lopsided_intervals():
    values = skewed(25)
    low, high = only(bootstrap_intervals(blocks_of(rows(values), ["ssim"])))
    assert values.mean() - low > 1.05 * (high - values.mean())


def test_equal_values_have_an_interval_of_no_width():
    assert only(bootstrap_intervals(blocks_of(rows([0.5] * 30), ["ssim"]))) == (0.5, 0.5)


def test_too_few_photos_have_no_interval():
    values = skewed(MIN_BLOCKS)
    assert np.isfinite(only(bootstrap_intervals(blocks_of(rows(values), ["ssim"])))).all()
    assert np.isnan(only(bootstrap_intervals(blocks_of(rows(values[1:]), ["ssim"])))).all()


def test_one_photo_has_no_interval():
    assert np.isnan(only(bootstrap_intervals(blocks_of(rows([0.5]), ["ssim"])))).all()


def test_seeds_of_a_photo_stay_together():
    """Ten seeds that say the same add nothing: the interval is that of the photos, not sqrt(10) times narrower."""
    values = skewed(40)
    alone = only(bootstrap_intervals(blocks_of(rows(values), ["ssim"])))
    repeated = pd.concat([rows(values)] * 10)
    assert only(bootstrap_intervals(blocks_of(repeated, ["ssim"]))) == pytest.approx(alone, rel=1e-12)


def test_photos_with_more_values_weigh_more():
    table = pd.concat([rows([1.0, 3.0]), rows([3.0], ids=["0001"])])
    assert blocks_of(table, ["ssim"]).means == pytest.approx([7 / 3])


def test_one_draw_of_photos_serves_every_cell():
    values = skewed(30)
    table = pd.concat([rows(values), rows(values, "lips")])
    drawn = replicates(blocks_of(table, ["ssim"]))
    assert np.array_equal(drawn[:, 0], drawn[:, 1])


def test_order_of_rows_changes_nothing():
    table = pd.concat([rows(skewed(30)), rows(skewed(30, 1), "lips")])
    mixed = pd.concat([table.iloc[:30].sample(frac=1, random_state=0), table.iloc[30:]])
    for a, b in zip(*(bootstrap_intervals(blocks_of(t, ["ssim"])) for t in (table, mixed)), strict=True):
        assert np.array_equal(a, b)


def test_draws_do_not_depend_on_the_chunks(monkeypatch):
    blocks = blocks_of(rows(skewed(50)), ["ssim"])
    d = RNG(0).normal(0.3, 1, (50, 2))
    whole = replicates(blocks), sign_flip_p(d)
    monkeypatch.setattr("semfacediff.records.statistics._CHUNK", 700)
    np.testing.assert_allclose(replicates(blocks), whole[0], rtol=1e-12)
    assert np.array_equal(sign_flip_p(d), whole[1])


# --- tests -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_few_photos_are_tested_exactly(seed):
    d = RNG(seed).normal(0.4, 1, 9)
    signs = np.array(list(itertools.product((1, -1), repeat=9)))
    expected = (np.abs(signs @ d) >= abs(d.sum()) - 1e-12).mean()
    assert sign_flip_p(d[:, None]) == pytest.approx([expected], abs=1e-12)
    scipys = stats.permutation_test(
        (d, np.zeros(9)), lambda a, b, axis: (a - b).mean(axis), permutation_type="samples", vectorized=True
    )
    assert sign_flip_p(d[:, None]) == pytest.approx([scipys.pvalue], abs=1e-12)


@pytest.mark.parametrize("shift", [0.0, 0.15, 0.3])
def test_many_photos_are_tested_as_scipy_does(shift):
    a, b = RNG(3).normal(0, 1, (2, 80))
    d = b - a + shift
    scipys = stats.permutation_test(
        (d, np.zeros(80)),
        lambda a, b, axis: (a - b).mean(axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=20_000,
        rng=RNG(5),
    )
    found = sign_flip_p(d[:, None], permutations=20_000)[0]
    assert found == pytest.approx(scipys.pvalue, abs=4 * np.sqrt(found * (1 - found) / 10_000) + 1e-4)


def test_p_is_uniform_where_nothing_differs():
    d = RNG(7).normal(0, 1, (40, 400))
    p = sign_flip_p(d, permutations=999)
    assert stats.kstest(p, "uniform").pvalue > 0.001
    assert (p <= 0.05).mean() < 0.1


def test_p_is_never_0_and_equal_scores_have_p_1():
    assert sign_flip_p(np.ones((60, 1))) == pytest.approx([1 / 10_000])
    assert sign_flip_p(np.zeros((60, 1))) == [1.0]
    assert np.isnan(sign_flip_p(np.full((5, 1), np.nan)))


def test_missing_photos_take_no_part_in_a_test():
    d = RNG(2).normal(0.5, 1, (11, 1))
    with_gaps = np.vstack([d, np.full((1, 1), np.nan)])
    assert sign_flip_p(with_gaps) == pytest.approx(sign_flip_p(d), abs=1e-12)


@pytest.mark.parametrize("sizes", [(12, 15), (10, 20, 30), (8, 9, 10, 11, 12)])
def test_the_largest_gap_is_tested_as_scipy_does(sizes):
    values, groups = RNG(len(sizes)).normal(size=sum(sizes)), np.repeat(np.arange(len(sizes)), sizes)
    gap, p = max_min_p(values, groups)

    def statistic(*samples, axis):
        return np.ptp(np.stack([s.mean(axis=axis) for s in samples]), axis=0)

    expected = stats.permutation_test(
        [values[groups == g] for g in range(len(sizes))],
        statistic,
        permutation_type="independent",
        alternative="greater",
        n_resamples=9_999,
        vectorized=True,
        rng=RNG(5),
    )
    assert gap == pytest.approx(expected.statistic, rel=1e-12)
    # Two independent draws of 9,999: four standard errors of their difference.
    assert p == pytest.approx(expected.pvalue, abs=4 * np.sqrt(2 * p * (1 - p) / 9_999) + 1e-4)


def test_order_and_names_of_groups_do_not_matter():
    values, groups = RNG(0).normal(size=60), np.repeat([0, 1, 2], 20)
    order = RNG(1).permutation(60)
    gap = max_min_p(values, groups)[0]
    assert max_min_p(values[order], groups[order])[0] == pytest.approx(gap, rel=1e-12)
    assert max_min_p(values, (groups * 7 + 3)) == max_min_p(values, groups)
    assert max_min_p(-values, groups)[0] == pytest.approx(gap, rel=1e-12)


def test_equal_values_have_no_gap_and_p_1():
    assert max_min_p(np.full(40, 0.5), np.repeat([0, 1], 20)) == (0.0, 1.0)


def test_many_values_are_drawn_as_the_limit_of_their_permutations(monkeypatch):
    values, groups = RNG(2).gamma(2, size=900), np.repeat([0, 1, 2], [100, 300, 500])
    values[groups == 0] += 0.2
    exact = max_min_p(values, groups)
    monkeypatch.setattr(statistics, "NORMAL_FROM", 800)
    limit = max_min_p(values, groups)
    assert limit[0] == exact[0]
    # Sampling error of two draws, and the third moments that the limit leaves out (of the order n**-0.5 of p).
    assert limit[1] == pytest.approx(exact[1], abs=4 * np.sqrt(2 * exact[1] / 9_999) + 0.1 * exact[1] + 1e-3)


def test_holm_by_hand():
    p = np.array([0.01, 0.04, 0.03, 0.005])
    assert holm(p) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([0.5, np.nan, 0.6])) == pytest.approx([1.0, np.nan, 1.0], nan_ok=True)
    assert holm(np.array([[0.01], [0.9]])).shape == (2, 1)


def test_rank_biserial_is_made_of_wilcoxons_sums():
    d = RNG(4).normal(0.3, 1, 40).round(1)
    d[:5] = 0
    less = stats.wilcoxon(d, alternative="less", zero_method="wilcox").statistic  # sum of the positive ranks
    n = (d != 0).sum()
    expected = 2 * less / (n * (n + 1) / 2) - 1
    assert rank_biserial(d[:, None]) == pytest.approx([expected], abs=1e-12)


def test_rank_biserial_at_its_ends():
    d = np.array([[1.0, -3.0, 0.0, np.nan], [2.0, -1.0, 0.0, np.nan]])
    assert rank_biserial(d) == pytest.approx([1, -1, 0, np.nan], nan_ok=True)


# --- comparisons -----------------------------------------------------------------------------------------------------


def test_a_comparison_is_made_of_the_parts():
    a, b = rows(skewed(50)), rows(skewed(50) + RNG(1).normal(0.01, 0.02, 50))
    row = paired_differences(a, b, ["ssim"]).loc[0]
    d = b["ssim"].to_numpy() - a["ssim"].to_numpy()
    assert row[["attribute", "score", "n"]].tolist() == ["hair", "ssim", 50]
    assert row["second"] - row["first"] == pytest.approx(row["difference"], abs=1e-12)
    assert row["difference"] == pytest.approx(d.mean(), abs=1e-12)
    assert row["low"] < row["difference"] < row["high"]
    assert row["p"] == sign_flip_p(d[:, None])[0]
    assert row["effect"] == rank_biserial(d[:, None])[0]


def test_only_photos_with_both_values_are_compared():
    a = rows([0.1, 0.2, np.nan, 0.4], ids=list("abcd"))
    b = rows([0.3, np.inf, 0.5, 0.9], ids=list("dbca"))
    row = paired_differences(a, b, ["ssim"]).loc[0]
    assert row["n"] == 2
    assert row[["first", "second"]].tolist() == pytest.approx([0.25, 0.6])


def test_exchanging_the_runs_changes_signs_only():
    a, b = rows(skewed(30)), rows(skewed(30, 1))
    there, back = (paired_differences(x, y, ["ssim"]).loc[0] for x, y in ((a, b), (b, a)))
    assert there["difference"] == pytest.approx(-back["difference"], abs=1e-15)
    assert there["effect"] == pytest.approx(-back["effect"], abs=1e-12)
    assert there["p"] == back["p"]


def test_pairing_sees_what_means_hide():
    """Photos differ by far more than the settings: only the differences of each photo tell."""
    photos = RNG(0).normal(0, 10, 40)
    a, b = rows(photos), rows(photos + RNG(1).normal(0.1, 0.05, 40))
    assert stats.ttest_ind(a["ssim"], b["ssim"]).pvalue > 0.9
    assert paired_differences(a, b, ["ssim"])["p"][0] < 0.001


def test_the_last_bits_are_no_difference():
    a = rows(np.ones(60))
    row = paired_differences(a, rows(np.ones(60) + 1e-12), ["ssim"]).loc[0]
    assert row[["difference", "p", "effect"]].tolist() == [0, 1, 0]


def test_seeds_are_averaged_before_pairing():
    a = pd.concat([rows([0.2, 0.4]), rows([0.4, 0.6])])
    b = rows([0.5, 0.5])
    assert paired_differences(a, b, ["ssim"])["difference"][0] == pytest.approx(0.1)


def test_holm_counts_every_row_of_the_comparison():
    d = RNG(0).normal(0.45, 1, 40)
    a = pd.concat([rows(np.zeros(40), x) for x in ("hair", "lips", "skin")])
    b = pd.concat([rows(v, x) for v, x in ((d, "hair"), (d - d.mean(), "lips"), (-d + d.mean(), "skin"))])
    table = paired_differences(a, b, ["ssim"])
    assert table["p_holm"][0] == pytest.approx(3 * table["p"][0])


# --- what may be bold ------------------------------------------------------------------------------------------------


def settings(gain, other=-0.5, n=60):
    photos = RNG(0).normal(0, 1, n)
    noise = RNG(1).normal(0, 0.2, (3, n))
    return {
        "off": rows(photos + noise[0]),
        "blend": rows(photos + noise[1] + gain),
        "exact": rows(photos + noise[2] + other),
    }


def test_the_best_is_bold_where_it_beats_every_other():
    assert significantly_best(settings(0.5), {"ssim": True}) == {("hair", "ssim"): "blend"}
    assert significantly_best(settings(0.5), {"ssim": False}) == {("hair", "ssim"): "exact"}


def test_nothing_is_bold_where_the_runner_up_is_as_good():
    assert significantly_best(settings(0.5, other=0.5), {"ssim": True}) == {}
    assert significantly_best(settings(0.0), {"ssim": True}) == {}


def test_nothing_is_bold_beside_a_setting_without_a_row():
    found = settings(0.5)
    assert significantly_best(found | {"off": found["off"].iloc[:0]}, {"ssim": True}) == {}


def test_the_family_of_comparisons_costs_power():
    """A gain that would just be significant alone is not among a hundred cells."""
    alone = settings(0.07)
    assert significantly_best(alone, {"ssim": True}) == {("hair", "ssim"): "blend"}
    noise = [f"x{i}" for i in range(100)]
    made = (pd.DataFrame(RNG(k).normal(0, 1, (60, 100)), columns=noise) for k in range(3))
    many = {s: pd.concat([t, more], axis=1) for (s, t), more in zip(alone.items(), made, strict=True)}
    assert ("hair", "ssim") not in significantly_best(many, {"ssim": True} | dict.fromkeys(noise, True))


def test_a_score_nobody_measured_and_a_setting_alone_are_never_bold():
    empty = {name: rows([np.nan] * 5) for name in ("a", "b")}
    assert significantly_best(empty, {"ssim": True}) == {}
    assert significantly_best({"a": rows(skewed(30))}, {"ssim": True}) == {}


# --- edits that changed nothing --------------------------------------------------------------------------------------


@pytest.mark.parametrize("up", [True, False])
def test_what_an_idle_edit_gains_is_no_difference(up):
    worse = rows(RNG(0).normal(0.8, 0.02, 40))
    untouched = rows(np.full(40, 1.0 if up else 0.0)).assign(idle=True)
    for first, second in ((worse, untouched), (untouched, worse)):
        row = paired_differences(first, second, ["ssim"], {"ssim": up}).loc[0]
        assert row[["p", "p_holm", "earned"]].tolist() == [1, 1, 0]
        assert abs(row["difference"]) > 0.1, "the means are what was measured"
    assert significantly_best({"a": worse, "b": untouched}, {"ssim": up}) == {}
    assert significantly_best({"a": worse, "b": untouched.drop(columns="idle")}, {"ssim": up}) == {
        ("hair", "ssim"): "b"
    }


def test_what_an_idle_edit_loses_counts():
    better, untouched = rows(RNG(0).normal(0.8, 0.02, 40)), rows(np.zeros(40)).assign(idle=True)
    row = paired_differences(untouched, better, ["ssim"], {"ssim": True}).loc[0]
    assert row["p"] < 0.001
    assert row["earned"] == row["difference"] > 0
    assert significantly_best({"a": better, "b": untouched}, {"ssim": True}) == {("hair", "ssim"): "a"}


def test_only_the_idle_edits_of_a_run_gain_nothing():
    a, b = rows(np.zeros(40)), rows(np.ones(40)).assign(idle=np.arange(40) < 10)
    assert paired_differences(a, b, ["ssim"], {"ssim": True}).loc[0, "earned"] == 0.75


# --- pooled scores ---------------------------------------------------------------------------------------------------


def share(sums):
    """Of two counts, the first of their sum."""
    return (sums[..., 0] / sums.sum(-1))[..., None]


def test_swapping_photos_gives_the_exact_p_of_few():
    """Every way of swapping 8 photos, one by one."""
    random = np.random.default_rng(3)
    a, b = random.integers(0, 40, (2, 8, 2))
    observed = abs(share(b.sum(0)) - share(a.sum(0)))
    reached = 0
    for swapped in itertools.product((False, True), repeat=8):
        mine, theirs = np.where(np.array(swapped)[:, None], b, a), np.where(np.array(swapped)[:, None], a, b)
        reached += abs(share(theirs.sum(0)) - share(mine.sum(0))) >= observed * (1 - 1e-12)
    exact = float(reached[0] / 2**8)
    # Drawn 9,999 times: three standard deviations of a share.
    assert float(swap_p(a, b, share)[0]) == pytest.approx(exact, abs=3 * math.sqrt(exact * (1 - exact) / 9999) + 1e-4)


def test_a_mean_over_equal_photos_is_the_sign_flip_test():
    """Where every photo has as many pixels, the pooled share is a mean over photos."""
    hits = np.random.default_rng(4).integers(0, 101, (2, 60))
    a, b = (np.stack([h, 100 - h], axis=1) for h in hits)
    expected = float(sign_flip_p((b - a)[:, :1] / 100.0)[0])
    assert float(swap_p(a, b, share)[0]) == pytest.approx(expected, abs=3 * math.sqrt(0.25 / 9999) * math.sqrt(2))


def test_equal_counts_differ_in_nothing_and_an_undefined_score_has_no_p():
    a = np.array([[3, 1], [2, 5]])
    assert float(swap_p(a, a, share)[0]) == 1.0
    with np.errstate(invalid="ignore"):
        assert np.isnan(swap_p(a * 0, a * 0, share)[0])


def test_swapping_is_rarely_significant_without_a_difference():
    random = np.random.default_rng(5)
    p = [float(swap_p(*random.integers(0, 100, (2, 25, 2)), share, permutations=199)[0]) for _ in range(300)]
    below = sum(x <= 0.05 for x in p)
    assert below <= 300 * 0.05 + 3 * math.sqrt(300 * 0.05 * 0.95)

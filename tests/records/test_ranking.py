"""Ranks and tiers of several runs: known answers, and what they share with the comparison of two."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import rankdata

from semfacediff.records.comparing import paired_differences, significantly_best
from semfacediff.records.ranking import ranked
from semfacediff.records.statistics import blocks_of, replicates
from semfacediff.report.editors import pareto_front

N = 40


def rows(mean, spread=0.02, seed=0, n=N, **columns):
    """Scores around ``mean`` that share the photos' own part."""
    photo, own = np.random.default_rng(9).random(n), np.random.default_rng(seed).standard_normal(n)
    made = {"sample_id": [f"{i:02d}" for i in range(n)], "attribute": "hair", "ssim": mean + 0.1 * photo + spread * own}
    return pd.DataFrame(made | columns)


def by_run(table, score="ssim"):
    return table[table["score"] == score].set_index("run")


def test_tiers_and_ranks_of_a_known_order():
    runs = {"low": rows(0.2, seed=1), "one": rows(0.8, seed=2), "other": rows(0.8, seed=3)}
    table = by_run(ranked(runs, {"ssim": True}))
    assert table["tier"].to_dict() == {"low": 2, "one": 1, "other": 1}
    assert set(table.loc[["one", "other"], "rank"]) == {1, 2}
    assert table.loc["low", ["rank", "rank_low", "rank_high"]].tolist() == [3, 3, 3]
    assert table.loc["one", ["rank_low", "rank_high"]].tolist() == [1, 2]
    assert table["better_than"].to_dict() == {"low": (), "one": ("low",), "other": ("low",)}
    assert not table["best"].any()
    down = by_run(ranked(runs, {"ssim": False}))
    assert (down.loc["low", "tier"], down.loc["low", "best"]) == (1, True)
    assert down.index[0] == "low", "the best mean comes first"


def test_lower_is_better_mirrors_higher_is_better():
    runs = {f"{i}": rows(m, 0.05, seed=i) for i, m in enumerate(np.linspace(0.5, 0.56, 5))}
    mirrored = {name: table.assign(ssim=-table["ssim"]) for name, table in runs.items()}
    up, down = by_run(ranked(runs, {"ssim": True})), by_run(ranked(mirrored, {"ssim": False}))
    same = ["n", "rank", "rank_low", "rank_high", "tier", "better_than", "best"]
    pd.testing.assert_frame_equal(up[same], down[same])
    assert up["better_than"].astype(bool).any()


def test_intervals_of_ranks_are_quantiles_of_resampled_ranks():
    runs = {f"{i}": rows(0.5 + 0.004 * i, 0.05, seed=i) for i in range(6)}
    table = by_run(ranked(runs, {"ssim": True}))
    joined = pd.concat([t.assign(attribute=name) for name, t in runs.items()])
    blocks = blocks_of(joined, ["ssim"])
    drawn = rankdata(-replicates(blocks), axis=1, method="min")
    for k, (name, _) in enumerate(blocks.cells):
        ordered = np.sort(drawn[:, k])
        low, high = ordered[math.ceil(0.025 * len(ordered)) - 1], ordered[math.ceil(0.975 * len(ordered)) - 1]
        assert (table.loc[name, "rank_low"], table.loc[name, "rank_high"]) == (low, high)
    assert (table["rank_high"] > table["rank_low"]).any()


def test_means_that_differ_by_rounding_share_a_rank():
    flat = rows(0.5, 0).assign(ssim=0.5)
    runs = {"a": flat, "b": flat.assign(ssim=0.5 + 5e-7), "c": flat.assign(ssim=0.5 + 2e-6)}
    assert by_run(ranked(runs, {"ssim": True}))["rank"].to_dict() == {"a": 2, "b": 2, "c": 1}


def test_an_attribute_that_a_run_lacks_has_no_rows():
    both = pd.concat([rows(0.5), rows(0.6).assign(attribute="lips")])
    assert set(ranked({"a": both, "b": rows(0.7, seed=1)}, {"ssim": True})["attribute"]) == {"hair"}


def test_no_two_of_a_tier_can_be_told_apart():
    means = np.linspace(0.5, 0.56, 7)
    table = by_run(ranked({f"{i}": rows(m, 0.05, seed=i) for i, m in enumerate(means)}, {"ssim": True}))
    beaten = table["better_than"]
    tier = table["tier"]
    assert 1 < tier.nunique() < 7
    assert not [(a, b) for a in table.index for b in beaten[a] if tier[a] == tier[b]]
    for k in range(2, int(tier.max()) + 1):
        first = table.index[tier == k][0]
        assert [a for a in table.index if tier[a] == k - 1 and first in beaten[a]], "a tier begins for a reason"


def test_two_runs_are_tested_as_the_comparison_of_two_tests_them():
    a, b = rows(0.5, seed=1), rows(0.51, seed=2)
    table, pair = by_run(ranked({"a": a, "b": b}, {"ssim": True})), paired_differences(a, b, ["ssim"], {"ssim": True})
    assert table.loc[["a", "b"], "mean"].tolist() == pair.loc[0, ["first", "second"]].tolist()
    assert bool(table.loc["b", "best"]) == (pair.loc[0, "p_holm"] <= 0.05)


def test_every_pair_and_score_enters_the_correction():
    a, b = rows(0.5, seed=1), rows(0.5 + 0.0085, seed=2)
    assert by_run(ranked({"a": a, "b": b}, {"ssim": True})).loc["b", "better_than"] == ("a",)
    noise = {f"x{i}": np.random.default_rng(50 + i).random(N) for i in range(6)}
    others = {f"{i}": rows(0.5, seed=i, **noise) for i in range(10, 14)}
    runs = {"a": a.assign(**noise), "b": b.assign(**dict.fromkeys(noise, 0.5)), **others}
    up = {"ssim": True} | dict.fromkeys(noise, True)
    assert "a" not in by_run(ranked(runs, up)).loc["b", "better_than"]


def test_only_photos_of_all_runs_count_and_few_have_no_interval():
    runs = {"a": rows(0.5, n=15), "b": rows(0.9, n=12, seed=1), "c": rows(0.7, n=14, seed=2)}
    runs["c"].loc[0, "ssim"] = np.nan
    table = by_run(ranked(runs, {"ssim": True}))
    assert set(table["n"]) == {11}
    assert table[["low", "high", "rank_low", "rank_high"]].isna().all(axis=None)
    assert table.loc["a", "mean"] == pytest.approx(runs["a"]["ssim"][1:12].mean())


def test_scores_without_a_direction_have_means_alone():
    table = by_run(ranked({"a": rows(0.5), "b": rows(0.9)}, {"ssim": None}))
    assert table[["rank", "tier"]].isna().all(axis=None)
    assert not table["best"].any()


def test_equal_runs_share_a_rank():
    table = by_run(ranked({"a": rows(0.5), "b": rows(0.5), "c": rows(0.2)}, {"ssim": True}))
    assert table["rank"].to_dict() == {"a": 1, "b": 1, "c": 3}


def test_an_edit_that_changed_nothing_is_better_than_none():
    idle = rows(0.9).assign(idle=True)
    table = by_run(ranked({"a": rows(0.5, seed=1).assign(idle=False), "idle": idle}, {"ssim": True}))
    assert (table.loc["idle", "rank"], table.loc["idle", "better_than"], table["tier"].max()) == (1, (), 1)


@pytest.mark.parametrize("effect", ["change_de", "toward_prompt"])
def test_what_was_kept_is_not_won_by_doing_less(effect):
    done = {effect: 0.8 + 0.01 * np.arange(N)}
    less = {effect: 0.3 + 0.01 * np.arange(N)}
    a, b = rows(0.5, seed=1, **done), rows(0.7, seed=2, **less)
    table = by_run(ranked({"a": a, "b": b}, {"ssim": True}))
    assert (table.loc["b", "better_than"], table.loc["b", "best"], table.loc["b", "tier"]) == (("a",), False, 1)
    assert paired_differences(a, b, ["ssim"]).loc[0, "less"] == -1
    assert paired_differences(b, a, ["ssim"]).loc[0, "less"] == 1
    assert significantly_best({"a": a, "b": b}, {"ssim": True}) == {}
    as_much = b.assign(**done)
    assert by_run(ranked({"a": a, "b": as_much}, {"ssim": True})).loc["b", "best"]
    assert paired_differences(a, as_much, ["ssim"]).loc[0, "less"] == 0
    assert significantly_best({"a": a, "b": as_much}, {"ssim": True}) == {("hair", "ssim"): "b"}
    assert significantly_best({"a": a, "b": b}, {"ssim": True, effect: True}) == {("hair", effect): "a"}


def test_where_a_colour_is_named_it_decides_and_not_the_change():
    a = rows(0.5, seed=1, toward_prompt=0.5, change_de=np.linspace(30, 40, N))
    b = rows(0.7, seed=2, toward_prompt=np.linspace(0.6, 0.7, N), change_de=10.0)
    assert paired_differences(a, b, ["ssim"]).loc[0, "less"] == 1
    assert paired_differences(a, b.assign(toward_prompt=np.nan), ["ssim"]).loc[0, "less"] == -1


def test_the_effect_changes_no_other_number_of_a_comparison():
    a, b = rows(0.5, seed=1), rows(0.52, seed=2)
    more = dict(change_de=np.linspace(1, 2, N))
    with_effect = paired_differences(a.assign(**more), b.assign(change_de=1.0), ["ssim"]).drop(columns="less")
    pd.testing.assert_frame_equal(
        with_effect, paired_differences(a, b, ["ssim"]).drop(columns="less"), check_exact=True
    )


def test_the_pareto_front():
    points = {"a": (1.0, 0.1), "b": (0.5, 0.5), "c": (0.4, 0.5), "d": (0.1, 0.9), "e": (0.05, 0.8), "same": (0.5, 0.5)}
    assert pareto_front(points) == ["a", "b", "d", "same"]


@pytest.mark.parametrize(
    "other", [rows(0.5).assign(ssim=np.nan), rows(0.5).assign(ssim=np.inf), rows(0.5).assign(sample_id="x")]
)
def test_without_a_photo_that_all_runs_scored_there_is_no_row(other):
    assert ranked({"a": rows(0.5), "b": other}, {"ssim": True}).empty

"""Groups of faces: where their edges lie, what they contain, and gaps that are known."""

import json

import numpy as np
import pandas as pd
import pytest

from semfacediff.errors import UserError
from semfacediff.records.statistics import PERMUTATIONS
from semfacediff.records.strata import MIN_STRATUM, by_stratum, gaps, strata_of


def table(n=4, **columns):
    made = {"sample_id": [f"{i:03d}" for i in range(n)], "attribute": "hair", "ssim": np.linspace(0.5, 0.9, n)}
    return pd.DataFrame(made | columns)


def found(samples, by):
    return strata_of(samples, by).of.tolist()


@pytest.mark.parametrize(
    ("angle", "tone"),
    [
        (90, "very light"),
        (55.01, "very light"),
        (55, "light"),
        (41.01, "light"),
        (41, "intermediate"),
        (28.01, "intermediate"),
        (28, "tan"),
        (10.01, "tan"),
        (10, "brown"),
        (-29.99, "brown"),
        (-30, "dark"),
        (-89, "dark"),
        (None, "unknown"),
    ],
)
def test_the_six_published_skin_tones(angle, tone):
    assert found(table(2, ita_deg=[angle, 50.0]), "skin_tone")[0] == tone


def test_pose_from_the_parse_on_either_side():
    samples = table(6, pose_proxy=[0.0, 0.05, -0.06, 0.12, -0.3, None])
    expected = ["frontal", "frontal", "half-turned", "half-turned", "turned", "unknown"]
    assert found(samples, "pose") == expected


def test_an_annotated_yaw_is_preferred():
    yaws = [json.dumps({"yaw": y}) for y in (-3.0, 15.0, -16.0, 31.0)]
    strata = strata_of(table(4, traits=yaws, pose_proxy=0.5), "pose")
    assert strata.of.tolist() == ["frontal", "frontal", "half-turned", "turned"]
    assert "annotated yaw" in strata.rule


def test_region_sizes_are_thirds_of_each_attribute():
    samples = pd.concat([table(9, coverage=np.arange(9) / 10), table(3, coverage=[9, 8, 7], attribute="lips")])
    samples = samples.reset_index(drop=True)
    thirds = [f"{x} third" for x in ("lower", "middle", "upper")]
    assert found(samples, "region_size") == [t for t in thirds for _ in range(3)] + thirds[::-1]


def test_equal_sizes_share_a_third():
    assert len(set(found(table(6, coverage=0.2), "region_size"))) == 1


def test_annotations_true_or_false_named_or_counted():
    traits = [
        json.dumps({"Male": m, "style": s, "age": a})
        for m, s, a in ((True, "bob", 1), (False, "long", 50), (True, "bob", 99))
    ]
    samples = table(3, traits=traits)
    assert found(samples, "Male") == ["Male", "not Male", "Male"]
    assert strata_of(samples, "Male").names == ("Male", "not Male")
    assert found(samples, "style") == ["bob", "long", "bob"]
    assert found(samples, "age") == ["lower third", "middle third", "upper third"]


def test_photos_without_annotation_are_unknown_and_kept():
    strata = strata_of(table(3, traits=[json.dumps({"Male": True}), None, json.dumps({})]), "Male")
    assert strata.of.tolist() == ["Male", "unknown", "unknown"]
    assert strata.names == ("Male", "not Male", "unknown")


def test_a_grouping_that_the_record_lacks_is_refused():
    samples = table(2, traits=json.dumps({"Male": True}), ita_deg=30.0)
    with pytest.raises(UserError, match="expected --by one of skin_tone, pose, Male, got 'region_size'"):
        strata_of(samples, "region_size")
    samples["coverage"] = 0.2
    with pytest.raises(UserError, match="expected --by one of skin_tone, pose, region_size, Male, got 'Old'"):
        strata_of(samples, "Old")
    with pytest.raises(UserError, match="has no column 'ita_deg', for an older version made it"):
        strata_of(table(2), "skin_tone")


def grouped(sizes, means, sd=0.05, attribute="hair"):
    """Photos of groups a, b, ... with normal scores."""
    random = np.random.default_rng(0)
    rows = [
        (chr(97 + g), m + sd * random.normal())
        for g, (n, m) in enumerate(zip(sizes, means, strict=True))
        for _ in range(n)
    ]
    traits = [json.dumps({"group": g}) for g, _ in rows]
    return table(len(rows), traits=traits, ssim=[v for _, v in rows], attribute=attribute)


def test_means_and_intervals_by_group():
    samples = grouped((30, 5), (0.9, 0.5))
    strata = strata_of(samples, "group")
    rows = by_stratum(samples, strata, ["ssim"]).set_index("stratum")
    for name in "ab":
        values = samples["ssim"][strata.of == name]
        assert rows.loc[name, "mean"] == pytest.approx(values.mean(), abs=1e-12)
        assert rows.loc[name, "low"] < values.mean() < rows.loc[name, "high"]
        if len(values) < MIN_STRATUM:  # no interval of so few: their range
            assert (rows.loc[name, "low"], rows.loc[name, "high"]) == pytest.approx((values.min(), values.max()))
        else:
            assert rows.loc[name, "high"] - rows.loc[name, "low"] < np.ptp(values)
        assert rows.loc[name, "n"] == len(values)
    assert rows["few"].to_dict() == {"a": False, "b": True}


def test_a_stratum_of_nobody_keeps_its_row():
    samples = table(3, ita_deg=[60.0, 50.0, 50.0])
    rows = by_stratum(samples, strata_of(samples, "skin_tone"), ["ssim"]).set_index("stratum")
    assert list(rows.index) == ["very light", "light", "intermediate", "tan", "brown", "dark"]
    assert rows["n"].tolist() == [1, 2, 0, 0, 0, 0]
    assert np.isnan(rows.loc["dark", "mean"])


def test_rows_stand_by_attribute_stratum_and_score():
    samples = pd.concat([grouped((3, 3), (0, 1)), grouped((3, 3), (0, 1), attribute="lips")]).reset_index(drop=True)
    samples["iou"] = samples["ssim"]
    rows = by_stratum(samples, strata_of(samples, "group"), ["ssim", "iou"])
    keys = rows[["attribute", "stratum", "score"]].to_numpy().tolist()
    assert keys == [[a, s, m] for a in ("hair", "lips") for s in "ab" for m in ("ssim", "iou")]


def test_the_gap_between_worst_and_best():
    samples = grouped((40, 40, 40), (0.9, 0.6, 0.8))
    strata = strata_of(samples, "group")
    up, down = (gaps(samples, strata, {"ssim": is_up}).loc[0] for is_up in (True, False))
    assert (up["worst"], up["best"]) == ("b", "a")
    assert (down["worst"], down["best"]) == ("a", "b")
    means = samples.groupby(strata.of)["ssim"].mean()
    assert up["gap"] == down["gap"] == pytest.approx(means["a"] - means["b"], abs=1e-12)
    assert up["p"] == down["p"] == up["p_holm"] == 1 / (PERMUTATIONS + 1)


def test_a_gap_of_equal_groups_is_explained_by_chance():
    samples = grouped((60, 60, 60), (0.7, 0.7, 0.7))
    row = gaps(samples, strata_of(samples, "group"), {"ssim": True}).loc[0]
    assert row["gap"] > 0
    assert row["p"] > 0.05


def test_gaps_are_corrected_for_their_number():
    samples = grouped((40, 40), (0.7, 0.72))
    samples["iou"] = samples["ssim"] * 2
    strata = strata_of(samples, "group")
    alone = gaps(samples, strata, {"ssim": True}).loc[0]
    both = gaps(samples, strata, {"ssim": True, "iou": True})
    assert both["p"].tolist() == [alone["p"]] * 2
    assert both["p_holm"].tolist() == [min(1, 2 * alone["p"])] * 2


def test_seeds_of_a_photo_count_as_one_value_of_a_gap():
    once = grouped((25, 25), (0.7, 0.8))
    twice = pd.concat([once, once]).reset_index(drop=True)
    first, second = (gaps(t, strata_of(t, "group"), {"ssim": True}) for t in (once, twice))
    pd.testing.assert_frame_equal(first, second)


def test_small_strata_enter_no_gap():
    samples = grouped((MIN_STRATUM, MIN_STRATUM, MIN_STRATUM - 1), (0.9, 0.8, 0.1))
    row = gaps(samples, strata_of(samples, "group"), {"ssim": True}).loc[0]
    assert (row["worst"], row["best"]) == ("b", "a")
    assert gaps(samples[MIN_STRATUM:], strata_of(samples[MIN_STRATUM:], "group"), {"ssim": True}).empty


def test_order_of_rows_changes_nothing():
    samples = grouped((30, 30), (0.9, 0.8))
    mixed = samples.sample(frac=1, random_state=1)
    for f in (
        lambda t: by_stratum(t, strata_of(t, "group"), ["ssim"]),
        lambda t: gaps(t, strata_of(t, "group"), {"ssim": True}),
    ):
        pd.testing.assert_frame_equal(f(samples), f(mixed), rtol=1e-12)

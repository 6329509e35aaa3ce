"""The one score of an edit: by hand, at its ends, and what is missing."""

import json
import math
from statistics import harmonic_mean as reference

import pytest

from semfacediff.controls import PIXELS
from semfacediff.metrics.alignment import Alignment
from semfacediff.metrics.effect import Effect
from semfacediff.metrics.fidelity import SSIM
from semfacediff.metrics.overall import ANCHORS, BOUNDS, Overall, harmonic_mean, open_overall, read_anchors

ENDS = {
    "toward_prompt": (0.0, 1.0),
    "change_de": (0.0, 40.0),
    "ssim_raw_registered": (0.4, 1.0),
    "identity": (0.2, 1.0),
}
OVERALL = Overall(ENDS, "d")
ROW = {"prompt": "purple hair", "attribute": "hair", "toward_prompt": 0.5, "change_de": 10.0}
ROW |= {"ssim_raw_registered": 0.85, "identity": 0.6}


def test_by_hand_with_and_without_a_colour():
    assert OVERALL.score(ROW) == pytest.approx(reference([0.5, 0.75, 0.5]))
    assert OVERALL.score(ROW | {"prompt": "shiny hair", "toward_prompt": None}) == pytest.approx(
        reference([0.25, 0.75, 0.5])
    )
    assert OVERALL.score(ROW | {"kind": "add"}) == OVERALL.score(ROW)


@pytest.mark.parametrize(
    "change",
    [
        {"toward_prompt": None},  # the photo has the colour already: no effect to score, and not the mean change
        {"ssim_raw_registered": None},
        {"identity": math.nan},
        {"kind": "keep"},
    ],
)
def test_a_missing_axis_makes_it_missing_even_beside_a_zero(change):
    assert OVERALL.score(ROW | change) is None
    assert (
        OVERALL.score({"toward_prompt": -1.0} | {k: v for k, v in ROW.items() if k != "toward_prompt"} | change) is None
    )


def test_it_is_cut_at_both_ends():
    assert OVERALL.score(ROW | {"toward_prompt": 0.0}) == OVERALL.score(ROW | {"toward_prompt": -3.0}) == 0
    best = {"toward_prompt": 1.2, "ssim_raw_registered": 1.0, "identity": 1.0}
    assert OVERALL.score(ROW | best) == 1


@pytest.mark.parametrize("column", ["toward_prompt", "ssim_raw_registered", "identity"])
def test_it_grows_with_every_axis(column):
    assert OVERALL.score(ROW) < OVERALL.score(ROW | {column: ROW[column] + 0.05})


def test_weights():
    assert harmonic_mean([0.5, 1.0, 1.0], (2, 1, 1)) == pytest.approx(4 / (2 / 0.5 + 1 + 1))
    assert harmonic_mean([0.5, 1.0, 0.0], (1, 1, 0)) == pytest.approx(reference([0.5, 1.0]))


def test_the_anchors_in_the_package():
    plain = json.loads(ANCHORS.read_text())
    for column, (zero, one) in BOUNDS.items():
        found = plain["anchors"][column]
        assert (found["zero_is"], found["one_is"]) == (zero, one)
        assert {zero, one} <= set(PIXELS)
        assert found["zero"] < found["one"]
        assert min(found["zero_n"], found["one_n"]) >= 0.9 * plain["n"]
    identity = read_anchors().identity()
    assert identity["anchors"]
    assert identity["range"] == [0, 1]


def test_it_is_measured_where_all_axes_are():
    class Identity(SSIM):
        columns = ("identity",)

    each = [Effect(), Alignment(), SSIM("strict"), Identity("strict")]
    measured = [set(metric.columns) for metric in each]
    assert open_overall(set().union(*measured), "strict").identity()["metric"] == "overall"
    assert open_overall(set().union(*measured), "thesis") is None
    for k in range(len(each)):
        assert open_overall(set().union(*measured[:k], *measured[k + 1 :]), "strict") is None

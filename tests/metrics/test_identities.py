"""Every metric says what its values depend on."""

import json

import pytest
import torch

from semfacediff import config
from semfacediff.metrics.clip import CLIP
from semfacediff.metrics.opening import open_metrics
from semfacediff.metrics.perceptual import LPIPS
from semfacediff.metrics.set_scores import SetScores

PROPERTIES = ("metric", "implementation", "version", "range", "unit", "higher_is_better", "resize", "weights")
WITH_WEIGHTS = {"lpips", "clip", "fid", "kid"}
CPU = torch.device("cpu")


class Network:
    weights = "sha256:abc"


@pytest.fixture(scope="module")
def measured(request):
    """(columns, identity, direction) of every metric that can be asked for."""
    compose = request.getfixturevalue("compose")
    every = sorted({*config.typed(compose("evaluate"), config.EditingEvaluation).metrics.columns, "iou"} - WITH_WEIGHTS)
    cfg = compose("evaluate", f"metrics.columns=[{','.join(every)}]")
    light = open_metrics(config.typed(cfg, config.EditingEvaluation), CPU).each
    heavy = [LPIPS("strict", None, "sha256:abc", CPU), CLIP("ViT-S-32-alt", None, "sha256:abc", CPU)]
    found = [(m.columns, m.identity(), m.higher_is_better) for m in (*light, *heavy)]
    sets = SetScores(("fid", "kid"), Network())
    return found + [((i["metric"],), i, sets.higher_is_better) for i in sets.identities()]


def test_all_properties_are_there_and_can_be_recorded(measured):
    for columns, identity, _ in measured:
        assert set(PROPERTIES) <= identity.keys(), identity["metric"]
        assert identity["metric"] == ", ".join(columns)
        assert json.loads(json.dumps(identity)) == identity
        for name in ("implementation", "version", "resize"):
            assert isinstance(identity[name], str), (identity["metric"], name)
            assert identity[name]


def test_direction_range_and_unit_are_those_of_each_column(measured):
    for columns, identity, direction in measured:
        of = {k: v if isinstance(v := identity[k], dict) else dict.fromkeys(columns, v) for k in ("range", "unit")}
        said = identity["higher_is_better"]
        said = said if isinstance(said, dict) else dict.fromkeys(columns, said)
        for column in columns:
            assert said[column] is direction[column], column
            low, high = of["range"][column]
            assert low is None or high is None or low < high
            assert of["unit"][column]


def test_weights_are_named_where_there_are_some(measured):
    found = {identity["metric"]: identity["weights"] for _, identity, _ in measured}
    assert {m for m, w in found.items() if w is not None} == WITH_WEIGHTS
    assert {w for w in found.values() if w is not None} == {"sha256:abc"}

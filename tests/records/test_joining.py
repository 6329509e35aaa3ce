"""Runs that measured differently never meet in one mean."""

import json

import pandas as pd
import pytest

from semfacediff.errors import UserError
from semfacediff.metrics import fidelity
from semfacediff.records.joining import joined_samples

LPIPS = {"metric": "lpips", "implementation": "lpips", "version": "1", "weights": "sha256:a", "range": [0, None]}
SSIM = {"metric": "ssim", "implementation": "semfacediff", "version": "1"}


@pytest.fixture
def run(tmp_path):
    def write(name, metrics=(LPIPS, SSIM), protocol="strict", status="done", doubts=(), composite="exact"):
        folder = tmp_path / name
        folder.mkdir()
        identity = {"config": {"protocol": protocol, "composite": composite}, "inputs": {"metrics": list(metrics)}}
        facts = {"schema_version": 1, "run_id": name, "status": status, "task": "editing"}
        facts["not_comparable"] = list(doubts)
        (folder / "run.json").write_text(json.dumps(facts | {"identity": identity, "metrics": list(metrics)}))
        pd.DataFrame({"sample_id": ["a", "b"], "status": "ok", "lpips": [0.1, 0.3]}).to_parquet(
            folder / "samples.parquet"
        )
        return folder

    return write


def test_runs_that_measured_alike_are_joined(run):
    table = joined_samples([run("one"), run("two", metrics=(SSIM, LPIPS))])
    assert table["run_id"].tolist() == ["one", "one", "two", "two"]
    assert table["lpips"].mean() == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"metrics": (LPIPS | {"weights": "random"}, SSIM)}, "lpips.weights is 'random' and 'sha256:a'; measure both"),
        ({"metrics": (LPIPS, SSIM | {"version": "9"})}, "ssim.version is '9' and '1'; measure both alike"),
        ({"metrics": (LPIPS,)}, r"ssim is 'not there' and 'measured' \(and 2 more\)"),
        ({"protocol": "thesis"}, "protocol is 'thesis' and 'strict'"),
        ({"composite": "off"}, "composite is 'off' and 'exact'"),
        ({"metrics": ({k: v for k, v in LPIPS.items() if k != "range"}, SSIM)}, "lpips.range is 'not there'"),
    ],
)
def test_runs_that_measured_differently_are_refused_with_the_difference(run, change, said):
    with pytest.raises(UserError, match=rf"two and .*one must not be averaged: {said}"):
        joined_samples([run("one"), run("two", **change)])


def test_a_run_of_an_earlier_version_joins_what_measured_the_same(run):
    today = fidelity.SSIM("strict").identity()
    earlier = {k: today[k] for k in ("metric", "protocol", "range", "input", "window")}
    earlier["implementation"] = "scikit-image 0.26.0"  # whose numbers ours are; versions before named it
    folders = [run("one", metrics=(today,)), run("two", metrics=(earlier,))]
    assert joined_samples(folders)["run_id"].nunique() == 2
    older = run("three", metrics=(earlier | {"window": "Gaussian"},))
    with pytest.raises(UserError, match=r"ssim.window is 'Gaussian' and "):
        joined_samples([folders[0], older])


def test_an_unfinished_run_is_refused(run):
    with pytest.raises(UserError, match="two: status incomplete; repeat its command"):
        joined_samples([run("one"), run("two", status="incomplete")])


def test_a_run_that_is_not_comparable_is_refused(run):
    with pytest.raises(UserError, match=r"two: not comparable \(random weights\); it is joined with no other"):
        joined_samples([run("one"), run("two", doubts=["random weights"])])

"""Identity in a run's record: scores, faces that were not found, and what happens without the extra."""

import json
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from semfacediff import config, tasks
from semfacediff.faces.detection import MissingFacesError
from semfacediff.hydra_app import composed
from semfacediff.labels import CELEBAMASK
from semfacediff.metrics.identity import METRIC
from semfacediff.metrics.overall import read_anchors
from semfacediff.metrics.weights import MissingWeightsError

QUICK = (
    "data=folder parser=ground_truth editor=recolor attributes=[hair] prompts.hair=red_hair strips=0 "
    "runtime.device=cpu runtime.workers=0 metrics=no_weights metrics.columns=[effect,alignment,identity,ssim]"
).split()


@pytest.fixture(scope="module")
def photos(tmp_path_factory, portrait):
    """A portrait and a wall of 96 px, with labels that call the upper part of both hair."""
    root = tmp_path_factory.mktemp("photos")
    for name, photo in (("portrait", portrait), ("wall", np.full((96, 96, 3), 150, np.uint8))):
        labels = np.ones(photo.shape[:2], np.uint8)
        labels[: len(labels) // 3] = CELEBAMASK.index("hair")
        for folder, image in (("images", photo), ("masks", labels)):
            (root / folder).mkdir(exist_ok=True)
            Image.fromarray(image).save(root / folder / f"{name}.png")
    return root


def settings(repository, photos, *words):
    cfg = composed("evaluate", [*QUICK, f"data.root={photos}", *words], repository)
    return config.typed(cfg, config.EditingEvaluation)


def test_scores_and_faces_that_were_not_found(repository, photos, tmp_path, capsys):
    assert tasks.start(settings(repository, photos), tmp_path) == 0
    rows = pd.read_parquet(tmp_path / "samples.parquet").set_index("sample_id")
    assert rows["no_face"].fillna("").tolist() == ["", "photo, edit"]
    assert rows.loc["portrait", ["identity", "identity_raw", "identity_outside"]].between(0.5, 1).all()
    assert rows.loc["wall", [*METRIC.columns[:-1]]].isna().all()
    (summary,) = pd.read_csv(tmp_path / "summary.csv").to_dict("records")
    assert (summary["n"], summary["n_no_face"]) == (2, 1)
    assert summary["identity_distance_mean"] == pytest.approx(rows.loc["portrait", "identity_distance"])
    assert not [name for name in summary if name.startswith("no_face")]
    printed = capsys.readouterr().out
    assert "edits without identity, as no face was found in photo or edit: hair 1" in printed
    assert "identity (up)" in printed
    said = json.loads((tmp_path / "run.json").read_text())["identity"]["inputs"]["metrics"][", ".join(METRIC.columns)]
    assert said["weights"].startswith("sha256:")
    assert said["input"] == "8-bit RGB, 150 px"
    assert_overall_is_that_of_the_row(tmp_path, rows, summary, printed)


def assert_overall_is_that_of_the_row(folder, rows, summary, printed):
    expected = read_anchors().score(rows.loc["portrait"].to_dict())
    assert 0 < expected < 1
    assert rows.loc["portrait", "overall"] == pytest.approx(expected, rel=1e-12)
    assert pd.isna(rows.loc["wall", "overall"]), "it has no face"
    assert (summary["overall_mean"], summary["n_no_overall"]) == (pytest.approx(expected, rel=1e-9), 1)
    assert "overall (up)" in printed
    assert "edits without an overall score, as an axis is missing: hair 1" in printed
    inputs = json.loads((folder / "run.json").read_text())["identity"]["inputs"]
    assert inputs["metrics"]["overall"]["anchors"] == read_anchors().digest


def test_without_the_extra(repository, photos, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "dlib", None)
    with pytest.raises(MissingFacesError, match=r"pip install 'semfacediff\[faces\]'"):
        tasks.start(settings(repository, photos), tmp_path / "error")
    assert tasks.start(settings(repository, photos, "metrics.on_missing=skip"), tmp_path / "skip") == 0
    empty = json.loads((tmp_path / "skip" / "run.json").read_text())["empty_columns"]
    assert set(empty) == {"identity"}
    assert "pip install 'semfacediff[faces]'" in capsys.readouterr().out


def test_arcface_needs_a_file(repository, photos, tmp_path):
    run = settings(repository, photos, "metrics.identity.backend=arcface")
    with pytest.raises(MissingWeightsError, match=r"backend=arcface needs .*set weights\.arcface=FILE"):
        tasks.start(run, tmp_path)


def test_a_run_that_does_not_measure_it_is_the_run_of_before(repository, photos):
    others, with_it = (settings(repository, photos, f"metrics.columns=[{c}]") for c in ("ssim", "ssim,identity"))
    assert "identity" not in config.scientific(others)["metrics"]
    assert config.scientific(with_it)["metrics"]["identity"] == {"backend": "dlib", "values": "signed"}

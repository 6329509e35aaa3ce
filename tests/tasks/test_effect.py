"""From an edit to its status, and what a comparison says of an editor that does nothing."""

import io
import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch

from semfacediff import config, tasks
from semfacediff.cli import main
from semfacediff.editing.identity import Identity
from semfacediff.hydra_app import composed
from semfacediff.metrics.effect import Effect
from semfacediff.tasks.editing.sample_row import of_effect

REPOSITORY = Path(__file__).resolve().parents[2]
TOY = (
    "data=toy data.count=12 data.size=64 parser=ground_truth attributes=[hair] metrics=no_weights "
    "metrics.columns=[effect,alignment,ssim,seam] prompts.hair=blue_hair strips=0 runtime.device=cpu runtime.workers=0"
).split()


@pytest.mark.parametrize(
    ("status", "changed", "expected"),
    [
        ("ok", 0.999, "unchanged"),
        ("ok", 1.0, "ok"),
        ("ok", None, "ok"),
        ("empty_region", 0.0, "empty_region"),
    ],
)
def test_status_of_an_edit(status, changed, expected):
    row = {"status": status, "ssim": 0.5, "changed_pct": changed, "change_de_raw": 1.0}
    assert (row | of_effect(row))["status"] == expected


def test_an_empty_region_has_no_effect():
    row = {"status": "empty_region", "ssim": 0.5, "changed_pct": 3.0, "changed_pct_raw": 3.0}
    assert row | of_effect(row) == row | {"changed_pct": None, "changed_pct_raw": None}


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Path]:
    """The same photos, recoloured and left as they are."""
    folders = {name: tmp_path_factory.mktemp("runs") / name for name in ("recolor", "identity")}
    for name, folder in folders.items():
        cfg = composed("evaluate", [*TOY, f"editor={name}"], REPOSITORY)
        assert tasks.start(config.typed(cfg, config.EditingEvaluation), folder) == 0
    return folders


def test_columns_and_counts_of_both_runs(runs):
    summaries = {name: pd.read_csv(folder / "summary.csv").loc[0] for name, folder in runs.items()}
    assert summaries["recolor"]["n_unchanged"] == 0
    assert summaries["recolor"]["changed_pct_mean"] > 50
    assert summaries["recolor"]["toward_prompt_mean"] > 0.3
    assert summaries["identity"][["n", "n_unchanged", "n_no_colour"]].tolist() == [12, 12, 0]
    rows = pd.read_parquet(runs["identity"] / "samples.parquet")
    assert (rows["status"] == "unchanged").all()
    assert (rows[[c for c in rows if c.removesuffix("_raw") in Effect.columns]].fillna(0) == 0).all(axis=None)


def test_doing_nothing_is_said_and_never_better(runs, capsys):
    assert main(["compare", str(runs["recolor"]), str(runs["identity"]), "--raw"]) == 0
    said = capsys.readouterr().out
    assert "hair of the second unchanged in 12 of 12" in said
    assert "**second**" not in said
    lines = [line.split("|")[2].strip() for line in said.splitlines() if line.startswith("| hair")]
    assert lines[:4] == ["change_de", "changed_pct", "toward_prompt (up)", "structure_change"]
    assert next(line for line in said.splitlines() if "toward_prompt (up)" in line).rstrip(" |").endswith("**first**")


def test_a_photo_that_stands_still_is_registered_as_it_is(runs):
    rows = pd.read_parquet(runs["recolor"] / "samples.parquet")
    assert (rows[["shift_px_raw", "zoom_pct_raw", "rotation_deg_raw"]] == 0).all(axis=None)
    assert (rows["ssim_raw_registered"] == rows["ssim_raw"]).all()


def test_a_moved_edit_is_measured_and_registered(tmp_path, monkeypatch):
    monkeypatch.setattr(Identity, "edit", lambda self, requests: [torch.roll(r.photo, 3, 2) for r in requests])
    words = [*TOY, "data.size=128", "data.count=2", "editor=identity"]
    assert tasks.start(config.typed(composed("evaluate", words, REPOSITORY), config.EditingEvaluation), tmp_path) == 0
    row = pd.read_csv(tmp_path / "summary.csv").loc[0]
    assert row["shift_px_mean"] == 0, "the composite keeps the outside"
    assert row["shift_px_raw_mean"] == pytest.approx(3, abs=0.2)
    assert row["ssim_raw_mean"] < row["ssim_raw_registered_mean"] - 0.05


def test_any_number_of_runs_are_ranked_in_every_format(runs, tmp_path, capsys):
    again = shutil.copytree(runs["recolor"], tmp_path / "again")
    folders = [str(folder) for folder in (*runs.values(), again)]
    assert main(["compare", *folders]) == 0
    said = capsys.readouterr().out
    assert said.index("# Runs side by side") < said.index("# Ranks")
    head = next(line for line in said.splitlines() if line.startswith("| attribute"))
    assert head.index("toward prompt") < head.index("change") < head.index("SSIM raw registered")
    run_id = json.loads((runs["identity"] / "run.json").read_text())["run_id"]
    assert f"whose gains count as 0 in the tests: {run_id} 12 of 12" in said
    assert not [line for line in said.splitlines() if line.startswith("| hair | ssim") and "**" in line]
    assert main(["compare", *folders, "--format", "csv", "--score", "toward_prompt", "seam"]) == 0
    table = pd.read_csv(io.StringIO(capsys.readouterr().out))
    assert table["score"].tolist() == ["toward_prompt"] * 3 + ["seam"] * 3
    assert table["tier"].tolist()[:3] == [1, 1, 2]
    assert table["rank"].tolist()[:3] == [1, 1, 3]
    assert main(["compare", *folders[:2], "--format", "tex"]) == 0
    assert capsys.readouterr().out.count(r"\begin{table}") == 2
    assert main(["compare", *folders, "--score", "beauty"]) == 2
    assert "no score beauty in all runs; there are change_de" in capsys.readouterr().err

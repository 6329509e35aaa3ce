import json
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from semfacediff import hydra_app
from semfacediff.errors import UserError
from semfacediff.records.folder import SCHEMA_VERSION
from semfacediff.records.objective import objective

REPOSITORY = Path(__file__).resolve().parents[2]
RUN = {"schema_version": SCHEMA_VERSION, "status": "done", "identity": {}}


@pytest.fixture
def record(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps(RUN))
    return tmp_path


def test_editing_scores(record):
    (record / "summary.csv").write_text("attribute,n,iou_mean,clip_mean\nhair,3,0.5,\nlips,2,0.7,\nskin,0,,\n")
    assert objective(record, "hair/iou_mean") == 0.5
    assert objective(record, "iou_mean") == pytest.approx(0.6, abs=1e-12), "the mean over the regions that have one"
    with pytest.raises(UserError, match=r"optimise=clip_mean: the number is missing in .*cannot be compared"):
        objective(record, "clip_mean")
    with pytest.raises(UserError, match=r"optimise=hair/clip_mean: the number is missing"):
        objective(record, "hair/clip_mean")
    with pytest.raises(
        UserError,
        match=r"optimise=iou_men: .* has no such number; did you mean iou_mean or skin/iou_mean or lips/iou_mean",
    ):
        objective(record, "iou_men")
    with pytest.raises(UserError, match=r"optimise=loss: .*; name a column of history.csv or summary.csv, or ROW/COLU"):
        objective(record, "loss")


def test_parsing_scores(record):
    (record / "summary.csv").write_text("class,iou,f1,pixels\nhat,0.25,0.4,9\nmiou,0.66,,99\npixel_accuracy,,0.9,99\n")
    assert objective(record, "miou") == 0.66
    assert objective(record, "hat") == 0.25
    assert objective(record, "pixel_accuracy") == 0.9
    assert objective(record, "hat/f1") == 0.4


def test_a_training_counts_at_its_best_epoch(record):
    rows = "1,2.0,adamw,0.3\n2,1.0,adamw,0.6\n3,0.5,adamw,0.5\n4,0.4,adamw,\n"
    (record / "history.csv").write_text("epoch,train_loss,phase,val_miou\n" + rows)
    assert objective(record, "val_miou") == 0.5, "no best epoch is known: the last one that was validated"
    (record / "run.json").write_text(json.dumps(RUN | {"best_epoch": 2}))
    assert objective(record, "val_miou") == 0.6
    assert objective(record, "train_loss") == 1.0


def test_a_diverged_training(record):
    (record / "history.csv").write_text("step,train_loss,val_loss\n1,2.0,nan\n")
    with pytest.raises(UserError, match="optimise=val_loss: the number is missing"):
        objective(record, "val_loss")


def test_what_a_job_returns_to_a_sweeper(record, capsys):
    """A finished run returns its number; what failed, or has none, returns nothing and an exit code."""

    def job(optimise: str | None, ends_with: int = 0):
        (record / "summary.csv").write_text("class,iou\nmiou,0.66\nhat,\n")
        return hydra_app._exit_code(lambda *_: ends_with, OmegaConf.create({"optimise": optimise}), record)

    assert job("miou") == (0, 0.66)
    assert job(None) == (0, None)
    assert job("miou", ends_with=1) == (1, None)
    assert job("hat/iou") == (2, None)
    assert "error: optimise=hat/iou: the number is missing in" in capsys.readouterr().err


@pytest.mark.slow
def test_the_example_with_optuna(tmp_path):
    """Three trials, continued with a fourth; the best one is that of the records."""
    toy = "data=toy data.size=32 data.count=8 train.size=32 train.epochs=1 train.batch_size=4 optim.warmup_steps=1"
    words = [*toy.split(), "runtime.workers=0", "runtime.device=cpu"]
    for trials in ("3", "1"):
        command = [sys.executable, str(REPOSITORY / "examples/optuna_search.py"), "--trials", trials, *words]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    found = [objective(folder, "val_miou") for folder in sorted((tmp_path / "outputs/optuna").glob("trial-*"))]
    assert len(found) == 4
    assert done.stdout.startswith(f"best val_miou: {max(found):.4f} with")

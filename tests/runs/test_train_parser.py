"""Training from the configuration to checkpoints, stopped and continued."""

import itertools
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch

from semfacediff import config, runs
from semfacediff.errors import UserError
from semfacediff.hydra_app import composed
from semfacediff.parsing import load_parser
from semfacediff.runs import train_parser, training_loop
from semfacediff.runs.training_loop import ParserTrainer, learning_rate_factor, optimiser

REPOSITORY = Path(__file__).resolve().parents[2]
SMALL = (
    "data.count=24 data.size=64 data.split_rule.modulo=4 train.size=64 train.batch_size=4 train.epochs=2 "
    "train.checkpoint_every_steps=2 loss.class_weight_batches=2 optim.warmup_steps=2 runtime.workers=0 "
    "runtime.device=cpu"
).split()


def settings(*overrides: str) -> config.ParserTraining:
    return config.typed(composed("train_parser", [*SMALL, *overrides], REPOSITORY), config.ParserTraining)


def weights(folder: Path, which: str = "last") -> bytes:
    return (folder / "checkpoints" / which / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted")
    assert runs.start(settings(), folder) == 0
    return folder


def test_leaves_a_record_and_checkpoints_that_evaluate(uninterrupted):
    run = json.loads((uninterrupted / "run.json").read_text())
    assert run["status"] == "done"
    assert run["data"]["train"]["n"] == 18
    assert run["data"]["val"]["n"] == 6
    history = pd.read_csv(uninterrupted / "history.csv")
    assert list(history) == ["epoch", "train_loss", "val_miou"]
    assert list(history["epoch"]) == [1, 2]
    summary = pd.read_csv(uninterrupted / "summary.csv").set_index("class")
    assert summary.loc["miou", "iou"] == pytest.approx(history["val_miou"].max(), abs=1e-9)
    model, card = load_parser(uninterrupted / "checkpoints" / "best")
    assert (card.name, card.label_space, card.input_size) == ("fastscnn_lite", "celebamask", 64)
    assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 19, 64, 64)
    assert (uninterrupted / "figures" / "curves.png").stat().st_size > 5000


@pytest.mark.parametrize("stop_at", [0, 1, 3, 5])
def test_stopped_at_any_step_and_continued_ends_with_the_same_weights(uninterrupted, tmp_path, monkeypatch, stop_at):
    steps, original = [], ParserTrainer._step

    def stopping(self, photos, labels):
        if len(steps) == stop_at:
            raise KeyboardInterrupt
        steps.append(None)
        return original(self, photos, labels)

    monkeypatch.setattr(ParserTrainer, "_step", stopping)
    with pytest.raises(KeyboardInterrupt):
        runs.start(settings(), tmp_path)
    monkeypatch.setattr(ParserTrainer, "_step", original)
    assert runs.start(settings(), tmp_path) == 0
    assert weights(tmp_path) == weights(uninterrupted)
    assert weights(tmp_path, "best") == weights(uninterrupted, "best")
    for name in ("history.csv", "summary.csv"):
        assert (tmp_path / name).read_bytes() == (uninterrupted / name).read_bytes()


def test_stopped_between_the_last_checkpoint_and_its_record(uninterrupted, tmp_path, monkeypatch):
    original = train_parser._keep

    def stopping(progress, *rest):
        if progress.epoch == 2:
            raise KeyboardInterrupt
        original(progress, *rest)

    monkeypatch.setattr(train_parser, "_keep", stopping)
    with pytest.raises(KeyboardInterrupt):
        runs.start(settings(), tmp_path)
    monkeypatch.setattr(train_parser, "_keep", original)
    assert runs.start(settings(), tmp_path) == 0
    assert (tmp_path / "history.csv").read_bytes() == (uninterrupted / "history.csv").read_bytes()
    assert json.loads((tmp_path / "run.json").read_text())["epochs_done"] == 2


def test_checkpoint_that_cannot_be_written_is_one_sentence_and_loses_nothing(uninterrupted, tmp_path):
    folder = tmp_path / "run"
    command = [sys.executable, "train_parser.py", *SMALL, f"hydra.run.dir={folder}"]

    def small_files_only():  # the kernel refuses the write, as a full disk does
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))

    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, preexec_fn=small_files_only)
    assert done.returncode == 2
    assert "cannot write a checkpoint in" in done.stderr
    assert "Traceback" not in done.stderr
    assert runs.start(settings(), folder) == 0
    assert weights(folder) == weights(uninterrupted)


def test_killed_process_continues(uninterrupted, tmp_path):
    folder = tmp_path / "run"
    command = [sys.executable, "train_parser.py", *SMALL, f"hydra.run.dir={folder}"]
    process = subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (folder / "checkpoints" / "last").is_dir() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert json.loads((folder / "run.json").read_text())["status"] == "running"
    assert runs.start(settings(), folder) == 0
    assert weights(folder) == weights(uninterrupted)


def test_workers_change_nothing(uninterrupted, tmp_path):
    assert runs.start(settings("runtime.workers=1"), tmp_path) == 0
    assert weights(tmp_path) == weights(uninterrupted)


def test_keeping_photos_in_memory_changes_nothing(uninterrupted, tmp_path):
    assert runs.start(settings("train.keep_in_memory=true"), tmp_path) == 0
    assert weights(tmp_path) == weights(uninterrupted)


def test_finished_run_is_left_alone(uninterrupted, capsys):
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in uninterrupted.rglob("*") if p.is_file()}
    assert runs.start(settings(), uninterrupted) == 0
    assert before == {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in uninterrupted.rglob("*") if p.is_file()}
    assert "best checkpoint" in capsys.readouterr().out


def test_another_configuration_is_refused_with_the_difference(uninterrupted):
    with pytest.raises(UserError, match=r"another configuration: config\.optim\.decoder_lr was 0\.001, now 0\.5"):
        runs.start(settings("optim.decoder_lr=0.5"), uninterrupted)


def test_what_only_changes_speed_may_change_between_sittings(uninterrupted):
    assert runs.start(settings("train.keep_in_memory=true", "train.checkpoint_every_steps=0"), uninterrupted) == 0


def test_starts_from_a_trained_parser(uninterrupted, tmp_path):
    assert runs.start(settings(f"parser.checkpoint={uninterrupted}", "train.epochs=1"), tmp_path) == 0
    assert json.loads((tmp_path / "run.json").read_text())["identity"]["inputs"]["start_weights"]


def test_one_photo_is_too_few_for_batch_norm(tmp_path):
    with pytest.raises(UserError, match="'fastscnn_lite' needs batches of at least 2"):
        runs.start(settings("limit=1"), tmp_path)


def test_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint(tmp_path, monkeypatch):
    def broken(logits, labels, weights, smoothing):
        return logits.sum() * float("nan"), logits.new_ones(())

    monkeypatch.setattr(training_loop, "cross_entropy_sums", broken)
    with pytest.raises(UserError, match="the loss became nan in epoch 1, step 1"):
        runs.start(settings(), tmp_path)
    assert json.loads((tmp_path / "run.json").read_text())["status"] == "running"


def test_encoder_and_decoder_have_their_own_rates():
    s = settings("optim.encoder_lr=0.125", "optim.decoder_lr=0.25")
    from semfacediff.parsing import build_parser

    model = build_parser("fastscnn_lite")
    encoder, decoder = optimiser(model, s.optim).param_groups
    assert (encoder["lr"], decoder["lr"]) == (0.125, 0.25)
    assert len(encoder["params"]) + len(decoder["params"]) == len(list(model.parameters()))
    assert any(p is model.classifier[3].bias for p in decoder["params"])


def test_rate_warms_up_and_falls_to_zero():
    factors = [learning_rate_factor(step, 100, "cosine", 10) for step in range(100)]
    assert factors[:10] == pytest.approx([(k + 1) / 10 for k in range(10)])
    assert factors[10] == 1
    assert all(a >= b for a, b in itertools.pairwise(factors[10:]))
    assert factors[-1] < 0.001
    assert learning_rate_factor(99, 100, "constant", 10) == 1

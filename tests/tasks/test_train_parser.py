"""Training from the configuration to checkpoints, stopped and continued."""

import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from semfacediff import config, tasks
from semfacediff.data.opening import open_data
from semfacediff.errors import UserError
from semfacediff.hydra_app import composed
from semfacediff.labels import CELEBAMASK
from semfacediff.metrics.photo_counts import dense
from semfacediff.parsing import load_parser
from semfacediff.parsing.opening import new_parser
from semfacediff.tasks.training import parser as train_parser
from semfacediff.tasks.training import parser as training
from semfacediff.tasks.training.files import TrainingFiles
from semfacediff.tasks.training.parser_trainer import ParserTrainer
from semfacediff.tasks.training.step import GradientStep, new_accelerator
from semfacediff.weight_files import read_pickle_safely

REPOSITORY = Path(__file__).resolve().parents[2]
SMALL = (
    "data.count=24 data.size=64 data.split_rule.modulo=4 train.size=64 train.batch_size=4 train.epochs=2 "
    "train.checkpoint_every_steps=2 loss.class_weight_batches=2 runtime.workers=0 "
    "runtime.device=cpu"
).split()

TINY = ("data.count=8", "data.size=32", "train.size=32", "train.batch_size=2", "train.checkpoint_every_steps=0")


def settings(*overrides: str) -> config.ParserTraining:
    return config.typed(composed("train_parser", [*SMALL, *overrides], REPOSITORY), config.ParserTraining)


def weights(folder: Path, which: str = "last") -> bytes:
    return (folder / "checkpoints" / which / "model.safetensors").read_bytes()


CURVES = train_parser.training_curves


@pytest.fixture(scope="module", autouse=True)
def undrawn():
    """No curves but those of :func:`uninterrupted`: they take longer than everything else together."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_parser, "training_curves", lambda *_: None)
        yield patch


@pytest.fixture(scope="module")
def uninterrupted(undrawn, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted")
    with undrawn.context() as patch:
        patch.setattr(train_parser, "training_curves", CURVES)
        assert tasks.start(settings(), folder) == 0
    return folder


def test_leaves_a_record_and_checkpoints_that_evaluate(uninterrupted):
    run = json.loads((uninterrupted / "run.json").read_text())
    assert run["status"] == "done"
    assert run["data"]["train"]["n"] == 18
    assert run["data"]["val"]["n"] == 6
    history = pd.read_csv(uninterrupted / "history.csv")
    columns = ["epoch", "train_loss", "lr", "phase", "val_loss", "val_miou", "val_long_tail"]
    of_classes = [f"val_iou_{name}" for name in CELEBAMASK.classes]
    assert list(history) == [*columns, "gradient_norm", "gradient_norm_clipped", *of_classes]
    assert list(history["epoch"]) == [1, 2]
    summary = pd.read_csv(uninterrupted / "summary.csv").set_index("class")
    assert summary.loc["miou", "iou"] == pytest.approx(history["val_miou"].max(), abs=1e-9)
    best = history.loc[run["best_epoch"] - 1, of_classes].astype(float).to_numpy()
    np.testing.assert_allclose(best, summary["iou"][:19], rtol=0, atol=1e-9)  # both have 10 digits
    confusion = pd.read_csv(uninterrupted / "confusion.csv", index_col="truth")
    assert confusion.sum(1).tolist() == summary["pixels"][:19].tolist()
    photos = pd.read_parquet(uninterrupted / "validation.parquet")
    assert photos["sample_id"].tolist() == [f"{i:05d}" for i in range(0, 24, 4)]
    pooled = sum(dense(triples, 19) for triples in photos["confusion"])
    np.testing.assert_array_equal(pooled, confusion.to_numpy())
    model, card = load_parser(uninterrupted / "checkpoints" / "best")
    assert (card.name, card.label_space, card.input_size) == ("fastscnn_lite", "celebamask", 64)
    assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 19, 64, 64)
    assert (uninterrupted / "figures" / "curves.png").stat().st_size > 5000


def test_the_gradients_norm_before_and_after_clipping(tmp_path, capsys):
    """Two epochs of one step each, the first from the same weights: clipped at 0.01, and not at all."""
    histories, one = {}, [*TINY, "train.batch_size=8", "optim.warmup_steps=0"]
    for bound in ("0.01", "null"):
        folder = tmp_path / bound
        assert tasks.start(settings(*one, f"train.gradient_clip_norm={bound}"), folder) == 0
        histories[bound] = pd.read_csv(folder / "history.csv")
    clipped, free = histories["0.01"], histories["null"]
    assert clipped["gradient_norm"][0] == free["gradient_norm"][0] > 0.1
    assert clipped["gradient_norm_clipped"].tolist() == [0.01, 0.01]
    assert free["gradient_norm_clipped"].tolist() == free["gradient_norm"].tolist()
    err = capsys.readouterr().err
    assert re.search(r"epoch 1/2: loss \d\.\d+, validation loss .*, mIoU \d+\.\d\d %.*; curves: \S+/curves.png\n", err)
    assert "val_iou_" not in err, "nineteen numbers more than a line can show"
    said = [line for line in err.splitlines() if line.startswith("recipe: ")]
    assert said[0] == (
        "recipe: AdamW, encoder 0.001, decoder 0.001; class weights none; label smoothing 0; gradient clipping 0.01"
    )
    assert said[1].endswith("gradient clipping none")


@pytest.mark.parametrize(
    "stop_at", [0, pytest.param(1, marks=pytest.mark.slow), 3, pytest.param(5, marks=pytest.mark.slow)]
)
def test_stopped_at_any_step_and_continued_ends_with_the_same_weights(uninterrupted, tmp_path, monkeypatch, stop_at):
    stop_after(stop_at, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        tasks.start(settings(), tmp_path)
    monkeypatch.undo()
    assert tasks.start(settings(), tmp_path) == 0
    assert weights(tmp_path) == weights(uninterrupted)
    assert weights(tmp_path, "best") == weights(uninterrupted, "best")
    for name in ("history.csv", "summary.csv", "validation.parquet"):
        assert (tmp_path / name).read_bytes() == (uninterrupted / name).read_bytes()


def test_going_on_in_another_number_of_processes_is_said(uninterrupted, tmp_path, monkeypatch, capsys):
    stop_after(3, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        tasks.start(settings(), tmp_path)
    monkeypatch.undo()
    file = tmp_path / "run.json"
    file.write_text(file.read_text().replace('"processes": 1', '"processes": 2'))
    assert tasks.start(settings(), tmp_path) == 0
    assert "processes: this training began in 2 and goes on in 1" in capsys.readouterr().err
    facts = json.loads(file.read_text())
    assert (facts["processes"], facts["earlier_processes"]) == (1, [2])
    assert "earlier_processes" not in json.loads((uninterrupted / "run.json").read_text())


def test_stopped_between_the_last_checkpoint_and_its_record(uninterrupted, tmp_path, monkeypatch):
    original = train_parser._keep

    def stopping(lines, progress, record):
        if progress.epoch == 2:
            raise KeyboardInterrupt
        original(lines, progress, record)

    monkeypatch.setattr(train_parser, "_keep", stopping)
    with pytest.raises(KeyboardInterrupt):
        tasks.start(settings(), tmp_path)
    monkeypatch.setattr(train_parser, "_keep", original)
    assert tasks.start(settings(), tmp_path) == 0
    assert (tmp_path / "history.csv").read_bytes() == (uninterrupted / "history.csv").read_bytes()
    assert json.loads((tmp_path / "run.json").read_text())["epochs_done"] == 2


@pytest.mark.slow
def test_checkpoint_that_cannot_be_written_is_one_sentence_and_loses_nothing(uninterrupted, tmp_path):
    folder = tmp_path / "run"
    command = [sys.executable, "train_parser.py", *SMALL, f"hydra.run.dir={folder}"]

    def small_files_only():  # the kernel refuses the write, as a full disk does
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))

    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, preexec_fn=small_files_only)
    assert done.returncode == 2
    assert "cannot write a checkpoint in" in done.stderr
    assert "Traceback" not in done.stderr
    assert tasks.start(settings(), folder) == 0
    assert weights(folder) == weights(uninterrupted)


@pytest.mark.slow
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
    assert tasks.start(settings(), folder) == 0
    assert weights(folder) == weights(uninterrupted)


def test_workers_change_nothing(uninterrupted, tmp_path):
    assert tasks.start(settings("runtime.workers=1"), tmp_path) == 0
    assert weights(tmp_path) == weights(uninterrupted)


def test_keeping_photos_in_memory_changes_nothing(uninterrupted, tmp_path):
    assert tasks.start(settings("train.keep_in_memory=true"), tmp_path) == 0
    assert weights(tmp_path) == weights(uninterrupted)


def test_finished_run_is_left_alone(uninterrupted, capsys):
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in uninterrupted.rglob("*") if p.is_file()}
    assert tasks.start(settings(), uninterrupted) == 0
    assert before == {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in uninterrupted.rglob("*") if p.is_file()}
    assert "best checkpoint" in capsys.readouterr().out


def test_another_configuration_is_refused_with_the_difference(uninterrupted):
    with pytest.raises(UserError, match=r"another configuration: config\.optim\.decoder_lr was 0\.001, now 0\.5"):
        tasks.start(settings("optim.decoder_lr=0.5"), uninterrupted)


@pytest.mark.slow
def test_another_configuration_is_refused_in_the_middle_too_and_harms_nothing(uninterrupted, tmp_path, monkeypatch):
    stop_after(3, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        tasks.start(settings(), tmp_path)
    monkeypatch.undo()
    with pytest.raises(UserError, match=r"another configuration: config\.train\.augment was 'standard', now 'flip'"):
        tasks.start(settings("train.augment=flip"), tmp_path)
    with pytest.raises(UserError, match=r"config\.data\.seed was 0, now 1.*inputs\.train was"):
        tasks.start(settings("data.seed=1"), tmp_path)
    assert tasks.start(settings(), tmp_path) == 0
    assert weights(tmp_path) == weights(uninterrupted)


def test_what_only_changes_speed_may_change_between_sittings(uninterrupted):
    assert tasks.start(settings("train.keep_in_memory=true", "train.checkpoint_every_steps=0"), uninterrupted) == 0


def test_starts_from_a_trained_parser(uninterrupted, tmp_path):
    assert tasks.start(settings(f"parser.checkpoint={uninterrupted}", "train.epochs=1"), tmp_path) == 0
    assert json.loads((tmp_path / "run.json").read_text())["identity"]["inputs"]["start_weights"]


def test_one_photo_is_too_few_for_batch_norm(tmp_path):
    branch = r"global_feature_extractor\.ppm\.stages\.0\.1\.1"
    with pytest.raises(
        UserError, match=rf"'fastscnn_lite' has batch norms over 1x1 maps \({branch}.*batch of one photo"
    ):
        tasks.start(settings("limit=1"), tmp_path)
    assert not (tmp_path / "checkpoints").exists()


def test_loss_that_is_not_finite_stops_the_run_and_names_the_samples(tmp_path, monkeypatch):
    original = GradientStep.add

    def broken(self, loss):
        added = original(self, loss)
        return added * float("nan") if len(seen) == 3 else seen.append(loss) or added

    seen = []
    monkeypatch.setattr(GradientStep, "add", broken)
    with pytest.raises(UserError, match=r"became nan in epoch 1, step 4, on samples (\d+(, )?){4} \(checkpoints of"):
        tasks.start(settings(), tmp_path)
    assert json.loads((tmp_path / "run.json").read_text())["status"] == "running"
    load_parser(tmp_path / "checkpoints" / "last")


def test_gradient_that_is_not_finite_stops_the_run_before_it_moves_the_weights(uninterrupted, tmp_path, monkeypatch):
    """As a root's at 0: the loss is fine, and the next step's would not be."""
    original, steps = GradientStep.update, []

    def broken(self, optimiser):
        steps.append(None)
        if len(steps) == 3:
            next(self.net.parameters()).grad.fill_(float("nan"))
        return original(self, optimiser)

    monkeypatch.setattr(GradientStep, "update", broken)
    with pytest.raises(UserError, match=r"gradient became infinite in epoch 1, step 3, on samples (\d+(, )?){4} \("):
        tasks.start(settings(), tmp_path)
    monkeypatch.undo()
    model, _ = load_parser(tmp_path / "checkpoints" / "last")
    assert all(torch.isfinite(p).all() for p in model.parameters())
    assert tasks.start(settings(), tmp_path) == 0  # the cause has gone
    assert weights(tmp_path) == weights(uninterrupted)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        MemoryError(),
    ],
)
def test_out_of_memory_says_what_to_lower(tmp_path, monkeypatch, error):
    def full(*_):
        raise error

    monkeypatch.setattr(GradientStep, "add", full)
    with pytest.raises(
        UserError, match=r"out of memory on cpu in epoch 1, step 1 with train.batch_size=4 train.size=64; lower"
    ):
        tasks.start(settings(), tmp_path)


@pytest.fixture(scope="module")
def one_epoch(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("one_epoch")
    assert tasks.start(settings("train.epochs=1", "optim.warmup_steps=1"), folder) == 0
    return folder


@pytest.mark.parametrize(
    "switch",
    [
        pytest.param("train.precision=bfloat16", marks=pytest.mark.slow),
        pytest.param("train.loss_stride=2", marks=pytest.mark.slow),
        "train.gradient_clip_norm=0.01",
        "train.augment=strong",
        "loss=cross_entropy_dice",
        pytest.param("loss.class_weights=inverse", marks=pytest.mark.slow),
        pytest.param("optim.decay_norms_and_biases=false", marks=pytest.mark.slow),
        "optim.schedule=polynomial",
    ],
)
def test_switch_changes_the_outcome(one_epoch, tmp_path, switch):
    assert tasks.start(settings("train.epochs=1", "optim.warmup_steps=1", switch), tmp_path) == 0
    assert weights(tmp_path) != weights(one_epoch)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("switch", "changed"),
    [
        pytest.param("train.accumulate=2", "last", marks=pytest.mark.slow),
        pytest.param("train.ema_decay=0.5", "best", marks=pytest.mark.slow),
        ("train.sampling=repeat_factor train.paste_accessories=1.0", "last"),
    ],
)
def test_switch_with_a_state_survives_an_interruption(one_epoch, tmp_path, monkeypatch, switch, changed):
    chosen = ("train.epochs=1", "optim.warmup_steps=1", *switch.split())
    assert tasks.start(settings(*chosen), tmp_path / "whole") == 0
    assert weights(tmp_path / "whole", changed) != weights(one_epoch, changed)
    stop_after(3, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        tasks.start(settings(*chosen), tmp_path / "stopped")
    monkeypatch.undo()
    assert tasks.start(settings(*chosen), tmp_path / "stopped") == 0
    for which in ("last", "best"):
        assert weights(tmp_path / "stopped", which) == weights(tmp_path / "whole", which)


def stop_after(steps: int, monkeypatch) -> None:
    done, original = [], ParserTrainer.add_gradient

    def stopping(self, *batch):
        if len(done) == steps:
            raise KeyboardInterrupt
        done.append(None)
        return original(self, *batch)

    monkeypatch.setattr(ParserTrainer, "add_gradient", stopping)


def trainer(tmp_path, *overrides: str) -> ParserTrainer:
    s = settings(*overrides)
    train, val = (open_data(s.data, part) for part in ("train", "val"))
    model, card = new_parser(s.parser, train.label_space, s.train.size)
    files = TrainingFiles(tmp_path, 1, new_accelerator(torch.device("cpu"), s.train.precision))
    return ParserTrainer(model, card, s, train, val, files, lambda _: None)


@pytest.mark.parametrize(("accumulate", "expected"), [(1, 5 + 3), (2, 3 + 2), (8, 1 + 1)])
def test_optimisation_steps_are_counted_by_groups_of_batches(accumulate, expected):
    there = SimpleNamespace(
        steps=5,
        progress=SimpleNamespace(epoch=1, step=3),
        settings=SimpleNamespace(train=SimpleNamespace(accumulate=accumulate)),
    )
    assert ParserTrainer.steps_done.fget(there) == expected


@pytest.mark.slow
def test_layout_and_compilation_are_what_was_asked_for(tmp_path):
    plain, other = trainer(tmp_path), trainer(tmp_path, "train.channels_last=false", "train.compile=true")
    kernel = "global_feature_extractor.bottleneck1.0.conv.0.weight"
    assert plain.model.state_dict()[kernel].is_contiguous(memory_format=torch.channels_last)
    photos = torch.zeros(2, 3, 64, 64, dtype=torch.uint8)
    assert plain._prepared(photos).is_contiguous(memory_format=torch.channels_last)
    assert other._prepared(photos).is_contiguous()
    assert isinstance(other.net, torch._dynamo.OptimizedModule)
    assert not isinstance(plain.net, torch._dynamo.OptimizedModule)


def test_deterministic_mode_lasts_as_long_as_the_training(tmp_path, monkeypatch):
    seen, original = [], ParserTrainer._epoch

    def watching(self):
        seen.append(torch.are_deterministic_algorithms_enabled())
        original(self)

    monkeypatch.setattr(ParserTrainer, "_epoch", watching)
    assert tasks.start(settings("train.deterministic=true", "train.epochs=1"), tmp_path) == 0
    assert seen == [True]
    assert not torch.are_deterministic_algorithms_enabled()


def test_activations_computed_again_give_the_same_gradient_for_less_memory(tmp_path):
    def kept_bytes(switch: str) -> tuple[int, bytes]:
        made = trainer(tmp_path / switch, "parser=segformer_lite", f"train.gradient_checkpointing={switch}")
        torch.manual_seed(0)
        for p in made.model.parameters():
            torch.nn.init.normal_(p, std=0.02)
        sizes = []

        def pack(t: torch.Tensor) -> torch.Tensor:
            sizes.append(t.nbytes)
            return t

        x = torch.linspace(-1, 1, 2 * 3 * 64 * 64).view(2, 3, 64, 64)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            loss = made.net(x).square().mean()
        loss.backward()
        return sum(sizes), torch.cat([p.grad.flatten() for p in made.model.parameters()])

    (plenty, gradient), (few, again) = kept_bytes("false"), kept_bytes("true")
    assert few < 0.7 * plenty
    torch.testing.assert_close(again, gradient)


def test_batch_norms_must_not_count_a_batch_twice(tmp_path):
    with pytest.raises(UserError, match=r"train.gradient_checkpointing: 'fastscnn_lite' cannot do it"):
        tasks.start(settings("train.gradient_checkpointing=true"), tmp_path)


def test_half_precision_scales_the_loss(tmp_path):
    step = trainer(tmp_path, "train.precision=float16").step
    assert step.scaler.is_enabled()
    assert not trainer(tmp_path).step.scaler.is_enabled()


@pytest.mark.slow
def test_earlier_epochs_are_kept_and_the_best_is_chosen_as_asked(tmp_path):
    chosen = ("train.keep_last=2", "train.epochs=3", "train.best_by=loss", "train.validate_every=2")
    assert tasks.start(settings(*chosen), tmp_path) == 0
    assert {f.name for f in (tmp_path / "checkpoints").iterdir()} == {"last", "best", "epoch_0002", "epoch_0003"}
    assert weights(tmp_path, "epoch_0003") == weights(tmp_path, "last")
    history = pd.read_csv(tmp_path / "history.csv").set_index("epoch")
    assert history["val_loss"].notna().tolist() == [False, True, True]
    _, card = load_parser(tmp_path / "checkpoints" / "best")
    assert card.training["best_epoch"] == history["val_loss"].idxmin()
    assert card.training["best_loss"] == pytest.approx(history["val_loss"].min())


def test_no_best_by_what_the_validation_part_cannot_show(tmp_path):
    with pytest.raises(UserError, match=r"train\.best_by=long_tail: no validation photo has one of eye_g, hat, "):
        tasks.start(settings("train.best_by=long_tail", *TINY, "train.epochs=1"), tmp_path)


def test_class_that_no_training_photo_shows(tmp_path):
    """Weights stay finite, the class takes part in nothing, and its cells are empty unless it is predicted."""
    words = ["loss=cross_entropy_lovasz", "loss.class_weights=effective_number", "train.sampling=repeat_factor"]
    words += ["train.paste_accessories=0.5", "parser=unet_lite", "train.epochs=1", *TINY]
    made = trainer(tmp_path / "trainer", *words)
    absent = ~made.view.presence.any(0)
    assert absent.any()
    assert torch.isfinite(made._class_weights("digest")).all()
    assert tasks.start(settings(*words), tmp_path / "run") == 0
    state = read_pickle_safely(tmp_path / "run/checkpoints/last/state.pt")
    confusion = np.array(state["progress"]["best_confusion"])
    nowhere = confusion.sum(0) + confusion.sum(1) == 0
    assert (absent & nowhere).any()
    rows = pd.read_csv(tmp_path / "run/summary.csv").iloc[:19]
    for column in ("iou", "f1", "precision", "recall"):
        assert rows[column].isna().tolist() == nowhere.tolist()
    assert pd.read_csv(tmp_path / "run/history.csv")[["train_loss", "val_loss"]].notna().all().all()


@pytest.mark.slow
def test_stops_early_when_nothing_gets_better(tmp_path):
    frozen = ("optim.encoder_lr=1e-30", "optim.decoder_lr=1e-30", "parser=unet_lite")
    stopping = ("train.early_stopping=2", "train.epochs=9", "optim.weight_decay=0.0", "data.size=32", "train.size=32")
    assert tasks.start(settings(*frozen, *stopping), tmp_path) == 0
    assert len(pd.read_csv(tmp_path / "history.csv")) == 3
    assert json.loads((tmp_path / "run.json").read_text())["status"] == "done"


def test_test_part_is_opened_once_and_after_training(tmp_path, monkeypatch):
    opened, drawn, original = [], [], training.open_data
    monkeypatch.setattr(training, "draw_scores", lambda folder, *_: drawn.append(folder))

    def watching(data, split=None, **rest):
        opened.append((split, (tmp_path / "checkpoints" / "best").exists()))
        return original(data, split, **rest)

    monkeypatch.setattr(training, "open_data", watching)
    part = ("data.split_rule.val=[0]", "data.split_rule.test=[1]", "train.test=true")
    assert tasks.start(settings(*part), tmp_path) == 0
    assert opened == [("train", False), ("val", False), ("test", True)]
    assert drawn == [tmp_path / "test"]
    tested = pd.read_csv(tmp_path / "test" / "summary.csv").set_index("class")
    facts = json.loads((tmp_path / "run.json").read_text())["test"]
    assert facts["n"] == 6
    assert facts["opened"] == "once, after training"
    assert tested.loc["miou", "iou"] != pd.read_csv(tmp_path / "summary.csv").set_index("class").loc["miou", "iou"]


REPORT = ("optim=adam_then_sgd", "train.best_by=loss", "optim.patience=1", "parser=unet_lite", "train.epochs=5", *TINY)


@pytest.mark.slow
def test_adam_gives_way_to_sgd_and_starts_from_the_best(tmp_path, monkeypatch):
    """With rates that ruin the weights nothing gets better, so every phase lasts one epoch and ends where it began."""
    ruinous = ("optim.adam_lr=1e-30", "optim.adam_eta_min=1e-30", "optim.sgd_lr=0.4", "optim.min_sgd_lr=0.1")
    assert tasks.start(settings(*REPORT, *ruinous), tmp_path / "whole") == 0
    history = pd.read_csv(tmp_path / "whole" / "history.csv")
    phases = list(dict.fromkeys(history["phase"]))
    assert phases[:2] == ["adam", "sgd 0.4"]
    rates = history.groupby("phase", sort=False)["lr"].first()
    assert rates["sgd 0.4"] == pytest.approx(0.4)
    best = history["val_loss"].idxmin()
    assert json.loads((tmp_path / "whole" / "run.json").read_text())["best_epoch"] == history.loc[best, "epoch"]
    assert weights(tmp_path / "whole", "last") == weights(tmp_path / "whole", "best")
    stop_after(10, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        tasks.start(settings(*REPORT, *ruinous), tmp_path / "stopped")
    monkeypatch.undo()
    assert tasks.start(settings(*REPORT, *ruinous), tmp_path / "stopped") == 0
    assert weights(tmp_path / "stopped") == weights(tmp_path / "whole")
    assert (tmp_path / "stopped/history.csv").read_bytes() == (tmp_path / "whole/history.csv").read_bytes()


def test_report_pipeline_needs_its_judge():
    with pytest.raises(UserError, match=r"set train\.best_by=loss train\.early_stopping=null train\.validate_every=1"):
        settings("optim=adam_then_sgd")

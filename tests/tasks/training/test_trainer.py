"""The course that every training shares, on a regression whose steps are known by hand."""

import contextlib
from dataclasses import dataclass
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from torch import nn

from semfacediff.errors import UserError
from semfacediff.parsing.checkpoint import write_weights
from semfacediff.tasks.training import trainer as trainer_module
from semfacediff.tasks.training.files import TrainingFiles
from semfacediff.tasks.training.step import new_accelerator
from semfacediff.tasks.training.step_log import StepLog
from semfacediff.tasks.training.trainer import Trainer
from semfacediff.weight_files import read_pickle_safely

LR = 0.25


@dataclass
class Progress:
    step: int = 0


class Regression(Trainer[Progress, float]):
    """Fits w of w * x to 0 by SGD with momentum: the loss of a batch x is (w x)^2 / 2, its gradient w x^2."""

    rates, memory, photos = "lr", "size=1; lower it", 3

    def __init__(self, folder, ema_decay=None, clip=None, log_every=0):
        model = nn.Linear(1, 1, bias=False)
        nn.init.ones_(model.weight)
        settings = SimpleNamespace(ema_decay=ema_decay, precision="float32", gradient_clip_norm=clip)
        files = TrainingFiles(folder, 1, new_accelerator(torch.device("cpu")), log_every)
        super().__init__(model, {"w": model}, settings, Progress(), files)

    def new_optimiser(self):
        return torch.optim.SGD(self.model.parameters(), LR, momentum=0.5)

    def add_gradient(self, batch, k):
        return self.step.add(self.net(torch.tensor([[batch]])).square().sum() / 2).item()

    def place(self, k):
        return f"step {self.progress.step + k + 1}"

    def sample_ids(self, k):
        return [f"sample {k}"]

    def write(self, folder):
        write_weights(folder, self.model.state_dict())

    def own_state(self):
        return {"averages": {name: average.state() for name, average in self.averages.items()}}

    def restore(self, state):
        for name, average in self.averages.items():
            average.restore(state["averages"][name])

    @property
    def steps_done(self):
        return self.progress.step

    @property
    def w(self):
        return self.model.weight.item()

    def trained(self, *batches):
        losses = self.take_step(iter(batches), len(batches))
        self.progress.step += len(batches)
        return losses


def test_a_step_follows_the_mean_gradient_of_its_batches(tmp_path):
    trainer = Regression(tmp_path, ema_decay=0.9)
    assert trainer.trained(1.0, 2.0) == [0.5, 2.0]
    assert trainer.w == pytest.approx(1 - LR * (1 + 4) / 2)
    # The decay after no update is (1 + 0) / (10 + 0).
    assert trainer.averages["w"].model.weight.item() == pytest.approx(0.1 + 0.9 * trainer.w)


def test_processes_average_their_gradients_with_the_last_batch_alone(tmp_path, monkeypatch):
    trainer, events, add = Regression(tmp_path), [], Regression.add_gradient

    def no_sync(net):
        events.append("alone")
        return contextlib.nullcontext()

    def adding(self, *batch):
        events.append("batch")
        return add(self, *batch)

    monkeypatch.setattr(trainer.accelerator, "no_sync", no_sync)
    monkeypatch.setattr(Regression, "add_gradient", adding)
    trainer.trained(1.0, 1.0, 1.0)
    assert events == ["alone", "batch", "alone", "batch", "batch"]


def test_clipping_bounds_the_mean_gradient(tmp_path):
    trainer = Regression(tmp_path, clip=0.5)
    trainer.trained(1.0, 2.0)
    assert trainer.w == pytest.approx(1 - LR * 0.5, rel=1e-5)


def test_continued_from_a_checkpoint_it_goes_on_as_if_never_stopped(tmp_path, capsys):
    whole = Regression(tmp_path / "whole", ema_decay=0.9)
    stopped = Regression(tmp_path / "stopped", ema_decay=0.9)
    for trainer in (whole, stopped):
        trainer.trained(1.0)
        trainer.trained(0.5, 1.5)
    stopped.save_last()
    stopped.trained(2.0)  # lost with the process
    continued = Regression(tmp_path / "stopped", ema_decay=0.9)
    assert capsys.readouterr().err == "continuing at step 4\n"
    assert continued.progress == whole.progress == Progress(3)
    for trainer in (whole, continued):
        trainer.trained(0.75)
    assert continued.w == whole.w
    assert torch.equal(continued.averages["w"].model.weight, whole.averages["w"].model.weight)
    state = read_pickle_safely(tmp_path / "stopped/checkpoints/last/state.pt")
    assert list(state) == ["optimiser", "scaler", "averages", "progress"]


def test_steps_are_logged_and_those_after_the_checkpoint_come_again(tmp_path, monkeypatch):
    clock = iter(range(1000))  # a second between any two looks: a step takes one
    monkeypatch.setattr(trainer_module.time, "perf_counter", lambda: next(clock))
    for name in ("whole", "stopped"):
        (tmp_path / name).mkdir()
    whole, stopped = (Regression(tmp_path / name, log_every=2) for name in ("whole", "stopped"))
    for batch in (1.0, 2.0, 0.5):
        whole.trained(batch)
        stopped.trained(batch)
    stopped.save_last()
    stopped.trained(7.0)  # lost with the process
    assert list(pd.read_csv(tmp_path / "stopped/steps.csv")["step"]) == [2, 4]
    with open(tmp_path / "stopped/steps.csv", "a") as f:
        f.write("6,0.")  # as a kill leaves it
    continued = Regression(tmp_path / "stopped", log_every=2)
    for trainer in (whole, continued):
        trainer.trained(1.0)
    rows, same = (pd.read_csv(tmp_path / name / "steps.csv") for name in ("whole", "stopped"))
    assert list(rows) == ["step", "loss", "lr", "gradient_norm", "memory_mib", "photos_per_s"]
    # w is 1, then 1 - LR: the second loss is (w x)^2 / 2, its gradient w x^2
    assert rows.iloc[0].tolist()[:4] == [2, pytest.approx(2 * 0.75**2), LR, pytest.approx(4 * 0.75)]
    assert rows.iloc[0]["photos_per_s"] == 3
    assert rows.iloc[0]["memory_mib"] > 10
    pd.testing.assert_frame_equal(rows.drop(columns="memory_mib"), same.drop(columns="memory_mib"))
    (tmp_path / "stopped/steps.csv").unlink()
    Regression(tmp_path / "stopped", log_every=0).trained(1.0)
    assert not (tmp_path / "stopped/steps.csv").exists()


def test_a_log_that_cannot_be_written_costs_no_training(tmp_path):
    (tmp_path / "steps.csv").mkdir(parents=True)
    log = StepLog(tmp_path / "steps.csv", 1)
    log.note(1, 3, 1.0, lambda: {"loss": 0.5})
    assert list((tmp_path / "steps.csv").iterdir()) == []


def test_a_training_that_starts_over_forgets_its_steps(tmp_path):
    (tmp_path / "steps.csv").write_text("step,loss\n10,0.5\n")
    Regression(tmp_path, log_every=5)
    assert not (tmp_path / "steps.csv").exists()


@pytest.mark.parametrize(
    ("batches", "said"),
    [
        (
            (1.0, float("nan"), 1.0),
            r"the loss became nan in step 2, on samples sample 1 \(no checkpoint yet\); lower",
        ),
        ((1.0, 1e15), r"the gradient became infinite in step 2, on samples sample 0, sample 1 \(no"),
    ],
)
def test_what_is_not_finite_is_refused_by_its_samples(tmp_path, batches, said):
    trainer = Regression(tmp_path)
    if said.startswith("the gradient"):
        trainer.net.weight.register_hook(lambda g: g * 1e15)
    with pytest.raises(UserError, match=said):
        trainer.trained(*batches)
    assert trainer.w == 1.0


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("can't allocate memory: 9 bytes")])
def test_a_failed_allocation_says_what_to_lower(tmp_path, error):
    said = r"^out of memory on cpu in step 1 with size=1; lower it$"
    with pytest.raises(UserError, match=said) as e, Regression(tmp_path).machine_errors():
        raise error
    assert e.value.__cause__ is error


def test_other_errors_stay_what_they_are(tmp_path):
    with pytest.raises(RuntimeError, match=r"^a defect$"), Regression(tmp_path).machine_errors():
        raise RuntimeError("a defect")

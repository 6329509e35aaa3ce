"""What every training does: gradient steps, moving average, checkpoints, continuation, and failures in a sentence."""

import abc
import contextlib
import math
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Generic, NoReturn, TypeVar, cast

import torch
from pydantic import TypeAdapter
from torch import nn

from semfacediff import config
from semfacediff.engine.peak_memory import peak_memory_mib
from semfacediff.errors import UserError
from semfacediff.tasks.training.averaging import MovingAverage
from semfacediff.tasks.training.checks import out_of_memory
from semfacediff.tasks.training.files import TrainingFiles
from semfacediff.tasks.training.step import GradientStep

P = TypeVar("P")
B = TypeVar("B")


class Trainer(abc.ABC, Generic[P, B]):
    """Trains ``model``; a subclass says on which batches and loss, what is kept, when to validate and when to end.

    Every random draw comes from (seed, epoch, step or sample), none from a running state. A training that is stopped at
    any step and continued from the last checkpoint ends with the same weights (bit for bit on the CPU). ``P`` is a data
    class that says where the training stands, ``B`` what is known of a batch before its loss is computed.

    Args:
        model: on its device.
        averaged: the parts of ``model`` that the moving average covers, by name.
        settings: of the steps. compiled: whether to compile the model.
        progress: of a training that begins.
        files: a checkpoint ``last`` found there is continued.

    Attributes:
        net: ``model`` as it is called during training: wrapped, compiled.
        rates, memory: how a user lowers the learning rates and the memory needed, for messages.
        photos: in a batch, over all processes.

    Raises:
        UserError: the checkpoint found is damaged or of another training.
    """

    rates: str
    memory: str
    photos: int

    def __init__(
        self,
        model: nn.Module,
        averaged: Mapping[str, nn.Module],
        settings: config.TrainConfig | config.StepsConfig,
        progress: P,
        files: TrainingFiles,
        compiled: bool = False,
    ):
        self.model, self.averaged, self.progress, self.files = model, averaged, progress, files
        self.accelerator = files.accelerator
        decay = settings.ema_decay
        self.averages = {name: MovingAverage(part, decay) for name, part in averaged.items()} if decay else {}
        self.net: nn.Module = self.accelerator.prepare(model)
        for name in (
            "forward",
            "_original_forward",
        ):  # accelerate's casts; ours are a context, which no copy takes along
            model.__dict__.pop(name, None)
        if compiled:
            self.net = cast(nn.Module, torch.compile(self.net))
        self.step = GradientStep(self.accelerator, self.net, settings.gradient_clip_norm)
        state = files.found()
        if state is None:
            self.optimiser = self.new_optimiser()
        else:
            with files.continuing(lambda: self.optimiser):
                self._continue_from(state)
        files.steps.begin(self.steps_done)

    @property
    @abc.abstractmethod
    def steps_done(self) -> int:
        """Optimisation steps since the training began."""

    @abc.abstractmethod
    def new_optimiser(self) -> torch.optim.Optimizer: ...

    @abc.abstractmethod
    def add_gradient(self, batch: B, k: int) -> float:
        """Add the gradient of the ``k``-th batch of a step (:meth:`GradientStep.add`); its loss over all processes."""

    @abc.abstractmethod
    def place(self, k: int) -> str:
        """Where the ``k``-th batch of the present step is, e.g. ``epoch 1, step 4``."""

    @abc.abstractmethod
    def sample_ids(self, k: int) -> list[str]:
        """Of the ``k``-th batch of the present step."""

    @abc.abstractmethod
    def write(self, folder: Path) -> None:
        """Write ``model`` into an empty folder, for a training to be continued."""

    @abc.abstractmethod
    def own_state(self) -> dict:
        """What ``state.pt`` holds beside optimiser, scaler and progress."""

    @abc.abstractmethod
    def restore(self, state: dict) -> None:
        """Take back what :meth:`own_state` gave; before there is an optimiser."""

    def take_step(self, batches: Iterator[B], n: int) -> list[float]:
        """Move the weights by the mean gradient of the next ``n`` batches; returns the loss of each.

        Raises:
            UserError: a loss or the gradient is not finite; the weights are as they were.
        """
        losses, began = [], time.perf_counter()
        self.accelerator.gradient_accumulation_steps, self.accelerator.step = n, 0  # the last group may be smaller
        for k in range(n):
            batch = next(batches)
            with self.accelerator.accumulate(self.net):
                losses.append(self.add_gradient(batch, k))
            if not math.isfinite(losses[-1]):
                self._refuse(f"the loss became {losses[-1]}", range(k, k + 1))
        if not self.step.update(self.optimiser):
            self._refuse("the gradient became infinite", range(n))
        for name, average in self.averages.items():
            average.update(self.averaged[name])
        self.files.steps.note(
            *(self.steps_done + 1, n * self.photos, time.perf_counter() - began), lambda: self._measured(losses)
        )
        return losses

    def _measured(self, losses: list[float]) -> dict[str, float]:
        """Of the step just done."""
        groups = self.optimiser.param_groups
        rates = {f"lr_{g['part']}" if "part" in g else "lr": g["lr"] for g in groups}
        memory = peak_memory_mib(self.accelerator.device)
        return {"loss": sum(losses) / len(losses), **rates, "gradient_norm": self.step.norm, "memory_mib": memory}

    def _refuse(self, what: str, batches: range) -> NoReturn:
        """``batches`` of the present step: those that may be to blame."""
        ids = ", ".join(i for k in batches for i in self.sample_ids(k))
        kept = f"checkpoints of {self.files.folder.name} are from before" if self.files.any else "no checkpoint yet"
        raise UserError(
            f"{what} in {self.place(batches[-1])}, on samples {ids} ({kept}); lower {self.rates}, or look at "
            f"these samples"
        )

    @contextlib.contextmanager
    def machine_errors(self) -> Iterator[None]:
        """Around the training: turns a failed allocation into a sentence."""
        try:
            yield
        except (RuntimeError, MemoryError) as e:
            if not out_of_memory(e):
                raise
            raise UserError(f"out of memory on {self.accelerator.device} in {self.place(0)} with {self.memory}") from e

    def save_last(self) -> None:
        """Write ``last``, from which a training continues."""
        state = {
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.step.scaler.state_dict(),
            **self.own_state(),
            "progress": vars(self.progress),
        }
        self.files.write("last", self.write, state)

    def _continue_from(self, state: dict) -> None:
        self.model.load_state_dict(state["weights"])
        self.progress = TypeAdapter(type(self.progress)).validate_python(state["progress"])
        self.restore(state)
        self.step.scaler.load_state_dict(state["scaler"])
        self.optimiser = self.new_optimiser()
        self.optimiser.load_state_dict(state["optimiser"])
        print(f"continuing at {self.place(0)}", file=sys.stderr)

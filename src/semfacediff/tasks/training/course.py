"""The course of a training: which optimiser is at work, at which rate, and when the training ends."""

from typing import Protocol

import torch
from torch import nn

from semfacediff import config
from semfacediff.tasks.training.optimisers import adamw
from semfacediff.tasks.training.plateau import AdamThenSGD, Decision
from semfacediff.tasks.training.schedules import rate_factor


class Course(Protocol):
    """Its state is a plain dictionary, so that a training continues in the middle of it."""

    @property
    def phase(self) -> str:
        """Name of the present phase, e.g. ``adamw`` or ``sgd 0.02``."""

    def optimiser(self, model: nn.Module) -> torch.optim.Optimizer:
        """A fresh one for the present phase."""

    def set_rates(self, optimiser: torch.optim.Optimizer, step: int) -> None:
        """Put the learning rates of 0-based global ``step`` into ``optimiser``."""

    def observe(self, loss: float, is_best: bool) -> Decision:
        """Take the outcome of a validation; ``is_best``: by the measure that chooses the best checkpoint."""

    def state(self) -> dict: ...

    def restore(self, state: dict) -> None: ...


class FixedPlan(Course):
    """AdamW along a schedule; ends early if ``patience`` validations bring nothing better."""

    phase = "adamw"

    def __init__(self, settings: config.AdamWConfig, epochs: int, steps_per_epoch: int, patience: int | None):
        self.settings, self.epochs, self.steps_per_epoch = settings, epochs, steps_per_epoch
        self.patience, self.stalled = patience, 0

    def optimiser(self, model: nn.Module) -> torch.optim.Optimizer:
        return adamw(model, self.settings)

    def set_rates(self, optimiser: torch.optim.Optimizer, step: int) -> None:
        factor = rate_factor(step, self.steps_per_epoch, self.epochs, self.settings)
        for group in optimiser.param_groups:
            group["lr"] = group["base_lr"] * factor

    def observe(self, loss: float, is_best: bool) -> Decision:
        self.stalled = 0 if is_best else self.stalled + 1
        return Decision(stop=self.patience is not None and self.stalled >= self.patience)

    def state(self) -> dict:
        return {"stalled": self.stalled}

    def restore(self, state: dict) -> None:
        self.stalled = state["stalled"]


class PlateauPlan(Course):
    """:class:`AdamThenSGD` with its optimisers; rates change from epoch to epoch."""

    def __init__(self, settings: config.AdamThenSGDConfig, epochs: int):
        self._pipeline = AdamThenSGD(settings, epochs)

    @property
    def phase(self) -> str:
        phase = self._pipeline.phase
        return phase.optimiser if phase.optimiser == "adam" else f"sgd {phase.lr:g}"

    def optimiser(self, model: nn.Module) -> torch.optim.Optimizer:
        phase = self._pipeline.phase
        if phase.optimiser == "adam":
            return torch.optim.Adam(model.parameters(), lr=phase.lr, weight_decay=phase.weight_decay)
        momentum, decay = phase.momentum, phase.weight_decay
        return torch.optim.SGD(model.parameters(), lr=phase.lr, momentum=momentum, weight_decay=decay)

    def set_rates(self, optimiser: torch.optim.Optimizer, step: int) -> None:
        for group in optimiser.param_groups:
            group["lr"] = self._pipeline.learning_rate

    def observe(self, loss: float, is_best: bool) -> Decision:
        return self._pipeline.observe(loss)

    def state(self) -> dict:
        return self._pipeline.state()

    def restore(self, state: dict) -> None:
        self._pipeline = AdamThenSGD(self._pipeline.settings, self._pipeline.max_epochs, state)


def new_course(settings: config.ParserTraining, steps_per_epoch: int) -> Course:
    """The optimiser, its rates and the end of a training, as ``optim=`` and ``train=`` say."""
    optim, train = settings.optim, settings.train
    if isinstance(optim, config.AdamThenSGDConfig):
        return PlateauPlan(optim, train.epochs)
    return FixedPlan(optim, train.epochs, steps_per_epoch, train.early_stopping)

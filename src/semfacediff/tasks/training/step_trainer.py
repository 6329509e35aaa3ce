"""A training counted in optimisation steps: one process or several, stopped and continued at any step alike.

What is trained and on what loss is an :class:`Objective`; the loop knows nothing of faces.
"""

import contextlib
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from accelerate import Accelerator
from pydantic import TypeAdapter
from torch import Tensor, nn
from tqdm import tqdm

from semfacediff import config
from semfacediff.data.sampling import epoch_batches, steps_per_epoch
from semfacediff.engine.processes import joined
from semfacediff.errors import UserError
from semfacediff.tasks.training.averaging import MovingAverage
from semfacediff.tasks.training.checks import out_of_memory
from semfacediff.tasks.training.files import TrainingFiles
from semfacediff.tasks.training.step import GradientStep


@dataclass
class StepProgress:
    """Where a training stands; saved with the optimiser in ``state.pt``.

    Attributes:
        step: optimisation steps done.
        loss_sum, loss_steps: of the steps since the last row of ``history``.
        history: one row a validation.
        best_step, best_loss: of the lowest validation loss; 0 and inf before any.
    """

    step: int = 0
    loss_sum: float = 0.0
    loss_steps: int = 0
    history: list[dict] = field(default_factory=list)
    best_step: int = 0
    best_loss: float = math.inf


class Objective(Protocol):
    """What is trained.

    Attributes:
        net: the trained module; called through the wrapped form that :meth:`losses` is given.
        averaged: names of children of ``net`` that the moving average covers; the others are taken as they are.
        ids: of the training samples.
        named: what the sizes of the model and of the training are called in the configuration, for messages.
    """

    net: nn.Module
    averaged: Sequence[str]
    ids: Sequence[str]
    named: str

    def losses(self, net: nn.Module, samples: Sequence[int], epoch: int, step: int) -> Tensor:
        """float32 ``[n]``: loss of each of ``samples``, with a gradient; draws depend on (seed, epoch, id) alone."""
        ...

    def before(self, step: int, samples: Sequence[int]) -> None:
        """What is done between steps, e.g. to a codebook. ``samples``: all of the coming batch; the same everywhere."""

    def validated(self, samples: Sequence[int]) -> Tensor:
        """float32 ``[n]``: validation loss of these validation samples under ``net`` as it is."""
        ...

    @property
    def n_val(self) -> int: ...

    def sampled(self, step: int) -> None:
        """Draw what ``net`` makes, as it is."""

    def save(self, folder: Path, state: dict | None, facts: dict) -> None:
        """Write ``net`` as it is as a checkpoint folder, with ``state`` in ``state.pt``."""
        ...


def _own_draws(device: torch.device) -> contextlib.AbstractContextManager:
    """Random numbers drawn within leave those drawn later as they are."""
    if device.type == "cpu":
        return torch.random.fork_rng(devices=[])
    return torch.random.fork_rng(devices=[device], device_type=device.type)


class StepTraining:
    """Trains an objective.

    Args:
        settings: of the steps. seed: of the run.
        folder: where ``checkpoints/`` goes; a ``last`` found there is continued.
        on_row: called after each validation with the progress.

    Raises:
        UserError: what can be known to fail before the first step.
    """

    def __init__(
        self,
        objective: Objective,
        settings: config.StepsConfig,
        seed: int,
        folder: Path,
        accelerator: Accelerator,
        on_row: Callable[[StepProgress], None],
    ):
        self.objective, self.settings, self.seed, self.accelerator = objective, settings, seed, accelerator
        self.on_row, self.progress = on_row, StepProgress()
        self.files = TrainingFiles(folder, 1, accelerator)
        n, world = len(objective.ids), accelerator.num_processes
        self.batch = min(n, settings.batch_size)
        if self.batch < world:
            raise UserError(f"batch_size: {self.batch} photos cannot be shared by {world} processes; raise it")
        self.batches = steps_per_epoch(n, settings.batch_size)
        parts = {name: getattr(objective.net, name) for name in objective.averaged}
        self.averages = (
            {k: MovingAverage(m, settings.ema_decay) for k, m in parts.items()} if settings.ema_decay else {}
        )
        self.net = accelerator.prepare(objective.net)
        self.step = GradientStep(self.net, settings.precision, settings.gradient_clip_norm)
        weights = [p for p in objective.net.parameters() if p.requires_grad]
        self.optimiser = torch.optim.AdamW(weights, lr=settings.lr, weight_decay=settings.weight_decay)
        self._order: tuple[int, list[list[int]]] = (-1, [])
        if (state := self.files.found()) is not None:
            with self.files.continuing(lambda: self.optimiser):
                self._continue_from(state)

    def run(self) -> StepProgress:
        """Train to the last step; returns the progress with its history."""
        p, s, a = self.progress, self.settings, self.accelerator
        self.objective.net.train()
        if p.step:
            self._publish()  # a kill may have come between the last checkpoint and what follows it
        with (
            self._machine_errors(),
            tqdm(total=s.steps, initial=p.step, desc="train", unit="step", disable=not a.is_main_process) as bar,
        ):
            while p.step < s.steps:
                p.loss_sum += self._one_step()
                p.loss_steps += 1
                p.step += 1
                bar.update()
                bar.set_postfix(loss=f"{p.loss_sum / p.loss_steps:.4f}", refresh=False)
                self._between()
        return p

    def _due(self, every: int) -> bool:
        """Whether something is due after the step just done: every so many steps (0: never), and after the last."""
        return bool(every) and (self.progress.step % every == 0 or self.progress.step == self.settings.steps)

    def _between(self) -> None:
        """What is due after a step: validation, the checkpoint to continue from, then what is made from it."""
        if self._due(self.settings.validate_every_steps):
            self._validate()
        if self._due(self.settings.checkpoint_every_steps):
            self._save_last()
        self._publish()

    def _publish(self) -> None:
        """Averaged weights, the history and pictures of the step just done; done again, they are the same."""
        p, s = self.progress, self.settings
        if self._due(s.checkpoint_every_steps):
            with self._averaged():
                self.files.write("average", lambda place: self.objective.save(place, None, self._facts()))
        if p.history and self._due(s.validate_every_steps):
            self.on_row(p)
        if self._due(s.sample_every_steps) and self.accelerator.is_main_process:
            with self._averaged(), _own_draws(self.accelerator.device):
                self.objective.sampled(p.step)

    def _samples(self, batch: int) -> tuple[int, list[int]]:
        """(epoch, sample indices) of the ``batch``-th batch since the start."""
        epoch, place = divmod(batch, self.batches)
        if self._order[0] != epoch:
            self._order = (epoch, epoch_batches(len(self.objective.ids), self.settings.batch_size, self.seed, epoch))
        return epoch, self._order[1][place]

    def _one_step(self) -> float:
        """Gradients of the step's batches, then the update; returns the mean loss."""
        p, s, a = self.progress, self.settings, self.accelerator
        self._set_rate(p.step)
        first = p.step * s.accumulate
        with torch.no_grad():
            self.objective.before(p.step, self._samples(first)[1])
        total = 0.0
        for batch in range(first, first + s.accumulate):
            epoch, samples = self._samples(batch)
            mine = samples[a.process_index :: a.num_processes]
            whole = batch == first + s.accumulate - 1
            with contextlib.nullcontext() if whole else a.no_sync(self.net):
                with self.step.autocast():
                    losses = self.objective.losses(self.net, mine, epoch, p.step)
                # Processes average their gradients, and may have unequal shares of the batch.
                share = losses.sum() * (a.num_processes / len(samples))
                loss = a.reduce(self.step.add(share, 1 / s.accumulate), "mean").item()
            if not math.isfinite(loss):
                self._refuse(f"the loss became {loss}", samples)
            total += loss / s.accumulate
        if not self.step.update(self.optimiser):
            batches = range(first, first + s.accumulate)
            self._refuse("the gradient became infinite", [i for b in batches for i in self._samples(b)[1]])
        for name, average in self.averages.items():
            average.update(getattr(self.objective.net, name))
        return total

    def _set_rate(self, step: int) -> None:
        warmup = self.settings.warmup_steps
        for group in self.optimiser.param_groups:
            group["lr"] = self.settings.lr * min(1.0, (step + 1) / warmup if warmup else 1.0)

    def _refuse(self, what: str, samples: Sequence[int]) -> None:
        ids = ", ".join(self.objective.ids[i] for i in samples)
        kept = f"checkpoints of {self.files.folder.name} are from before" if self.files.any else "no checkpoint yet"
        raise UserError(
            f"{what} in step {self.progress.step + 1}, on samples {ids} ({kept}); lower {self.objective.named}.lr, set "
            f"{self.objective.named}.gradient_clip_norm=1, or look at these samples"
        )

    @contextlib.contextmanager
    def _machine_errors(self) -> Iterator[None]:
        try:
            yield
        except (RuntimeError, MemoryError) as e:
            if not out_of_memory(e):
                raise
            s, named = self.settings, self.objective.named
            raise UserError(
                f"out of memory on {self.accelerator.device} in step {self.progress.step + 1} with "
                f"{named}.batch_size={s.batch_size}; lower it ({named}.accumulate keeps the photos a step), or set "
                f"{named}.precision=bfloat16"
            ) from e

    @contextlib.contextmanager
    def _averaged(self) -> Iterator[None]:
        """``objective.net`` with its averaged weights, in eval mode, for the time of the block."""
        net = self.objective.net
        kept = {name: {k: v.clone() for k, v in getattr(net, name).state_dict().items()} for name in self.averages}
        try:
            for name, average in self.averages.items():
                getattr(net, name).load_state_dict(average.model.state_dict())
            net.eval()
            yield
        finally:
            for name, state in kept.items():
                getattr(net, name).load_state_dict(state)
            net.train()

    def _validate(self) -> None:
        p, a, n = self.progress, self.accelerator, self.objective.n_val
        mine = list(range(a.process_index, n, a.num_processes))
        with self._averaged(), torch.inference_mode(), self.step.autocast():
            losses = self.objective.validated(mine).tolist() if mine else []
        val = float(joined(n, mine, losses).mean())  # one number a photo: the same sum however shared
        row = {"step": p.step, "train_loss": p.loss_sum / p.loss_steps, "lr": self.optimiser.param_groups[0]["lr"]}
        p.history.append(row | {"val_loss": val})
        p.loss_sum, p.loss_steps = 0.0, 0
        if not math.isfinite(val):
            raise UserError(f"the validation loss became {val} after step {p.step}; lower {self.objective.named}.lr")
        if val < p.best_loss:
            p.best_step, p.best_loss = p.step, val

    def _facts(self) -> dict:
        p = self.progress
        return {"run": self.files.folder.name, "steps": p.step, "seed": self.seed, "best_step": p.best_step}

    def _save_last(self) -> None:
        """``last``, from which a training continues; ``average``, which is for use, follows from it."""
        state = {
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.step.scaler.state_dict(),
            "averages": {name: average.state() for name, average in self.averages.items()},
            "progress": vars(self.progress),
        }
        self.files.write("last", lambda place: self.objective.save(place, state, self._facts()))

    def _continue_from(self, state: dict) -> None:
        own = self.objective.net.state_dict()
        self.objective.net.load_state_dict({k: state["weights"][k] for k in own})
        self.progress = TypeAdapter(StepProgress).validate_python(state["progress"])
        self.step.scaler.load_state_dict(state["scaler"])
        self.optimiser.load_state_dict(state["optimiser"])
        for name, average in self.averages.items():
            average.restore(state["averages"][name])
        print(f"continuing at step {self.progress.step + 1}", file=sys.stderr)

"""The training of a stage of SCA-DM, counted in steps: validated, kept and drawn from every so many of them."""

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from tqdm import tqdm

from semfacediff import config
from semfacediff.data.sampling import epoch_batches, steps_per_epoch
from semfacediff.engine.processes import joined
from semfacediff.errors import UserError
from semfacediff.tasks.training.files import TrainingFiles
from semfacediff.tasks.training.synthesis_objectives import Objective
from semfacediff.tasks.training.trainer import Trainer

Batch = tuple[int, list[int]]
"""Epoch and sample indices."""


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


def _own_draws(device: torch.device) -> contextlib.AbstractContextManager:
    """Random numbers drawn within leave those drawn later as they are."""
    if device.type == "cpu":
        return torch.random.fork_rng(devices=[])
    return torch.random.fork_rng(devices=[device], device_type=device.type)


class SynthesisTrainer(Trainer[StepProgress, Batch]):
    """Trains an objective.

    Args:
        settings: of the steps. seed: of the run.
        on_row: called after each validation with the progress.

    Raises:
        UserError: what can be known to fail before the first step.
    """

    def __init__(
        self,
        objective: Objective,
        settings: config.StepsConfig,
        seed: int,
        files: TrainingFiles,
        on_row: Callable[[StepProgress], None],
    ):
        self.objective, self.settings, self.seed, self.on_row = objective, settings, seed, on_row
        n, world, named = len(objective.ids), files.accelerator.num_processes, objective.named
        self.rates = f"{named}.lr, set {named}.gradient_clip_norm=1"
        self.memory = (
            f"{named}.batch_size={settings.batch_size}; lower it ({named}.accumulate keeps the photos a step), or set "
            f"{named}.precision=bfloat16"
        )
        batch = min(n, settings.batch_size)
        self.photos = batch
        if batch < world:
            raise UserError(f"batch_size: {batch} photos cannot be shared by {world} processes; raise it")
        self.batches = steps_per_epoch(n, settings.batch_size)
        self._order: tuple[int, list[list[int]]] = (-1, [])
        averaged = {name: getattr(objective.net, name) for name in objective.averaged}
        super().__init__(objective.net, averaged, settings, StepProgress(), files)

    def run(self) -> StepProgress:
        """Train to the last step; returns the progress with its history."""
        p, s, a = self.progress, self.settings, self.accelerator
        self.model.train()
        if p.step:
            self._publish()  # a kill may have come between the last checkpoint and what follows it
        with (
            self.machine_errors(),
            tqdm(
                total=s.steps, initial=p.step, desc="train", unit="step", disable=not a.is_main_process or None
            ) as bar,
        ):
            while p.step < s.steps:
                p.loss_sum += self._one_step()
                p.loss_steps += 1
                p.step += 1
                bar.update()
                bar.set_postfix(loss=f"{p.loss_sum / p.loss_steps:.4f}", refresh=False)
                self._between()
        return p

    def _one_step(self) -> float:
        """The mean loss of the step's batches."""
        p, s = self.progress, self.settings
        for group in self.optimiser.param_groups:
            group["lr"] = s.lr * min(1.0, (p.step + 1) / (s.warmup_steps or 1))
        with torch.no_grad():
            self.objective.before(p.step, self._batch(0)[1])
        mean = 0.0
        for loss in self.take_step(map(self._batch, range(s.accumulate)), s.accumulate):
            mean += loss / s.accumulate
        return mean

    def _due(self, every: int) -> bool:
        """Whether something is due after the step just done: every so many steps (0: never), and after the last."""
        return bool(every) and (self.progress.step % every == 0 or self.progress.step == self.settings.steps)

    def _between(self) -> None:
        """What is due after a step: validation, the checkpoint to continue from, then what is made from it."""
        if self._due(self.settings.validate_every_steps):
            self._validate()
        if self._due(self.settings.checkpoint_every_steps):
            self.save_last()
        self._publish()

    def _publish(self) -> None:
        """Averaged weights, the history and pictures of the step just done; done again, they are the same."""
        p, s = self.progress, self.settings
        if self._due(s.checkpoint_every_steps):
            with self._averaged_weights():
                self.files.write("average", lambda folder: self.objective.write(folder, self._facts(), for_use=True))
        if p.history and self._due(s.validate_every_steps):
            self.on_row(p)
        if self._due(s.sample_every_steps) and self.accelerator.is_main_process:
            with self._averaged_weights(), _own_draws(self.accelerator.device):
                self.objective.sampled(p.step)

    def _batch(self, k: int) -> Batch:
        """The ``k``-th batch of the present step."""
        epoch, place = divmod(self.progress.step * self.settings.accumulate + k, self.batches)
        if self._order[0] != epoch:
            self._order = (epoch, epoch_batches(len(self.objective.ids), self.settings.batch_size, self.seed, epoch))
        return epoch, self._order[1][place]

    @property
    def steps_done(self) -> int:
        return self.progress.step

    def add_gradient(self, batch: Batch, k: int) -> float:
        (epoch, samples), a = batch, self.accelerator
        with self.step.autocast():
            losses = self.objective.losses(
                self.net, samples[a.process_index :: a.num_processes], epoch, self.progress.step
            )
        # Processes average their gradients, and may have unequal shares of the batch.
        loss = losses.sum() * (a.num_processes / len(samples))
        return a.reduce(self.step.add(loss), "mean").item()

    def place(self, k: int) -> str:
        return f"step {self.progress.step + 1}"

    def sample_ids(self, k: int) -> list[str]:
        return [self.objective.ids[i] for i in self._batch(k)[1]]

    @contextlib.contextmanager
    def _averaged_weights(self) -> Iterator[None]:
        """``model`` with its averaged weights, in eval mode, for the time of the block."""
        kept = {k: {n: v.clone() for n, v in self.averaged[k].state_dict().items()} for k in self.averages}
        try:
            for name, average in self.averages.items():
                self.averaged[name].load_state_dict(average.model.state_dict())
            self.model.eval()
            yield
        finally:
            for name, state in kept.items():
                self.averaged[name].load_state_dict(state)
            self.model.train()

    def _validate(self) -> None:
        p, a, n = self.progress, self.accelerator, len(self.objective.val)
        mine = list(range(a.process_index, n, a.num_processes))
        with self._averaged_weights(), torch.inference_mode(), self.step.autocast():
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

    def write(self, folder: Path) -> None:
        self.objective.write(folder, self._facts(), for_use=False)

    def new_optimiser(self) -> torch.optim.Optimizer:
        weights = [p for p in self.model.parameters() if p.requires_grad]
        return torch.optim.AdamW(weights, lr=self.settings.lr, weight_decay=self.settings.weight_decay)

    def own_state(self) -> dict:
        return {"averages": {name: average.state() for name, average in self.averages.items()}}

    def restore(self, state: dict) -> None:
        for name, average in self.averages.items():
            average.restore(state["averages"][name])

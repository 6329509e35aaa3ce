"""The parser's training loop: one process or several, stopped and continued at any step with the same outcome."""

import itertools
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from tqdm import tqdm

from semfacediff import config
from semfacediff.data.batches import TrainingView, loader, steps_per_epoch
from semfacediff.errors import UserError
from semfacediff.metrics.segmentation import confusion_matrix, mean_iou
from semfacediff.parsing.checkpoint import ParserCard, save_parser, surviving
from semfacediff.parsing.losses import class_weights, count_pixels, cross_entropy_sums
from semfacediff.parsing.predict import ModelParser
from semfacediff.seeding import derive_seed
from semfacediff.types import to_tensor


@dataclass
class Progress:
    """Where a training stands; saved with the optimiser in ``state.pt``.

    Attributes:
        epoch: epochs completed. step: steps completed in the current one.
        loss_sum: sum over those steps of the batch loss.
        best_miou: highest validation mIoU so far.
        history: one row an epoch.
        best_confusion, best_images: validation counts behind ``best_miou``.
    """

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    best_miou: float = -1.0
    history: list[dict] = field(default_factory=list)
    best_confusion: list[list[int]] = field(default_factory=list)
    best_images: list[int] = field(default_factory=list)


def learning_rate_factor(step: int, total: int, schedule: str, warmup: int) -> float:
    """Multiple of the base rate at 0-based global ``step``: linear warm-up, then constant or half a cosine to zero."""
    if step < warmup:
        return (step + 1) / warmup
    if schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def optimiser(model: nn.Module, settings: config.OptimConfig) -> torch.optim.AdamW:
    """AdamW with one group for the encoder and one for everything else."""
    encoder = [p for name in model.encoder for p in getattr(model, name).parameters()]
    inside = {id(p) for p in encoder}
    decoder = [p for p in model.parameters() if id(p) not in inside]
    groups = [{"params": encoder, "lr": settings.encoder_lr}, {"params": decoder, "lr": settings.decoder_lr}]
    for group in groups:
        group["base_lr"] = group["lr"]
    return torch.optim.AdamW(groups, weight_decay=settings.weight_decay)


class ParserTrainer:
    """Trains ``model`` on ``train`` and validates on ``val`` after each epoch.

    Every random draw comes from (seed, epoch, step or sample), none from a running state, so that a training stopped at
    any step and continued from the last checkpoint ends with the same weights (bit for bit on the CPU).

    Args:
        train, val: data sets with labels in the model's space.
        folder: where ``checkpoints/last`` and ``checkpoints/best`` go; a ``last`` found there is continued.
        on_epoch: called after each epoch with the progress.
    """

    def __init__(
        self,
        model: nn.Module,
        card: ParserCard,
        settings: config.ParserTraining,
        train,
        val,
        folder: Path,
        device: torch.device,
        on_epoch: Callable[[Progress], None],
    ):
        self.settings, self.card, self.folder, self.on_epoch = settings, card, folder, on_epoch
        self.accelerator = Accelerator(cpu=device.type == "cpu")
        self.model = model.to(memory_format=torch.channels_last)
        size, augment = settings.train.size, settings.train.augment == "standard"
        self.view = TrainingView(train, size, augment, settings.seed, settings.train.keep_in_memory)
        self.val = val
        self.steps = steps_per_epoch(len(self.view), settings.train.batch_size)
        if min(len(self.view), settings.train.batch_size) < model.train_batch_min:
            raise UserError(
                f"'{card.name}' needs batches of at least {model.train_batch_min} (batch norm over 1x1 maps), the "
                f"training part has {len(self.view)} photos; use more"
            )
        self.weights = self._class_weights().to(self.accelerator.device)
        self.net, self.optimiser = self.accelerator.prepare(self.model, optimiser(model, settings.optim))
        self.progress = self._continued() or Progress()

    def _class_weights(self) -> Tensor:
        loss, batch = self.settings.loss, self.settings.train.batch_size
        if loss.class_weights == "none":
            return class_weights("none", torch.ones(self.train_space.n))
        batches = loader(self.view.unaugmented(), batch, epoch=0)
        counted = count_pixels(itertools.islice(batches, loss.class_weight_batches), self.train_space.n)
        return class_weights(loss.class_weights, counted)

    @property
    def train_space(self):
        return self.view.faces.label_space

    def run(self) -> Progress:
        """Train to the last epoch; returns the progress with its history."""
        if self.progress.history:
            self.on_epoch(self.progress)  # a kill may have come between the last checkpoint and its record
        while self.progress.epoch < self.settings.train.epochs:
            self._epoch()
        return self.progress

    def _epoch(self) -> None:
        p, t = self.progress, self.settings.train
        a = self.accelerator
        batches = loader(
            self.view, t.batch_size, p.epoch, p.step, self.settings.runtime.workers, a.process_index, a.num_processes
        )
        self.net.train()
        description = f"epoch {p.epoch + 1}/{t.epochs}"
        bar = tqdm(
            batches, desc=description, initial=p.step, total=self.steps, unit="batch", disable=not a.is_main_process
        )
        for photos, labels in bar:
            p.loss_sum += self._step(photos, labels)
            p.step += 1
            bar.set_postfix(loss=f"{p.loss_sum / p.step:.4f}", refresh=False)
            if t.checkpoint_every_steps and p.step % t.checkpoint_every_steps == 0 and p.step < self.steps:
                self._save_last()
        self._finish_epoch()

    def _step(self, photos: Tensor, labels: Tensor) -> float:
        p, s, a = self.progress, self.settings, self.accelerator
        step = p.epoch * self.steps + p.step
        torch.manual_seed(derive_seed(s.seed, "dropout", step, a.process_index))
        factor = learning_rate_factor(step, s.train.epochs * self.steps, s.optim.schedule, s.optim.warmup_steps)
        for group in self.optimiser.param_groups:
            group["lr"] = group["base_lr"] * factor
        x, y = self._prepared(photos), labels.to(a.device).long()
        loss_sum, weight_sum = cross_entropy_sums(self.net(x), y, self.weights, s.loss.label_smoothing)
        # Each process contributes in proportion to its pixels' weight; DDP averages gradients, hence the factor.
        loss = loss_sum * a.num_processes / a.reduce(weight_sum.detach(), "sum")
        if not torch.isfinite(loss):
            raise UserError(
                f"the loss became {loss.item()} in epoch {p.epoch + 1}, step {p.step + 1}; lower optim.*_lr"
            )
        self.optimiser.zero_grad(set_to_none=True)
        a.backward(loss)
        if s.train.gradient_clip_norm is not None:
            a.clip_grad_norm_(self.net.parameters(), s.train.gradient_clip_norm)
        self.optimiser.step()
        return float(a.reduce(loss.detach(), "mean"))

    def _prepared(self, photos: Tensor) -> Tensor:
        """Normalised channels-last float32 from uint8 ``[N, 3, S, S]``."""
        device = self.accelerator.device
        mean = torch.tensor(self.card.mean, device=device).view(1, 3, 1, 1)
        std = torch.tensor(self.card.std, device=device).view(1, 3, 1, 1)
        x = (photos.to(device).float() / 255 - mean) / std
        return x.contiguous(memory_format=torch.channels_last)

    def _finish_epoch(self) -> None:
        p = self.progress
        confusion, images = self.validate()
        miou = mean_iou(confusion)
        p.history.append({"epoch": p.epoch + 1, "train_loss": p.loss_sum / self.steps, "val_miou": miou})
        p.epoch, p.step, p.loss_sum = p.epoch + 1, 0, 0.0
        if miou > p.best_miou:
            p.best_miou, p.best_confusion, p.best_images = miou, confusion.tolist(), images.tolist()
            self._save("best")
        self._save_last()
        self.on_epoch(p)

    def validate(self) -> tuple[np.ndarray, np.ndarray]:
        """Pooled confusion over the validation part at the labels' own size, and images a class occurs in."""
        a = self.accelerator
        parser = ModelParser(a.unwrap_model(self.net), self.card, a.device)
        n = parser.label_space.n
        counts = np.zeros((n + 1, n), np.int64)
        mine = range(a.process_index, len(self.val), a.num_processes)
        for i in tqdm(mine, desc="validate", unit="photo", leave=False, disable=not a.is_main_process):
            sample = self.val[i]
            predicted = parser.predict(to_tensor(sample.photo)[None], sample.labels.shape)[0].numpy()
            counts[:n] += confusion_matrix(sample.labels, predicted, n)
            counts[n] += np.bincount(np.unique(sample.labels), minlength=n)
        total = a.reduce(torch.from_numpy(counts).to(a.device), "sum").cpu().numpy()
        return total[:n], total[n]

    def _save(self, which: str, extra: dict | None = None) -> None:
        a = self.accelerator
        if a.is_main_process:
            card = ParserCard(**{**vars(self.card), "training": self._training_facts()})
            try:
                save_parser(a.unwrap_model(self.net), card, self.folder / "checkpoints" / which, extra)
            except OSError as e:
                raise UserError(
                    f"cannot write a checkpoint in {self.folder} ({e.strerror}); free space and repeat"
                ) from e
        a.wait_for_everyone()

    def _training_facts(self) -> dict:
        p, s = self.progress, self.settings
        return {
            "run": self.folder.name,
            "epochs": p.epoch,
            "seed": s.seed,
            "data": s.data.name,
            "best_val_miou": p.best_miou,
        }

    def _save_last(self) -> None:
        self._save("last", {"optimiser": self.optimiser.state_dict(), "progress": vars(self.progress)})

    def _continued(self) -> Progress | None:
        found = surviving(self.folder / "checkpoints" / "last")
        if found is None:
            return None
        from semfacediff.weight_files import read_pickle_safely, read_safetensors

        self.accelerator.unwrap_model(self.net).load_state_dict(read_safetensors(found / "model.safetensors"))
        state = read_pickle_safely(found / "state.pt")
        self.optimiser.load_state_dict(state["optimiser"])
        progress = Progress(**state["progress"])
        print(f"continuing at epoch {progress.epoch + 1}, step {progress.step + 1}", file=sys.stderr)
        return progress

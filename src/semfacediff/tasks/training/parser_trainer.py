"""The training of a parser, counted in epochs: validated after them, the best kept."""

import contextlib
import copy
import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from semfacediff import config
from semfacediff.data.batches import TrainingView, loader, planned, steps_per_epoch
from semfacediff.data.counts import cache_folder, cached_counts
from semfacediff.data.selection import Data
from semfacediff.errors import UserError
from semfacediff.labels import LONG_TAIL
from semfacediff.metrics.segmentation import long_tail
from semfacediff.parsing.checkpoint import ParserCard, load_parser, write_card, write_weights
from semfacediff.parsing.predict import ModelParser
from semfacediff.seeding import derive_seed
from semfacediff.tasks.parsing.validation import Validation, validate
from semfacediff.tasks.training.checks import single_value_norms
from semfacediff.tasks.training.course import new_course
from semfacediff.tasks.training.files import TrainingFiles
from semfacediff.tasks.training.losses import build_loss, class_weights, count_pixels
from semfacediff.tasks.training.step import deterministic, strided, total
from semfacediff.tasks.training.trainer import Trainer

CLASS_IOU = "val_iou_"
"""What columns of the history begin with that hold the validation IoU of a class."""


@dataclass
class Progress:
    """Where a training stands; saved with the optimiser in ``state.pt``.

    Attributes:
        epoch: epochs completed. step: batches completed in the current one.
        loss_sum: sum over those of the batch loss.
        updates, norm_sum, clipped_sum: steps of the current epoch with a finite gradient, and the sums of its norm
            before and after clipping.
        ended: the course has stopped the training.
        best_epoch, best_score: of the best checkpoint, by ``train.best_by``; the higher the better.
        history: one row an epoch.
        best_confusion, best_images: validation counts behind the best checkpoint. best_photos: those of each photo.
    """

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    updates: int = 0
    norm_sum: float = 0.0
    clipped_sum: float = 0.0
    ended: bool = False
    best_epoch: int = 0
    best_score: float = 0.0
    history: list[dict] = field(default_factory=list)
    best_confusion: list[list[int]] = field(default_factory=list)
    best_images: list[int] = field(default_factory=list)
    best_photos: list[dict] = field(default_factory=list)


class ParserTrainer(Trainer[Progress, list[Tensor]]):
    """Trains ``model`` on ``train`` and validates on ``val``, with labels in the model's space.

    Args:
        on_epoch: called after each epoch with the progress.

    Raises:
        UserError: what can be known to fail before the first step.
    """

    def __init__(
        self,
        model: nn.Module,
        card: ParserCard,
        settings: config.ParserTraining,
        train: Data,
        val: Data,
        files: TrainingFiles,
        on_epoch: Callable[[Progress], None],
    ):
        t = settings.train
        self.settings, self.card, self.val, self.on_epoch = settings, card, val, on_epoch
        self.accelerator = files.accelerator
        self.rates, sizes = "the learning rates (optim.*)", f"train.batch_size={t.batch_size} train.size={t.size}"
        self.memory = (
            f"{sizes}; lower one of them (train.accumulate keeps the photos a step), or set "
            f"train.gradient_checkpointing=true, train.precision=bfloat16"
        )
        self._check(model, len(train.faces))
        self.photos = min(len(train.faces), t.batch_size)
        on_device = t.augment_on == "device"
        self.view = TrainingView(
            *(train.faces, t.size, t.augment, settings.seed, t.keep_in_memory, t.paste_accessories, on_device),
            landmarks=card.uses_landmarks,
        )
        self.steps = steps_per_epoch(len(self.view), t.batch_size)
        self.course = new_course(settings, self.steps)
        model = self._placed(model)
        self.criterion = build_loss(settings.loss, self._class_weights(train.digest).to(self.accelerator.device))
        super().__init__(model, {"model": model}, t, Progress(), files, t.compile)

    def _check(self, model: nn.Module, n: int) -> None:
        t, world = self.settings.train, self.accelerator.num_processes
        batch = min(n, t.batch_size)
        if batch < world:
            raise UserError(
                f"train.batch_size: {batch} photos cannot be shared by {world} processes; raise it to {world} or more"
            )
        alone = single_value_norms(model, t.size) if batch // world == 1 and not self._norms_synchronised else []
        if alone:
            raise UserError(
                f"'{self.card.name}' has batch norms over 1x1 maps ({', '.join(alone)}) and a batch of one photo a "
                f"process cannot train them; set train.batch_size to {2 * world} or more (the training part has {n} "
                f"photos)"
            )
        if t.gradient_checkpointing and not hasattr(model, "checkpointed"):
            raise UserError(
                f"train.gradient_checkpointing: '{self.card.name}' cannot do it (batch norms would count a batch "
                f"twice); set it to false and lower train.batch_size"
            )

    def _placed(self, model: nn.Module) -> nn.Module:
        t, a = self.settings.train, self.accelerator
        if t.gradient_checkpointing:
            cast(Any, model).checkpointed(True)
        if self._norms_synchronised:
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        return model.to(a.device).to(memory_format=self._layout)

    @property
    def _norms_synchronised(self) -> bool:
        """Batch norms over all processes exist on CUDA only."""
        return self.accelerator.num_processes > 1 and self.accelerator.device.type == "cuda"

    @property
    def _layout(self) -> torch.memory_format:
        return torch.channels_last if self.settings.train.channels_last else torch.contiguous_format

    @property
    def batch_norm(self) -> str:
        """How the statistics of batch norms are taken; for the record."""
        norms = [m for m in self.model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        if not norms:
            return "none"
        return "all processes" if isinstance(norms[0], nn.SyncBatchNorm) else "each process"

    def _class_weights(self, train_digest: str) -> Tensor:
        loss, t, space = self.settings.loss, self.settings.train, self.view.faces.label_space
        if loss.class_weights == "none":
            return class_weights("none", torch.ones(space.n))

        def count() -> Tensor:
            batches = loader(self.view.unaugmented(), t.batch_size, epoch=0)
            return count_pixels(itertools.islice(batches, loss.class_weight_batches), space.n)

        key = config.digest([train_digest, t.size, t.batch_size, self.settings.seed, loss.class_weight_batches])
        counts = cached_counts(cache_folder(), key, count)
        return class_weights(loss.class_weights, counts, loss.effective_number_beta)

    def run(self) -> Progress:
        """Train to the last epoch; returns the progress with its history."""
        t, p = self.settings.train, self.progress
        if p.history:  # a kill may have come between the last checkpoint and what follows it
            if p.step == 0:
                self.files.keep_epoch(p.epoch)
            self.on_epoch(p)
        with deterministic(t.deterministic), self._deterministic_errors(), self.machine_errors():
            while p.epoch < t.epochs and not p.ended:
                self._epoch()
                self._finish_epoch()
        return p

    @contextlib.contextmanager
    def _deterministic_errors(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as e:
            if not self.settings.train.deterministic or "does not have a deterministic" not in str(e):
                raise
            raise UserError(
                f"train.deterministic=true: '{self.card.name}' needs an algorithm that has no such form on "
                f"{self.accelerator.device} ({str(e).split(' does not')[0]}); set it to false, or runtime.device=cpu"
            ) from e

    def _sampling(self) -> dict[str, Any]:
        return {"sampling": self.settings.train.sampling, "repeat_threshold": self.settings.train.repeat_threshold}

    def _epoch(self) -> None:
        p, t, a = self.progress, self.settings.train, self.accelerator
        place = (p.step, self.settings.runtime.decoders, a.process_index, a.num_processes)
        pinned = a.device.type == "cuda"
        batches = loader(self.view, t.batch_size, p.epoch, *place, **self._sampling(), pinned=pinned)
        placed = self.view.placed(batches, a.device)
        self.net.train()
        title, hidden = f"epoch {p.epoch + 1}/{t.epochs}", not a.is_main_process
        with tqdm(desc=title, unit="batch", initial=p.step, total=self.steps, disable=hidden or None) as bar:
            while p.step < self.steps:
                group = min(t.accumulate, self.steps - p.step)  # the last group of an epoch may be smaller
                self.course.set_rates(self.optimiser, p.epoch * self.steps + p.step + group - 1)
                losses = self.take_step(placed, group)
                for loss in losses:
                    p.loss_sum += loss
                self._note_gradient()
                p.step += group
                bar.set_postfix(loss=f"{p.loss_sum / p.step:.4f}", refresh=False)
                bar.update(group)
                every = t.checkpoint_every_steps
                if every and p.step % every == 0 and p.step < self.steps:
                    self.save_last()

    def _note_gradient(self) -> None:
        p, norm, bound = self.progress, self.step.norm, self.settings.train.gradient_clip_norm
        if math.isfinite(norm):  # in float16 a step now and then moves nothing
            p.updates += 1
            p.norm_sum += norm
            p.clipped_sum += norm if bound is None else min(norm, bound)

    @property
    def steps_done(self) -> int:
        p, group = self.progress, self.settings.train.accumulate
        return p.epoch * math.ceil(self.steps / group) + math.ceil(p.step / group)

    def add_gradient(self, batch: list[Tensor], k: int) -> float:
        (photos, labels, *landmarks), t, seed = batch, self.settings.train, self.settings.seed
        step = self.progress.epoch * self.steps + self.progress.step + k
        torch.manual_seed(derive_seed(seed, "dropout", step, self.accelerator.process_index))
        rng = np.random.default_rng(derive_seed(seed, "loss_stride", step))
        row, column = rng.integers(t.loss_stride, size=2).tolist()
        x, y = self._prepared(photos), labels.to(self.accelerator.device).long()
        with self.step.autocast():
            logits = self.net(x, *landmarks)
        loss = self.criterion(*strided(logits.float(), y, t.loss_stride, (row, column)), total)
        return self.step.add(loss).item()

    def place(self, k: int) -> str:
        return f"epoch {self.progress.epoch + 1}, step {self.progress.step + k + 1}"

    def sample_ids(self, k: int) -> list[str]:
        p, t = self.progress, self.settings.train
        keys = planned(self.view, t.batch_size, p.epoch, **self._sampling())[p.step + k]
        return [self.view.ids[key[1]] for key in keys]

    def _prepared(self, photos: Tensor) -> Tensor:
        """Normalised float32 from ``[N, 3, S, S]`` in 0..255, in the model's memory layout."""
        device = self.accelerator.device
        mean = torch.tensor(self.card.mean, device=device).view(1, 3, 1, 1)
        std = torch.tensor(self.card.std, device=device).view(1, 3, 1, 1)
        x = (photos.to(device).float() / 255 - mean) / std
        return x.contiguous(memory_format=self._layout)

    def _finish_epoch(self) -> None:
        p, t = self.progress, self.settings.train
        row: dict = {"epoch": p.epoch + 1, "train_loss": p.loss_sum / self.steps}
        row |= {"lr": self.optimiser.param_groups[-1]["lr"], "phase": self.course.phase}
        row |= {"val_loss": None, "val_miou": None, "val_long_tail": None}
        norms = {"gradient_norm": p.norm_sum, "gradient_norm_clipped": p.clipped_sum}
        row |= {name: total / p.updates if p.updates else None for name, total in norms.items()}
        p.epoch, p.step, p.loss_sum = p.epoch + 1, 0, 0.0
        p.updates, p.norm_sum, p.clipped_sum = 0, 0.0, 0.0
        if p.epoch % t.validate_every == 0 or p.epoch == t.epochs:
            self._judge(row, self.validated())
        p.history.append(row)
        self.save_last()
        self.files.keep_epoch(p.epoch)
        self.on_epoch(p)

    @property
    def judged(self) -> nn.Module:
        """The model that is validated and kept as the best: the moving average where there is one."""
        return self.averages["model"].model if self.averages else self.model

    def validated(self) -> Validation:
        """Scores of :attr:`judged` on the validation part; the same for any number of processes."""
        a = self.accelerator
        if a.num_processes > 1:  # running statistics of batch norms differ between processes
            for tensor in self.judged.state_dict().values():
                torch.distributed.broadcast(tensor, 0)
        parser = ModelParser(copy.deepcopy(self.judged), self.card, a.device)
        on_cpu = a.device.type == "cpu"  # where batches are no quicker
        at_once = 1 if on_cpu else max(1, self.settings.train.batch_size // a.num_processes)
        return validate(parser, self.val.faces, self.criterion, a, self.settings.runtime.decoders, at_once)

    def _judge(self, row: dict, outcome: Validation) -> None:
        p = self.progress
        row |= {"val_loss": outcome.loss, "val_miou": outcome.miou, "val_long_tail": outcome.long_tail}
        classes = self.view.faces.label_space.classes
        row |= {f"{CLASS_IOU}{name}": iou for name, iou in zip(classes, outcome.iou.tolist(), strict=True)}
        score = self._score(outcome)
        is_best = p.best_epoch == 0 or score > p.best_score
        if is_best:
            p.best_score, p.best_epoch = score, p.epoch
            p.best_confusion, p.best_images = outcome.confusion.tolist(), outcome.images.tolist()
            p.best_photos = outcome.photos
            self.files.write("best", lambda folder: self._write(self.judged, folder))
        decision = self.course.observe(outcome.loss, is_best)
        p.ended = decision.stop
        if decision.next_phase or (decision.stop and self.settings.optim.name == "adam_then_sgd"):
            self._take_best()

    def _score(self, outcome: Validation) -> float:
        """By ``train.best_by``; the higher the better."""
        by, space = self.settings.train.best_by, self.view.faces.label_space
        if by == "long_tail" and not outcome.images[long_tail(space.classes)].any():
            raise UserError(
                f"train.best_by=long_tail: no validation photo has one of {', '.join(LONG_TAIL)}; set it to miou, or "
                f"choose another validation part"
            )
        score = {"miou": outcome.miou, "loss": -outcome.loss, "long_tail": outcome.long_tail}[by]
        if not math.isfinite(score):
            raise UserError(
                f"the validation {by} became {score} after epoch {self.progress.epoch}; lower the learning rates "
                f"(optim.*)"
            )
        return score

    def _take_best(self) -> None:
        best, _ = load_parser(self.files.path("best"))
        self.model.load_state_dict(best.state_dict())
        self.optimiser = self.course.optimiser(self.model)

    def write(self, folder: Path) -> None:
        self._write(self.model, folder)

    def _write(self, model: nn.Module, folder: Path) -> None:
        p, s = self.progress, self.settings
        facts = {"run": self.files.folder.name, "epochs": p.epoch, "seed": s.seed, "data": s.data.name}
        best = {"best_epoch": p.best_epoch, f"best_{s.train.best_by}": abs(p.best_score)}
        write_weights(folder, model.state_dict())
        write_card(folder, dataclasses.replace(self.card, training=facts | best))

    def new_optimiser(self) -> torch.optim.Optimizer:
        return self.course.optimiser(self.model)

    def own_state(self) -> dict:
        average = self.averages["model"].state() if self.averages else None
        return {"average": average, "course": self.course.state()}

    def restore(self, state: dict) -> None:
        self.course.restore(state["course"])
        if self.averages:
            self.averages["model"].restore(state["average"])

"""The parser's training loop: one process or several, stopped and continued at any step with the same outcome."""

import contextlib
import copy
import itertools
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from pydantic import TypeAdapter
from torch import Tensor, nn
from tqdm import tqdm

from semfacediff import config
from semfacediff.data.batches import TrainingView, loader, planned, steps_per_epoch
from semfacediff.data.counts import cache_folder, cached_counts
from semfacediff.errors import UserError
from semfacediff.labels import LONG_TAIL
from semfacediff.metrics.segmentation import long_tail
from semfacediff.parsing.checkpoint import ParserCard, load_parser
from semfacediff.parsing.predict import ModelParser
from semfacediff.seeding import derive_seed
from semfacediff.tasks.parsing.validation import Validation, validate
from semfacediff.tasks.training.averaging import MovingAverage
from semfacediff.tasks.training.checks import out_of_memory, single_value_norms
from semfacediff.tasks.training.course import new_course
from semfacediff.tasks.training.files import TrainingFiles
from semfacediff.tasks.training.losses import build_loss, class_weights, count_pixels
from semfacediff.tasks.training.step import OptimisationStep, deterministic


@dataclass
class Progress:
    """Where a training stands; saved with the optimiser in ``state.pt``.

    Attributes:
        epoch: epochs completed. step: batches completed in the current one.
        loss_sum: sum over those of the batch loss.
        ended: the course has stopped the training.
        best_epoch, best_score: of the best checkpoint, by ``train.best_by``; the higher the better.
        history: one row an epoch.
        best_confusion, best_images: validation counts behind the best checkpoint.
    """

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    ended: bool = False
    best_epoch: int = 0
    best_score: float = 0.0
    history: list[dict] = field(default_factory=list)
    best_confusion: list[list[int]] = field(default_factory=list)
    best_images: list[int] = field(default_factory=list)


class ParserTrainer:
    """Trains ``model`` on ``train`` and validates on ``val``.

    Every random draw comes from (seed, epoch, step or sample), none from a running state, so that a training stopped at
    any step and continued from the last checkpoint ends with the same weights (bit for bit on the CPU).

    Args:
        train, val: data sets with labels in the model's space.
        train_digest: of ``train``, under which its pixel counts are kept.
        folder: where ``checkpoints/`` goes; a ``last`` found there is continued.
        on_epoch: called after each epoch with the progress.

    Raises:
        UserError: what can be known to fail before the first step.
    """

    def __init__(
        self,
        model: nn.Module,
        card: ParserCard,
        settings: config.ParserTraining,
        train,
        train_digest: str,
        val,
        folder: Path,
        device: torch.device,
        on_epoch: Callable[[Progress], None],
    ):
        t = settings.train
        self.settings, self.card, self.val, self.on_epoch = settings, card, val, on_epoch
        # Whatever a launcher was configured for: train.precision decides.
        self.accelerator = Accelerator(cpu=device.type == "cpu", mixed_precision="no")
        self.files = TrainingFiles(folder, t.keep_last, self.accelerator)
        self._check(model, len(train))
        on_device = t.augment_on == "device"
        self.view = TrainingView(
            *(train, t.size, t.augment, settings.seed, t.keep_in_memory, t.paste_accessories, on_device),
            landmarks=card.uses_landmarks,
        )
        self.steps = steps_per_epoch(len(self.view), t.batch_size)
        self.progress = Progress()
        self.model = self._placed(model)
        self.average = MovingAverage(self.model, t.ema_decay) if t.ema_decay else None
        self.net = self._wrapped()
        self.criterion = build_loss(settings.loss, self._class_weights(train_digest).to(self.accelerator.device))
        self.step = OptimisationStep(self.net, self.criterion, t.precision, t.gradient_clip_norm, t.loss_stride)
        self.course = new_course(settings, self.steps)
        state = self.files.found()
        if state is None:
            self.optimiser = self.course.optimiser(self.model)
        else:
            with self.files.continuing(lambda: self.optimiser):
                self._continue_from(state)

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
            model.checkpointed(True)
        if self._norms_synchronised:
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        return model.to(a.device, memory_format=self._layout)

    @property
    def _norms_synchronised(self) -> bool:
        """Batch norms over all processes exist on CUDA only."""
        return self.accelerator.num_processes > 1 and self.accelerator.device.type == "cuda"

    @property
    def _layout(self) -> torch.memory_format:
        return torch.channels_last if self.settings.train.channels_last else torch.contiguous_format

    def _wrapped(self) -> nn.Module:
        net = self.accelerator.prepare(self.model)
        return torch.compile(net) if self.settings.train.compile else net

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
        if p.history:
            self.on_epoch(p)  # a kill may have come between the last checkpoint and its record
        with deterministic(t.deterministic), self._machine_errors():
            while p.epoch < t.epochs and not p.ended:
                self._epoch()
        return p

    @contextlib.contextmanager
    def _machine_errors(self):
        t = self.settings.train
        try:
            yield
        except (RuntimeError, MemoryError) as e:
            if t.deterministic and "does not have a deterministic" in str(e):
                raise UserError(
                    f"train.deterministic=true: '{self.card.name}' needs an algorithm that has no such form on "
                    f"{self.accelerator.device} ({str(e).split(' does not')[0]}); set it to false, or "
                    f"runtime.device=cpu"
                ) from e
            if not out_of_memory(e):
                raise
            raise UserError(
                f"out of memory on {self.accelerator.device} in epoch {self.progress.epoch + 1} with "
                f"train.batch_size={t.batch_size} train.size={t.size}; lower one of them (train.accumulate keeps the "
                f"photos a step), or set train.gradient_checkpointing=true, train.precision=bfloat16"
            ) from e

    def _sampling(self) -> dict:
        return {"sampling": self.settings.train.sampling, "repeat_threshold": self.settings.train.repeat_threshold}

    def _epoch(self) -> None:
        p, t, a = self.progress, self.settings.train, self.accelerator
        place = (p.step, self.settings.runtime.decoders, a.process_index, a.num_processes)
        batches = loader(self.view, t.batch_size, p.epoch, *place, **self._sampling(), pinned=a.device.type == "cuda")
        self.net.train()
        about = {"desc": f"epoch {p.epoch + 1}/{t.epochs}", "unit": "batch", "disable": not a.is_main_process}
        with tqdm(self.view.placed(batches, a.device), initial=p.step, total=self.steps, **about) as bar:
            for batch in bar:
                p.loss_sum += self._step(*batch)
                p.step += 1
                bar.set_postfix(loss=f"{p.loss_sum / p.step:.4f}", refresh=False)
                whole = p.step % t.accumulate == 0
                if (
                    whole
                    and t.checkpoint_every_steps
                    and p.step % t.checkpoint_every_steps == 0
                    and p.step < self.steps
                ):
                    self._save_last()
        self._finish_epoch()

    def _step(self, photos: Tensor, labels: Tensor, *landmarks: Tensor) -> float:
        p, s, a = self.progress, self.settings, self.accelerator
        step = p.epoch * self.steps + p.step
        torch.manual_seed(derive_seed(s.seed, "dropout", step, a.process_index))
        rng = np.random.default_rng(derive_seed(s.seed, "loss_stride", step))
        phase = tuple(rng.integers(s.train.loss_stride, size=2).tolist())
        self.course.set_rates(self.optimiser, step)
        first = p.step - p.step % s.train.accumulate
        group = min(s.train.accumulate, self.steps - first)  # the last group of an epoch may be smaller
        last = p.step - first == group - 1
        x, y = self._prepared(photos), labels.to(a.device).long()
        with contextlib.nullcontext() if last else a.no_sync(self.net):
            loss = self.step.backward(x, y, 1 / group, phase, *landmarks)
        if not torch.isfinite(loss):
            self._refuse(f"the loss became {loss.item()}", p.step)
        if last:
            if not self.step.update(self.optimiser):
                self._refuse("the gradient became infinite", first)
            if self.average:
                self.average.update(self.model)
        return loss.item()

    def _refuse(self, what: str, first: int) -> None:
        """``first``: the step whose batch may be to blame; the present one, or the first of its group."""
        p, t = self.progress, self.settings.train
        batches = planned(self.view, t.batch_size, p.epoch, **self._sampling())[first : p.step + 1]
        ids = ", ".join(self.view.ids[key[1]] for keys in batches for key in keys)
        kept = f"checkpoints of {self.files.folder.name} are from before" if self.files.any else "no checkpoint yet"
        raise UserError(
            f"{what} in epoch {p.epoch + 1}, step {p.step + 1}, on samples {ids} ({kept}); lower the "
            f"learning rates (optim.*), or look at these samples"
        )

    def _prepared(self, photos: Tensor) -> Tensor:
        """Normalised float32 from ``[N, 3, S, S]`` in 0..255, in the model's memory layout."""
        device = self.accelerator.device
        mean = torch.tensor(self.card.mean, device=device).view(1, 3, 1, 1)
        std = torch.tensor(self.card.std, device=device).view(1, 3, 1, 1)
        x = (photos.to(device).float() / 255 - mean) / std
        return x.contiguous(memory_format=self._layout)

    def _finish_epoch(self) -> None:
        p, t = self.progress, self.settings.train
        row = {"epoch": p.epoch + 1, "train_loss": p.loss_sum / self.steps}
        row |= {"lr": self.optimiser.param_groups[-1]["lr"], "phase": self.course.phase}
        row |= {"val_loss": None, "val_miou": None, "val_long_tail": None}
        p.epoch, p.step, p.loss_sum = p.epoch + 1, 0, 0.0
        if p.epoch % t.validate_every == 0 or p.epoch == t.epochs:
            self._judge(row, self.validated())
        p.history.append(row)
        self._save_last()
        self.on_epoch(p)

    @property
    def judged(self) -> nn.Module:
        """The model that is validated and kept as the best: the moving average where there is one."""
        return self.average.model if self.average else self.model

    def validated(self) -> Validation:
        """Scores of :attr:`judged` on the validation part; the same for any number of processes."""
        a = self.accelerator
        if a.num_processes > 1:  # running statistics of batch norms differ between processes
            for tensor in self.judged.state_dict().values():
                torch.distributed.broadcast(tensor, 0)
        parser = ModelParser(copy.deepcopy(self.judged), self.card, a.device)
        on_cpu = a.device.type == "cpu"  # where batches are no quicker
        at_once = 1 if on_cpu else max(1, self.settings.train.batch_size // a.num_processes)
        return validate(parser, self.val, self.criterion, a, self.settings.runtime.decoders, at_once)

    def _judge(self, row: dict, outcome: Validation) -> None:
        p = self.progress
        row |= {"val_loss": outcome.loss, "val_miou": outcome.miou, "val_long_tail": outcome.long_tail}
        score = self._score(outcome)
        is_best = p.best_epoch == 0 or score > p.best_score
        if is_best:
            p.best_score, p.best_epoch = score, p.epoch
            p.best_confusion, p.best_images = outcome.confusion.tolist(), outcome.images.tolist()
            self.files.save("best", self.judged, self._card())
        verdict = self.course.observe(outcome.loss, is_best)
        p.ended = verdict.stop
        if verdict.restart or (verdict.stop and self.settings.optim.name == "adam_then_sgd"):
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

    def _card(self) -> ParserCard:
        p, s = self.progress, self.settings
        facts = {"run": self.files.folder.name, "epochs": p.epoch, "seed": s.seed, "data": s.data.name}
        best = {"best_epoch": p.best_epoch, f"best_{s.train.best_by}": abs(p.best_score)}
        return ParserCard(**{**vars(self.card), "training": facts | best})

    def _save_last(self) -> None:
        state = {
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.step.scaler.state_dict(),
            "average": self.average.state() if self.average else None,
            "course": self.course.state(),
            "progress": vars(self.progress),
        }
        self.files.save("last", self.model, self._card(), state)
        if self.progress.step == 0:
            self.files.keep_epoch(self.progress.epoch)

    def _continue_from(self, state: dict) -> None:
        self.model.load_state_dict(state["weights"])
        self.progress = TypeAdapter(Progress).validate_python(state["progress"])
        self.course.restore(state["course"])
        self.step.scaler.load_state_dict(state["scaler"])
        if self.average:
            self.average.restore(state["average"])
        self.optimiser = self.course.optimiser(self.model)
        self.optimiser.load_state_dict(state["optimiser"])
        if self.progress.step == 0:
            self.files.keep_epoch(self.progress.epoch)  # a kill may have come before that
        print(f"continuing at epoch {self.progress.epoch + 1}, step {self.progress.step + 1}", file=sys.stderr)

"""Adam until the validation loss stalls, then SGD at ever lower rates from the best weights: the CE7454 report's way.

A state machine that is told one validation loss an epoch and says what to do next. It touches neither model nor
optimiser, so that published curves can be replayed through it.
"""

import copy
import dataclasses
import math
from dataclasses import dataclass
from typing import Literal

from semfacediff import config
from semfacediff.errors import UserError


@dataclass(frozen=True)
class Phase:
    """One optimiser, made anew at the phase's start, and its learning rate.

    Attributes:
        optimiser: ``adam``, or ``sgd`` without Nesterov. lr: rate of the first epoch. eta_min: rate after ``t_max``
            epochs. momentum: 0 for Adam. weight_decay: L2, added to the gradient.
    """

    optimiser: Literal["adam", "sgd"]
    lr: float
    eta_min: float
    t_max: int
    momentum: float
    weight_decay: float

    def rate(self, epoch: int) -> float:
        """Learning rate of 0-based ``epoch`` of this phase; beyond ``t_max`` it climbs again."""
        return self.eta_min + (self.lr - self.eta_min) * (1 + math.cos(math.pi * epoch / self.t_max)) / 2


@dataclass(frozen=True)
class Decision:
    """What to do after an epoch, in this order.

    Attributes:
        new_best: keep the weights as the best.
        next_phase: load the best weights and go on with this phase's fresh optimiser.
        stop: load the best weights and end.
    """

    new_best: bool = False
    next_phase: Phase | None = None
    stop: bool = False


@dataclass
class _State:
    """
    Attributes:
        epoch: epochs observed. best_epoch, best_loss: of the lowest loss, across phases; 0 and inf before any.
        stalled: epochs since the best one or the phase's start, whichever came later.
        ended: last epoch of each phase that is over.
    """

    epoch: int = 0
    best_epoch: int = 0
    best_loss: float = math.inf
    stalled: int = 0
    ended: list[int] = dataclasses.field(default_factory=list)
    stopped: bool = False


class AdamThenSGD:
    """The pipeline; epochs count from 1.

    Args:
        settings: rates and limits. Each SGD phase starts at half the rate of the one before; its cosine falls to half.
        max_epochs: of all phases together.
        state: what :meth:`state` gave before an interruption.
    """

    def __init__(self, settings: config.AdamThenSGDConfig, max_epochs: int, state: dict | None = None):
        self.settings, self.max_epochs = settings, max_epochs
        self._state = _State(**copy.deepcopy(state)) if state else _State()

    def state(self) -> dict:
        """Numbers, lists and ``inf`` before the first epoch; :class:`AdamThenSGD` continues from it."""
        return dataclasses.asdict(self._state)

    @property
    def phase(self) -> Phase:
        """The phase of the coming epoch; after the end, the last one."""
        return self._phase(len(self._state.ended) - self._state.stopped)

    @property
    def learning_rate(self) -> float:
        """Rate of the coming epoch."""
        s = self._state
        return self.phase.rate(s.epoch - (s.ended[-1] if s.ended else 0))

    def _phase(self, number: int) -> Phase:
        s = self.settings
        if number == 0:
            return Phase("adam", s.adam_lr, s.adam_eta_min, s.adam_t_max, 0.0, s.weight_decay)
        lr = s.sgd_lr / 2 ** (number - 1)
        return Phase("sgd", lr, lr / 2, s.sgd_t_max, s.sgd_momentum, s.weight_decay)

    def observe(self, val_loss: float) -> Decision:
        """Take the validation loss of the epoch that was just trained.

        Raises:
            UserError: the loss is not finite.
            RuntimeError: the pipeline has stopped already.
        """
        s = self._state
        if s.stopped:
            raise RuntimeError(f"the pipeline stopped after epoch {s.epoch}")
        if not math.isfinite(val_loss):
            raise UserError(
                f"expected a finite validation loss, got {val_loss} after epoch {s.epoch + 1}; lower the learning rate"
            )
        s.epoch += 1
        new_best = val_loss < s.best_loss
        if new_best:
            s.best_epoch, s.best_loss, s.stalled = s.epoch, val_loss, 0
        else:
            s.stalled += 1
        if s.epoch >= self.max_epochs:
            return self._end(new_best)
        if s.stalled < self.settings.patience:
            return Decision(new_best)
        following = self._phase(len(s.ended) + 1)
        if following.lr < self.settings.min_sgd_lr:
            return self._end(new_best)
        s.ended.append(s.epoch)
        s.stalled = 0
        return Decision(new_best, next_phase=following)

    def _end(self, new_best: bool) -> Decision:
        self._state.ended.append(self._state.epoch)
        self._state.stopped = True
        return Decision(new_best, stop=True)

"""Learning rates as multiples of a base rate; pure functions of the step, so that a resumed run needs no state."""

import math

from semfacediff import config

WARMUP_STEPS, WARMUP_SHARE = 100, 10
"""Of ``warmup_steps=null``: so many, but at most a tenth of the training, most of which they would otherwise be."""


def rate_factor(step: int, steps_per_epoch: int, epochs: int, settings: config.AdamWConfig) -> float:
    """Multiple of the base rate at 0-based global ``step``.

    ``warmup_steps`` of linear rise come first (``None``: 100, or a tenth of all steps if that is less). Then, with u in
    [0, 1) the share of what remains: ``constant`` 1, ``cosine`` (1 + cos(pi u)) / 2, ``polynomial``
    (1 - u) ** polynomial_power; ``multistep`` multiplies by ``milestone_factor`` at the start of each epoch (0-based)
    in ``milestones``.
    """
    warmup = settings.warmup_steps
    if warmup is None:
        warmup = min(WARMUP_STEPS, epochs * steps_per_epoch // WARMUP_SHARE)
    if step < warmup:
        return (step + 1) / warmup
    if settings.schedule == "multistep":
        return settings.milestone_factor ** sum(step // steps_per_epoch >= m for m in settings.milestones)
    u = (step - warmup) / max(1, epochs * steps_per_epoch - warmup)
    if settings.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * u))
    if settings.schedule == "polynomial":
        return (1 - u) ** settings.polynomial_power
    return 1.0

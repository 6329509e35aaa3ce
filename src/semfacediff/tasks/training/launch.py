"""Mixed precision and gradient accumulation as ``accelerate launch`` or ``accelerate config`` asks for them."""

import os
import shlex
import sys
from typing import TypeVar

from semfacediff import config
from semfacediff.errors import UserError

FOLLOWED = ("MIXED_PRECISION", "GRADIENT_ACCUMULATION_STEPS")
"""Variables of accelerate (less ``ACCELERATE_``) that a training follows."""
_PRECISIONS = {"bf16": "bfloat16", "fp16": "float16"}
_DEFAULTS = {"precision": "float32", "accumulate": 1}

S = TypeVar("S", config.ParserTraining, config.SynthesisTraining)


def following_launcher(settings: S) -> S:
    """``settings`` with what the launcher asks for, where they have their defaults; what it changes is said.

    Raises:
        UserError: the launcher and the configuration ask for different things, or it for a precision that is unknown.
    """
    group = "train" if isinstance(settings, config.ParserTraining) else settings.stage.replace("first", "vq")
    steps = getattr(settings, group)
    changed = {key: value for key, value in _asked().items() if value != getattr(steps, key)}
    words = shlex.split(os.environ.get("SEMFACEDIFF_OVERRIDES", ""))
    for key, value in changed.items():
        ours, name = getattr(steps, key), f"{group}.{key}"
        if ours != _DEFAULTS[key] or any(word.partition("=")[0] == name for word in words):
            raise UserError(f"accelerate asks for {name}={value}, the configuration for {ours}; drop one of the two")
        print(f"accelerate asks for it: {name}={value}", file=sys.stderr)
    return settings.model_copy(update={group: steps.model_copy(update=changed)}) if changed else settings


def _asked() -> dict[str, str | int]:
    precision, steps = (os.environ.get(f"ACCELERATE_{name}", "").lower() for name in FOLLOWED)
    asked: dict[str, str | int] = {}
    if precision not in ("", "no"):
        if precision not in _PRECISIONS:
            raise UserError(
                f"accelerate asks for mixed precision {precision}, expected no, bf16 or fp16; start with one of these"
            )
        asked["precision"] = _PRECISIONS[precision]
    if steps not in ("", "auto", "1"):
        if not steps.isdecimal() or int(steps) < 1:
            raise UserError(
                f"ACCELERATE_GRADIENT_ACCUMULATION_STEPS: expected a number from 1, got {steps!r}; unset it"
            )
        asked["accumulate"] = int(steps)
    return asked

"""One optimisation step: forward in the chosen precision, backward, clip, update."""

import contextlib
import functools
import math
import os
from collections.abc import Iterator
from typing import cast

import torch
import torch.distributed
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import KwargsHandler
from torch import Tensor, nn


def total(share: Tensor) -> Tensor:
    """The sum of ``share`` over all processes; its gradient flows back to each of them."""
    if not torch.distributed.is_initialized():
        return share
    from torch.distributed.nn.functional import all_reduce

    return all_reduce(share)


@contextlib.contextmanager
def deterministic(on: bool) -> Iterator[None]:
    """Within it, torch refuses algorithms that may give other bits when repeated."""
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    if on:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it CUDA's matrix products are refused
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]


def new_accelerator(device: torch.device, precision: str = "float32", *handlers: KwargsHandler) -> Accelerator:
    """An :class:`Accelerator` that places the model, shares it between processes, casts, accumulates and clips.

    float16 on anything but CUDA is the one case that it refuses; there it gets the scaler that it would have made, and
    :class:`GradientStep` casts.

    Args:
        precision: of forward passes: float32, bfloat16 or float16; weights stay float32.
    """
    AcceleratorState._reset_state()  # a sweep trains in several precisions, one after the other
    own = precision == "float16" and device.type != "cuda"
    named = "no" if own else {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}[precision]
    made = Accelerator(cpu=device.type == "cpu", mixed_precision=named, kwargs_handlers=list(handlers))
    if own:
        made.scaler = torch.amp.GradScaler(device.type)
    return made


class GradientStep:
    """Adds up gradients in the chosen precision, then moves the weights.

    Args:
        accelerator: of :func:`new_accelerator`.
        net: the model as it is trained (wrapped, compiled).
        clip_norm: upper bound of the gradient's norm.

    Attributes:
        autocast: context of forward passes. scaler: of the loss; disabled but in float16.
        norm: of the gradient of the last update, before it was clipped.
    """

    def __init__(self, accelerator: Accelerator, net: nn.Module, clip_norm: float | None):
        self.accelerator, self.net, self.clip_norm, self.norm = accelerator, net, clip_norm, math.nan
        device, own = accelerator.device.type, accelerator.scaler is not None and not accelerator.native_amp
        self.autocast = functools.partial(torch.autocast, device, torch.float16) if own else accelerator.autocast
        self.scaler = accelerator.scaler or torch.amp.GradScaler(device, enabled=False)

    def add(self, loss: Tensor) -> Tensor:
        """Add a loss's gradient, divided by the batches of the step, if it is finite; returns the loss, detached."""
        if torch.isfinite(loss):
            self.accelerator.backward(loss)
        return loss.detach()

    def update(self, optimiser: torch.optim.Optimizer) -> bool:
        """Clip, move the weights, forget the gradients; returns whether training can go on.

        A gradient that is not finite moves nothing. In float16 that happens now and then, and the loss is scaled less
        from then on; in other precisions a finite loss with such a gradient is the end.
        """
        self.scaler.unscale_(optimiser)
        weights = [p for p in self.net.parameters() if p.grad is not None]
        norm = self.accelerator.clip_grad_norm_(weights, math.inf if self.clip_norm is None else self.clip_norm)
        self.norm = cast(Tensor, norm).item()
        usable = self.scaler.is_enabled() or math.isfinite(self.norm)
        if usable:
            self.scaler.step(optimiser)
            self.scaler.update()
        optimiser.zero_grad(set_to_none=True)
        return usable


def strided(logits: Tensor, labels: Tensor, stride: int, phase: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Every ``stride``-th row and column from ``phase`` on.

    Logits of neighbouring pixels are interpolated from the same few; over random phases the mean of such a loss is
    that of all pixels, for 1/stride^2 of the work.
    """
    rows, columns = phase
    return logits[..., rows::stride, columns::stride], labels[:, rows::stride, columns::stride]

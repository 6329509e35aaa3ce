"""One optimisation step: forward in the chosen precision, backward, clip, update."""

import contextlib
import functools
import math
import os
from collections.abc import Iterator

import torch
import torch.distributed
from torch import Tensor, nn

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


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


class GradientStep:
    """Adds up gradients in the chosen precision, then moves the weights.

    Args:
        net: the model as it is trained (wrapped, compiled).
        precision: of the forward pass.
        clip_norm: upper bound of the gradient's norm.

    Attributes:
        norm: of the gradient of the last update, before it was clipped.
    """

    def __init__(self, net: nn.Module, precision: str, clip_norm: float | None):
        self.net, self.clip_norm, self.norm = net, clip_norm, math.nan
        device = next(net.parameters()).device.type
        lower = precision != "float32"
        self.autocast = functools.partial(torch.autocast, device, dtype=PRECISIONS[precision], enabled=lower)
        self.scaler = torch.amp.GradScaler(device, enabled=precision == "float16")

    def add(self, loss: Tensor, share: float) -> Tensor:
        """Add ``share`` of a loss's gradient, if it is finite; returns the loss, detached."""
        if torch.isfinite(loss):
            self.scaler.scale(loss * share).backward()
        return loss.detach()

    def update(self, optimiser: torch.optim.Optimizer) -> bool:
        """Clip, move the weights, forget the gradients; returns whether training can go on.

        A gradient that is not finite moves nothing. In float16 that happens now and then, and the loss is scaled less
        from then on; in other precisions a finite loss with such a gradient is the end.
        """
        self.scaler.unscale_(optimiser)
        weights = [p for p in self.net.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm([p.grad for p in weights if p.grad is not None])
        self.norm = norm.item()
        usable = self.scaler.is_enabled() or math.isfinite(self.norm)
        if usable:
            if self.clip_norm is not None:
                torch.nn.utils.clip_grads_with_norm_(weights, self.clip_norm, norm)
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

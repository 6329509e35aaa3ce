"""Colour jitter and blur of whole batches with an amount for each sample, rounded as torchvision does on 8 bits.

Photos are float32 ``[N, 3, S, S]`` holding whole numbers 0..255, and so are the results. Amounts are float32
``[N, 1, 1, 1]``. A sample's result does not depend on the batch, nor on the number of threads. Torchvision's functions
take one amount for all, and its hue needs twice the time.
"""

import torch
from torch import Tensor
from torch.nn.functional import pad

_GAUSSIAN = torch.exp(-0.5 * (torch.tensor([-1.0, 0.0, 1.0]) / 0.8) ** 2)
_KERNEL = (_GAUSSIAN / _GAUSSIAN.sum()).tolist()


def _cut(x: Tensor) -> Tensor:
    return x.clamp_(0, 255).floor_()


def _grey(x: Tensor) -> Tensor:
    return (x * torch.tensor([0.2989, 0.587, 0.114], device=x.device).view(3, 1, 1)).sum(1, keepdim=True).floor_()


def brightness(x: Tensor, factor: Tensor) -> Tensor:
    return _cut(x * factor)


def contrast(x: Tensor, factor: Tensor) -> Tensor:
    grey = _grey(x)  # whole numbers: their sum is exact, also where a device has no float64
    mean = grey.sum((1, 2, 3), keepdim=True, dtype=torch.int32) / grey[0].numel()
    return _cut(x * factor + (1 - factor) * mean)


def saturation(x: Tensor, factor: Tensor) -> Tensor:
    return _cut(x * factor + (1 - factor) * _grey(x))


def hue(x: Tensor, turns: Tensor) -> Tensor:
    """Through hue, chroma and value: a channel is the value less its part of the chroma."""
    r, g, b = x.split(1, dim=1)
    value = x.amax(1, keepdim=True)
    chroma = value - x.amin(1, keepdim=True)
    divisor = chroma.clamp(min=1)  # whole numbers: zero, or at least one
    sixth = torch.where(value == g, 2 + (b - r) / divisor, 4 + (r - g) / divisor)
    sixth = torch.where(value == r, (g - b) / divisor, sixth)
    offset = torch.tensor([5.0, 3.0, 1.0], device=x.device).view(3, 1, 1)
    k = (offset + sixth + 6 * turns).remainder(6)
    return _cut((value - chroma * torch.minimum(k, 4 - k).clamp_(0, 1)) * (255.999 / 255))  # torchvision's rounding


def blurred(x: Tensor) -> Tensor:
    """3x3 Gaussian, sigma 0.8; as shifted sums, which round alike on every device (a convolution need not)."""
    side, middle, _ = _KERNEL
    x = pad(x, (1, 1, 1, 1), mode="reflect")
    x = side * (x[..., :-2, :] + x[..., 2:, :]) + middle * x[..., 1:-1, :]
    return (side * (x[..., :-2] + x[..., 2:]) + middle * x[..., 1:-1]).round_()


JITTER = {"brightness": brightness, "contrast": contrast, "saturation": saturation, "hue": hue}
"""Factors (1: nothing) of the first three, turns (0: nothing) of the last."""

"""The ``ce7454`` recipe on whole batches, where the network is: on a processor core it takes 30 ms for a 512 px photo.

The host draws the parameters that :func:`semfacediff.data.augment.recipes.ce7454` would draw; the device applies each
sample's own. The result is that of the other form to within rounding (a level or two) except for the noise, which
comes from the device's generator: seeded for each sample, so the same in any batch, but other values.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from semfacediff.data.augment.recipes import JITTER, NOISE_SD, Sequence, zoomed_middle

_BLUR = torch.exp(-0.5 * (torch.tensor([-1.0, 0.0, 1.0]) / 0.8) ** 2)
_BLUR = (_BLUR / _BLUR.sum()).tolist()


def drawn_row(side: int, rng: np.random.Generator) -> Tensor:
    """float64 ``[11]``: a :class:`~semfacediff.data.augment.recipes.Sequence` and the seed of its noise."""
    what = Sequence.drawn(side, rng)
    noise_seed = int(rng.integers(2**53))  # a whole number that a double can hold
    return torch.tensor([what.zoomed_px, *what.amounts, *what.order, what.blur, noise_seed], dtype=torch.float64)


def ce7454_batch(photos: Tensor, labels: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Photos float32 ``[N, 3, S, S]`` in 0..255 and labels uint8 ``[N, S, S]``, changed as ``rows`` say.

    Args:
        photos: uint8 ``[N, 3, S, S]``, on the device. labels: uint8 ``[N, S, S]``, there as well.
        rows: float64 ``[N, 11]`` of :func:`drawn_row`, on the host.
    """
    device = photos.device
    amounts, order, blur, seeds = rows[:, 1:5].float(), rows[:, 5:9].int(), rows[:, 9] > 0, rows[:, 10].long()
    zoomed = [zoomed_middle(p, m[None], int(z)) for p, m, z in zip(photos, labels, rows[:, 0], strict=True)]
    x = torch.stack([p for p, _ in zoomed]).float()  # whole numbers: every step rounds as on 8 bits
    for place in range(len(JITTER)):
        for k, name in enumerate(JITTER):
            which = (order[:, place] == k).nonzero()[:, 0]
            if len(which):
                there = which.to(device)
                x[there] = _CHANGES[name](x[there], amounts[which, k].to(device).view(-1, 1, 1, 1))
    there = blur.nonzero()[:, 0].to(device)
    if len(there):
        x[there] = _blurred(x[there])
    for one, seed in zip(x, seeds.tolist(), strict=True):
        noise = torch.randn(one.shape, generator=torch.Generator(device).manual_seed(seed), device=device)
        one.add_(noise, alpha=255 * NOISE_SD)
    return x.clamp_(0, 255), torch.cat([m for _, m in zoomed])


def _cut(x: Tensor) -> Tensor:
    return x.clamp_(0, 255).floor_()


def _grey(x: Tensor) -> Tensor:
    return (x * torch.tensor([0.2989, 0.587, 0.114], device=x.device).view(3, 1, 1)).sum(1, keepdim=True).floor_()


def _brightness(x: Tensor, factor: Tensor) -> Tensor:
    return _cut(x * factor)


def _contrast(x: Tensor, factor: Tensor) -> Tensor:
    return _cut(x * factor + (1 - factor) * _grey(x).mean((1, 2, 3), keepdim=True, dtype=torch.float64).float())


def _saturation(x: Tensor, factor: Tensor) -> Tensor:
    return _cut(x * factor + (1 - factor) * _grey(x))


def _hue(x: Tensor, turns: Tensor) -> Tensor:
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


def _blurred(x: Tensor) -> Tensor:
    """3x3 Gaussian, sigma 0.8; as shifted sums, which round alike on every device (a convolution need not)."""
    side, middle, _ = _BLUR
    x = pad(x, (1, 1, 1, 1), mode="reflect")
    x = side * (x[..., :-2, :] + x[..., 2:, :]) + middle * x[..., 1:-1, :]
    return (side * (x[..., :-2] + x[..., 2:]) + middle * x[..., 1:-1]).round_()


_CHANGES = {"brightness": _brightness, "contrast": _contrast, "saturation": _saturation, "hue": _hue}

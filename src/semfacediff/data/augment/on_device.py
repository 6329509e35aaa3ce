"""The ``ce7454`` recipe on whole batches, where the network is: a processor spends most of an epoch's input on it.

The host draws the parameters that :func:`semfacediff.data.augment.recipes.ce7454` would draw; the device applies each
sample's own. The result is that of the other form (on an accelerator, to within rounding) except for the noise, which
comes from the device's generator: seeded for each sample, so the same in any batch, but other values.
"""

import numpy as np
import torch
from torch import Tensor

from semfacediff.data.augment.jitter import JITTER, blurred
from semfacediff.data.augment.recipes import NOISE_SD, Sequence, zoomed_middle


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
        for k, change in enumerate(JITTER.values()):
            which = (order[:, place] == k).nonzero()[:, 0]
            if len(which):
                there = which.to(device)
                x[there] = change(x[there], amounts[which, k].to(device).view(-1, 1, 1, 1))
    there = blur.nonzero()[:, 0].to(device)
    if len(there):
        x[there] = blurred(x[there])
    for one, seed in zip(x, seeds.tolist(), strict=True):
        noise = torch.randn(one.shape, generator=torch.Generator(device).manual_seed(seed), device=device)
        one.add_(noise, alpha=255 * NOISE_SD)
    return x.clamp_(0, 255), torch.cat([m for _, m in zoomed])

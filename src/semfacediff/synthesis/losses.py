"""What a diffusion training minimises, and the random draws of a sample, which depend on that sample alone."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from semfacediff.seeding import derive_seed
from semfacediff.synthesis.sampling import TRAIN_STEPS


@dataclass(frozen=True)
class Draws:
    """What is drawn for each of N samples.

    Attributes:
        noise: float32 ``[N, c, h, w]``, standard normal. steps: int64 ``[N]``, time steps, uniform.
        image_dropped: bool ``[N]``: the photo that the style encoder sees becomes zeros (mid-grey).
        all_dropped: bool ``[N]``: tokens and mask become zeros, the null condition of guidance.
        part_dropped: bool ``[N, K]``: classes that the style encoder does not see.
    """

    noise: Tensor
    steps: Tensor
    image_dropped: Tensor
    all_dropped: Tensor
    part_dropped: Tensor

    def to(self, device: torch.device) -> "Draws":
        return Draws(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})


@dataclass(frozen=True)
class Dropout:
    """Probabilities of what is left out of a sample's condition; see :class:`Draws`."""

    image: float
    everything: float
    part: float


def drawn(keys: Sequence[tuple[int | str, ...]], shape: tuple[int, ...], classes: int, dropout: Dropout) -> Draws:
    """Draws of samples named by ``keys`` (run seed, epoch, id): the same in any batch, order or process.

    Args:
        shape: of one latent.
    """
    rows = [_of_one(key, shape, classes) for key in keys]
    noise, at, u = (torch.stack(parts) for parts in zip(*rows, strict=True))
    return Draws(noise, at, u[:, 0] < dropout.image, u[:, 1] < dropout.everything, u[:, 2:] < dropout.part)


def _of_one(key: tuple[int | str, ...], shape: tuple[int, ...], classes: int) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(derive_seed("diffusion", *key))
    noise = torch.randn(shape, generator=g)
    return noise, torch.randint(TRAIN_STEPS, (), generator=g), torch.rand(2 + classes, generator=g)


def squared_errors(predicted: Tensor, target: Tensor) -> Tensor:
    """float32 ``[N]``: mean squared error of each sample's prediction."""
    return (predicted.float() - target).square().mean((1, 2, 3))

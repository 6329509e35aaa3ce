"""Spatially adaptive normalisation by the label map (SPADE), and the residual block built on it.

Scale and shift of a normalisation depend on the mask alone: :meth:`SPADE.modulation` is separate, so that a sampler
computes them once for all its steps.
"""

from collections.abc import Sequence

import torch
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

from semfacediff.synthesis.attention import to_size

Modulation = tuple[Tensor, Tensor]
"""Factor and summand of a normalised feature map, float ``[N,channels,h,w]`` each."""

HIDDEN = 128
"""Channels between mask and modulation."""


class SPADE(nn.Module):
    """Group normalisation without weights of its own, modulated by convolutions of the mask."""

    def __init__(self, channels: int, classes: int, groups: int = 32, eps: float = 1e-5):
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, eps=eps, affine=False)
        self.mlp_shared = nn.Sequential(nn.Conv2d(classes, HIDDEN, 3, padding=1), nn.ReLU())
        self.mlp_gamma = nn.Conv2d(HIDDEN, channels, 3, padding=1)
        self.mlp_beta = nn.Conv2d(HIDDEN, channels, 3, padding=1)

    def modulation(self, mask: Tensor, size: Sequence[int]) -> Modulation:
        """What ``mask``, float ``[N,classes,H,W]``, makes of feature maps of ``size``."""
        shared = self.mlp_shared(to_size(mask, size))
        return 1 + self.mlp_gamma(shared), self.mlp_beta(shared)

    def forward(self, x: Tensor, modulation: Modulation) -> Tensor:
        """float ``[N,channels,h,w]``."""
        scale, shift = modulation
        return torch.addcmul(shift, self.norm(x), scale)


class SPADEResnetBlock2D(ResnetBlock2D):
    """Residual block with a time embedding whose two normalisations are :class:`SPADE`."""

    def __init__(self, in_channels: int, out_channels: int, temb_channels: int, classes: int, dropout: float = 0.0):
        super().__init__(
            in_channels=in_channels,
            out_channels=out_channels,
            temb_channels=temb_channels,
            dropout=dropout,
            eps=1e-5,
        )
        self.norm1 = SPADE(in_channels, classes)
        self.norm2 = SPADE(out_channels, classes)

    def modulations(self, mask: Tensor, size: Sequence[int]) -> tuple[Modulation, Modulation]:
        """Of both normalisations; reusable for every ``x`` of ``size`` under the same ``mask``."""
        return self.norm1.modulation(mask, size), self.norm2.modulation(mask, size)

    def forward(self, x: Tensor, emb: Tensor, mask: Tensor) -> Tensor:
        """float ``[N,out,h,w]`` of ``x`` ``[N,in,h,w]``, time embedding ``[N,E]`` and mask ``[N,classes,H,W]``.

        The last two are told apart by rank, for both orders are in use.
        """
        emb, mask = (emb, mask) if emb.ndim == 2 else (mask, emb)
        return self.modulated(x, emb, self.modulations(mask, x.shape[-2:]))

    def modulated(self, x: Tensor, emb: Tensor, modulations: tuple[Modulation, Modulation]) -> Tensor:
        """:meth:`forward` with the modulations of its mask."""
        first, second = modulations
        h = self.conv1(self.nonlinearity(self.norm1(x, first)))
        h = h + self.time_emb_proj(self.nonlinearity(emb))[:, :, None, None]
        h = self.conv2(self.dropout(self.nonlinearity(self.norm2(h, second))))
        return h + (x if self.conv_shortcut is None else self.conv_shortcut(x))

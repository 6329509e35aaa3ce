"""Four maps of a backbone become one, and every place of it learns where it is."""

import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTH = 256


class Projection(nn.Module):
    """Holds the linear layer that brings a map to the common width."""

    def __init__(self, a: int):
        super().__init__()
        self.proj = nn.Linear(a, WIDTH)


def fused(maps: list[Tensor], projections: nn.ModuleList, mix: nn.Conv2d, size: torch.Size) -> Tensor:
    """One map float32 [N,h,w,256] of ``size`` [h,w] from maps [N,h_i,w_i,C_i], largest first.

    SegFace projects each map to 256 channels, enlarges it, concatenates the four, deepest first, and mixes the 1,024
    channels by a 1x1 convolution without bias. All of this is linear, and enlarging commutes with what acts on
    channels: here a map's two matrices are multiplied first, and the product is applied at the map's own size.
    """
    shares = mix.weight.flatten(1).split(WIDTH, dim=1)[::-1]
    biases = (share @ p.get_parameter("proj.bias") for share, p in zip(shares, projections, strict=True))
    bias = functools.reduce(torch.add, biases)

    def mixed(share: Tensor, p: nn.Module, m: Tensor, bias: Tensor | None = None) -> Tensor:
        x = F.linear(m, share @ p.get_parameter("proj.weight"), bias)
        return x if m.shape[1:3] == size else _enlarged(x, size)

    first, *others = zip(shares, projections, maps, strict=True)
    return functools.reduce(lambda total, one: total + mixed(*one), others, mixed(*first, bias))


def _enlarged(x: Tensor, size: torch.Size) -> Tensor:
    """[N,a,b,C] -> [N,*size,C], bilinearly."""
    return F.interpolate(x.permute(0, 3, 1, 2), size=size, mode="bilinear", align_corners=False).permute(0, 2, 3, 1)


class RandomFourier(nn.Module):
    """Sines and cosines of random frequencies at every place (Tancik et al. 2020), as SAM uses them.

    ``positional_encoding_gaussian_matrix`` float32 [2, 128] is drawn once; row 0 acts on x, row 1 on y.
    """

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self):
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(2, WIDTH // 2))

    def forward(self, height: int, width: int) -> Tensor:
        """float32 [height, width, 256]: sin, then cos of 2 pi (2p - 1) G, p = ((col + 0.5)/width, (row + 0.5)/height).

        The angle is a sum of one term of the column and one of the row, so sines are taken of height + width places and
        the rest follows by the addition theorems.
        """
        along_x, along_y = self.positional_encoding_gaussian_matrix.float()
        x, y = (self._angles(n, f) for n, f in ((width, along_x), (height, along_y)))
        sin_x, cos_x, sin_y, cos_y = x.sin(), x.cos(), y.sin()[:, None], y.cos()[:, None]
        return torch.cat([sin_x * cos_y + cos_x * sin_y, cos_x * cos_y - sin_x * sin_y], dim=-1)

    @staticmethod
    def _angles(n: int, frequencies: Tensor) -> Tensor:
        """float32 [n, 128]"""
        p = (torch.arange(n, device=frequencies.device, dtype=frequencies.dtype) + 0.5) / n
        return 2 * math.pi * (2 * p - 1)[:, None] * frequencies

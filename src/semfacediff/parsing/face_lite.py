"""face_lite: the small parser that comes with the package; 1.75 M parameters.

Inverted residuals (Sandler et al., "MobileNetV2", CVPR 2018) down to stride 32, fused with full 3x3 convolutions where
maps are large (Tan and Le, "EfficientNetV2", ICML 2021), pooled context, and a top-down decoder to stride 4 (Lin et
al., "Feature Pyramid Networks", CVPR 2017). Widths were chosen for the time of a training step on one CPU core.
"""

import torch.nn.functional as F
from torch import Tensor, nn

WIDTHS = (24, 40, 64, 128, 224)
"""Channels at strides 2, 4, 8, 16, 32."""


def _conv_bn(a: int, b: int, kernel: int, stride: int = 1, groups: int = 1, relu: bool = True) -> nn.Sequential:
    conv = nn.Conv2d(a, b, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(b), *([nn.ReLU(inplace=True)] if relu else []))


def _separable(channels: int, kernel: int) -> nn.Sequential:
    """Depthwise, then pointwise."""
    return nn.Sequential(
        _conv_bn(channels, channels, kernel, groups=channels, relu=False), _conv_bn(channels, channels, 1)
    )


def _resize(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)


class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise ``kernel``, linear 1x1; residual where the shapes agree."""

    def __init__(self, a: int, b: int, expansion: int, kernel: int, stride: int = 1):
        super().__init__()
        wide = expansion * a
        self.residual = stride == 1 and a == b
        self.conv = nn.Sequential(
            _conv_bn(a, wide, 1), _conv_bn(wide, wide, kernel, stride, groups=wide), _conv_bn(wide, b, 1, relu=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


class FusedDownsample(nn.Module):
    """A full 3x3 convolution of stride 2 in place of expansion and depthwise: quicker where maps are large."""

    def __init__(self, a: int, b: int, expansion: int):
        super().__init__()
        self.conv = nn.Sequential(_conv_bn(a, expansion * a, 3, stride=2), _conv_bn(expansion * a, b, 1, relu=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class PooledContext(nn.Module):
    """Adds what lies in the whole frame, and in its 4x4 cells, to every place. No norm: batches of one can train."""

    def __init__(self, channels: int, grids: tuple[int, ...] = (1, 4)):
        super().__init__()
        self.grids = grids
        self.project = nn.ModuleList(nn.Conv2d(channels, channels, 1) for _ in grids)

    def forward(self, x: Tensor) -> Tensor:
        pooled = [project(F.adaptive_avg_pool2d(x, g)) for g, project in zip(self.grids, self.project, strict=True)]
        return x + sum(_resize(p, x) for p in pooled)


class FaceLite(nn.Module):
    """Normalised float32 [N,3,H,W] -> logits [N,classes,H,W]; any H, W from 32."""

    encoder = ("stem", "stride4", "stride8", "stride16", "stride32", "context")

    def __init__(self, classes: int = 19, decoder_width: int = 64):
        super().__init__()
        c2, c4, c8, c16, c32 = WIDTHS
        self.stem = _conv_bn(3, c2, 3, stride=2)
        self.stride4 = FusedDownsample(c2, c4, 2)
        self.stride8 = nn.Sequential(FusedDownsample(c4, c8, 3), *(InvertedResidual(c8, c8, 3, 3) for _ in range(2)))
        self.stride16 = self._stage(c8, c16, blocks=4)
        self.stride32 = self._stage(c16, c32, blocks=4)
        self.context = PooledContext(c32)
        self.lateral = nn.ModuleList(_conv_bn(c, decoder_width, 1, relu=False) for c in (c32, c16, c8, c4))
        self.smooth = nn.ModuleList(_separable(decoder_width, k) for k in (3, 5, 5))
        self.head = nn.Sequential(_separable(decoder_width, 3), nn.Conv2d(decoder_width, classes, 1))

    @staticmethod
    def _stage(a: int, b: int, blocks: int) -> nn.Sequential:
        rest = (InvertedResidual(b, b, 3, 5) for _ in range(blocks - 1))
        return nn.Sequential(InvertedResidual(a, b, 3, 5, stride=2), *rest)

    def forward(self, x: Tensor) -> Tensor:
        return _resize(self.coarse(x), x)

    def coarse(self, x: Tensor) -> Tensor:
        """Logits [N,classes,H/4,W/4], before they are enlarged bilinearly (``align_corners=False``)."""
        at4 = self.stride4(self.stem(x))
        at8 = self.stride8(at4)
        at16 = self.stride16(at8)
        y = self.lateral[0](self.context(self.stride32(at16)))
        for finer, lateral, smooth in zip((at16, at8, at4), self.lateral[1:], self.smooth, strict=True):
            y = smooth(F.relu(_resize(y, finer) + lateral(finer)))
        return self.head(y)

"""The decoder that ``face_lite`` and ``fpn_<encoder>`` share: pooled context, then top-down to stride 4.

Lin et al., "Feature Pyramid Networks for Object Detection", CVPR 2017, with depthwise separable convolutions.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


def conv_bn(a: int, b: int, kernel: int, stride: int = 1, groups: int = 1, relu: bool = True) -> nn.Sequential:
    """Convolution without bias, batch norm and, unless told otherwise, ReLU."""
    conv = nn.Conv2d(a, b, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(b), *([nn.ReLU(inplace=True)] if relu else []))


def separable(channels: int, kernel: int) -> nn.Sequential:
    """Depthwise, then pointwise."""
    return nn.Sequential(
        conv_bn(channels, channels, kernel, groups=channels, relu=False), conv_bn(channels, channels, 1)
    )


def resize(x: Tensor, like: Tensor) -> Tensor:
    """``x`` enlarged bilinearly (``align_corners=False``) to height and width of ``like``."""
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)


class PooledContext(nn.Module):
    """Adds what lies in the whole frame, and in its 4x4 cells, to every place. No norm: batches of one can train."""

    def __init__(self, channels: int, grids: tuple[int, ...] = (1, 4)):
        super().__init__()
        self.grids = grids
        self.project = nn.ModuleList(nn.Conv2d(channels, channels, 1) for _ in grids)

    def forward(self, x: Tensor) -> Tensor:
        pooled = [project(F.adaptive_avg_pool2d(x, g)) for g, project in zip(self.grids, self.project, strict=True)]
        return x + sum(resize(p, x) for p in pooled)


class TopDownParser(nn.Module):
    """Normalised float32 [N,3,H,W] -> logits [N,classes,H,W]; a subclass gives the maps of its encoder."""

    def add_decoder(self, widths: Sequence[int], classes: int, decoder_width: int, context_width: int) -> None:
        """Create the decoder; call it once the encoder exists, so that seeded weights do not depend on this class.

        Args:
            widths: channels of the maps at strides 4, 8, 16, 32.
            context_width: channels at which :class:`PooledContext` works: those of the map at stride 32, or
                ``decoder_width`` to apply it behind the lateral convolution.
        """
        self.context_first = context_width == widths[-1]
        self.context = PooledContext(context_width)
        self.lateral = nn.ModuleList(conv_bn(c, decoder_width, 1, relu=False) for c in reversed(widths))
        self.smooth = nn.ModuleList(separable(decoder_width, k) for k in (3, 5, 5))
        self.head = nn.Sequential(separable(decoder_width, 3), nn.Conv2d(decoder_width, classes, 1))

    def maps(self, x: Tensor) -> Sequence[Tensor]:
        """The encoder's maps at strides 4, 8, 16, 32."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return resize(self.coarse(x), x)

    def coarse(self, x: Tensor) -> Tensor:
        """Logits [N,classes,H/4,W/4], before they are enlarged."""
        *finer, deepest = self.maps(x)
        lateral = self.lateral[0]
        y = lateral(self.context(deepest)) if self.context_first else self.context(lateral(deepest))
        for skip, lateral, smooth in zip(reversed(finer), self.lateral[1:], self.smooth, strict=True):
            y = smooth(F.relu(resize(y, skip) + lateral(skip)))
        return self.head(y)

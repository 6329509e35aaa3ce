"""face_lite: the small parser that comes with the package; 1.75 M parameters.

Inverted residuals (Sandler et al., "MobileNetV2", CVPR 2018) down to stride 32, fused with full 3x3 convolutions where
maps are large (Tan and Le, "EfficientNetV2", ICML 2021), pooled context, and a top-down decoder to stride 4 (Lin et
al., "Feature Pyramid Networks", CVPR 2017). Widths were chosen for the time of a training step on one CPU core.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from semfacediff.parsing.registry import Kind
from semfacediff.parsing.top_down import TopDownParser, conv_bn

WIDTHS = (24, 40, 64, 128, 224)
"""Channels at strides 2, 4, 8, 16, 32."""


class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise ``kernel``, linear 1x1; residual where the shapes agree."""

    def __init__(self, a: int, b: int, expansion: int, kernel: int, stride: int = 1):
        super().__init__()
        wide = expansion * a
        self.residual = stride == 1 and a == b
        self.conv = nn.Sequential(
            conv_bn(a, wide, 1), conv_bn(wide, wide, kernel, stride, groups=wide), conv_bn(wide, b, 1, relu=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


class FusedDownsample(nn.Module):
    """A full 3x3 convolution of stride 2 in place of expansion and depthwise: quicker where maps are large."""

    def __init__(self, a: int, b: int, expansion: int):
        super().__init__()
        self.conv = nn.Sequential(conv_bn(a, expansion * a, 3, stride=2), conv_bn(expansion * a, b, 1, relu=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class FaceLite(TopDownParser):
    """Normalised float32 [N,3,H,W] -> logits [N,classes,H,W]; any H, W from 32."""

    encoder = ("stem", "stride4", "stride8", "stride16", "stride32", "context")

    def __init__(self, classes: int = 19, decoder_width: int = 64):
        c2, *widths = WIDTHS
        super().__init__()
        c4, c8, c16, c32 = widths
        self.stem = conv_bn(3, c2, 3, stride=2)
        self.stride4 = FusedDownsample(c2, c4, 2)
        self.stride8 = nn.Sequential(FusedDownsample(c4, c8, 3), *(InvertedResidual(c8, c8, 3, 3) for _ in range(2)))
        self.stride16 = self._stage(c8, c16, blocks=4)
        self.stride32 = self._stage(c16, c32, blocks=4)
        self.add_decoder(widths, classes, decoder_width, context_width=c32)

    @staticmethod
    def _stage(a: int, b: int, blocks: int) -> nn.Sequential:
        rest = (InvertedResidual(b, b, 3, 5) for _ in range(blocks - 1))
        return nn.Sequential(InvertedResidual(a, b, 3, 5, stride=2), *rest)

    def maps(self, x: Tensor) -> Sequence[Tensor]:
        at4 = self.stride4(self.stem(x))
        at8 = self.stride8(at4)
        at16 = self.stride16(at8)
        return at4, at8, at16, self.stride32(at16)


PARSER = Kind(__name__, "FaceLite", head="head.1.bias")

"""Fast-SCNN as trained in the CE7454 face-parsing report: 1,154,435 parameters at 19 classes.

Poudel et al., "Fast-SCNN: Fast Semantic Segmentation Network" (BMVC 2019), with a fusion that ends in a further 1x1
convolution. Module names follow the published checkpoints, so their state dicts load as they are.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semfacediff.parsing.registry import Kind


def _conv_bn(a: int, b: int, kernel: int, stride: int = 1, groups: int = 1, relu: bool = True) -> list[nn.Module]:
    """Bias-free convolution with 'same' padding, batch norm and (by default) ReLU, as a list to be spliced."""
    conv = nn.Conv2d(a, b, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(b), *([nn.ReLU(inplace=True)] if relu else [])]


def _separable(a: int, b: int, stride: int) -> nn.Sequential:
    """Depthwise 3x3, then pointwise 1x1."""
    return nn.Sequential(*_conv_bn(a, a, 3, stride, groups=a), *_conv_bn(a, b, 1))


def _resize(x: Tensor, size: torch.Size) -> Tensor:
    return F.interpolate(x, size=size, mode="bilinear", align_corners=True)


class LearningToDownsample(nn.Module):
    """[N,3,H,W] -> [N,64,H/8,W/8]: detail branch and stem of the global branch."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Sequential(*_conv_bn(3, 32, 3, stride=2))
        self.dsconv1 = _separable(32, 48, stride=2)
        self.dsconv2 = _separable(48, 64, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.dsconv2(self.dsconv1(self.conv(x)))


class Bottleneck(nn.Module):
    """Inverted residual with expansion 6 (MobileNetV2); linear output, residual where shapes agree."""

    def __init__(self, a: int, b: int, stride: int):
        super().__init__()
        wide = 6 * a
        self.residual = stride == 1 and a == b
        self.conv = nn.Sequential(
            *_conv_bn(a, wide, 1), *_conv_bn(wide, wide, 3, stride, groups=wide), *_conv_bn(wide, b, 1, relu=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


class PyramidPooling(nn.Module):
    """Context at four grid sizes beside the input (PSPNet). The 1x1 grid needs batch >= 2 in training."""

    def __init__(self, channels: int, grids: tuple[int, ...] = (1, 2, 3, 6)):
        super().__init__()
        narrow = channels // len(grids)
        self.stages = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(g), nn.Sequential(*_conv_bn(channels, narrow, 1))) for g in grids
        )
        self.bottleneck = nn.Sequential(*_conv_bn(2 * channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        pooled = [_resize(stage(x), x.shape[-2:]) for stage in self.stages]
        return self.bottleneck(torch.cat([x, *pooled], dim=1))


class GlobalFeatureExtractor(nn.Module):
    """[N,64,H/8,W/8] -> [N,128,H/32,W/32]."""

    def __init__(self):
        super().__init__()
        self.bottleneck1 = self._stage(64, 64, stride=2)
        self.bottleneck2 = self._stage(64, 96, stride=2)
        self.bottleneck3 = self._stage(96, 128, stride=1)
        self.ppm = PyramidPooling(128)

    @staticmethod
    def _stage(a: int, b: int, stride: int) -> nn.Sequential:
        return nn.Sequential(Bottleneck(a, b, stride), Bottleneck(b, b, 1), Bottleneck(b, b, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.ppm(self.bottleneck3(self.bottleneck2(self.bottleneck1(x))))


class FeatureFusion(nn.Module):
    """Detail [N,64,h,w] and context [N,128,h/4,w/4] -> [N,128,h,w]."""

    def __init__(self):
        super().__init__()
        self.dwconv_low = nn.Sequential(*_conv_bn(128, 128, 3, groups=128), *_conv_bn(128, 128, 1, relu=False))
        self.conv_high = nn.Sequential(*_conv_bn(64, 128, 1, relu=False))
        self.fusion = nn.Sequential(nn.ReLU(inplace=True), *_conv_bn(128, 128, 1))

    def forward(self, detail: Tensor, context: Tensor) -> Tensor:
        context = self.dwconv_low(_resize(context, detail.shape[-2:]))
        return self.fusion(context + self.conv_high(detail))


class FastSCNNLite(nn.Module):
    """Normalised float32 [N,3,H,W] -> logits [N,classes,H,W]; any H, W from 32 (published: multiples of 32)."""

    encoder = ("learning_to_downsample", "global_feature_extractor")

    def __init__(self, classes: int = 19):
        super().__init__()
        self.learning_to_downsample = LearningToDownsample()
        self.global_feature_extractor = GlobalFeatureExtractor()
        self.feature_fusion = FeatureFusion()
        self.classifier = nn.Sequential(
            _separable(128, 128, 1), _separable(128, 128, 1), nn.Dropout(0.1), nn.Conv2d(128, classes, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        detail = self.learning_to_downsample(x)
        context = self.global_feature_extractor(detail)
        return _resize(self.classifier(self.feature_fusion(detail, context)), x.shape[-2:])


PARSER = Kind(__name__, "FastSCNNLite", head="classifier.3.bias")

"""U-Net as trained in the CE7454 face-parsing report: 1,941,411 parameters at 19 classes, no normalisation layer.

Ronneberger et al., "U-Net: Convolutional Networks for Biomedical Image Segmentation" (MICCAI 2015), a quarter as wide
and with padded convolutions. Module names follow the published checkpoints, so their state dicts load as they are.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semfacediff.parsing.registry import Kind

MULTIPLE = 16
"""Four poolings halve the sides four times."""


def _double_conv(a: int, b: int) -> nn.Sequential:
    """Two 3x3 convolutions that keep the size, each with ReLU."""
    return nn.Sequential(
        nn.Conv2d(a, b, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(b, b, 3, padding=1), nn.ReLU(inplace=True)
    )


def _up(a: int, b: int) -> nn.ConvTranspose2d:
    """Twice the size; no activation follows."""
    return nn.ConvTranspose2d(a, b, 2, stride=2)


def padded(x: Tensor, multiple: int) -> Tensor:
    """``[N, C, H, W]`` grown at the right and the bottom, by repeating the edge, to sides that ``multiple`` divides."""
    height, width = x.shape[-2:]
    right, below = -width % multiple, -height % multiple
    return F.pad(x, (0, right, 0, below), mode="replicate") if right or below else x


class UNetLite(nn.Module):
    """Normalised float32 [N,3,H,W] -> logits [N,classes,H,W]; any H, W.

    The published network takes sides divisible by 16. Others are padded to the next such size (see :func:`padded`) and
    the logits cropped back, so that the published sizes give the published numbers and no other size is refused.
    """

    encoder = ("encoder1", "encoder2", "encoder3", "encoder4", "bottleneck")

    def __init__(self, classes: int = 19):
        super().__init__()
        self.encoder1 = _double_conv(3, 16)
        self.encoder2 = _double_conv(16, 32)
        self.encoder3 = _double_conv(32, 64)
        self.encoder4 = _double_conv(64, 128)
        self.bottleneck = _double_conv(128, 256)
        self.upconv4, self.decoder4 = _up(256, 128), _double_conv(256, 128)
        self.upconv3, self.decoder3 = _up(128, 64), _double_conv(128, 64)
        self.upconv2, self.decoder2 = _up(64, 32), _double_conv(64, 32)
        self.upconv1, self.decoder1 = _up(32, 16), _double_conv(32, 16)
        self.output = nn.Conv2d(16, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        x, skips = padded(x, MULTIPLE), []
        for down in (self.encoder1, self.encoder2, self.encoder3, self.encoder4):
            skips.append(down(x))
            x = F.max_pool2d(skips[-1], 2)
        x = self.bottleneck(x)
        ups = (self.upconv4, self.upconv3, self.upconv2, self.upconv1)
        decoders = (self.decoder4, self.decoder3, self.decoder2, self.decoder1)
        for up, decoder in zip(ups, decoders, strict=True):
            x = decoder(torch.cat([skips.pop(), up(x)], dim=1))
        return self.output(x)[..., :height, :width]


PARSER = Kind(__name__, "UNetLite", head="output.bias")

"""The DeepLabV3+-like parser of the CE7454 face-parsing report: 1,964,394 parameters at 19 classes.

Chen et al., "Encoder-Decoder with Atrous Separable Convolution for Semantic Image Segmentation" (ECCV 2018), with plain
convolutions and a small backbone. Module names follow the published checkpoints, so their state dicts load as they are.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semfacediff.parsing.registry import Kind

DILATIONS = (6, 12, 18)


def _double_conv(a: int, between: int, b: int) -> nn.Sequential:
    """Two 3x3 convolutions with batch norm and ReLU; the size stays."""
    return nn.Sequential(
        *(nn.Conv2d(a, between, 3, padding=1), nn.BatchNorm2d(between), nn.ReLU(inplace=True)),
        *(nn.Conv2d(between, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU(inplace=True)),
    )


def _resize(x: Tensor, size: torch.Size) -> Tensor:
    return F.interpolate(x, size=size, mode="bilinear", align_corners=True)


class Backbone(nn.Module):
    """[N,3,H,W] -> details [N,64,H/2,W/2] and context [N,256,H/8,W/8]."""

    def __init__(self):
        super().__init__()
        self.block1 = _double_conv(3, 32, 64)
        self.block2 = _double_conv(64, 64, 128)
        self.block3 = _double_conv(128, 192, 256)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        detail = F.max_pool2d(self.block1(x), 2)
        return detail, F.max_pool2d(self.block3(F.max_pool2d(self.block2(detail), 2)), 2)


class ASPP(nn.Module):
    """Context at four dilations and of the whole frame: [N,256,h,w] -> [N,128,h,w]. No activation follows."""

    def __init__(self, a: int = 256, b: int = 128):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(a, b, 1), nn.BatchNorm2d(b)
        for i, dilation in enumerate(DILATIONS, 2):
            setattr(self, f"conv{i}", nn.Conv2d(a, b, 3, padding=dilation, dilation=dilation))
            setattr(self, f"bn{i}", nn.BatchNorm2d(b))
        self.conv1x1, self.bn5 = nn.Conv2d(a, b, 1), nn.BatchNorm2d(b)
        self.conv_out, self.bn_out = nn.Conv2d(5 * b, b, 1), nn.BatchNorm2d(b)

    def forward(self, x: Tensor) -> Tensor:
        near = [(self.get_submodule(f"conv{i}"), self.get_submodule(f"bn{i}")) for i in range(1, len(DILATIONS) + 2)]
        branches = [F.relu(bn(conv(x))) for conv, bn in near]
        frame = F.relu(self.bn5(self.conv1x1(F.adaptive_avg_pool2d(x, 1))))
        return self.bn_out(self.conv_out(torch.cat([*branches, _resize(frame, x.shape[-2:])], dim=1)))


class Decoder(nn.Module):
    """Context [N,128,h,w] and details [N,64,H/2,W/2] -> logits [N,classes,H,W] for even H, W."""

    def __init__(self, classes: int):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(64, 32, 1), nn.BatchNorm2d(32)
        self.conv2, self.bn2 = nn.Conv2d(128 + 32, 64, 3, padding=1), nn.BatchNorm2d(64)
        self.conv3, self.bn3 = nn.Conv2d(64, 64, 3, padding=1), nn.BatchNorm2d(64)
        self.conv_out = nn.Conv2d(64, classes, 1)
        self.upconv = nn.ConvTranspose2d(classes, classes, 2, stride=2)

    def forward(self, context: Tensor, detail: Tensor) -> Tensor:
        fine = F.relu(self.bn1(self.conv1(detail)))
        x = torch.cat([_resize(context, detail.shape[-2:]), fine], dim=1)
        x = F.relu(self.bn3(self.conv3(F.relu(self.bn2(self.conv2(x))))))
        return self.upconv(self.conv_out(x))


class DeepLabV3PlusLite(nn.Module):
    """Normalised float32 [N,3,H,W] -> logits [N,classes,H,W]; any H, W from 8.

    The published network enlarges its context to 256x256, whatever the input; here it takes the size of the details,
    which is the same at 512 px. At odd sides the last row or column, which pooling drops, repeats its neighbour's
    logits.
    """

    encoder = ("backbone",)

    def __init__(self, classes: int = 19):
        super().__init__()
        self.backbone = Backbone()
        self.aspp = ASPP()
        self.decoder = Decoder(classes)

    def forward(self, x: Tensor) -> Tensor:
        detail, context = self.backbone(x)
        logits = self.decoder(self.aspp(context), detail)
        below, right = x.shape[-2] - logits.shape[-2], x.shape[-1] - logits.shape[-1]
        return F.pad(logits, (0, right, 0, below), mode="replicate") if below or right else logits


PARSER = Kind(__name__, "DeepLabV3PlusLite", head="decoder.conv_out.bias")

"""SegFormer as trained in the CE7454 face-parsing report: 1,981,478 parameters at 19 classes.

Xie et al., "SegFormer: Simple and Efficient Design for Semantic Segmentation with Transformers" (NeurIPS 2021), small,
with convolutions in place of linear layers and without the reduction of keys and values. Module names follow the
published checkpoints, so their state dicts load as they are.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from semfacediff.errors import UserError
from semfacediff.parsing.registry import Kind

UPSAMPLING = ("transposed", "bilinear")
DECODER_WIDTH = 256

_CPU_WIDTH = 16

# (kernel, stride, width, blocks, heads) of the four stages
_STAGES = ((7, 4, 16, 1, 2), (3, 2, 32, 2, 2), (3, 2, 128, 2, 2), (3, 2, 192, 2, 8))


def _resize(x: Tensor, size: torch.Size) -> Tensor:
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of ``[N, C, H, W]``."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class PatchEmbed(nn.Module):
    """Overlapping patches: [N,a,H,W] -> [N,b,ceil(H/stride),ceil(W/stride)], normalised."""

    def __init__(self, a: int, b: int, kernel: int, stride: int):
        super().__init__()
        self.proj = nn.Conv2d(a, b, kernel, stride, padding=kernel // 2)
        self.norm = ChannelNorm(b)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.proj(x))


def attended(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d)) v of float32 ``[N, heads, places, d]``, in memory that grows with places, not squared.

    The CPU's fused kernel multiplies blocks 16 wide: heads of 8, filled up with zeros, take two thirds of the time.
    """
    width = q.shape[-1]
    if q.device.type != "cpu" or width >= _CPU_WIDTH:
        return F.scaled_dot_product_attention(q, k, v)
    q, k, v = (F.pad(t, (0, _CPU_WIDTH - width)) for t in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, scale=width**-0.5)[..., :width]


class Attention(nn.Module):
    """Every place attends to every place; the scores never exist as one matrix.

    At 512 px the first stage has 16,384 places: scores of two heads would take 2 GiB in float32.
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Conv2d(width, 3 * width, 1)
        self.proj = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        n, c, height, width = x.shape
        # Channels are q | k | v, heads contiguous in each. The fused kernels want the channels of a place side by side.
        qkv = self.qkv(x).flatten(2).transpose(1, 2).contiguous()
        qkv = qkv.view(n, height * width, 3, self.heads, c // self.heads)
        mixed = attended(*qkv.permute(2, 0, 3, 1, 4))
        # [N, heads, places, c/heads] -> a map in channels-last layout
        return self.proj(mixed.transpose(1, 2).reshape(n, height, width, c).permute(0, 3, 1, 2))


class FeedForward(nn.Module):
    """Four times as wide inside, with a depthwise 3x3 that lets a place know where it is."""

    def __init__(self, width: int):
        super().__init__()
        self.fc1 = nn.Conv2d(width, 4 * width, 1)
        self.dwconv = nn.Conv2d(4 * width, 4 * width, 3, padding=1, groups=4 * width)
        self.fc2 = nn.Conv2d(4 * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.dwconv(self.fc1(x))))


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norm1, self.attn = ChannelNorm(width), Attention(width, heads)
        self.norm2, self.ffn = ChannelNorm(width), FeedForward(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.ffn(self.norm2(x))


class Encoder(nn.Module):
    """[N,3,H,W] -> maps of 16, 32, 128, 192 channels at strides 4, 8, 16, 32. Each, normalised, feeds the next."""

    def __init__(self):
        super().__init__()
        self.stages, before = nn.ModuleList(), 3
        self.recompute = False
        for kernel, stride, width, blocks, heads in _STAGES:
            inner = nn.ModuleList(Block(width, heads) for _ in range(blocks))
            self.stages.append(nn.ModuleList([PatchEmbed(before, width, kernel, stride), inner, ChannelNorm(width)]))
            before = width

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for stage in self.stages:
            embed, blocks, norm = stage.children()
            x = embed(x)
            for block in blocks.children():
                x = checkpoint(block, x, use_reentrant=False) if self.recompute and self.training else block(x)
            x = norm(x)
            maps.append(x)
        return maps


class Decoder(nn.Module):
    """Four maps -> class scores at the finest one's size."""

    def __init__(self, classes: int):
        super().__init__()
        self.projections = nn.ModuleList(self._conv_bn(stage[2]) for stage in _STAGES)
        self.fusion = self._conv_bn(len(_STAGES) * DECODER_WIDTH)
        self.classifier = nn.Conv2d(DECODER_WIDTH, classes, 1)

    @staticmethod
    def _conv_bn(channels: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(channels, DECODER_WIDTH, 1), nn.BatchNorm2d(DECODER_WIDTH), nn.ReLU(inplace=True)
        )

    def forward(self, maps: list[Tensor]) -> Tensor:
        """The published network enlarges, concatenates, then mixes with a 1x1 convolution.

        Enlarging and mixing are both linear and commute, so here each map is mixed at its own size: a third of the time
        and no map of 1,024 channels.
        """
        mix, norm, activation = self.fusion
        shares = mix.get_parameter("weight").split(DECODER_WIDTH, dim=1)
        mixed = [F.conv2d(p(m), w) for p, m, w in zip(self.projections, maps, shares, strict=True)]
        first = mixed[0] + mix.get_parameter("bias")[:, None, None]
        grown = sum((_resize(m, maps[0].shape[-2:]) for m in mixed[1:]), first)
        return self.classifier(activation(norm(grown)))


class SegFormerLite(nn.Module):
    """Normalised float32 [N,3,H,W] -> logits [N,classes,H,W]; any H, W (in training on batches of one, above 32 px: the
    decoder's batch norm needs more than one place at stride 32).

    Args:
        upsampling: from a quarter of the size to the whole by a learned transposed convolution (as published), or
            bilinearly (1,975,683 parameters, the number that the report prints).
    """

    encoder = ("stages",)

    def __init__(self, classes: int = 19, upsampling: str = "transposed"):
        super().__init__()
        if upsampling not in UPSAMPLING:
            raise UserError(f"segformer_lite: upsampling is one of {', '.join(UPSAMPLING)}, got {upsampling!r}")
        # Published keys begin with "encoder", which as an attribute is every parser's tuple of names: hence _modules.
        self._modules["encoder"] = Encoder()
        self.decoder = Decoder(classes)
        self.upconv = nn.ConvTranspose2d(classes, classes, 4, stride=4) if upsampling == "transposed" else None

    @property
    def _encoder(self) -> Encoder:
        (encoder,) = (m for m in self.children() if isinstance(m, Encoder))
        return encoder

    @property
    def stages(self) -> nn.ModuleList:
        """The encoder's, all of its weights."""
        return self._encoder.stages

    def checkpointed(self, on: bool = True) -> "SegFormerLite":
        """Whether training recomputes a block's activations in the backward pass in place of keeping them."""
        self._encoder.recompute = on
        return self

    def forward(self, x: Tensor) -> Tensor:
        logits = self.decoder(self._encoder(x))
        if self.upconv is not None:
            # Sides that 4 does not divide get up to 3 px too many: the patches cover the edge and its padding.
            return self.upconv(logits)[..., : x.shape[-2], : x.shape[-1]]
        return _resize(logits, x.shape[-2:])


def _upsampling(state: Mapping[str, Tensor]) -> dict[str, object]:
    """Only the transposed variant has weights for its upsampling."""
    return {"upsampling": "transposed" if "upconv.weight" in state else "bilinear"}


PARSER = Kind(__name__, "SegFormerLite", head="decoder.classifier.bias", inferred=_upsampling)

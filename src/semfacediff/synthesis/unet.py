"""The denoiser: a latent-diffusion UNet whose middle and upward half are modulated by the label map (SCA-DM).

Assembled from diffusers' blocks. What its layers read of tokens and mask does not change from step to step:
:meth:`UNet.condition` computes it, :meth:`UNet.denoise` takes it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from diffusers.models.attention import Attention, FeedForward
from diffusers.models.downsampling import Downsample2D
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from semfacediff.synthesis.attention import MaskedCrossAttention, class_index, to_size
from semfacediff.synthesis.spade import Modulation, SPADEResnetBlock2D

LATENT_CHANNELS = 3


@dataclass(frozen=True)
class SoftRead:
    """What a transformer attends to where no look-up will do.

    Attributes:
        tokens: float ``[N,K,D]``.
        mask: float ``[N,K,P]``; ``None`` = not masked.
    """

    tokens: Tensor
    mask: Tensor | None


Read = Tensor | SoftRead
"""Of a transformer: the looked-up values, float ``[N,P,channels]``, or what to attend to."""


@dataclass(frozen=True)
class Condition:
    """What layers read of tokens and mask: one entry a SPADE block, one a transformer, in the order of the network.

    A condition of batch 1 serves any batch of latents.
    """

    modulations: tuple[tuple[Modulation, Modulation], ...]
    reads: tuple[Read, ...]


def zeroed(module: nn.Module) -> nn.Module:
    """``module`` with weights of zero: the branch it ends starts as nothing."""
    for p in module.parameters():
        nn.init.zeros_(p)
    return module


class TransformerBlock(nn.Module):
    """Self-attention, attention to the tokens, feed-forward; each behind a layer normalisation, each added."""

    def __init__(self, width: int, token_width: int, heads: int, head_width: int):
        super().__init__()
        self.attn1 = Attention(width, heads=heads, dim_head=head_width)
        self.ff = FeedForward(width, activation_fn="geglu")
        self.attn2 = MaskedCrossAttention(width, token_width, heads, head_width)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))

    def forward(self, x: Tensor, read: Read) -> Tensor:
        """float ``[N,P,width]``."""
        x = x + self.attn1(self.norm1(x))
        x = x + (read if isinstance(read, Tensor) else self.attn2.attend(self.norm2(x), read.tokens, read.mask))
        return x + self.ff(self.norm3(x))


class SpatialTransformer(nn.Module):
    """A transformer block on the pixels of a feature map, added to it."""

    def __init__(self, channels: int, token_width: int, head_width: int = 32):
        super().__init__()
        self.norm = nn.GroupNorm(32, channels, eps=1e-6)
        self.proj_in = nn.Conv2d(channels, channels, 1)
        self.transformer_blocks = nn.ModuleList(
            [TransformerBlock(channels, token_width, channels // head_width, head_width)]
        )
        self.proj_out = zeroed(nn.Conv2d(channels, channels, 1))

    def read(self, tokens: Tensor, mask: Tensor | None, index: Tensor | None) -> Read:
        """What attention takes from ``tokens``; at the feature map's size are mask ``[N,K,h,w]`` and index ``[N,h,w]``.

        The index is that of :func:`~semfacediff.synthesis.attention.class_index`; without it attention is a softmax.
        """
        if index is not None:
            (block,) = (m for m in self.transformer_blocks if isinstance(m, TransformerBlock))
            return block.attn2.look_up(tokens, index.flatten(1))
        return SoftRead(tokens, None if mask is None else mask.flatten(2))

    def forward(self, x: Tensor, read: Read) -> Tensor:
        """float ``[N,channels,h,w]``."""
        h = self.proj_in(self.norm(x)).flatten(2).transpose(1, 2)
        h = self.transformer_blocks[0](h, read)
        return x + self.proj_out(h.transpose(1, 2).unflatten(2, x.shape[-2:]))


def _plain_block(before: int, after: int, emb: int) -> nn.Module:
    block = ResnetBlock2D(in_channels=before, out_channels=after, temb_channels=emb, eps=1e-5)
    zeroed(block.conv2)
    return block


def _spade_block(before: int, after: int, emb: int, classes: int) -> nn.Module:
    block = SPADEResnetBlock2D(before, after, emb, classes)
    zeroed(block.conv2)
    return block


class UNet(nn.Module):
    """Noise in a latent, from the latent, its time step, tokens and mask. The defaults are the published ones.

    Args:
        classes: K.
        channels: width of the first level.
        multipliers: of ``channels``, one a level; every level but the last halves the side.
        layers: residual blocks a level (one more upward).
        attention_factors: by how much a level is smaller than the latent where it has transformers.
        head_width: channels an attention head.
        token_width: width of a whole token.
        mask_attention: ``False`` = every pixel attends to all tokens (the paper's ablation). With it, queries and keys
            of the cross-attention and the normalisation before it are frozen: one-hot masks leave them nothing to say.

    Attributes:
        checkpointing: whether training computes transformers twice instead of keeping what is inside them.
    """

    def __init__(
        self,
        classes: int = 19,
        channels: int = 224,
        multipliers: Sequence[int] = (1, 2, 3, 4),
        layers: int = 2,
        attention_factors: Sequence[int] = (2, 4, 8),
        head_width: int = 32,
        token_width: int = 1280,
        mask_attention: bool = True,
    ):
        super().__init__()
        self.mask_attention, self.checkpointing = mask_attention, False
        self.halvings = len(multipliers) - 1
        width, emb = [channels * m for m in multipliers], 4 * channels
        attends = [2**level in attention_factors for level in range(len(width))]

        def transformers(level: int) -> list[nn.Module]:
            return [SpatialTransformer(width[level], token_width, head_width)] if attends[level] else []

        self.time_proj = Timesteps(channels, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time_embed = TimestepEmbedding(channels, emb)
        # In the published weights, read by nothing.
        self.label_emb = nn.Embedding(classes, emb).requires_grad_(False)
        blocks: list[list[nn.Module]] = [[nn.Conv2d(LATENT_CHANNELS, channels, 3, padding=1)]]
        skips, h = [channels], channels
        for level, after in enumerate(width):
            for _ in range(layers):
                blocks.append([_plain_block(h, after, emb), *transformers(level)])
                h = after
                skips.append(h)
            if level < self.halvings:
                blocks.append([Downsample2D(h, use_conv=True, name="op")])
                skips.append(h)
        self.input_blocks = nn.ModuleList(nn.ModuleList(b) for b in blocks)
        middle = _spade_block(h, h, emb, classes), SpatialTransformer(h, token_width, head_width)
        self.middle_block = nn.ModuleList([*middle, _spade_block(h, h, emb, classes)])

        blocks = []
        for level in reversed(range(len(width))):
            for _ in range(layers + 1):
                blocks.append([_spade_block(h + skips.pop(), width[level], emb, classes), *transformers(level)])
                h = width[level]
            if level:
                blocks[-1].append(Upsample2D(h, use_conv=True))
        self.output_blocks = nn.ModuleList(nn.ModuleList(b) for b in blocks)

        self.out = nn.Sequential(nn.GroupNorm(32, h), nn.SiLU(), zeroed(nn.Conv2d(h, LATENT_CHANNELS, 3, padding=1)))
        if mask_attention:
            self._freeze_unread()

    def _freeze_unread(self) -> None:
        for block in (m for m in self.modules() if isinstance(m, TransformerBlock)):
            for unread in (block.attn2.to_q, block.attn2.to_k, block.norm2):
                unread.requires_grad_(False)

    def _layers(self) -> Iterator[nn.Module]:
        for block in (*self.input_blocks, self.middle_block, *self.output_blocks):
            yield from block.children()

    def condition(self, tokens: Tensor, mask: Tensor, size: Sequence[int]) -> Condition:
        """What all layers read of tokens and mask, for latents of ``size``; the same for every step.

        Args:
            tokens: float ``[N,K,D]``.
            mask: float ``[N,K,H,W]``: one-hot, empty where nothing is known, or fractional.
            size: height and width of the latents, multiples of ``2**halvings``.
        """
        dtype = self.out.get_parameter("0.weight").dtype
        tokens, mask = tokens.to(dtype), mask.to(dtype)
        index = class_index(mask) if self.mask_attention else None
        modulations: list[tuple[Modulation, Modulation]] = []
        reads: list[Read] = []
        h, w = size
        for layer in self._layers():
            if isinstance(layer, SPADEResnetBlock2D):
                modulations.append(layer.modulations(mask, (h, w)))
            elif isinstance(layer, SpatialTransformer):
                here = to_size(mask, (h, w)) if self.mask_attention and index is None else None
                there = None if index is None else to_size(index[:, None].float(), (h, w)).long()[:, 0]
                reads.append(layer.read(tokens, here, there))
            elif isinstance(layer, Downsample2D):
                h, w = h // 2, w // 2
            elif isinstance(layer, Upsample2D):
                h, w = 2 * h, 2 * w
        return Condition(tuple(modulations), tuple(reads))

    def forward(self, x: Tensor, t: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        """Predicted noise, float ``[N,3,h,w]``.

        Args:
            x: float ``[N,3,h,w]``, noisy latents.
            t: int64 ``[N]`` in 0..999.
            tokens: float ``[N,K,D]``.
            mask: float ``[N,K,H,W]``.
        """
        return self.denoise(x, t, self.condition(tokens, mask, x.shape[-2:]))

    def denoise(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """:meth:`forward` with what :meth:`condition` made of tokens and mask."""
        emb = self.time_embed(self.time_proj(t).to(x.dtype))
        modulations, reads = iter(condition.modulations), iter(condition.reads)

        def through(block: nn.Module, h: Tensor) -> Tensor:
            for layer in block.children():
                if isinstance(layer, SPADEResnetBlock2D):
                    h = layer.modulated(h, emb, next(modulations))
                elif isinstance(layer, ResnetBlock2D):
                    h = layer(h, emb)
                elif isinstance(layer, SpatialTransformer):
                    h = self._attend(layer, h, next(reads))
                else:
                    h = layer(h)
            return h

        skips = []
        for block in self.input_blocks:
            x = through(block, x)
            skips.append(x)
        x = through(self.middle_block, x)
        for block in self.output_blocks:
            x = through(block, torch.cat([x, skips.pop()], 1))
        return self.out(x)

    def _attend(self, layer: SpatialTransformer, h: Tensor, read: Read) -> Tensor:
        if self.checkpointing and self.training:
            return checkpoint(layer, h, read, use_reentrant=False)
        return layer(h, read)

"""SegFace's decoder: class tokens and image attend to each other, and the image, enlarged, is scored by the tokens.

The two-way transformer is that of SAM (Kirillov et al. 2023). Images are [N, places, 256] throughout, row by row.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semfacediff.errors import UserError
from semfacediff.parsing.segface.fusion import WIDTH

HEADS, CROSS_WIDTH, MLP_WIDTH, DEPTH = 8, 128, 2048, 2
FEATURES = 32
"""Channels in which tokens and pixels are compared."""
NORM_EPS, UPSCALING_NORM_EPS = 1e-5, 1e-6

# In channel order. CelebAMask-HQ's left and right are the viewer's in these names and the person's in its labels.
TOKENS = {
    19: (
        "background neck face cloth rightear leftear rightbro leftbro righteye lefteye "
        "nose innermouth lowerlip upperlip hair glass hat earring necklace"
    ).split(),
    11: "background face leftbro rightbro lefteye righteye nose upperlip innermouth lowerlip hair".split(),
}


class Attention(nn.Module):
    """Queries [N,q,256] over keys and values [N,k,256] in eight heads, ``width`` channels together."""

    def __init__(self, width: int = CROSS_WIDTH):
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(WIDTH, width) for _ in range(3))
        self.out_proj = nn.Linear(width, WIDTH)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (_heads(p(x)) for p, x in ((self.q_proj, q), (self.k_proj, k), (self.v_proj, v)))
        return self.out_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))

    def weights(self, q: Tensor, k: Tensor) -> Tensor:
        """float32 [N,q,k]: how much each query takes of each key, mean of the heads; sums to 1 over keys."""
        q, k = _heads(self.q_proj(q)), _heads(self.k_proj(k))
        return (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).float().softmax(-1).mean(1)


def _heads(x: Tensor) -> Tensor:
    """[N,n,width] -> [N,8,n,width/8]"""
    return x.unflatten(-1, (HEADS, -1)).transpose(1, 2)


class FeedForward(nn.Module):
    def __init__(self):
        super().__init__()
        self.lin1, self.lin2 = nn.Linear(WIDTH, MLP_WIDTH), nn.Linear(MLP_WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return self.lin2(F.relu(self.lin1(x)))


def _norm() -> nn.LayerNorm:
    return nn.LayerNorm(WIDTH, eps=NORM_EPS)


class Block(nn.Module):
    """Tokens among themselves, tokens over the image, an MLP on tokens, image over tokens; each then normalised.

    Args:
        first: the tokens' attention among themselves replaces them, and they are not told apart by ``names`` in it.
    """

    def __init__(self, first: bool):
        super().__init__()
        self.first = first
        self.self_attn, self.norm1 = Attention(WIDTH), _norm()
        self.cross_attn_token_to_image, self.norm2 = Attention(), _norm()
        self.mlp, self.norm3 = FeedForward(), _norm()
        self.norm4, self.cross_attn_image_to_token = _norm(), Attention()

    def forward(self, tokens: Tensor, image: Tensor, names: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
        if self.first:
            tokens = self.self_attn(tokens, tokens, tokens)
        else:
            named = tokens + names
            tokens = tokens + self.self_attn(named, named, tokens)
        tokens, placed = self.norm1(tokens), image + position
        tokens = self.norm2(tokens + self.cross_attn_token_to_image(tokens + names, placed, image))
        tokens = self.norm3(tokens + self.mlp(tokens))
        return tokens, self.norm4(image + self.cross_attn_image_to_token(placed, tokens + names, tokens))


class TwoWayTransformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(Block(first=i == 0) for i in range(DEPTH))
        self.final_attn_token_to_image, self.norm_final_attn = Attention(), _norm()

    def forward(self, names: Tensor, image: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens [N,C,256] and image [N,places,256] after both have seen the other.

        Args:
            names: [N,C,256] the tokens at the start; added wherever tokens are queries or keys.
            position: [places,256] added wherever the image is.
        """
        tokens = names
        for layer in self.layers:
            tokens, image = layer(tokens, image, names, position)
        seen = self.final_attn_token_to_image(tokens + names, image + position, image)
        return self.norm_final_attn(tokens + seen), image


class Upscaling(nn.Sequential):
    """Two transposed convolutions of stride 2: [N,h,w,256] -> [N,4h,4w,32].

    Each gives a place's four successors by one matrix product, as kernel and stride are the same. Channels stay side by
    side, where a layer norm wants them.
    """

    def __init__(self):
        between = 2 * FEATURES
        super().__init__(
            nn.ConvTranspose2d(WIDTH, between, 2, stride=2),
            nn.LayerNorm(between, eps=UPSCALING_NORM_EPS),
            nn.GELU(),
            nn.ConvTranspose2d(between, FEATURES, 2, stride=2),
            nn.GELU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        first, norm, gelu, second, _ = self
        return gelu(_doubled(gelu(norm(_doubled(x, first))), second))


def _doubled(x: Tensor, conv: nn.Module) -> Tensor:
    """[N,h,w,a] -> [N,2h,2w,b]: ``conv``, a transposed one of kernel 2 and stride 2."""
    n, h, w, _ = x.shape
    weight, bias = conv.get_parameter("weight"), conv.get_parameter("bias")
    b = len(bias)
    grown = F.linear(x, weight.permute(2, 3, 1, 0).reshape(4 * b, -1), bias.repeat(4))
    return grown.view(n, h, w, 2, 2 * b).transpose(2, 3).reshape(n, 2 * h, 2 * w, b)


class TokenMLP(nn.Module):
    """[N,C,256] -> [N,C,32]; one for all classes."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, FEATURES)])

    def forward(self, x: Tensor) -> Tensor:
        first, second, last = self.layers
        return last(F.relu(second(F.relu(first(x)))))


class Decoder(nn.Module):
    """Image [N,h,w,256] and the encoding of its places [h,w,256] -> logits [N,classes,4h,4w].

    Raises:
        UserError: neither 19 nor 11 classes.
    """

    def __init__(self, classes: int):
        super().__init__()
        if classes not in TOKENS:
            raise UserError(f"segface: expected 19 classes (CelebAMask-HQ) or 11 (LaPa, Helen), got {classes}")
        self.transformer = TwoWayTransformer()
        for name in TOKENS[classes]:
            self.add_module(f"{name}_token", nn.Embedding(1, WIDTH))
        self.output_upscaling = Upscaling()
        self.output_hypernetwork_mlps = TokenMLP()
        self.classes = classes

    @property
    def names(self) -> Tensor:
        """float32 [C,256]: the learned tokens in channel order."""
        return torch.cat([self.get_parameter(f"{name}_token.weight") for name in TOKENS[self.classes]])

    def forward(self, image: Tensor, position: Tensor) -> Tensor:
        n, h, w, _ = image.shape
        names = self.names.expand(n, -1, -1)
        tokens, places = self.transformer(names, image.flatten(1, 2), position.flatten(0, 1))
        pixels = self.output_upscaling(places.unflatten(1, (h, w))).flatten(1, 2)
        logits = self.output_hypernetwork_mlps(tokens) @ pixels.transpose(1, 2)
        return logits.unflatten(-1, (4 * h, 4 * w))

"""One style token a class from a photo: a U-shaped network with a group of channels a class, pooled under the mask.

Convolutions never see the mask; it says only where each class is averaged (SCA-DM, section 3.2).
"""

import torch
from torch import Tensor, nn

from semfacediff.synthesis.attention import to_size


def _stage(in_channels: int, out_channels: int, groups: int, *, stride: int = 1, classes: int) -> list[nn.Module]:
    return [
        nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, groups=groups),
        nn.GroupNorm(classes, out_channels),
        nn.ReLU(),
    ]


class StyleEncoder(nn.Module):
    """Photos and one-hot masks to tokens, coarse levels first within a token.

    As published, the skip connections are concatenated behind all classes, so that from the second decoder stage on a
    group of channels reads other classes than its own (groups 0..8 read decoder classes 2g and 2g+1, group 9 the last
    decoder class and the first skip class, the rest skip classes); ``interleave_skips`` keeps every class with itself.

    Args:
        classes: K.
        features: channels a class after the stem, doubled by every stage down.
        down: stages down; there is one less up, and each of those gives ``token_width`` numbers to a token.
        token_width: D.
        interleave_skips: concatenate skips class by class. The weights' shapes are the same.
        absent_token: a learned token for classes without a pixel, instead of what pooling nothing gives, the constant
            ``tanh(bias)`` that no published training ever read. Train it by leaving out parts of the mask given here.
    """

    def __init__(
        self,
        classes: int = 19,
        features: int = 4,
        down: int = 6,
        token_width: int = 256,
        interleave_skips: bool = False,
        absent_token: bool = False,
        in_channels: int = 3,
    ):
        super().__init__()
        self.classes, self.interleave_skips = classes, interleave_skips
        width = [classes * features * 2**i for i in range(down + 1)]
        self.stem = nn.Sequential(*_stage(in_channels, width[0], 1, classes=classes))
        self.down = nn.ModuleList(
            nn.Sequential(*_stage(width[i], width[i + 1], classes, stride=2, classes=classes)) for i in range(down)
        )
        up = list(range(down - 1, 0, -1))
        self.up = nn.ModuleList(
            nn.Sequential(
                nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
                # From the second stage on the input is the stage before beside the skip of the same resolution.
                *_stage(width[i + 1] * (1 if i == up[0] else 2), width[i], classes, classes=classes),
            )
            for i in up
        )
        self.heads = nn.ModuleList(nn.Conv1d(width[i], classes * token_width, 1, groups=classes) for i in up)
        self.absent = nn.Parameter(torch.zeros(classes, len(up) * token_width)) if absent_token else None

    def forward(self, images: Tensor, mask: Tensor) -> Tensor:
        """Tokens.

        Args:
            images: float ``[N,3,H,W]`` in [-1,1], H and W multiples of ``2**down``; zeros = no style.
            mask: float one-hot ``[N,K,H,W]``.

        Returns:
            float ``[N,K,L*D]`` in [-1,1] (learned tokens of absent classes are not bounded), L = ``down - 1``.
        """
        tokens = torch.cat(
            [self._pooled(f, mask, head) for f, head in zip(self._features(images), self.heads, strict=True)], -1
        )
        if self.absent is None:
            return tokens
        return torch.where(mask.flatten(2).any(-1)[..., None], tokens, self.absent)

    def _features(self, images: Tensor) -> list[Tensor]:
        h, skips = self.stem(images), []
        for stage in self.down:
            h = stage(h)
            skips.append(h)
        found = []
        for i, stage in enumerate(self.up):
            h = stage(h if i == 0 else self._beside(h, skips[-1 - i]))
            found.append(h)
        return found

    def _beside(self, up: Tensor, skip: Tensor) -> Tensor:
        if not self.interleave_skips:
            return torch.cat([up, skip], 1)
        by_class = [x.unflatten(1, (self.classes, -1)) for x in (up, skip)]
        return torch.cat(by_class, 2).flatten(1, 2)

    def _pooled(self, feature: Tensor, mask: Tensor, head: nn.Module) -> Tensor:
        # In float32: a sum over 128 x 128 pixels does not fit half precision.
        m = to_size(mask, feature.shape[-2:]).float().flatten(2)
        f = feature.float().unflatten(1, (self.classes, -1)).flatten(3)
        mean = torch.einsum("ncdp,ncp->ncd", f, m) / (m.sum(-1, keepdim=True) + 1e-5)
        out = head(mean.flatten(1)[..., None].to(head.get_parameter("weight").dtype))
        return torch.tanh(out).squeeze(-1).unflatten(1, (self.classes, -1))

"""Cross-attention from pixels to class tokens, masked by the label map (SCA-DM, Eq. 8, as released).

The released form multiplies the logits by the mask and puts the most negative number where the product is exactly
zero. Under a one-hot mask one class survives in every pixel, so the softmax is one-hot whatever queries and keys say:
attention is a look-up of a value by class. :meth:`MaskedCrossAttention.look_up` does just that; it depends on tokens
and mask alone, so a sampler computes it once for all its steps. Other masks take :meth:`MaskedCrossAttention.attend`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def class_index(mask: Tensor) -> Tensor | None:
    """int64 ``[N,H,W]`` in 0..K: the class of every pixel of ``mask``, K where it has none.

    Args:
        mask: float ``[N,K,H,W]``.

    Returns:
        ``None`` if some pixel is neither one-hot nor empty, so that no look-up can stand for attention.
    """
    total = mask.sum(1)
    if not ((mask == 0) | (mask == 1)).all() or (total > 1).any():
        return None
    return torch.where(total > 0, mask.argmax(1), mask.shape[1])


def to_size(mask: Tensor, size: Sequence[int]) -> Tensor:
    """``[N,K,h,w]``: nearest neighbour; of every cell its top left pixel."""
    return mask if tuple(mask.shape[-2:]) == tuple(size) else F.interpolate(mask, size=tuple(size), mode="nearest")


class MaskedCrossAttention(nn.Module):
    """Multi-head attention of pixels to the K class tokens; queries, keys and values without bias."""

    def __init__(self, width: int, token_width: int, heads: int, head_width: int = 32):
        super().__init__()
        inner = heads * head_width
        self.heads = heads
        self.to_q = nn.Linear(width, inner, bias=False)
        self.to_k = nn.Linear(token_width, inner, bias=False)
        self.to_v = nn.Linear(token_width, inner, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(inner, width)])

    def look_up(self, tokens: Tensor, index: Tensor) -> Tensor:
        """Attention under a one-hot mask.

        Args:
            tokens: float ``[N,K,D]``.
            index: int64 ``[N,P]`` in 0..K as of :func:`class_index`; a pixel without class gets the mean of all values,
                as the softmax over equal logits does.

        Returns:
            float ``[N,P,width]``. Equal to :meth:`attend` unless the key of a pixel's token is exactly zero (there the
            released form takes the pixel for one without class); no token of a style encoder is.
        """
        values = self.to_v(tokens)
        rows = self.to_out[0](torch.cat([values, values.mean(1, keepdim=True)], 1))
        return rows[torch.arange(len(rows), device=rows.device)[:, None], index]

    def attend(self, x: Tensor, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """Attention by softmax: fractional or multi-hot masks, or none.

        Args:
            x: float ``[N,P,width]``.
            tokens: float ``[N,K,D]``.
            mask: float ``[N,K,P]``, factors of the logits, of which exact zeros exclude; ``None`` = all tokens alike.

        Returns:
            float ``[N,P,width]``.
        """
        q, k, v = self._split(self.to_q(x)), self._split(self.to_k(tokens)), self._split(self.to_v(tokens))
        logits = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
        if mask is not None:
            logits = logits * mask.transpose(1, 2)[:, None]
            # Finite, not -inf: a pixel without class averages all values.
            logits = logits.masked_fill(logits == 0, torch.finfo(logits.dtype).min)
        mixed = logits.softmax(-1) @ v
        return self.to_out[0](mixed.transpose(1, 2).flatten(2))

    def forward(self, x: Tensor, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """As :meth:`attend`, by look-up where the mask allows it."""
        index = None if mask is None else class_index(mask[..., None])
        return self.attend(x, tokens, mask) if index is None else self.look_up(tokens, index[..., 0])

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

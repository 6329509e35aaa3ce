"""What SegFace's class tokens look at: the attention of its decoder's last layers, read off while it runs."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from semfacediff.errors import UserError
from semfacediff.parsing.segface.decoder import Attention, Block
from semfacediff.parsing.segface.model import SegFace

_PLACE_PX = 4


@dataclass(frozen=True)
class TokenAttention:
    """Of N photos of H x W px, at a quarter of their size; C classes in channel order.

    Attributes:
        tokens: float32 ``[N,C,h,w]``: where each class token looks in the last attention over the image; sums to 1
            over places. Mean of the heads, as the other.
        image: float32 ``[N,C,h,w]``: which token each place looks at in the last block; sums to 1 over classes.
    """

    tokens: Tensor
    image: Tensor


class Watch:
    """Keeps the queries and keys of the last pass."""

    def __init__(self, model: SegFace):
        transformer = model.face_decoder.transformer
        self._of_tokens = transformer.final_attn_token_to_image
        self._of_image = [m for m in transformer.layers if isinstance(m, Block)][-1].cross_attn_image_to_token
        self._seen: dict[Attention, tuple[Tensor, Tensor]] = {}
        self._size: tuple[int, int] | None = None
        self.hooks = [
            model.backbone.register_forward_pre_hook(self._keep_size),
            *(m.register_forward_pre_hook(self._keep) for m in (self._of_tokens, self._of_image)),
        ]

    def _keep_size(self, _module: nn.Module, given: tuple[Tensor, ...]) -> None:
        height, width = given[0].shape[-2:]
        self._size = height, width

    def _keep(self, module: Attention, given: tuple[Tensor, ...]) -> None:
        self._seen[module] = given[0], given[1]

    @torch.inference_mode()
    def attention(self, size: tuple[int, int]) -> TokenAttention:
        """Of the last pass, whose photos were of ``size`` = (height, width); of warped ones, as the warp shows them."""
        if self._size is None:
            raise ValueError("nothing has passed the model yet")
        height, width = (s // _PLACE_PX for s in self._size)
        tokens = self._of_tokens.weights(*self._seen[self._of_tokens])
        image = self._of_image.weights(*self._seen[self._of_image]).transpose(1, 2)
        rows, columns = (-(-s // _PLACE_PX) for s in size)  # without what was continued to a multiple of 32
        return TokenAttention(*(m.unflatten(-1, (height, width))[..., :rows, :columns] for m in (tokens, image)))


@contextlib.contextmanager
def watched(model: torch.nn.Module) -> Iterator[Watch]:
    """Within it, every pass of ``model`` is watched.

    Raises:
        UserError: the model is no SegFace and has no class tokens.
    """
    if not isinstance(model, SegFace):
        raise UserError(
            f"tokens: expected a SegFace, which has a token for each class, got {type(model).__name__}; name the run "
            f"or checkpoint of one"
        )
    watch = Watch(model)
    try:
        yield watch
    finally:
        for hook in watch.hooks:
            hook.remove()

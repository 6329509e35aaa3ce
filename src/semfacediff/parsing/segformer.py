"""SegFormer B0 to B5 as ``transformers`` computes it, under the key names that checkpoints are published with.

Xie et al., "SegFormer: Simple and Efficient Design for Semantic Segmentation with Transformers" (NeurIPS 2021).
"""

import torch.nn.functional as F
from torch import Tensor, nn
from transformers import SegformerConfig, SegformerForSemanticSegmentation

from semfacediff.parsing.registry import IMAGENET_MEAN, IMAGENET_STD, Family, Kind
from semfacediff.parsing.segformer_folder import SIZES
from semfacediff.parsing.segformer_keys import published


def _save_published(module: nn.Module, state: dict[str, Tensor], prefix: str, _metadata: object) -> None:
    for key in [k for k in state if k.startswith(prefix)]:
        state[prefix + published(key.removeprefix(prefix))] = state.pop(key)


def _load_published(module: nn.Module, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    own = [name for named in (module.named_parameters(), module.named_buffers()) for name, _ in named]
    for name in own:
        if name != published(name) and prefix + published(name) in state:
            state[prefix + name] = state.pop(prefix + published(name))


class SegFormer(nn.Module):
    """Normalised float32 [N,3,H,W] -> logits [N,classes,H,W]; any H, W from 32.

    The network sees a quarter of the size; its logits are enlarged bilinearly with ``align_corners=False``.

    Args:
        size: ``b0`` to ``b5``.
    """

    encoder = ("segformer",)

    def __init__(self, classes: int = 19, size: str = "b0"):
        super().__init__()
        # Given in full, so that the library's defaults may change: nothing of it is read from the network.
        config = SegformerConfig(
            num_labels=classes,
            **SIZES[size].config(),
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            classifier_dropout_prob=0.1,
            drop_path_rate=0.1,
            attn_implementation="sdpa",
        )
        net = SegformerForSemanticSegmentation(config)
        self.segformer, self.decode_head = net.segformer, net.decode_head
        self.register_state_dict_post_hook(_save_published)
        self.register_load_state_dict_pre_hook(_load_published)

    def checkpointed(self, on: bool = True) -> "SegFormer":
        """Whether training recomputes a block's activations in the backward pass in place of keeping them."""
        # Later releases of the library call it activation checkpointing, and warn at the older word.
        word = next(w for w in ("activation", "gradient") if hasattr(self.segformer, f"{w}_checkpointing_enable"))
        if on:
            options = {f"{word}_checkpointing_kwargs": {"use_reentrant": False}}
            getattr(self.segformer, f"{word}_checkpointing_enable")(**options)
        else:
            getattr(self.segformer, f"{word}_checkpointing_disable")()
        return self

    def forward(self, x: Tensor) -> Tensor:
        maps = self.segformer(x, output_hidden_states=True).hidden_states
        return F.interpolate(self.decode_head(maps), size=x.shape[-2:], mode="bilinear", align_corners=False)


def _kind(size: str) -> Kind:
    return Kind(
        __name__,
        "SegFormer",
        head="decode_head.classifier.bias",
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        options={"size": size},
        published=published,
        starts="semfacediff.parsing.segformer_folder",
    )


PARSER = Family(_kind, tuple(SIZES))

"""AdamW with groups of parameters: encoder and decoder, with and without weight decay."""

from collections.abc import Iterable
from typing import cast

import torch
from torch import nn

from semfacediff import config


def parameter_groups(model: nn.Module, settings: config.AdamWConfig) -> list[dict]:
    """Up to four groups: (encoder, decoder) x (decayed, not decayed), each with its ``part`` and with ``base_lr``, its
    rate before a schedule.

    ``model.encoder`` names the sub-modules of the encoder. With ``decay_norms_and_biases=false`` every tensor of one
    dimension (biases, scales and shifts of norms) is left out of the decay.
    """
    inside = {id(p) for name in cast(Iterable[str], model.encoder) for p in getattr(model, name).parameters()}
    groups: dict[tuple[bool, bool], dict] = {}
    for p in (p for p in model.parameters() if p.requires_grad):
        encoder = id(p) in inside
        decays = settings.decay_norms_and_biases or p.ndim > 1
        rate = settings.encoder_lr if encoder else settings.decoder_lr
        decay = settings.weight_decay if decays else 0.0
        part = "encoder" if encoder else "decoder"
        empty = {"params": [], "part": part, "lr": rate, "base_lr": rate, "weight_decay": decay}
        groups.setdefault((encoder, decays), empty)["params"].append(p)
    return [groups[key] for key in sorted(groups, reverse=True)]


def adamw(model: nn.Module, settings: config.AdamWConfig) -> torch.optim.AdamW:
    """The optimiser over :func:`parameter_groups`; one fused kernel instead of a dozen a tensor."""
    return torch.optim.AdamW(parameter_groups(model, settings), fused=True)

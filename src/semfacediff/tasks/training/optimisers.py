"""AdamW with groups of parameters: encoder and decoder, with and without weight decay."""

from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class AdamWSettings:
    """Rates, decay and schedule.

    Attributes:
        encoder_lr, decoder_lr: rates before the schedule; "decoder" is everything outside the encoder.
        weight_decay: decoupled. decay_norms_and_biases: also of tensors of one dimension.
        schedule: ``constant``, ``cosine``, ``polynomial`` or ``multistep``; see
            :func:`semfacediff.tasks.training.schedules.rate_factor` for the rest.
    """

    encoder_lr: float
    decoder_lr: float
    weight_decay: float
    decay_norms_and_biases: bool = True
    schedule: str = "cosine"
    warmup_steps: int = 0
    polynomial_power: float = 0.9
    milestones: tuple[int, ...] = ()
    milestone_factor: float = 0.1


def parameter_groups(model: nn.Module, settings: AdamWSettings) -> list[dict]:
    """Up to four groups: (encoder, decoder) x (decayed, not decayed); each has ``base_lr``, its rate before a schedule.

    ``model.encoder`` names the sub-modules of the encoder. With ``decay_norms_and_biases=false`` every tensor of one
    dimension (biases, scales and shifts of norms) is left out of the decay.
    """
    names: tuple[str, ...] = model.encoder  # type: ignore[assignment]  # so every parser class has it
    inside = {id(p) for name in names for p in getattr(model, name).parameters()}
    groups: dict[tuple[bool, bool], dict] = {}
    for p in (p for p in model.parameters() if p.requires_grad):
        encoder = id(p) in inside
        decays = settings.decay_norms_and_biases or p.ndim > 1
        rate = settings.encoder_lr if encoder else settings.decoder_lr
        decay = settings.weight_decay if decays else 0.0
        empty = {"params": [], "lr": rate, "base_lr": rate, "weight_decay": decay}
        groups.setdefault((encoder, decays), empty)["params"].append(p)
    return [groups[key] for key in sorted(groups, reverse=True)]


def adamw(model: nn.Module, settings: AdamWSettings) -> torch.optim.AdamW:
    """The optimiser over :func:`parameter_groups`; one fused kernel instead of a dozen a tensor."""
    return torch.optim.AdamW(parameter_groups(model, settings), fused=True)

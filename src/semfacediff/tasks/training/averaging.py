"""An exponential moving average of a model's weights (Polyak and Juditsky, 1992; decay warmed up as is usual)."""

import copy

import torch
from torch import nn


class MovingAverage:
    """``model`` is a copy whose weights and floating buffers follow those of the model it was made from.

    After k updates the decay is min(``decay``, (1 + k) / (10 + k)): an average over few steps must not remember the
    random start.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay, self.updates = decay, 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move towards ``model``; integer buffers are copied."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        ours, theirs = self.model.state_dict(), model.state_dict()
        moving = [k for k, v in ours.items() if v.is_floating_point()]
        torch._foreach_lerp_([ours[k] for k in moving], [theirs[k] for k in moving], 1 - decay)
        for k in ours.keys() - set(moving):
            ours[k].copy_(theirs[k])
        self.updates += 1

    def state(self) -> dict:
        """What :meth:`restore` needs."""
        return {"updates": self.updates, "weights": self.model.state_dict()}

    def restore(self, state: dict) -> None:
        """Continue from :meth:`state`."""
        self.updates = state["updates"]
        self.model.load_state_dict(state["weights"])

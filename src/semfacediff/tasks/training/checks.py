"""What can be known to fail before a training starts, and what its failures mean."""

import re
from collections.abc import Callable

import torch
from torch import nn

_OUT_OF_MEMORY = re.compile("out of memory|not enough memory|can't allocate memory|ALLOC_FAILED")
"""How allocators say it that raise no error of their own kind: Linux, Windows, MPS, CUDA's libraries."""


def out_of_memory(error: Exception) -> bool:
    """Whether it is an allocator's, whatever its kind."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or bool(_OUT_OF_MEMORY.search(str(error)))


@torch.no_grad()
def single_value_norms(model: nn.Module, size: int) -> list[str]:
    """Names of the batch norms that see 1x1 maps in ``size`` x ``size`` photos: a batch of one cannot train them."""
    found: list[str] = []

    def watch(name: str) -> Callable[[nn.Module, tuple[torch.Tensor, ...]], None]:
        def hook(_module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            if inputs[0].ndim < 3 or inputs[0][0, 0].numel() == 1:
                found.append(name)

        return hook

    norms = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    hooks = [m.register_forward_pre_hook(watch(n)) for n, m in norms]
    training, device = model.training, next(model.parameters()).device
    try:
        model.eval()(torch.zeros(1, 3, size, size, device=device))
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    return found

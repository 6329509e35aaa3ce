"""Cross-entropy with class weights, and the weights."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor


def class_weights(kind: str, counts: Tensor) -> Tensor:
    """float32 ``[C]`` with mean 1, from int64 pixel counts ``[C]``.

    ``inverse`` is 1 / frequency (thesis, section 5.1), ``inverse_sqrt`` its square root, ``none`` all ones. A
    class that was never counted gets the largest weight of the others: it may still occur, and an infinite weight helps
    nobody.
    """
    if kind == "none":
        return torch.ones(len(counts))
    frequency = counts.double() / counts.sum()
    weights = frequency.clamp_min(1e-12) ** (-1.0 if kind == "inverse" else -0.5)
    seen = counts > 0
    weights = torch.where(seen, weights, weights[seen].max())
    return (weights / weights.mean()).float()


def count_pixels(batches: Iterable[tuple[Tensor, Tensor]], classes: int) -> Tensor:
    """int64 ``[C]``: pixels of each class over (photos, labels) batches."""
    counts = torch.zeros(classes, dtype=torch.int64)
    for _, labels in batches:
        counts += torch.bincount(labels.flatten().long(), minlength=classes)
    return counts


def cross_entropy_sums(
    logits: Tensor, labels: Tensor, weights: Tensor, label_smoothing: float
) -> tuple[Tensor, Tensor]:
    """Weighted loss summed over pixels, and the sum of the pixels' weights.

    Dividing the one by the other gives ``torch.nn.functional.cross_entropy``; keeping them apart lets several processes
    normalise by the weight of the *global* batch.

    Args:
        logits: float32 ``[N, C, H, W]``. labels: int64 ``[N, H, W]``. weights: float32 ``[C]``.
    """
    loss = F.cross_entropy(logits, labels, weights, reduction="sum", label_smoothing=label_smoothing)
    return loss, weights[labels].sum()

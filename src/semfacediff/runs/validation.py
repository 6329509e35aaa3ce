"""Scores of a parser between epochs: pooled counts and the training loss."""

from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm

from semfacediff.data.sizes import resized_labels
from semfacediff.labels import LONG_TAIL, LabelSpace
from semfacediff.metrics.segmentation import confusion_matrix, mean_iou
from semfacediff.parsing.predict import ModelParser, landmarks_of
from semfacediff.types import to_tensor


@dataclass(frozen=True)
class Validation:
    """What one pass over the validation part found.

    Attributes:
        confusion: int64 ``[C, C]`` at the labels' own size, rows = truth. images: int64 ``[C]``: photos with the class.
        loss: the training loss at the parser's input size, mean over photos.
        miou: see :func:`semfacediff.metrics.segmentation.mean_iou`. long_tail: mean IoU of the rare accessories that
            occur; NaN if none does.
    """

    confusion: np.ndarray
    images: np.ndarray
    loss: float
    miou: float
    long_tail: float


def long_tail_iou(confusion: np.ndarray, space: LabelSpace) -> float:
    """Mean IoU of glasses, hat, earring and necklace, of those that truth or prediction has; NaN without any."""
    rows = [space.index(c) for c in LONG_TAIL if c in space.classes]
    tp = np.diag(confusion)[rows].astype(np.float64)
    union = confusion.sum(1)[rows] + confusion.sum(0)[rows] - tp
    return float((tp[union > 0] / union[union > 0]).mean()) if (union > 0).any() else float("nan")


@torch.inference_mode()
def validate(parser: ModelParser, faces, criterion, accelerator) -> Validation:
    """One pass over ``faces``, shared between the processes; every process gets the whole outcome.

    Args:
        criterion: ``criterion(logits, labels)`` -> scalar.
    """
    a, n = accelerator, parser.label_space.n
    counts = np.zeros((n + 1, n), np.int64)
    losses = torch.zeros(len(faces), dtype=torch.float64, device=a.device)
    mine = range(a.process_index, len(faces), a.num_processes)
    for i in tqdm(mine, desc="validate", unit="photo", leave=False, disable=not a.is_main_process):
        sample = faces[i]
        logits = parser.logits(to_tensor(sample.photo)[None], landmarks_of(sample, sample.photo.shape[:2]))
        losses[i] = criterion(logits.float(), _labels_like(sample.labels, logits))
        predicted = parser.label_map(logits, sample.labels.shape)[0].numpy()
        counts[:n] += confusion_matrix(sample.labels, predicted, n)
        counts[n] += np.bincount(np.unique(sample.labels), minlength=n)
    summed = a.reduce(torch.from_numpy(counts).to(a.device), "sum").cpu().numpy()
    loss = float(a.reduce(losses, "sum").cpu().numpy().mean())  # one number a photo: the same sum however shared
    confusion = summed[:n]
    return Validation(confusion, summed[n], loss, mean_iou(confusion), long_tail_iou(confusion, parser.label_space))


def _labels_like(labels: np.ndarray, logits: torch.Tensor) -> torch.Tensor:
    """int64 ``[1, h, w]`` at the logits' size, nearest pixel."""
    there = resized_labels(labels, tuple(logits.shape[-2:])).astype(np.int64)
    return torch.from_numpy(there)[None].to(logits.device)

"""Scores of a parser between epochs: pooled counts and the training loss."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from tqdm import tqdm

from semfacediff.data.sizes import resized_labels
from semfacediff.engine.prefetch import grouped, read_ahead
from semfacediff.engine.processes import joined
from semfacediff.labels import LONG_TAIL, LabelSpace
from semfacediff.metrics.photo_counts import sparse
from semfacediff.metrics.segmentation import class_iou, confusion_matrix, mean_iou
from semfacediff.parsing.predict import ModelParser
from semfacediff.types import Faces


@dataclass(frozen=True)
class Validation:
    """What one pass over the validation part found.

    Attributes:
        confusion: int64 ``[C, C]`` at the labels' own size, rows = truth. images: int64 ``[C]``: photos with the class.
        loss: the training loss at the parser's input size, mean over photos.
        miou: see :func:`semfacediff.metrics.segmentation.mean_iou`. long_tail: mean IoU of the rare accessories that
            occur; NaN if none does.
        photos: a row a photo: ``sample_id``, its own ``miou``, ``confusion`` as
            :func:`semfacediff.metrics.photo_counts.sparse` triples.
    """

    confusion: np.ndarray
    images: np.ndarray
    loss: float
    miou: float
    long_tail: float
    photos: list[dict]

    @property
    def iou(self) -> np.ndarray:
        """float64 ``[C]`` in [0,1]: of each class; NaN for one that neither truth nor prediction has."""
        return class_iou(self.confusion.diagonal(), self.confusion.sum(1), self.confusion.sum(0))


def long_tail_iou(confusion: np.ndarray, space: LabelSpace) -> float:
    """Mean IoU of glasses, hat, earring and necklace, of those that truth or prediction has; NaN without any."""
    rows = [space.index(c) for c in LONG_TAIL if c in space.classes]
    tp = np.diag(confusion)[rows].astype(np.float64)
    union = confusion.sum(1)[rows] + confusion.sum(0)[rows] - tp
    return float((tp[union > 0] / union[union > 0]).mean()) if (union > 0).any() else float("nan")


@torch.inference_mode()
def validate(
    parser: ModelParser,
    faces: Faces,
    criterion: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    accelerator: Accelerator,
    workers: int = 0,
    at_once: int = 1,
) -> Validation:
    """One pass over ``faces``, shared between the processes; every process gets the whole outcome.

    Args:
        criterion: ``criterion(logits, labels)`` -> scalar.
        workers: threads that decode.
        at_once: photos that go through the network together. One by one, no photo's numbers depend on its neighbours.
    """
    a, n = accelerator, parser.label_space.n
    counts = np.zeros((n + 1, n), np.int64)
    mine = range(a.process_index, len(faces), a.num_processes)
    samples = tqdm(
        read_ahead(faces, mine, workers, ahead=2 * at_once),
        *("validate", len(mine)),
        unit="photo",
        leave=False,
        disable=not a.is_main_process or None,
    )
    losses, photos = [], []
    for group in grouped(samples, at_once):
        for sample, logits in zip(group, parser.logits_of(group).split(1), strict=True):
            truth = sample.label_map
            losses.append(criterion(logits, _labels_like(truth, logits)))
            predicted = parser.label_map(logits, truth.shape)[0].numpy()
            confusion = confusion_matrix(truth, predicted, n)
            photos.append({"sample_id": sample.id, "miou": mean_iou(confusion), "confusion": sparse(confusion)})
            counts[:n] += confusion
            counts[n] += np.bincount(np.unique(truth), minlength=n)
    summed = a.reduce(torch.from_numpy(counts).to(a.device), "sum").cpu().numpy()
    # One number a photo, in float64 on the host: the same sum however the photos were shared.
    loss = float(joined(len(faces), mine, torch.tensor(losses).tolist()).mean())
    every = sorted(gather_object(photos), key=lambda row: row["sample_id"])
    scores = mean_iou(summed[:n]), long_tail_iou(summed[:n], parser.label_space)
    return Validation(summed[:n], summed[n], loss, *scores, every)


def _labels_like(labels: np.ndarray, logits: torch.Tensor) -> torch.Tensor:
    """int64 ``[1, h, w]`` at the logits' size, nearest pixel."""
    height, width = logits.shape[-2:]
    there = resized_labels(labels, (height, width)).astype(np.int64)
    return torch.from_numpy(there)[None].to(logits.device)

"""One pass of a parser over photos with labels: a row a photo, and what is written of all rows together.

Evaluation (``task=parsing``) and the test part at the end of a training score through these functions.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from semfacediff.data.sizes import resized_labels, resized_photo, scored_size
from semfacediff.engine.prefetch import read_ahead
from semfacediff.labels import LabelSpace, conversion
from semfacediff.metrics.photo_counts import PhotoCounts, confusion_table, identities, photo_counts, sparse, summary
from semfacediff.metrics.segmentation import (
    HELEN_REGIONS,
    ParsingProtocol,
    class_scores,
    confusion_matrix,
    region_scores,
)
from semfacediff.parsing import Parser
from semfacediff.parsing.predict import landmarks_of
from semfacediff.records.samples import OK, write_csv, write_parquet
from semfacediff.types import Faces, FaceSample, to_tensor

Criterion = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(logits float32 ``[1, C, H, W]``, labels int64 ``[1, H, W]``) -> (loss summed over pixels, sum of their weights)."""


def pixel_cross_entropy(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Plain cross-entropy in nats: no class weights, no smoothing."""
    each = F.cross_entropy(logits, labels, reduction="none").cpu().double()
    return each.sum(), torch.tensor(each.numel(), dtype=torch.float64)


class PhotoScorer:
    """Scores one photo at a time; see docs/protocols.md for what a protocol sets.

    Args:
        parser: a network's logits are resized to the scored size and argmax is taken there; any other parser gives
            label maps at that size.
        space: of the data's labels; the parser's own are converted by class name.
        criterion: loss of logits at the scored size.

    Raises:
        UserError: the parser has classes that the data's space lacks.
    """

    def __init__(
        self,
        parser: Parser,
        space: LabelSpace,
        protocol: ParsingProtocol = "strict",
        criterion: Criterion = pixel_cross_entropy,
    ):
        self.parser, self.space, self.protocol, self.criterion = parser, space, protocol, criterion
        self.network = parser.network()
        self.to_data = conversion(parser.label_space, space)
        channels = np.argsort(self.to_data)
        one_to_one = np.array_equal(self.to_data[channels], np.arange(space.n))
        # A network without a class of the data gives it no probability, and so no finite loss.
        self.channels = torch.from_numpy(channels) if one_to_one else None

    @property
    def uses_landmarks(self) -> bool:
        """Whether rows say if the photo had landmarks for the parser (``landmarks``)."""
        return self.network is not None and self.network.card.uses_landmarks

    @property
    def gives_loss(self) -> bool:
        """Whether rows carry a loss."""
        return self.network is not None and self.channels is not None

    def row(self, sample: FaceSample) -> dict:
        """The sample's row: its id, scores, counts and loss, all at the protocol's size.

        Under ``segface``, ``confusion_native`` holds the counts at the labels' own size beside ``confusion``.
        """
        photo, labels = self._prepared(sample)
        logits = self._logits(sample, photo)
        predicted, loss = self._scored(sample, logits, labels)
        row = {"sample_id": sample.id, "status": OK, **photo_counts(labels, predicted, self.space.n), **loss}
        if self.protocol == "segface":
            native, _ = self._scored(sample, logits, sample.label_map)
            row["confusion_native"] = sparse(confusion_matrix(sample.label_map, native, self.space.n))
        if self.uses_landmarks:
            row["landmarks"] = sample.landmarks is not None
        return row | {"error": None}

    def parsed(self, sample: FaceSample) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(photo uint8 ``[h, w, 3]``, truth and prediction ``[H, W]``) as :meth:`row` compares them."""
        photo, labels = self._prepared(sample)
        return photo, labels, self._scored(sample, self._logits(sample, photo), labels)[0]

    def _prepared(self, sample: FaceSample) -> tuple[np.ndarray, np.ndarray]:
        """Photo and labels as the protocol gives them to the parser and to the count."""
        own_size = self.network.card.input_size if self.network else None
        size = scored_size(self.protocol, sample.label_map.shape, own_size)
        photo = sample.photo
        if self.protocol == "segface":
            photo = resized_photo(photo, size, Image.Resampling.BICUBIC)
        return photo, resized_labels(sample.label_map, size)

    def _logits(self, sample: FaceSample, photo: np.ndarray) -> Tensor | None:
        if self.network is None:
            return None
        return self.network.logits(to_tensor(photo)[None], landmarks_of(sample, photo.shape[:2]))

    @torch.inference_mode()
    def _scored(self, sample: FaceSample, logits: Tensor | None, labels: np.ndarray) -> tuple[np.ndarray, dict]:
        """Predicted labels in the data's space, of the size of ``labels``; loss and its weight."""
        if logits is None:
            found = self.parser.before(sample, torch.empty(3, *labels.shape))
            return self.to_data[found.numpy()], {"loss": None, "loss_weight": None}
        if tuple(logits.shape[-2:]) != labels.shape:
            logits = F.interpolate(logits, size=labels.shape, mode="bilinear", align_corners=False)
        predicted = self.to_data[logits.argmax(1)[0].cpu().numpy()]
        if self.channels is None:
            return predicted, {"loss": None, "loss_weight": None}
        truth = torch.from_numpy(labels.astype(np.int64))[None].to(logits.device)
        total, weight = (float(x) for x in self.criterion(logits[:, self.channels.to(logits.device)], truth))
        return predicted, {"loss": total / weight if weight else None, "loss_weight": weight}


def score_faces(
    parser: Parser,
    faces: Faces,
    protocol: ParsingProtocol = "strict",
    criterion: Criterion = pixel_cross_entropy,
    indices: Iterable[int] | None = None,
    workers: int = 0,
    label: str = "score",
    quiet: bool = False,
) -> list[dict]:
    """Rows of :meth:`PhotoScorer.row` over a data set with labels, in the order of ``indices``.

    Rows are plain data: those of several processes may be gathered in any order before :func:`write_scores`.

    Args:
        faces: map-style data set with ``label_space``. indices: of the samples to score; all by default.
        label, quiet: of the progress bar.
    """
    scorer = PhotoScorer(parser, faces.label_space, protocol, criterion)
    todo = list(range(len(faces)) if indices is None else indices)
    bar = tqdm(read_ahead(faces, todo, workers), label, len(todo), unit="photo", leave=False, disable=quiet or None)
    return [scorer.row(sample) for sample in bar]


def parsing_summary(rows: Sequence[dict], space: LabelSpace, protocol: ParsingProtocol, seed: int) -> pd.DataFrame:
    """``summary.csv`` from rows; under ``segface`` with IoU and F1 at the labels' own size in columns of their own.

    There Helen has a row a merged region as well.
    """
    counts = PhotoCounts.of(rows, space.n)
    table = summary(counts, space.classes, seed, protocol)
    if protocol == "segface":
        native = PhotoCounts.of(rows, space.n, "confusion_native")
        scores = class_scores(native.confusion, space.classes, native.images, protocol)
        if space.name == "helen":
            table, scores = (
                pd.concat([of, region_scores(c.confusion, space.classes, HELEN_REGIONS)], ignore_index=True)
                for of, c in ((table, counts), (scores, native))
            )
        scores = scores.set_index("class")
        for column in ("iou", "f1"):
            table[f"{column}_native"] = table["class"].map(scores[column])
    return table


def write_scores(rows: Sequence[dict], space: LabelSpace, protocol: ParsingProtocol, seed: int, folder: Path) -> None:
    """Write ``samples.parquet`` (rows as they come), ``summary.csv`` and ``confusion.csv`` into ``folder``."""
    write_parquet(pd.DataFrame(list(rows)), folder / "samples.parquet")
    write_csv(parsing_summary(rows, space, protocol, seed), folder / "summary.csv")
    counts = PhotoCounts.of(rows, space.n)
    write_csv(confusion_table(counts.confusion, space.classes), folder / "confusion.csv")


_SECONDS, _PASSES = 1.0, (3, 10)
"""A speed is measured for about so long, in at least and at most so many passes."""


def speed_facts(parser: Parser) -> dict:
    """``photos_per_s`` of a network, from photo to label map, one by one at its input size; empty of other parsers.

    The median of a few passes after one that does not count, with nothing beside them.
    """
    network = parser.network()
    if network is None:
        return {}
    photo = torch.full((1, 3, *(network.card.input_size,) * 2), 0.5)
    network.predict(photo)
    taken: list[float] = []
    while len(taken) < _PASSES[0] or (len(taken) < _PASSES[1] and sum(taken) < _SECONDS):
        start = time.perf_counter()
        network.predict(photo)  # its answer is on the CPU, so that a device has come to the end of its work
        taken.append(time.perf_counter() - start)
    return {"photos_per_s": 1 / float(np.median(taken))}


def landmark_facts(rows: Sequence[dict]) -> dict:
    """How many photos were parsed without landmarks by a parser that is given some; empty of another parser."""
    told = [row["landmarks"] for row in rows if "landmarks" in row]
    return {"without_landmarks": told.count(False)} if told else {}


def scores_identity(
    scorer: PhotoScorer, seed: int, n: int, loss: str = "cross-entropy, mean over pixels, in nats"
) -> list[dict[str, object]]:
    """``metrics`` of ``run.json``: what the numbers depend on.

    Args:
        n: photos. loss: what the scorer's criterion is.
    """
    return identities(seed, n, loss if scorer.gives_loss else None)

"""What is done with one edit once it is made: composite, parse again, measure, save."""

import functools
import hashlib
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from semfacediff import config
from semfacediff.editing.base import EditRequest
from semfacediff.editing.composite import check_outside, composite
from semfacediff.metrics.base import EditPair, Metric
from semfacediff.parsing import Parser
from semfacediff.records.writing import write_bytes
from semfacediff.regions import attribute_region
from semfacediff.runs.edit_rows import Cell, checked_edit, edit_file, encoded_png, failure
from semfacediff.types import FaceSample, to_tensor, to_uint8


@dataclass(frozen=True)
class Parsed:
    """A photo at the working size with its parse; made once, used for every attribute.

    ``photo`` is uint8 ``[H, W, 3]``, ``labels`` int64 ``[H, W]``; ``facts`` are columns that say whose face it is.
    """

    sample: FaceSample
    photo: np.ndarray
    labels: torch.Tensor
    parse_s: float
    facts: dict[str, float | str | None]

    @functools.cached_property
    def image(self) -> torch.Tensor:
        """The photo as float32 ``[3, H, W]`` in [0, 1]."""
        return to_tensor(self.photo)


@dataclass(frozen=True)
class Task:
    """One cell of one photo, on its way from the mask to the row.

    Attributes:
        row: what is known of it so far; all of it, where there is no ``request``.
        before_s: seconds of parse, mask and edit.
        edit: what the editor returned or raised. note: what it says of it.
        peak_mib: most memory that was in use while it worked.
    """

    row: dict
    cell: Cell
    parsed: Parsed | None = None
    request: EditRequest | None = None
    before_s: float = 0.0
    edit: torch.Tensor | Exception | None = None
    note: str | None = None
    peak_mib: float | None = None


@dataclass(frozen=True)
class Made:
    """An edit that was scored.

    ``photo`` is uint8 ``[H, W, 3]`` after the composite, ``blend`` uint8 ``[H, W]``, ``labels`` the edit's parse
    (int64 ``[H, W]``; ``None`` if the parser has no opinion), which took ``parse_s`` seconds.
    """

    photo: np.ndarray
    blend: np.ndarray
    labels: torch.Tensor | None
    parse_s: float


class EditScorer:
    """Scores edits one at a time; any number of threads may do so at once.

    Args:
        folder: where ``edits/`` goes.
    """

    def __init__(self, settings: config.EditingEvaluation, parser: Parser, metrics: list[Metric], folder: Path):
        self.settings, self.parser, self.metrics, self.folder = settings, parser, metrics, folder

    def finished(self, task: Task) -> tuple[dict, Made | None]:
        """The task's whole row, and the edit unless there is none or something failed, which the row then says.

        Raises:
            UserError: the edit cannot be written.
        """
        if task.request is None:
            return task.row, None
        row = task.row | {"latency_s": task.before_s, "peak_memory_mib": task.peak_mib}
        try:
            scores, made = self._scored(task)
        except Exception as e:  # one bad sample must not cost the others
            return row | failure(e), None
        write_bytes(edit_file(self.folder, task.cell.name, task.request.sample_id), encoded_png(made.photo))
        digest = hashlib.sha256(made.photo.tobytes()).hexdigest()[:16]
        return row | scores | {"note": self._note(task), "edit_sha256": digest}, made

    def _scored(self, task: Task) -> tuple[dict, Made]:
        """Columns after the composite and (``_raw``) before it."""
        if isinstance(task.edit, Exception):
            raise task.edit
        photo, masks = task.parsed.photo, task.request.masks
        raw = to_uint8(checked_edit(task.edit, task.request.photo))
        blend = np.rint(masks.blend[0].numpy() * 255).astype(np.uint8)
        final = composite(photo, raw, blend, self.settings.composite, self.settings.seam)
        if self.settings.composite == "exact":
            check_outside(photo, final, blend)
        scores, made = self._measured_edit(task, final, blend)
        raw_scores = scores if np.array_equal(raw, final) else self._measured_edit(task, raw, blend)[0]
        return scores | {f"{name}_raw": value for name, value in raw_scores.items()}, made

    def _measured_edit(self, task: Task, edit: np.ndarray, blend: np.ndarray) -> tuple[dict, Made]:
        p, cell = task.parsed, task.cell
        start = time.perf_counter()
        after = self.parser.after(p.sample, cell.attribute, to_tensor(edit))
        seconds = time.perf_counter() - start
        scores = self.measured(p, cell.attribute, cell.words.prompt, edit, blend, after)
        return scores, Made(edit, blend, after, seconds)

    def measured(
        self,
        p: Parsed,
        attribute: str,
        prompt: str,
        edit: np.ndarray,
        blend: np.ndarray,
        after: torch.Tensor | None,
    ) -> dict[str, float | None]:
        """Every metric of ``edit`` (uint8 ``[H, W, 3]``, with the parse ``after``) against the photo ``p``."""
        space = self.parser.label_space
        pair = EditPair(
            photo=p.photo,
            edit=edit,
            blend=blend,
            before=attribute_region(p.labels, attribute, space),
            after=None if after is None else attribute_region(after, attribute, space),
            prompt=prompt,
            attribute=attribute,
            labels_before=p.labels.numpy(),
            labels_after=None if after is None else after.numpy(),
            space=space,
        )
        return {k: v for metric in self.metrics for k, v in metric.score(pair).items()}

    def _note(self, task: Task) -> str | None:
        said = [task.note, *(metric.note(task.cell.words.prompt) for metric in self.metrics)]
        return "; ".join(filter(None, said)) or None

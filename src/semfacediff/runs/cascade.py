"""Edits applied one after another: every stage edits what the one before it made (see docs/cascades.md)."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from tqdm import tqdm

from semfacediff import config
from semfacediff.editing.base import Editor
from semfacediff.errors import UserError
from semfacediff.records.samples import ERROR
from semfacediff.regions import region_masks
from semfacediff.runs.editing_bench import COLUMNS, Cell, EditingBench, Made, Parsed, edit_file, failure
from semfacediff.runs.prompting import PromptRules, Told, told
from semfacediff.types import FaceSample, to_tensor

STAGE_KEY = ("sample_id", "stage")
TOTALS = tuple(f"{name}_total" for name in "lpips ssim iou clip psnr_outside max_abs_outside".split())
STAGE_COLUMNS = ("sample_id", "stage", *COLUMNS[1:], "strength", *TOTALS)


def staged(
    stages: Sequence[config.StageConfig], negatives: Mapping[str, str], rules: PromptRules, editor: Editor
) -> tuple[list[Cell], list[Told]]:
    """Cells of a cascade, in the order in which they are applied, and what the editor is told of each.

    Args:
        negatives: attribute -> the user's negative prompt, for stages without one of their own.

    Raises:
        UserError: a prompt is too long for the editor, or one that the editor cannot follow.
    """
    each = []
    for i, stage in enumerate(stages, 1):
        own = negatives.get(stage.attribute) if stage.negative_prompt is None else stage.negative_prompt
        place = f"of stage {i} ('{stage.attribute}')"
        each.append(told(stage.attribute, stage.prompt, own, rules, editor, place))
        editor.check({stage.attribute: each[-1].words.read})
    before = [[s.attribute for s in stages[:i]].count(s.attribute) for i, s in enumerate(stages)]
    cells = [
        Cell(stage.attribute, one.words, stage.strength, number, nth)
        for number, (stage, one, nth) in enumerate(zip(stages, each, before, strict=True), 1)
    ]
    return cells, each


@dataclass
class _Way:
    """How far a photo has come through the cascade.

    Attributes:
        start: the photo as it was given.
        now: what the next stage edits: the photo after the stages so far, and the parse its mask is made from.
        blend: uint8 ``[H, W]``: union of the blend masks so far.
        prompts: of the stages that edited it.
    """

    start: Parsed
    now: Parsed
    blend: np.ndarray
    prompts: list[str]


class CascadeBench(EditingBench):
    """The editing benchmark where every cell edits what the cell before it made.

    Columns of a stage score it against the photo it was given; ``*_total`` against the photo as it lies in the data
    set, outside the union of all blend masks so far, with the prompts of all stages joined.
    """

    key, columns = STAGE_KEY, STAGE_COLUMNS

    def key_of(self, sample_id: str, cell: Cell) -> tuple:
        return sample_id, cell.stage

    def _batch(self, samples: list[FaceSample], bar: tqdm) -> None:
        ways = {w.start.sample.id: w for s in samples if (w := self._begun_or_failed(s, bar)) is not None}
        for cell in self.cells:
            waiting = [w.now for id_, w in ways.items() if self.key_of(id_, cell) not in self.log.done]
            for row, made in self._edited(waiting, cell):
                way = ways[row["sample_id"]]
                if made is not None:
                    row = self._with_totals(row, way, cell, made)
                self._keep(row, bar)
                if row["status"] == ERROR:
                    self._abandon(ways.pop(row["sample_id"]), cell, bar)
                elif made is not None:
                    self._advance(way, cell, made)

    def _begun_or_failed(self, sample: FaceSample, bar: tqdm) -> _Way | None:
        """The photo with the stages that are in the log behind it; ``None`` (and its errors kept) if that fails."""
        parsed = self._parsed_or_failed(sample, bar)
        if parsed is None:
            return None
        way = _Way(parsed, parsed, np.zeros(parsed.photo.shape[:2], np.uint8), [])
        try:
            for cell in self.cells:
                if self.key_of(sample.id, cell) in self.log.done:
                    self._replay(way, cell)
        except UserError:
            raise
        except Exception as e:  # one bad sample must not cost the others
            for cell in self.open(sample.id):
                self._keep(self._facts(sample.id, cell) | failure(e), bar)
            return None
        return way

    def _replay(self, way: _Way, cell: Cell) -> None:
        """Bring ``way`` to where it was after a stage of an earlier sitting, from the edit on the disk."""
        sample = way.start.sample
        row = next(row for row in self.log.rows if self.log.key_of(row) == self.key_of(sample.id, cell))
        if row["latency_s"] is None:
            return  # an empty region: the stage left the photo as it was
        file = edit_file(self.folder, cell.name, sample.id)
        pixels = cv2.imread(str(file)) if file.is_file() else None
        if pixels is None:
            raise UserError(f"{file}: what stage {cell.stage} made of {sample.id} is gone; start in a new folder")
        photo = np.ascontiguousarray(pixels[..., ::-1])
        masks = region_masks(way.now.labels, cell.attribute, self.parser.label_space, self.rule)
        blend = np.rint(masks.blend[0].numpy() * 255).astype(np.uint8)
        labels = self.parser.after(sample, cell.attribute, to_tensor(photo)) if self._reparses else None
        self._advance(way, cell, Made(photo, blend, labels, 0.0))

    @property
    def _reparses(self) -> bool:
        return self.settings.cascade.reparse

    def _advance(self, way: _Way, cell: Cell, made: Made) -> None:
        labels, seconds = (made.labels, made.parse_s) if self._reparses else (way.start.labels, 0.0)
        way.now = dataclasses.replace(way.now, photo=made.photo, labels=labels, parse_s=seconds)
        way.blend = np.maximum(way.blend, made.blend)
        way.prompts = [*way.prompts, cell.words.prompt]

    def _with_totals(self, row: dict, way: _Way, cell: Cell, made: Made) -> dict:
        """``row`` with its ``*_total`` columns, or the row of a failure if they cannot be measured."""
        if not way.prompts:  # nothing was edited before: the photo it was given is the photo as it lies
            return row | {name: row.get(name.removesuffix("_total")) for name in TOTALS}
        prompt, blend = ", ".join([*way.prompts, cell.words.prompt]), np.maximum(way.blend, made.blend)
        try:
            scores = self.measured(way.start, cell.attribute, prompt, made.photo, blend, made.labels)
        except Exception as e:  # one bad sample must not cost the others
            return row | failure(e)
        return row | {f"{name}_total": value for name, value in scores.items()}

    def _abandon(self, way: _Way, failed: Cell, bar: tqdm) -> None:
        """Say of every later stage that there is nothing to edit."""
        id_ = way.start.sample.id
        for cell in self.open(id_):
            if cell.stage > failed.stage:
                reason = RuntimeError(f"stage {failed.stage} ({failed.attribute}) failed")
                self._keep(self._facts(id_, cell) | failure(reason), bar)

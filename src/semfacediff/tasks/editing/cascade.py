"""Edits applied one after another: every stage edits what the one before it made (see docs/cascades.md)."""

import dataclasses
import itertools
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from semfacediff import config
from semfacediff.editing.apply import EditSpec, mask_bytes
from semfacediff.editing.base import Editor
from semfacediff.errors import UserError
from semfacediff.records.samples import ERROR
from semfacediff.tasks.editing.bench import EditingBench
from semfacediff.tasks.editing.prompts import PromptRules, ResolvedPrompt, resolve_prompt
from semfacediff.tasks.editing.sample_row import COLUMNS, STAGE_KEY, Parsed, ScoredEdit, edit_file, failure
from semfacediff.types import FaceSample, to_tensor

TOTALS = tuple(f"{name}_total" for name in "lpips ssim iou clip psnr_outside max_abs_outside".split())
STAGE_COLUMNS = ("sample_id", "stage", *COLUMNS[1:], "strength", *TOTALS)


def staged(
    stages: Sequence[config.StageConfig], negatives: Mapping[str, str], rules: PromptRules, editor: Editor
) -> tuple[list[EditSpec], list[ResolvedPrompt]]:
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
        each.append(resolve_prompt(stage.attribute, stage.prompt or "", own, rules, editor, place))
        editor.check({stage.attribute: each[-1].words.read})
    before = [[s.attribute for s in stages[:i]].count(s.attribute) for i, s in enumerate(stages)]
    specs = [
        EditSpec(stage.attribute, one.words, stage.strength, number, nth)
        for number, (stage, one, nth) in enumerate(zip(stages, each, before, strict=True), 1)
    ]
    return specs, each


@dataclass
class CascadeState:
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
    """The editing benchmark where every edit starts from what the one before it made.

    Columns of a stage score it against the photo it was given; ``*_total`` against the photo as it lies in the data
    set, outside the union of all blend masks so far, with the prompts of all stages joined.
    """

    key, columns = STAGE_KEY, STAGE_COLUMNS

    def key_of(self, sample_id: str, spec: EditSpec) -> tuple:
        return sample_id, spec.stage

    def _rows(
        self, photos: Iterable[tuple[FaceSample, Parsed | Exception]], pool: Executor, ahead: int
    ) -> Iterator[dict]:
        photos = iter(photos)
        while batch := list(itertools.islice(photos, self.settings.runtime.batch_size)):
            yield from self._through_all_stages(batch, pool, ahead)

    def _through_all_stages(
        self, photos: list[tuple[FaceSample, Parsed | Exception]], pool: Executor, ahead: int
    ) -> Iterator[dict]:
        """Rows of some photos, stage by stage; the photos of a stage are edited and scored side by side."""
        states, failed = self._begun(photos)
        yield from failed
        for spec in self.specs:
            waiting = [w.now for id_, w in states.items() if spec in self.open(id_)]
            tasks = (self._task(p.sample, p, spec) for p in waiting)
            for row, made in self._finished(tasks, pool, ahead):
                state = states[row["sample_id"]]
                if made is not None:
                    row = self._with_totals(row, state, spec, made)
                yield row
                if row["status"] == ERROR:
                    yield from self._abandoned(states.pop(row["sample_id"]), spec)
                elif made is not None:
                    self._advance(state, spec, made)

    def _begun(self, photos: list[tuple[FaceSample, Parsed | Exception]]) -> tuple[dict[str, CascadeState], list[dict]]:
        """(id -> the photo with the stages of an earlier sitting behind it, rows of the photos where that failed)."""
        states, failed = {}, []
        for sample, parsed in photos:
            error = parsed if isinstance(parsed, Exception) else None
            try:
                if not isinstance(parsed, Exception):
                    states[sample.id] = self._continued(parsed)
            except UserError:
                raise
            except Exception as e:  # one bad sample must not cost the others
                error = e
            if error is not None:
                failed += [self.failed(sample.id, spec, error).row for spec in self.open(sample.id)]
        return states, failed

    def _continued(self, parsed: Parsed) -> CascadeState:
        state = CascadeState(parsed, parsed, np.zeros(parsed.photo.shape[:2], np.uint8), [])
        for spec in self.specs:  # a stage whose region was empty left the photo as it was
            if self.earlier.get(self.key_of(parsed.sample.id, spec)):
                self._replay(state, spec)
        return state

    def _replay(self, state: CascadeState, spec: EditSpec) -> None:
        """Bring ``state`` to where it was after a stage that an earlier sitting edited, from the edit on the disk."""
        sample = state.start.sample
        file = edit_file(self.folder, spec.name, sample.id)
        pixels = cv2.imread(str(file)) if file.is_file() else None
        if pixels is None:
            raise UserError(f"{file}: what stage {spec.stage} made of {sample.id} is gone; start in a new folder")
        photo = np.ascontiguousarray(pixels[..., ::-1])
        masks = self.rules.masks(sample, state.now.labels, spec.attribute, self.parser.label_space)
        seen = self._reparses or self.judge is not self.parser
        labels = self.judge.after(sample, spec.attribute, to_tensor(photo)) if seen else None
        self._advance(state, spec, ScoredEdit(photo, mask_bytes(masks.blend), labels, 0.0))

    @property
    def _reparses(self) -> bool:
        return self.settings.cascade is not None and self.settings.cascade.reparse

    def _advance(self, state: CascadeState, spec: EditSpec, made: ScoredEdit) -> None:
        labels, seconds = self._parsed_stage(state, spec, made) if self._reparses else (state.start.labels, 0.0)
        if labels is None:
            raise UserError("cascade.reparse=true needs a parser that parses edits; set cascade.reparse=false")
        judged = labels if self.judge is self.parser else made.labels
        if judged is None:
            raise UserError("judge: expected a parser that parses edits; name one that does, or set judge=mask")
        state.now = dataclasses.replace(state.now, photo=made.photo, labels=labels, parse_s=seconds, judged=judged)
        state.blend = np.maximum(state.blend, made.blend)
        state.prompts = [*state.prompts, spec.words.prompt]

    def _parsed_stage(self, state: CascadeState, spec: EditSpec, made: ScoredEdit) -> tuple[torch.Tensor | None, float]:
        """(parse of the edit that masks are made of, its seconds): the judge's, unless that is another parser."""
        if self.judge is self.parser:
            return made.labels, made.parse_s
        start = time.perf_counter()
        labels = self.parser.after(state.start.sample, spec.attribute, to_tensor(made.photo))
        return labels, time.perf_counter() - start

    def _with_totals(self, row: dict, state: CascadeState, spec: EditSpec, made: ScoredEdit) -> dict:
        """``row`` with its ``*_total`` columns, or the row of a failure if they cannot be measured."""
        if not state.prompts:  # nothing was edited before: the photo it was given is the photo as it lies
            return row | {name: row.get(name.removesuffix("_total")) for name in TOTALS}
        prompt, blend = ", ".join([*state.prompts, spec.words.prompt]), np.maximum(state.blend, made.blend)
        try:
            scores = self.scorer.measured(state.start, spec, prompt, made.photo, blend, made.labels)
        except Exception as e:  # one bad sample must not cost the others
            return row | failure(e)
        return row | {f"{name}_total": value for name, value in scores.items()}

    def _abandoned(self, state: CascadeState, failed: EditSpec) -> Iterator[dict]:
        """Rows that say of every later stage that there is nothing to edit."""
        id_ = state.start.sample.id
        reason = RuntimeError(f"stage {failed.stage} ({failed.attribute}) failed")
        later = self.specs[self.specs.index(failed) + 1 :]
        yield from (self.failed(id_, spec, reason).row for spec in self.open(id_) if spec in later)

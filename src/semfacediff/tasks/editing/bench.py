"""Parse, mask, edit, score: the editing benchmark, photo by photo; scoring goes on beside the next edits."""

import dataclasses
import functools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from torch import Tensor
from tqdm import tqdm

from semfacediff import config
from semfacediff.data.sizes import at_working_size
from semfacediff.editing.apply import EditRules, EditSpec, edits_of
from semfacediff.editing.base import Editor
from semfacediff.engine.peak_memory import peak_memory_mib, reset_peak_memory
from semfacediff.engine.prefetch import grouped, in_order, one_core_each, read_ahead, torch_threads
from semfacediff.engine.processes import agreed, in_turn, processes
from semfacediff.errors import UserError
from semfacediff.metrics.effect import source_distance
from semfacediff.metrics.face_facts import face_facts
from semfacediff.metrics.opening import Metrics
from semfacediff.metrics.overall import OVERALL
from semfacediff.records.samples import SampleLog
from semfacediff.regions import attribute_region
from semfacediff.tasks.editing.sample_row import (
    COLUMNS,
    KEY,
    REPEAT_KEY,
    TASK_COLUMNS,
    EditScorer,
    Parsed,
    Parsers,
    ScoredEdit,
    Task,
    failure,
    inputs_fingerprint,
    mask_facts,
    still_valid,
)
from semfacediff.types import Faces, FaceSample, to_tensor


@dataclass(frozen=True)
class Plan:
    """What every photo is edited to.

    Attributes:
        specs: one an attribute, or a stage of a cascade.
        by_photo: of a task set, id -> its photo's own edits, in that order; ``None``: ``specs`` are every photo's.
    """

    specs: Sequence[EditSpec]
    by_photo: Mapping[str, Sequence[EditSpec]] | None = None

    def of(self, sample_id: str) -> Sequence[EditSpec]:
        """The edits of one photo."""
        return self.specs if self.by_photo is None else self.by_photo.get(sample_id, ())


class EditingBench:
    """The editing benchmark of one run; reads like the method section.

    Its stages are generators, each drawing from the one before: what is in memory at a time does not grow with the
    number of photos. In flight are ``runtime.batch_size`` edits with the editor, twice as many as there are workers
    with the scorer, two parsed photos, and the few that are read ahead.

    Args:
        faces: map-style data set. folder: where ``samples.jsonl`` and ``edits/`` go.
        metrics: what is measured of each edit, and the floor of mask IoU.
        plan: what every photo is edited to.
        state: the processes that share the work; the first one has the ``log``, in the others it is ``None``.
    """

    doing = "edit"
    key: tuple[str, ...] = KEY
    columns: Sequence[str] = COLUMNS

    def __init__(
        self,
        settings: config.EditingEvaluation,
        faces: Faces,
        parsers: Parsers,
        editor: Editor,
        metrics: Metrics,
        folder: Path,
        plan: Plan,
        state: PartialState | None = None,
    ):
        self.settings, self.faces, self.editor, self.floor = settings, faces, editor, metrics.floor
        self.parser, self.judge = parsers
        self.folder, self.plan, self.state = folder, plan, state or processes(torch.device("cpu"))
        self.rules, self._editor_threads = EditRules.of(settings), torch.get_num_threads()
        if settings.editor.repeats > 1:
            self.key, self.columns = REPEAT_KEY, (*REPEAT_KEY, *COLUMNS[len(KEY) :])
        others = [c for metric in metrics.each for c in metric.columns if c not in self.columns]
        self.scorer = EditScorer(self.rules, parsers, metrics.each, folder, settings.save_raw, metrics.overall)
        raw = (*(f"{c}_raw" for c in others), *self.scorer.registered_columns)
        of_tasks = () if plan.by_photo is None else TASK_COLUMNS
        of_photo = self.floor.columns if self.floor else ()
        of_row = (OVERALL,) if metrics.overall else ()
        self.log_columns = (*self.columns, *of_tasks, *others, *raw, *of_photo, *of_row)
        self.log = self.opened_log() if self.state.is_main_process else None
        edited = {self.log.key_of(row): row["latency_s"] is not None for row in self.log} if self.log else None
        self.earlier: dict[tuple, bool] = agreed(self.state, edited)
        """Key of a row of an earlier sitting -> whether there was anything to edit."""

    @property
    def specs(self) -> Sequence[EditSpec]:
        """One an attribute, or a stage of a cascade; of a task set without words."""
        return self.plan.specs

    def opened_log(self) -> SampleLog:
        """The log with the rows of earlier sittings that are still valid."""
        valid = still_valid(Parsers(self.parser, self.judge), self.editor, self.rules.own_masks)
        return SampleLog(self.folder / "samples.jsonl", self.key, valid)

    def keep(self, row: dict) -> None:
        """Add a row to the log."""
        self.kept_log.append({c: row.get(c) for c in self.log_columns})

    @property
    def kept_log(self) -> SampleLog:
        """The log, in the process that keeps it."""
        if self.log is None:
            raise RuntimeError("the log is kept by the first process")
        return self.log

    def run(self, heard: Callable[[dict], None] | None = None) -> None:
        """Everything that is not in the log yet, made by all processes; ``heard`` gets every row that was logged."""
        todo = [i for i, id_ in enumerate(self.faces.ids) if self.open(id_)]
        if todo:
            self.editor.prepare()
        total = sum(len(self.plan.of(id_)) for id_ in self.faces.ids)
        shown = functools.partial(tqdm, disable=None if self.log else True)
        with shown(total=total, initial=len(self.earlier), desc=self.doing, unit="edit") as bar:
            for row in in_turn(self.state, todo, self.rows, lambda i: len(self.open(self.faces.ids[i]))):
                if self.log:
                    self.keep(row)
                    bar.update()
                    if heard:
                        heard(row)

    def rows(self, indices: Sequence[int]) -> Iterator[dict]:
        """The rows of some photos, less those of an earlier sitting: a row a spec, whatever fails."""
        samples = read_ahead(self.faces, indices, self.settings.runtime.decoders)
        with one_core_each(self.settings.runtime.overlap) as (pool, ahead):
            photos = in_order(pool, self._parsed_or_error, samples, min(ahead, 1))
            yield from self._rows(photos, pool, ahead)

    def _rows(
        self, photos: Iterable[tuple[FaceSample, Parsed | Exception]], pool: Executor, ahead: int
    ) -> Iterator[dict]:
        tasks = (self._task(sample, parsed, spec) for sample, parsed in photos for spec in self.open(sample.id))
        for row, _ in self._finished(tasks, pool, ahead):
            yield row

    def _finished(self, tasks: Iterable[Task], pool: Executor, ahead: int) -> Iterator[tuple[dict, ScoredEdit | None]]:
        """What the scorer makes of the tasks, in their order."""
        n = self.scorer.at_once
        for group in in_order(pool, self.scorer.finished, grouped(self._edited(tasks), n), -(-ahead // n)):
            yield from group

    def key_of(self, sample_id: str, spec: EditSpec) -> tuple:
        """What names a spec's row."""
        return (sample_id, spec.attribute) if spec.repeat is None else (sample_id, spec.attribute, spec.repeat)

    def open(self, sample_id: str) -> list[EditSpec]:
        """Cells of a sample that no earlier sitting has made."""
        return [spec for spec in self.plan.of(sample_id) if self.key_of(sample_id, spec) not in self.earlier]

    def parsed(self, sample: FaceSample, to_score: bool = True) -> Parsed:
        """The photo at the working size, and its parses; the judge is only asked where edits are scored."""
        photo = at_working_size(sample.photo, self.settings.working_size)
        image = to_tensor(photo)
        start = time.perf_counter()
        labels = self.parser.before(sample, image)
        seconds = time.perf_counter() - start
        facts = face_facts(sample, photo, labels.numpy(), self.parser.label_space)
        if not to_score:
            return Parsed(sample, photo, labels, seconds, facts, labels, {})
        judged = labels if self.judge is self.parser else self.judge.before(sample, image)
        return Parsed(sample, photo, labels, seconds, facts, judged, self._floor(sample, photo, judged))

    def _floor(self, sample: FaceSample, photo: np.ndarray, judged: Tensor) -> dict[str, dict[str, float | None]]:
        """Attribute -> what its mask IoU is worth in this photo; empty for a judge that does not compute."""
        network = self.judge.network()
        if self.floor is None or network is None:
            return {}
        labels, space = judged.numpy(), self.judge.label_space
        jpeg, shifted = (network.before(sample, to_tensor(x)).numpy() for x in self.floor.damaged(photo))
        again = self.floor.undone(labels, (jpeg, shifted))
        found = {}
        for attribute in dict.fromkeys(spec.attribute for spec in self.specs):
            region, *others = (attribute_region(torch.from_numpy(x), attribute, space) for x in (labels, *again))
            found[attribute] = self.floor.score(region, (others[0], others[1]))
        return found

    def _parsed_or_error(self, sample: FaceSample) -> tuple[FaceSample, Parsed | Exception]:
        try:
            return sample, self.parsed(sample)
        except Exception as e:  # one bad sample must not cost the others
            return sample, e

    def failed(self, sample_id: str, spec: EditSpec, error: Exception) -> Task:
        """A task that ends here: its row says why."""
        return Task(self._facts(sample_id, spec) | failure(error), spec)

    def _facts(self, sample_id: str, spec: EditSpec) -> dict:
        of_row = sample_id, spec.attribute, spec.repeat
        parsers = Parsers(self.parser, self.judge)
        read = {"inputs_sha256": inputs_fingerprint(parsers, self.editor, self.rules.own_masks, *of_row)}
        place = {"sample_id": sample_id, "stage": spec.stage, "attribute": spec.attribute, "strength": spec.strength}
        place |= {"repeat": spec.repeat, "kind": spec.kind, "target": spec.target}
        return {**place, **dataclasses.asdict(spec.words), "seed": self.rules.seed_of(sample_id, spec), **read}

    def _task(self, sample: FaceSample, parsed: Parsed | Exception, spec: EditSpec) -> Task:
        if isinstance(parsed, Exception):
            return self.failed(sample.id, spec, parsed)
        start, space = time.perf_counter(), self.parser.label_space
        try:
            masks = self.rules.masks(sample, parsed.labels, spec.attribute, space, spec.kind)
        except UserError as e:  # of a mask of one's own
            return self.failed(sample.id, spec, e)
        seconds = parsed.parse_s + time.perf_counter() - start
        row = self._facts(sample.id, spec) | parsed.facts | mask_facts(masks, parsed.photo)
        row |= parsed.floor.get(spec.attribute, {})
        if spec.kind is not None:
            region = masks.semantic[0].numpy() > 0
            row["source_distance"] = source_distance(parsed.photo, region, spec.words.prompt, spec.attribute)
        if self.rules.skips(masks):
            return Task(row, spec)
        request = self.rules.request(sample.id, parsed.image, spec, masks, parsed.labels, space)
        return Task(row, spec, parsed, replace(request, frame=sample.photo.shape[:2]), seconds)

    def _edited(self, tasks: Iterable[Task]) -> Iterator[Task]:
        """The tasks with their edits; the editor gets as many at once as it can and may, of whatever attributes."""
        at_once, batch = self.settings.runtime.batch_size if self.editor.batchable else 1, []
        for task in tasks:
            if task.request is None:
                yield task
                continue
            batch.append(task)
            if len(batch) == at_once:
                yield from self._batch(batch)
                batch = []
        yield from self._batch(batch)

    def _batch(self, tasks: list[Task]) -> list[Task]:
        """With their edits; if the editor fails, each is tried alone."""
        if not tasks:
            return []
        device, requests = self.state.device, [task.request for task in tasks if task.request]
        reset_peak_memory(device)
        start = time.perf_counter()
        try:
            with torch_threads(self._editor_threads):
                edits = edits_of(self.editor, requests)
        except Exception as e:  # recorded with the sample
            if len(tasks) > 1:
                return [made for task in tasks for made in self._batch([task])]
            return [replace(tasks[0], edit=e, peak_mib=peak_memory_mib(device))]
        seconds = (time.perf_counter() - start) / len(tasks)
        peak = peak_memory_mib(device)
        # What the editor has to say of a batch is forgotten with the next one.
        return [
            replace(task, edit=edit, note=self.editor.note(request), before_s=task.before_s + seconds, peak_mib=peak)
            for task, request, edit in zip(tasks, requests, edits, strict=True)
        ]

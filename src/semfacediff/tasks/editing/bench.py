"""Parse, mask, edit, score: the editing benchmark, photo by photo; scoring goes on beside the next edits."""

import dataclasses
import functools
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import PartialState
from tqdm import tqdm

from semfacediff import config
from semfacediff.data.sizes import at_working_size
from semfacediff.editing.apply import EditRules, EditSpec, edits_of
from semfacediff.editing.base import Editor
from semfacediff.engine.peak_memory import peak_memory_mib, reset_peak_memory
from semfacediff.engine.prefetch import grouped, in_order, one_core_each, read_ahead, torch_threads
from semfacediff.engine.processes import agreed, in_turn, processes
from semfacediff.metrics.base import Metric
from semfacediff.metrics.face_facts import face_facts
from semfacediff.parsing import Parser
from semfacediff.records.samples import SampleLog
from semfacediff.tasks.editing.sample_row import (
    COLUMNS,
    KEY,
    EditScorer,
    Parsed,
    ScoredEdit,
    Task,
    failure,
    inputs_fingerprint,
    mask_facts,
    still_valid,
)
from semfacediff.types import Faces, FaceSample, to_tensor


class EditingBench:
    """The editing benchmark of one run; reads like the method section.

    Its stages are generators, each drawing from the one before: what is in memory at a time does not grow with the
    number of photos. In flight are ``runtime.batch_size`` edits with the editor, twice as many as there are workers
    with the scorer, two parsed photos, and the few that are read ahead.

    Args:
        faces: map-style data set. folder: where ``samples.jsonl`` and ``edits/`` go.
        specs: what every photo is edited to.
        state: the processes that share the work; the first one has the ``log``, in the others it is ``None``.
    """

    key: tuple[str, ...] = KEY
    columns: Sequence[str] = COLUMNS

    def __init__(
        self,
        settings: config.EditingEvaluation,
        faces: Faces,
        parser: Parser,
        editor: Editor,
        metrics: list[Metric],
        folder: Path,
        specs: Sequence[EditSpec],
        state: PartialState | None = None,
    ):
        self.settings, self.faces, self.parser, self.editor, self.metrics = settings, faces, parser, editor, metrics
        self.folder, self.specs, self.state = folder, specs, state or processes(torch.device("cpu"))
        self.rules, self._editor_threads = EditRules.of(settings), torch.get_num_threads()
        others = [c for metric in metrics for c in metric.columns if c not in self.columns]
        self.scorer = EditScorer(self.rules, parser, metrics, folder)
        raw = (*(f"{c}_raw" for c in others), *self.scorer.registered_columns)
        self.log_columns = (*self.columns, *others, *raw)
        file, first = folder / "samples.jsonl", self.state.is_main_process
        self.log = SampleLog(file, self.key, still_valid(parser, editor)) if first else None
        edited = {self.log.key_of(row): row["latency_s"] is not None for row in self.log} if self.log else None
        self.earlier: dict[tuple, bool] = agreed(self.state, edited)
        """Key of a row of an earlier sitting -> whether there was anything to edit."""

    @property
    def kept_log(self) -> SampleLog:
        """The log, in the process that keeps it."""
        if self.log is None:
            raise RuntimeError("the log is kept by the first process")
        return self.log

    def run(self) -> None:
        """Everything that is not in the log yet, made by all processes."""
        todo = [i for i, id_ in enumerate(self.faces.ids) if self.open(id_)]
        if todo:
            self.editor.prepare()
        total = len(self.faces) * len(self.specs)
        shown = tqdm if self.log else functools.partial(tqdm, disable=True)
        with shown(total=total, initial=len(self.earlier), desc="edit", unit="edit") as bar:
            for row in in_turn(self.state, todo, self.rows, lambda i: len(self.open(self.faces.ids[i]))):
                if self.log:
                    self.log.append({c: row.get(c) for c in self.log_columns})
                    bar.update()

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
        return sample_id, spec.attribute

    def open(self, sample_id: str) -> list[EditSpec]:
        """Cells of a sample that no earlier sitting has made."""
        return [spec for spec in self.specs if self.key_of(sample_id, spec) not in self.earlier]

    def parsed(self, sample: FaceSample) -> Parsed:
        """The photo at the working size, and its parse."""
        photo = at_working_size(sample.photo, self.settings.working_size)
        image = to_tensor(photo)
        start = time.perf_counter()
        labels = self.parser.before(sample, image)
        seconds = time.perf_counter() - start
        facts = face_facts(sample, photo, labels.numpy(), self.parser.label_space)
        return Parsed(sample, photo, labels, seconds, facts)

    def _parsed_or_error(self, sample: FaceSample) -> tuple[FaceSample, Parsed | Exception]:
        try:
            return sample, self.parsed(sample)
        except Exception as e:  # one bad sample must not cost the others
            return sample, e

    def failed(self, sample_id: str, spec: EditSpec, error: Exception) -> Task:
        """A task that ends here: its row says why."""
        return Task(self._facts(sample_id, spec) | failure(error), spec)

    def _facts(self, sample_id: str, spec: EditSpec) -> dict:
        read = {"inputs_sha256": inputs_fingerprint(self.parser, self.editor, sample_id, spec.attribute)}
        place = {"sample_id": sample_id, "stage": spec.stage, "attribute": spec.attribute, "strength": spec.strength}
        return {**place, **dataclasses.asdict(spec.words), "seed": self.rules.seed_of(sample_id, spec), **read}

    def _task(self, sample: FaceSample, parsed: Parsed | Exception, spec: EditSpec) -> Task:
        if isinstance(parsed, Exception):
            return self.failed(sample.id, spec, parsed)
        start, space = time.perf_counter(), self.parser.label_space
        masks = self.rules.masks(parsed.labels, spec.attribute, space)
        seconds = parsed.parse_s + time.perf_counter() - start
        row = self._facts(sample.id, spec) | parsed.facts | mask_facts(masks, parsed.photo)
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

"""Columns that a finished editing run lacks, scored from the edits that it saved: no edit is made again.

The new rows gather in ``.rescored.jsonl`` beside the old record, which stays whole and readable until every row is
scored; a stopped re-scoring continues there. Then ``samples.*``, ``summary.csv`` and ``run.json`` are written anew.
"""

import dataclasses
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch

from semfacediff import config, plugins
from semfacediff.data.opening import Data, open_data
from semfacediff.editing.apply import EditSpec
from semfacediff.editing.base import Editor
from semfacediff.editing.prompts.words import Words
from semfacediff.engine.devices import choose_device
from semfacediff.engine.provenance import config_text, header
from semfacediff.engine.shards import shard_of
from semfacediff.errors import EXIT_INCOMPLETE, UserError
from semfacediff.metrics.alignment import Alignment
from semfacediff.metrics.opening import Metrics, open_metrics
from semfacediff.metrics.overall import OVERALL, Overall, open_overall
from semfacediff.metrics.set_scores import SET_COLUMNS
from semfacediff.records.columns import read_table
from semfacediff.records.folder import DONE, INCOMPLETE, RUNNING, differences, held, now, read_run, write_run
from semfacediff.records.integrity import file_digests, refuse_changed
from semfacediff.records.legacy_metrics import compared
from semfacediff.records.rescoring import SCORED, columns_made, same_metric
from semfacediff.records.samples import ERROR, SampleLog, iterate_rows, table_of, write_rows
from semfacediff.records.writing import write_text
from semfacediff.tasks.editing.bench import EditingBench, Plan
from semfacediff.tasks.editing.cascade import STAGE_COLUMNS, CascadeBench
from semfacediff.tasks.editing.evaluate import open_parsers
from semfacediff.tasks.editing.sample_row import (
    COLUMNS,
    EDITS,
    RAW_EDITS,
    REGISTERED,
    REPEAT_KEY,
    Parsers,
    Task,
    edit_file,
    of_effect,
    row_key,
)
from semfacediff.tasks.editing.set_metrics import measure_sets
from semfacediff.tasks.editing.tables import write_editing_tables
from semfacediff.types import to_tensor

LOG = ".rescored.jsonl"
_FIXED = ("edit_sha256", "mask_semantic", "mask_generation", "mask_blend")
"""What must come out as the run recorded it, or the new columns would be of another edit."""
NO_RAW = "the run kept no edits before the composite; only an edit made anew has them"


@dataclass(frozen=True)
class Added:
    """What a re-scoring fills.

    Attributes:
        metrics: of the new columns, and those that their registered twins need.
        columns: of the rows. identities: name -> identity of each new metric.
        raw: whether the edits before the composite are known.
        overall: the score of the whole row, if the new columns complete its axes.
    """

    metrics: Metrics
    columns: tuple[str, ...]
    identities: Mapping[str, dict]
    raw: bool
    overall: Overall | None

    def merged(self, old: dict, new: dict) -> dict:
        """A row of the run with the new columns, in the order that a run with all of them has."""
        row = old | {c: new.get(c) if self.raw or "_raw" not in c else None for c in self.columns}
        said = [note for note in (old.get("note"), new.get("note")) if note]
        row["note"] = "; ".join(dict.fromkeys(said)) or None
        if old["latency_s"] is not None and "changed_pct" in self.columns:
            row |= of_effect(row)
        if self.overall:
            row[OVERALL] = self.overall.score(row) if old["latency_s"] is not None else None
        return dict(sorted(row.items(), key=lambda item: _place(item[0])))


def _place(column: str) -> int:
    """In a row: facts and scores, scores before the composite, those of the registered edit, of the photo, overall."""
    if column in (*REPEAT_KEY, *COLUMNS, *STAGE_COLUMNS):
        return 0
    parts = (column.startswith("iou_floor"), column == OVERALL, column.endswith(REGISTERED), column.endswith("_raw"))
    return {0: 4, 1: 5, 2: 3, 3: 2}[parts.index(True)] if any(parts) else 1


class _OfRecord(EditingBench):
    """The benchmark with the saved edits in the place of an editor.

    Args:
        rows: of the run, by key.
    """

    doing = "score"

    def __init__(self, settings: config.EditingEvaluation, data: Data, parsers: Parsers, added: Added, record: "_Run"):
        self.rows_of_record, self.added = record.by_key, added
        self.failed_rows: dict[tuple, str] = {}
        plan = Plan(record.specs, record.to_score)
        super().__init__(settings, data.faces, parsers, Editor(), added.metrics, record.folder, plan)
        self.scorer.folder = None  # they are saved

    def opened_log(self) -> SampleLog:
        return SampleLog(self.folder / LOG, self.key)

    def keep(self, row: dict) -> None:
        old = self.rows_of_record[self.kept_log.key_of(row)]
        changed = [c for c in _FIXED if old.get(c) is not None and row.get(c) != old[c]]
        if row["status"] == ERROR:
            self.failed_rows[self.kept_log.key_of(row)] = str(row["error"])
        elif changed or not str(old.get("inputs_sha256") or "").startswith(row["inputs_sha256"] or ""):
            why = "the saved edit or its mask is not that of the record"
            self.failed_rows[self.kept_log.key_of(row)] = f"{why} ({', '.join(changed) or 'inputs_sha256'})"
        else:
            self.kept_log.append(self.added.merged(old, row))

    def _edited(self, tasks: Iterable[Task]) -> Iterator[Task]:
        """The tasks with their edits from the disk."""
        return (task if task.request is None else self._read(task) for task in tasks)

    def _read(self, task: Task) -> Task:
        sample_id = task.row["sample_id"]
        old = self.rows_of_record[self.key_of(sample_id, task.spec)]
        differs = self.added.raw and old.get("raw_sha256") not in (None, old["edit_sha256"])
        file = edit_file(self.folder, task.spec.name, sample_id, RAW_EDITS if differs else EDITS)
        pixels = cv2.imread(str(file)) if file.is_file() else None
        if pixels is None:
            return dataclasses.replace(task, edit=UserError(f"{file}: cannot be read"))
        return dataclasses.replace(task, edit=to_tensor(np.ascontiguousarray(pixels[..., ::-1])))


class _Cascade(_OfRecord, CascadeBench):
    """The same of a cascade, whose stages start from what the ones before them made."""


@dataclass(frozen=True)
class _Run:
    """The record, read once. ``settings``: what made it, with the places of its inputs on this machine."""

    folder: Path
    facts: dict
    settings: config.EditingEvaluation
    rows: Sequence[dict]

    @property
    def key(self) -> tuple[str, ...]:
        return row_key(self.settings.model_dump())

    @property
    def by_key(self) -> dict[tuple, dict]:
        return {tuple(row[k] for k in self.key): row for row in self.rows}

    @property
    def specs(self) -> list[EditSpec]:
        """One an attribute, repeat or stage, in the order of the run."""
        if not self.settings.prompts.of_tasks:
            return list({spec.name: spec for spec in map(_spec, self.rows)}.values())
        repeats = [None] if self.settings.editor.repeats == 1 else range(1, self.settings.editor.repeats + 1)
        return [EditSpec(a, Words(""), repeat=repeat) for a in self.settings.attributes for repeat in repeats]

    @property
    def to_score(self) -> dict[str, list[EditSpec]]:
        """Photo -> its edits, but for those that failed; the very objects of :attr:`specs`, where these have words."""
        found: dict[str, list[EditSpec]] = {}
        named = {} if self.settings.prompts.of_tasks else {spec.name: spec for spec in self.specs}
        for row in (row for row in self.rows if row["status"] != ERROR):
            spec = _spec(row)
            found.setdefault(row["sample_id"], []).append(named.get(spec.name, spec))
        return found

    @property
    def keeps_raw(self) -> bool:
        """Whether every edit before the composite is there, or is the edit itself."""
        if self.settings.composite == "off":
            return True
        edited = [row for row in self.rows if row.get("edit_sha256")]
        return all(
            row.get("raw_sha256") == row["edit_sha256"]
            or (
                row.get("raw_sha256") and edit_file(self.folder, _spec(row).name, row["sample_id"], RAW_EDITS).is_file()
            )
            for row in edited
        )


def _spec(row: dict) -> EditSpec:
    words = Words(row["prompt"], row.get("expanded_prompt"), row.get("negative_prompt"))
    of_row: dict[str, Any] = {name: row.get(name) for name in ("strength", "stage", "kind", "target", "repeat")}
    return EditSpec(row["attribute"], words, **of_row)


def rescore(folder: Path, settings: config.EditingEvaluation, names: Sequence[str]) -> int:
    """Fill the columns of the metrics ``names``; returns 1 if an edit cannot be scored, which leaves the record alone.

    Args:
        settings: what made the run, with the places of its inputs and weights on this machine.

    Raises:
        UserError: the run is unfinished or was changed, its inputs or weights are others, or weights are missing.
    """
    with held(folder, "repeat the command later"):
        run = _read(folder, settings)
        device = choose_device(settings.runtime)
        metrics, identities = _new_metrics(run, names, device)
        if not identities:
            print(f"{folder}: {', '.join(names)}: scored already with these weights; nothing to do")
            return 0
        parsers, parser_facts, judge_facts = open_parsers(settings, device)
        labels_needed = parser_facts["name"] == "ground_truth" or settings.prompts.generated is not None
        data, _ = shard_of(open_data(settings.data, labels_needed=labels_needed, limit=settings.limit), settings.shard)
        _refuse_other_inputs(run, data, parser_facts, judge_facts if parsers.judge is not parsers.mask else None)
        added = _added(run, metrics, identities)
        _begin(run, added)
        of_run = settings if added.raw else settings.model_copy(update={"composite": "off", "seam": "none"})
        bench = (_OfRecord if settings.cascade is None else _Cascade)(of_run, data, parsers, added, run)
        bench.run()
        if bench.failed_rows:
            return _refused(run, bench.failed_rows)
        _finish(run, bench, data, names)
    return 0


def _read(folder: Path, settings: config.EditingEvaluation) -> _Run:
    facts = read_run(folder)
    if facts["status"] == RUNNING and not facts.get("rescoring"):
        raise UserError(f"{folder} is not finished; repeat its command first: {facts.get('command', '')}")
    if facts["status"] != RUNNING:
        refuse_changed(folder, facts)
    changed = differences(facts["identity"]["config"], config.scientific(settings))
    if changed:
        raise UserError(f"{folder}: expected the configuration of the run, got {'; '.join(changed[:3])}")
    rows = list(iterate_rows(folder / "samples.jsonl", row_key(settings.model_dump())))
    return _Run(folder, facts, settings, rows)


def _with_columns(settings: config.EditingEvaluation, names: Sequence[str]) -> config.MetricsConfig:
    return settings.metrics.model_copy(update={"columns": [*dict.fromkeys([*settings.metrics.columns, *names])]})


def _new_metrics(run: _Run, names: Sequence[str], device: torch.device) -> tuple[Metrics, dict[str, dict]]:
    """The metrics of ``names`` and of what they need, and the identities of those that the run lacks.

    Raises:
        UserError: a column is there already, scored with other weights or by another version.
    """
    needed = [*names, *_needed_too(run, names)]
    wanted = run.settings.metrics.model_copy(update={"columns": [*dict.fromkeys(needed)], "on_missing": "error"})
    metrics = open_metrics(run.settings.model_copy(update={"metrics": wanted}), device)
    known = run.facts["identity"]["inputs"].get("metrics", {})
    new = {}
    for identity in metrics.identities():
        name = str(identity["metric"])
        if name not in known:
            new[name] = identity
        elif not same_metric(known[name], identity):
            said = "; ".join(differences(dict(known[name]), identity)[:2])
            raise UserError(
                f"{run.folder}: {name} was scored otherwise ({said}); a column has one set of weights: leave it out "
                f"of --add, or name the first weights"
            )
    plain = json.loads(json.dumps(new))  # as the record will hold them
    return metrics, {name: identity for name, identity in plain.items() if name != OVERALL}


def _needed_too(run: _Run, names: Sequence[str]) -> list[str]:
    """Metrics that the run has and that must be computed again: alignment and those of the outside make columns
    together, and so do the distances of sets, which share their features."""
    recorded, scored = run.settings.metrics.columns, run.facts["identity"]["inputs"].get("metrics", {})
    outside = [n for n in (*recorded, *names) if getattr(plugins.find("metric", n), "of_outside", False)]
    aligned = [n for n in recorded if n == "alignment" and {*outside} & {*names}]
    needed = outside if "alignment" in names else aligned
    return needed + [n for n in SET_COLUMNS if n in recorded and n in scored and {*names} & {*SET_COLUMNS}]


def _added(run: _Run, metrics: Metrics, identities: Mapping[str, dict]) -> Added:
    new = [column for name in identities for column in name.split(", ")]
    registering = any(isinstance(metric, Alignment) for metric in metrics.each)
    known = run.facts["identity"]["inputs"].get("metrics", {})
    measured = {column for name in (*known, *identities) for column in name.split(", ")}
    columns = [c for metric in metrics.each for c in metric.columns if c in new]
    twins = [f"{c}_raw" for c in columns]
    if registering:
        everything = set(Alignment.columns) <= set(new)
        twins += [f"{c}{REGISTERED}" for m in metrics.each if m.of_outside for c in m.columns if everything or c in new]
    totals = [f"{c}_total" for c in columns if f"{c}_total" in STAGE_COLUMNS and run.settings.cascade is not None]
    floor = list(metrics.floor.columns) if metrics.floor and metrics.floor.columns[0] in new else []
    overall = open_overall(measured, run.settings.protocol) if OVERALL not in known else None
    return Added(metrics, (*columns, *twins, *totals, *floor), identities, run.keeps_raw, overall)


def _refuse_other_inputs(run: _Run, data: Data, parser: dict, judge: dict | None) -> None:
    recorded = run.facts["identity"]["inputs"]
    found = {"data": data.digest, "parser": parser.get("digest"), "judge": judge and judge.get("digest")}
    for name, way_out in (("data", "--data DIR"), ("parser", "--parser FOLDER"), ("judge", "--set judge=FOLDER")):
        if recorded.get(name) != found[name]:
            raise UserError(
                f"{run.folder}: expected the {name} of the run (digest {str(recorded.get(name))[:12]}), got digest "
                f"{str(found[name])[:12]}; give {way_out}"
            )


def _begin(run: _Run, added: Added) -> None:
    """Note in the record what is being scored; what was scored by other metrics before is forgotten."""
    if run.facts.get("rescoring") != added.identities:
        (run.folder / LOG).unlink(missing_ok=True)
        run.facts["rescoring"] = added.identities
        write_run(run.folder, run.facts)
    if not added.raw:
        print(f"{run.folder}: {NO_RAW}: the columns *_raw stay empty", file=sys.stderr)


def _refused(run: _Run, failed: Mapping[tuple, str]) -> int:
    key, why = next(iter(failed.items()))
    print(
        f"error: {len(failed)} of {len(run.rows)} edits cannot be scored (first {'/'.join(map(str, key))}: {why}); the "
        f"record is as it was",
        file=sys.stderr,
    )
    return EXIT_INCOMPLETE


def _finish(run: _Run, bench: _OfRecord, data: Data, names: Sequence[str]) -> None:
    added, folder, old = bench.added, run.folder, run.facts
    sets = added.metrics.sets
    of_sets, set_notes = measure_sets(bench, sets) if sets else (_recorded_sets(run), old.get("set_notes", []))
    scored = {bench.kept_log.key_of(row): row for row in bench.kept_log}
    columns = list(next(iter(scored.values()), {}))
    rows = [scored.get(key, dict.fromkeys(columns) | row) for key, row in run.by_key.items()]
    n_expected = {spec.name: data.n_expected for spec in run.specs}
    if run.settings.prompts.of_tasks:
        asked = Counter(_spec(row).name for row in rows)
        n_expected = {name: asked[name] for name in n_expected}
    write_run(folder, old | {"status": RUNNING})  # a stop from here on is seen, and the same command ends it
    write_rows(folder / "samples.jsonl", rows)
    settings = run.settings.model_copy(update={"metrics": _with_columns(run.settings, names)})
    space = bench.judge.label_space if "leakage" in settings.metrics.columns else None
    counts = write_editing_tables(folder, table_of(rows), run.specs, n_expected, of_sets, space)
    write_text(folder / "config.yaml", config_text(settings))
    ended = {"status": INCOMPLETE if counts["n_failed"] else DONE, "set_notes": set_notes}
    write_run(folder, _facts(run, settings, added) | counts | ended | {"files": file_digests(folder)})
    bench.kept_log.close()
    (folder / LOG).unlink()
    print(f"{folder}: scored {', '.join(added.identities)} of {len(scored)} edits")


def _recorded_sets(run: _Run) -> dict[str, dict]:
    """What ``summary.csv`` says of sets that are not scored anew, under the first spec of each of its rows."""
    summary = read_table(run.folder / "summary.csv")
    kept = [c for c in ("fid", "fid_n", "kid", "kid_sd") if c in summary and summary[c].notna().any()]
    by = "stage" if "stage" in summary else "attribute"
    values = {row[by]: {c: row[c] for c in kept if not pd.isna(row[c])} for row in summary.to_dict("records")}
    first: dict[object, EditSpec] = {}
    for spec in run.specs:
        first.setdefault(getattr(spec, by), spec)
    return {spec.name: values[name] for name, spec in first.items() if values.get(name)}


def _facts(run: _Run, settings: config.EditingEvaluation, added: Added) -> dict[str, Any]:
    """``run.json`` with the new metrics, and when and with which weights each column was made."""
    old, new = run.facts, dict(added.identities)
    if added.overall:
        new[OVERALL] = added.overall.identity()
    plain = config.scientific(settings)
    inputs = old["identity"]["inputs"]
    inputs = inputs | {"metrics": inputs.get("metrics", {}) | {name: compared(of) for name, of in new.items()}}
    filled = {*added.columns, *(c for name in new for c in name.split(", "))}
    empty = {name: why for name, why in old.get("empty_columns", {}).items() if name not in filled}
    if not added.raw:
        empty |= {c: NO_RAW for c in added.columns if "_raw" in c}
    made = header(settings, {})
    again = {"columns": list(new), "when": now(), "command": made["command"], "code": made["code"]}
    return {key: value for key, value in old.items() if key != "rescoring"} | {
        "identity": {"config": plain, "inputs": inputs},
        "config_digest": config.digest(plain),
        "metrics": [*old.get("metrics", []), *new.values()],
        "empty_columns": empty,
        "not_comparable": [*dict.fromkeys([*old["not_comparable"], *added.metrics.doubts])],
        SCORED: columns_made(old, new, now()),
        "rescored": [*old.get("rescored", []), again],
    }

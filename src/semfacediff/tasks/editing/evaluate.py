"""``evaluate.py task=editing``: what is to be done, the bench that does it, and the record of it."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from semfacediff import config
from semfacediff.controls import TRUE_MASK
from semfacediff.data.opening import label_space_of, open_data
from semfacediff.data.selection import Data
from semfacediff.editing.base import Editor
from semfacediff.editing.diffusion.weights import NoPipelineError
from semfacediff.editing.opening import open_editor
from semfacediff.engine.devices import choose_device
from semfacediff.engine.processes import agreed, processes, shared_record
from semfacediff.engine.provenance import config_text, header, identity, protocol_deviations
from semfacediff.engine.shards import shard_of
from semfacediff.metrics.opening import Metrics, open_metrics
from semfacediff.metrics.set_scores import SetScores
from semfacediff.parsing.opening import open_judge, open_parser
from semfacediff.records.folder import DONE, INCOMPLETE, RunFolder, beside_other_data, read_run
from semfacediff.records.legacy_metrics import compared
from semfacediff.records.samples import refuse_changed_inputs
from semfacediff.records.tracking import tracked
from semfacediff.regions.own_masks import OwnMasks
from semfacediff.tables.text import editing_report
from semfacediff.tasks.editing.bench import EditingBench
from semfacediff.tasks.editing.cascade import CascadeBench
from semfacediff.tasks.editing.panel_figures import draw_strips
from semfacediff.tasks.editing.planning import Planned, check_prompts, planned
from semfacediff.tasks.editing.sample_row import Parsers, row_key, still_valid
from semfacediff.tasks.editing.set_metrics import measure_sets
from semfacediff.tasks.editing.tables import write_editing_tables
from semfacediff.tasks.editing.task_set import FILE, write_tasks
from semfacediff.tasks.strata_report import check_strata, of_run


def evaluate_editing(
    settings: config.EditingEvaluation, folder: Path, heard: Callable[[dict], None] | None = None
) -> int:
    """Edit every sample's attributes and score the edits; returns 1 if one failed.

    Under ``torchrun`` every process edits and scores its share; the first keeps the record.

    Args:
        heard: called with every row as soon as it is logged.
    """
    device = choose_device(settings.runtime)
    try:
        opened = open_editor(settings.editor, device, settings.weights, settings.runtime)
    except NoPipelineError as e:
        if not isinstance(settings.editor, config.ControlEditor) or settings.metrics.on_missing == "error":
            raise
        print(f"not run, for want of weights: editor.kind={settings.editor.kind}: {e}", file=sys.stderr)
        return 0
    editor, facts = opened
    return _evaluated(settings, folder, device, editor, facts | _origin(settings.editor), heard)


def _origin(editor: config.AnyEditor) -> dict[str, object]:
    """Facts of edits that lie in a run's folder: their editor, and why its edits are not comparable."""
    if not isinstance(editor, config.PrecomputedEditor):
        return {}
    folder = Path(editor.root).expanduser().parent
    made = read_run(folder).get("editor", {}) if (folder / "run.json").is_file() else {}
    return {"of" if key == "name" else key: made[key] for key in ("name", "doubts") if made.get(key)}


def _evaluated(
    settings: config.EditingEvaluation,
    folder: Path,
    device: torch.device,
    editor: Editor,
    editor_facts: dict,
    heard: Callable[[dict], None] | None,
) -> int:
    state = processes(device)
    # Everything that can be refused cheaply comes before the photos are read.
    check_prompts(settings, editor)
    parsers, parser_facts, judge_facts = open_parsers(settings, device)
    metrics = open_metrics(settings, device)
    labels_needed = parser_facts["name"] == "ground_truth" or settings.prompts.generated is not None
    everything = open_data(settings.data, labels_needed=labels_needed, limit=settings.limit)
    data, part = shard_of(everything, settings.shard)
    check_strata(settings.stratify, data.faces[0].attributes)
    edits = planned(settings, editor, everything, data)
    opened_facts = {"parser": parser_facts, "judge": judge_facts, "editor": editor_facts, **edits.facts(), **part}
    head = _head(settings, opened_facts, metrics, data, sum(edits.n_expected.values()))
    inputs = _inputs(head, data, edits, parsers) | ({"masks": "own"} if settings.masks else {})
    of_kind = EditingBench if settings.cascade is None else CascadeBench
    folder = agreed(state, beside_other_data(folder, identity(settings, inputs)))

    def opened() -> RunFolder:
        return RunFolder(folder, identity(settings, inputs), head, config_text(settings))

    def bench() -> EditingBench:
        return of_kind(settings, data.faces, parsers, editor, metrics, folder, edits.plan, state)

    with shared_record(state, folder, identity(settings, inputs), opened) as (record, finished):
        if record is None:
            if not finished:
                bench().run()
            return 0
        with tracked(record, settings.tracking.model_dump(), settings.name):
            if finished:
                valid = still_valid(parsers, editor, OwnMasks(settings.masks) if settings.masks else None)
                refuse_changed_inputs(folder / "samples.jsonl", row_key(settings.model_dump()), valid)
            else:
                edits.show()
                whole = bench()
                whole.run(heard)
                _finish(record, whole, edits, metrics.sets)
            by_group = [of_run(folder, by) for by in settings.stratify]
            print(editing_report(folder, config.repository()), *by_group, f"record: {folder}", sep="\n")
    return 0 if record.finished else 1


def open_parsers(settings: config.EditingEvaluation, device: torch.device) -> tuple[Parsers, dict, dict]:
    """The parsers of masks and of scores, and the facts of each.

    Raises:
        UserError: one cannot be opened, or cannot tell an attribute.
    """
    space = label_space_of(settings.data)
    mask = open_parser(settings.parser, space, device)
    judge = open_judge(settings.judge, settings.protocol, mask, device)
    if isinstance(settings.editor, config.ControlEditor) and settings.editor.kind == TRUE_MASK:
        labels = settings.parser.model_copy(update={"name": "ground_truth", "checkpoint": None, "root": None})
        mask = open_parser(labels, space, device)
    for parser in (mask[0], judge[0]):
        parser.check(settings.attributes)
    if settings.masks:
        OwnMasks(settings.masks).check(settings.attributes)
    return Parsers(mask[0], judge[0]), mask[1], judge[1]


def _inputs(head: dict[str, Any], data: Data, edits: Planned, parsers: Parsers) -> dict[str, object]:
    """What beside the configuration determines the results."""
    inputs: dict[str, object] = {
        "data": data.digest,
        "parser": head["parser"].get("digest"),
        "metrics": {m["metric"]: compared(m) for m in head["metrics"]},
        **edits.inputs(),
    }
    if parsers.judge is not parsers.mask:
        inputs["judge"] = head["judge"].get("digest")
    if "digest" in head["editor"]:
        inputs["editor"] = {k: head["editor"][k] for k in ("digest", "numerics")}
    return inputs


def _head(
    settings: config.EditingEvaluation, facts: dict[str, Any], metrics: Metrics, data: Data, n_expected: int
) -> dict[str, Any]:
    """The record's first facts."""
    facts = facts | {
        "data": {"skipped": data.skipped},
        "metrics": metrics.identities(),
        "protocol_deviations": protocol_deviations(settings),
        "empty_columns": metrics.absent,
        "n_expected": n_expected,
        "overlap": settings.runtime.overlap,
    }
    head = header(settings, facts)
    head["not_comparable"] += metrics.doubts + facts["editor"].get("doubts", [])
    return head


def _finish(record: RunFolder, bench: EditingBench, edits: Planned, sets: SetScores | None) -> None:
    """Tables of the whole run, strips of its first samples, and its status."""
    if edits.tasks is not None:
        write_tasks(record.path / FILE, edits.tasks.tasks)
    samples = bench.kept_log.finish([bench.key_of(id_, spec) for spec in bench.specs for id_ in bench.faces.ids])
    of_sets, set_notes = measure_sets(bench, sets) if sets else ({}, [])
    space = bench.judge.label_space if "leakage" in bench.settings.metrics.columns else None
    facts = write_editing_tables(record.path, samples, bench.specs, edits.n_expected, of_sets, space)
    draw_strips(bench)
    record.close(INCOMPLETE if facts["n_failed"] else DONE, **facts, set_notes=set_notes)

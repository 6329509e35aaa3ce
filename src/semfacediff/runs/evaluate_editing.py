"""``evaluate.py task=editing``: what is to be done, the bench that does it, and the record of it."""

from pathlib import Path

from semfacediff import build, config
from semfacediff.metrics.set_scores import SetScores
from semfacediff.records.folder import DONE, INCOMPLETE, RunFolder
from semfacediff.records.samples import ERROR, refuse_changed_inputs, write_csv, write_parquet
from semfacediff.records.summary import summarise_edits
from semfacediff.records.tracking import tracked
from semfacediff.runs.editing_bench import KEY, EditingBench, still_valid
from semfacediff.runs.measure_sets import measure_sets
from semfacediff.runs.provenance import config_text, header, identity, protocol_deviations
from semfacediff.runs.strips import draw_strips
from semfacediff.tables.text import editing_report


def evaluate_editing(settings: config.EditingEvaluation, folder: Path) -> int:
    """Edit every sample's attributes and score the edits; returns 1 if one failed."""
    device = build.device(settings.runtime)
    editor, editor_facts = build.editor(settings.editor, device)
    prompts = {a: settings.prompts[a] for a in settings.attributes}
    editor.check(prompts)
    # Everything that can be refused cheaply comes before the photos are read.
    parser, parser_facts = build.parser(settings.parser, build.label_space(settings.data), device)
    parser.check(settings.attributes)
    metrics = build.metrics(settings, device)
    data = build.data(settings.data, labels_needed=settings.parser.name == "ground_truth", limit=settings.limit)
    facts = {
        "parser": parser_facts,
        "editor": editor_facts,
        "data": {"skipped": data.skipped},
        "metrics": metrics.identities(),
        "protocol_deviations": protocol_deviations(settings),
        "empty_columns": metrics.absent,
        "n_expected": data.n_expected * len(prompts),
    }
    head = header(settings, facts)
    head["not_comparable"] += metrics.doubts
    inputs = {
        "data": data.digest,
        "parser": parser_facts.get("digest"),
        "metrics": {m["metric"]: m for m in facts["metrics"]},
    }
    with (
        RunFolder(folder, identity(settings, inputs), head, config_text(settings)) as record,
        tracked(record, settings.tracking.model_dump(), settings.name),
    ):
        if record.finished:
            refuse_changed_inputs(folder / "samples.jsonl", KEY, still_valid(parser, editor))
        else:
            bench = EditingBench(settings, data.faces, parser, editor, metrics.each, folder)
            bench.run()
            _finish(record, bench, data, metrics.sets)
        print(editing_report(folder, config.repository()), f"record: {folder}", sep="\n")
    return 0 if record.finished else 1


def _finish(record: RunFolder, bench: EditingBench, data: build.Data, sets: SetScores | None) -> None:
    """Tables of the whole run, strips of its first samples, and its status."""
    ids, attributes = data.faces.ids, bench.settings.attributes
    samples = bench.log.finish([(id_, a) for a in attributes for id_ in ids])
    write_parquet(samples, record.path / "samples.parquet")
    of_sets, set_notes = measure_sets(bench, sets) if sets else ({}, [])
    write_csv(summarise_edits(samples, attributes, data.n_expected, of_sets), record.path / "summary.csv")
    draw_strips(bench)
    failed = int((samples["status"] == ERROR).sum())
    noted = samples[samples["note"].notna()].groupby("attribute")["note"]
    notes = {attribute: said.value_counts().to_dict() for attribute, said in noted}
    facts = {"n": len(samples) - failed, "n_failed": failed, "editor_notes": notes, "set_notes": set_notes}
    record.close(INCOMPLETE if failed else DONE, **facts)

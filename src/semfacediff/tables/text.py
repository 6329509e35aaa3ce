"""Tables for the terminal and for ``results/tables``, from records alone."""

from pathlib import Path

import pandas as pd

from semfacediff.records.columns import read_table
from semfacediff.records.folder import DONE, read_run
from semfacediff.tables.formats import table_markdown
from semfacediff.tables.run_tables import editing_grid, kinds_grid, parsing_grid, synthesis_grid

RARE_IMAGES = 80
"""Photos of a class under which the interval of its pooled IoU covers less than 93 % (benchmarks/coverage.py)."""
_PUBLISHED = Path("results") / "published" / "semfacediff_table_6_1.csv"


def parsing_table(summary: pd.DataFrame) -> str:
    """:func:`semfacediff.tables.run_tables.parsing_grid` as Markdown."""
    return table_markdown(parsing_grid(summary))


def editing_table(summary: pd.DataFrame, published: pd.DataFrame | None, run: dict | None = None) -> str:
    """:func:`semfacediff.tables.run_tables.editing_grid` as Markdown."""
    return table_markdown(editing_grid(summary, published, run))


def _parsing_notes(summary: pd.DataFrame, run: dict) -> list[str]:
    """What the scores of a parsing run depend on, as far as the record says it."""
    measured = {metric["metric"]: metric for metric in run.get("metrics", [])}
    notes = []
    loss = summary.loc[summary["class"] == "loss", "loss"] if "loss" in summary else pd.Series(dtype=float)
    if loss.notna().any():
        notes.append(f"loss {loss.iloc[0]:.4f}: {measured['loss']['criterion']}")
    if "iou_low, iou_high" in measured:
        m = measured["iou_low, iou_high"]
        notes.append(
            f"IoU {100 * m['level']:g} %: {m['method']}; {m['resamples']} resamples of {m['photos']} photos, seed "
            f"{m['seed']}"
        )
        rare = summary.loc[summary["images"] < RARE_IMAGES, "class"].tolist() if "images" in summary else []
        if rare:
            notes.append(
                f"too narrow: the intervals of classes in fewer than {RARE_IMAGES} photos ({', '.join(rare)}) hold "
                "the true IoU less often than 95 % (docs/statistics.md)"
            )
    if "boundary_f1" in measured:
        notes.append(f"boundary F1: matched within {measured['boundary_f1']['tolerance']}")
    return [*notes, *_PROTOCOL_NOTES.get(run["identity"]["config"].get("protocol"), [])]


_PROTOCOL_NOTES = {
    "ce7454": [
        "protocol ce7454: argmax at 512 px; that work defines IoU only, F1 is of the same counts",
        "challenge_f: the challenge's F-score, mean over photos of the mean F1 over the classes in a photo's truth",
    ],
    "segface": [
        "protocol segface: photo and labels at the parser's input size; an absent class counts as IoU 0, and leaves "
        "the mean F1 undefined; native: the same at the labels' own size"
    ],
}


def run_notes(run: dict) -> list[str]:
    """What a reader must know before using the numbers of a run; one sentence each."""
    notes = [f"not comparable: {reason}" for reason in run["not_comparable"]]
    if run["status"] != DONE:
        failed, first = run.get("n_failed", "some"), run.get("first_failure")
        why = f" (first {first})" if first else ""
        notes.append(f"status {run['status']}: {failed} samples failed{why}; repeat the command to try them again")
    notes += [f"ignored: {what}" for what in run.get("editor", {}).get("ignored", [])]
    notes += [f"column {column} is empty: {why}" for column, why in run.get("empty_columns", {}).items()]
    for attribute, said in run.get("editor_notes", {}).items():
        notes += [f"{attribute}: {text} ({count} edits)" for text, count in said.items()]
    notes += run.get("set_notes", [])
    if run.get("without_landmarks"):
        notes.append(f"{run['without_landmarks']} photos have no landmarks and were parsed without the warp")
    skipped = run["data"].get("skipped", {})
    return notes + ([f"{len(skipped)} samples were left out (run.json names them)"] if skipped else [])


def parsing_notes(run: dict, summary: pd.DataFrame) -> list[str]:
    """What to know about the scores of a parsing run."""
    named = f"parser {run['parser']['name']}, n = {run['n']} of {run['n_expected']}"
    return [*run_notes(run), *_parsing_notes(summary, run), named]


def parsing_report(folder: Path) -> str:
    """Scores of a parsing run, and what to know about them."""
    run, summary = read_run(folder), read_table(folder / "summary.csv")
    return "\n".join([parsing_table(summary), "", *parsing_notes(run, summary)])


def training_report(folder: Path) -> str:
    """Validation scores of a training run's best epoch, and where its checkpoint is."""
    table = parsing_table(read_table(folder / "summary.csv"))
    return f"{table}\n\nbest checkpoint: {folder / 'checkpoints' / 'best'}"


def synthesis_report(folder: Path) -> str:
    """Scores of a synthesis run, what to know about them, and the time that a photo took."""
    run, summary = read_run(folder), read_table(folder / "summary.csv")
    notes = [*run_notes(run), *synthesis_notes(run)]
    return "\n".join([table_markdown(synthesis_grid(summary)), "", *notes])


def synthesis_notes(run: dict) -> list[str]:
    """How the scores came about: resolution, split, parser, averaging, photos that were seen before, time."""
    measured, made = run["measured"], run["generation"]
    where = f"{measured['resolution_px']} px, split {measured['split']}, n = {run['n']}, {made['steps']} steps"
    notes = [f"{where}; judged by {measured['parser']} ({measured['averaging']})"]
    for who, facts in (("the generator", made), ("the judging parser", run["parser"])):
        known = facts["judged_photos"]
        if "of" in known:
            seen = f"{known['in_training']} in its training, {known['in_selection']} in its selection part"
            notes.append(
                f"of {known['of']} photos {who} had {seen}" + (f" ({known['note']})" if "note" in known else "")
            )
        else:
            notes.append(f"whether {who} has seen these photos is unknown: {known['why']}")
    times = ", ".join(f"{t['steps']} steps {t['seconds']:.2f}" for t in run.get("latency", []))
    return notes + ([f"seconds a photo, one at a time: {times}"] if times else [])


def published_editing(repository: Path) -> pd.DataFrame | None:
    """The thesis's table 6.1 by attribute; ``None`` where the checkout does not hold it."""
    file = repository / _PUBLISHED
    return pd.read_csv(file).set_index("attribute") if file.exists() else None


def _comparable(published: pd.DataFrame | None, summary: pd.DataFrame, sources: dict) -> pd.DataFrame | None:
    """The published rows of edits that were asked for in the thesis's words; those of a cascade were not."""
    if published is None or "stage" in summary:
        return None
    rows = [a for a in published.index if sources.get(a, "thesis") == "thesis" and a in set(summary["attribute"])]
    return published.loc[rows] if rows else None


def comparable_rows(run: dict, summary: pd.DataFrame, repository: Path) -> pd.DataFrame | None:
    """The rows of the thesis's table 6.1 that a run's edits may stand beside; ``None``: no row, as for drawn faces."""
    if run["identity"]["config"].get("data", {}).get("name") == "toy":
        return None
    return _comparable(published_editing(repository), summary, _prompt_sources(run))


def _prompt_sources(run: dict) -> dict[str, str]:
    return {p["attribute"]: p["prompt_source"] for p in run.get("prompts", [])}


_COUNTED = {
    "n_empty": "empty regions",
    "n_unchanged": "edits that changed nothing",
    "n_no_colour": "prompts that name no colour of CSS4 or XKCD",
    "n_already": "prompts that ask for the colour the photo has already",
    "n_no_overall": "edits without an overall score, as an axis is missing",
    "n_no_face": "edits without identity, as no face was found in photo or edit",
}
"""Counts of ``summary.csv`` that a reader must know, where they are not 0."""


def counted(summary: pd.DataFrame) -> list[str]:
    """How many edits of each attribute a reader must know of, a sentence a reason."""
    notes = []
    for column, said in _COUNTED.items():
        if column in summary and summary[column].any():
            each = zip(summary["attribute"], summary[column], strict=True)
            notes.append(f"{said}: {', '.join(f'{a} {n}' for a, n in each if n)}")
    return notes


def task_set(run: dict) -> str:
    """Name, digest and kinds of a run's task set; empty for a run with the same prompts for every photo."""
    found = run.get("task_set")
    if not found:
        return ""
    kinds = ", ".join(f"{kind} {n}" for kind, n in found["kinds"].items())
    return f"{found['name']} (digest {found['digest'][:8]}): {kinds}"


def editing_notes(run: dict, summary: pd.DataFrame, published: pd.DataFrame | None) -> list[str]:
    """What to know about the scores of an editing run.

    Args:
        published: what :func:`comparable_rows` gave.
    """
    notes = run_notes(run) + counted(summary)
    protocol = run["identity"]["config"]["protocol"]
    deviations = run.get("protocol_deviations", [])
    if deviations:
        notes.append(f"deviates from protocol {protocol}: {'; '.join(deviations)}")
    if tasks := task_set(run):
        notes.append(f"task set {tasks}")
    if added := [attribute for attribute, source in _prompt_sources(run).items() if source == "ours"]:
        notes.append(f"prompts of ours, not of the thesis: {', '.join(added)}")
    if published is not None:
        ours = "" if protocol == "thesis" else f"; ours is protocol {protocol}, another measurement"
        notes.append(f"published rows: thesis table 6.1, SDXL inpainting of 100 photos, protocol thesis{ours}")
    notes += repeat_notes(run)
    said = f"editor {run['editor']['name']}, parser {run['parser']['name']}{judged_by(run)}, protocol {protocol}"
    return [*notes, said]


def judged_by(run: dict) -> str:
    """Whose parses the scores rest on, to stand behind the parser's name; empty for a record that does not say."""
    judge = run.get("judge")
    if judge is None:
        return ""
    if judge == run["parser"]:
        return ", judged by the same"
    return f", judged by {judge['name']} {judge.get('digest', '')[:8]}".rstrip()


def repeat_notes(run: dict) -> list[str]:
    """What to know of several edits of each photo."""
    repeats = run.get("repeats")
    if repeats is None:
        return []
    notes = [
        f"{repeats['of_each']} edits of every photo: ± is the deviation between the photos' means, within that between "
        f"the edits of a photo; intervals and tests resample photos"
    ]
    if repeats["equal"]:
        notes.append(
            f"the edits of a photo are equal to the bit in {repeats['equal']} of {repeats['edited']} cases: the editor "
            f"draws nothing from its seed there, and repeats say nothing"
        )
    return notes


def editing_report(folder: Path, repository: Path) -> str:
    """Table of an editing run beside the published one, and what to know about it.

    Args:
        folder: the run. repository: checkout whose ``results/published`` holds the papers' numbers.
    """
    run, summary = read_run(folder), read_table(folder / "summary.csv")
    published = comparable_rows(run, summary, repository)
    tables = [editing_table(summary, published, run), ""]
    if (file := folder / "summary_by_kind.csv").exists():
        tables += [table_markdown(kinds_grid(read_table(file), run)), ""]
    return "\n".join([*tables, *editing_notes(run, summary, published)])

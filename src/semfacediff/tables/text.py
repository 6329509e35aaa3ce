"""Tables for the terminal and for ``results/tables``, from records alone."""

from pathlib import Path

import pandas as pd

from semfacediff.metrics.photo_counts import SUMMARY_ROWS
from semfacediff.metrics.segmentation import AGGREGATES
from semfacediff.records.folder import DONE, read_run

_PUBLISHED = Path("results") / "published" / "semfacediff_table_6_1.csv"
# column of summary.csv, heading with its direction, factor, digits
_EDITING = (
    ("lpips", "LPIPS (down)", 1, 4),
    ("ssim", "SSIM (up)", 1, 4),
    ("iou", "mask IoU (up)", 1, 4),
    ("clip", "CLIP (up)", 100, 2),
)
# of all edits of an attribute together; shown where they were measured
_OF_SETS = (("fid", "FID (down)", 1, 2), ("kid", "KID x1000 (down)", 1000, 2))


def markdown(headings: list[str], rows: list[list[str]]) -> str:
    """A Markdown table, padded so that it also reads well in a terminal; the first column is left-aligned."""
    widths = [max(len(r[i]) for r in (headings, *rows)) for i in range(len(headings))]
    rule = [":" + "-" * (widths[0] - 1), *("-" * (w - 1) + ":" for w in widths[1:])]
    lines = [
        [row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))]
        for row in (headings, rule, *rows)
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _of_sets(row: dict, columns: list[str]) -> list[str]:
    cells = []
    for name, _, factor, digits in (entry for entry in _OF_SETS if entry[0] in columns):
        spread = row.get(f"{name}_sd")
        said = "" if pd.isna(row[name]) else f"{factor * row[name]:.{digits}f}"
        cells.append(said if not said or pd.isna(spread) else f"{said} ± {factor * spread:.{digits}f}")
    return cells


def _percent(value: float) -> str:
    return "" if pd.isna(value) else f"{100 * value:.2f}"


def _mean_sd(row: pd.Series, name: str, factor: float, digits: int) -> str:
    mean, sd = row[f"{name}_mean"], row[f"{name}_sd"]
    if pd.isna(mean):
        return ""
    spread = "" if pd.isna(sd) else f" ± {factor * sd:.{digits}f}"
    return f"{factor * mean:.{digits}f}{spread}"


# column of summary.csv, heading; shown where the record has it
_PARSING = (
    ("iou", "IoU %"),
    ("f1", "F1 %"),
    ("precision", "precision %"),
    ("recall", "recall %"),
    ("boundary_f1", "boundary F1 %"),
    ("iou_native", "native IoU %"),
    ("f1_native", "native F1 %"),
)


def parsing_table(summary: pd.DataFrame) -> str:
    """Per-class and aggregate scores in per cent, as Markdown; the loss is no fraction and stands in the notes."""
    columns = [(name, heading) for name, heading in _PARSING if name in summary]
    with_range = "iou_low" in summary
    headings = ["class", *(heading for _, heading in columns), *(["IoU 95 %"] if with_range else []), "images"]
    rows = []
    for row in summary[summary["class"] != "loss"].to_dict("records"):
        images = "" if pd.isna(row["images"]) else str(int(row["images"]))
        name = f"**{row['class']}**" if row["class"] in (*AGGREGATES, *SUMMARY_ROWS) else row["class"]
        cells = [_percent(row[column]) for column, _ in columns]
        rows.append([name, *cells, *([_range(row)] if with_range else []), images])
    return markdown(headings, rows)


def _range(row: dict) -> str:
    return "" if pd.isna(row["iou_low"]) else f"{_percent(row['iou_low'])}..{_percent(row['iou_high'])}"


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
    if "boundary_f1" in measured:
        notes.append(f"boundary F1: matched within {measured['boundary_f1']['tolerance']}")
    return [*notes, *_PROTOCOL_NOTES.get(run["identity"]["config"].get("protocol"), [])]


_PROTOCOL_NOTES = {
    "ce7454": ["protocol ce7454: argmax at 512 px; that work defines IoU only, F1 is of the same counts"],
    "segface": [
        "protocol segface: photo and labels at the parser's input size; an absent class counts as IoU 0, and leaves "
        "the mean F1 undefined; native: the same at the labels' own size"
    ],
}


def run_notes(run: dict) -> list[str]:
    """What a reader must know before using the numbers of a run; one sentence each."""
    notes = [f"not comparable: {reason}" for reason in run["not_comparable"]]
    if run["status"] != DONE:
        failed = run.get("n_failed", "some")
        notes.append(f"status {run['status']}: {failed} samples failed; repeat the command to try them again")
    notes += [f"column {column} is empty: {why}" for column, why in run.get("empty_columns", {}).items()]
    for attribute, said in run.get("editor_notes", {}).items():
        notes += [f"{attribute}: {text} ({count} edits)" for text, count in said.items()]
    notes += run.get("set_notes", [])
    skipped = run["data"].get("skipped", {})
    return notes + ([f"{len(skipped)} samples were left out (run.json names them)"] if skipped else [])


def parsing_report(folder: Path) -> str:
    """Scores of a parsing run, and what to know about them."""
    run, summary = read_run(folder), pd.read_csv(folder / "summary.csv")
    names = f"parser {run['parser']['name']}, n = {run['n']} of {run['n_expected']}"
    return "\n".join([parsing_table(summary), "", *run_notes(run), *_parsing_notes(summary, run), names])


def training_report(folder: Path) -> str:
    """Validation scores of a training run's best epoch, and where its checkpoint is."""
    table = parsing_table(pd.read_csv(folder / "summary.csv"))
    return f"{table}\n\nbest checkpoint: {folder / 'checkpoints' / 'best'}"


def published_editing(repository: Path) -> pd.DataFrame | None:
    """The thesis's table 6.1 by attribute; ``None`` where the checkout does not hold it."""
    file = repository / _PUBLISHED
    return pd.read_csv(file).set_index("attribute") if file.exists() else None


def _row_name(row: dict) -> str:
    return f"{row['stage']} {row['attribute']}" if "stage" in row else row["attribute"]


def editing_table(summary: pd.DataFrame, published: pd.DataFrame | None) -> str:
    """Mean and sd an attribute, the thesis's published row under ours where there is one; of a cascade a stage.

    A stage is scored against the photo that it was given; the row below it scores the same photo since the first.
    """
    of_sets = [name for name, *_ in _OF_SETS if name in summary and summary[name].notna().any()]
    headings = ["stage" if "stage" in summary else "attribute", "n", *(heading for _, heading, _, _ in _EDITING)]
    headings += [*(heading for name, heading, *_ in _OF_SETS if name in of_sets), "latency s"]
    rows = []
    for row in summary.to_dict("records"):
        cells = [_mean_sd(row, name, factor, digits) for name, _, factor, digits in _EDITING]
        latency = "" if pd.isna(row["latency_s_median"]) else f"{row['latency_s_median']:.3f}"
        rows.append([_row_name(row), str(row["n"]), *cells, *_of_sets(row, of_sets), latency])
        if row.get("stage", 1) > 1:
            cells = [_mean_sd(row, f"{name}_total", factor, digits) for name, _, factor, digits in _EDITING]
            rows.append(["  since the photo", "", *cells, *("" for _ in of_sets), ""])
        if published is not None and row["attribute"] in published.index:
            paper = published.loc[row["attribute"]]
            # the published CLIP values are already 100 x cosine
            cells = [_mean_sd(paper, name, 1, digits) for name, _, _, digits in _EDITING]
            rows.append(["  published", "100", *cells, *("" for _ in of_sets), ""])
    return markdown(headings, rows)


def _comparable(published: pd.DataFrame | None, summary: pd.DataFrame, sources: dict) -> pd.DataFrame | None:
    """The published rows of edits that were asked for in the thesis's words; those of a cascade were not."""
    if published is None or "stage" in summary:
        return None
    rows = [a for a in published.index if sources.get(a, "thesis") == "thesis" and a in set(summary["attribute"])]
    return published.loc[rows] if rows else None


def editing_report(folder: Path, repository: Path) -> str:
    """Table of an editing run beside the published one, and what to know about it.

    Args:
        folder: the run. repository: checkout whose ``results/published`` holds the papers' numbers.
    """
    run, summary = read_run(folder), pd.read_csv(folder / "summary.csv")
    notes = run_notes(run)
    empty = [f"{a} {n}" for a, n in zip(summary["attribute"], summary["n_empty"], strict=True) if n]
    if empty:
        notes.append("empty regions: " + ", ".join(empty))
    protocol = run["identity"]["config"]["protocol"]
    deviations = run.get("protocol_deviations", [])
    if deviations:
        notes.append(f"deviates from protocol {protocol}: {'; '.join(deviations)}")
    sources = {p["attribute"]: p["prompt_source"] for p in run.get("prompts", [])}
    if added := [attribute for attribute, source in sources.items() if source == "ours"]:
        notes.append(f"prompts of ours, not of the thesis: {', '.join(added)}")
    published = _comparable(published_editing(repository), summary, sources)
    if published is not None:
        ours = "" if protocol == "thesis" else f"; ours is protocol {protocol}, another measurement"
        notes.append(f"published rows: thesis table 6.1, SDXL inpainting of 100 photos, protocol thesis{ours}")
    names = f"editor {run['editor']['name']}, parser {run['parser']['name']}, protocol {protocol}"
    return "\n".join([editing_table(summary, published), "", *notes, names])

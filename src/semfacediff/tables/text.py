"""Tables for the terminal and for ``results/tables``, from records alone."""

from pathlib import Path

import pandas as pd

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


def _markdown(headings: list[str], rows: list[list[str]]) -> str:
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


def parsing_table(summary: pd.DataFrame) -> str:
    """Per-class and aggregate scores in per cent, as Markdown."""
    rows = []
    for row in summary.to_dict("records"):
        images = "" if pd.isna(row["images"]) else str(int(row["images"]))
        name = f"**{row['class']}**" if row["class"] in AGGREGATES else row["class"]
        rows.append([name, *(_percent(row[c]) for c in ("iou", "f1", "precision", "recall")), images])
    return _markdown(["class", "IoU %", "F1 %", "precision %", "recall %", "images"], rows)


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
    run = read_run(folder)
    names = f"parser {run['parser']['name']}, n = {run['n']} of {run['n_expected']}"
    return "\n".join([parsing_table(pd.read_csv(folder / "summary.csv")), "", *run_notes(run), names])


def training_report(folder: Path) -> str:
    """Validation scores of a training run's best epoch, and where its checkpoint is."""
    table = parsing_table(pd.read_csv(folder / "summary.csv"))
    return f"{table}\n\nbest checkpoint: {folder / 'checkpoints' / 'best'}"


def published_editing(repository: Path) -> pd.DataFrame | None:
    """The thesis's table 6.1 by attribute; ``None`` where the checkout does not hold it."""
    file = repository / _PUBLISHED
    return pd.read_csv(file).set_index("attribute") if file.exists() else None


def editing_table(summary: pd.DataFrame, published: pd.DataFrame | None) -> str:
    """Mean and sd an attribute, the thesis's published row under ours where there is one."""
    of_sets = [name for name, *_ in _OF_SETS if name in summary and summary[name].notna().any()]
    headings = ["attribute", "n", *(heading for _, heading, _, _ in _EDITING)]
    headings += [*(heading for name, heading, *_ in _OF_SETS if name in of_sets), "latency s"]
    rows = []
    for row in summary.to_dict("records"):
        cells = [_mean_sd(row, name, factor, digits) for name, _, factor, digits in _EDITING]
        latency = "" if pd.isna(row["latency_s_median"]) else f"{row['latency_s_median']:.3f}"
        rows.append([row["attribute"], str(row["n"]), *cells, *_of_sets(row, of_sets), latency])
        if published is not None and row["attribute"] in published.index:
            paper = published.loc[row["attribute"]]
            # the published CLIP values are already 100 x cosine
            cells = [_mean_sd(paper, name, 1, digits) for name, _, _, digits in _EDITING]
            rows.append(["  published", "100", *cells, *("" for _ in of_sets), ""])
    return _markdown(headings, rows)


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
    published = published_editing(repository)
    if published is not None:
        ours = "" if protocol == "thesis" else f"; ours is protocol {protocol}, another measurement"
        notes.append(f"published rows: thesis table 6.1, SDXL inpainting of 100 photos, protocol thesis{ours}")
    names = f"editor {run['editor']['name']}, parser {run['parser']['name']}, protocol {protocol}"
    return "\n".join([editing_table(summary, published), "", *notes, names])

"""Tables for the terminal, from records."""

from pathlib import Path

import pandas as pd

from semfacediff.metrics.segmentation import AGGREGATES


def _percent(value: float) -> str:
    return "-" if pd.isna(value) else f"{100 * value:.2f}"


def parsing_table(summary: pd.DataFrame) -> str:
    """Per-class and aggregate scores in per cent, as Markdown."""
    lines = ["| class | IoU % | F1 % | images |", "|---|---:|---:|---:|"]
    for row in summary.itertuples():
        images = "" if pd.isna(row.images) else int(row.images)
        name = f"**{row[1]}**" if row[1] in AGGREGATES else row[1]
        lines.append(f"| {name} | {_percent(row.iou)} | {_percent(row.f1)} | {images} |")
    return "\n".join(lines)


def training_summary(folder: Path) -> str:
    """What a training run ended with, and where its best checkpoint is."""
    table = parsing_table(pd.read_csv(folder / "summary.csv"))
    return f"{table}\n\nbest checkpoint: {folder / 'checkpoints' / 'best'}"

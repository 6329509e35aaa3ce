"""Figures from records."""

from pathlib import Path

import pandas as pd

from semfacediff.records.writing import failing_loudly


def training_curves(history: Path, file: Path) -> None:
    """Training loss and validation mIoU against the epoch, from ``history.csv``, as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = pd.read_csv(history)
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    left.plot(rows["epoch"], rows["train_loss"], marker="o", color="#0072b2")
    left.set(xlabel="epoch", ylabel="training loss")
    right.plot(rows["epoch"], 100 * rows["val_miou"], marker="o", color="#d55e00")
    right.set(xlabel="epoch", ylabel="validation mIoU (%)")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.xaxis.get_major_locator().set_params(integer=True)
    with failing_loudly(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file, dpi=120)

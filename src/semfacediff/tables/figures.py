"""Figures from records."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from semfacediff.labels import LabelSpace, palette
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


_PANEL_PX = 256
_CAPTIONS = ("photo", "parse", "mask", "edit")


def strip_figure(panels: list[tuple], space: LabelSpace, title: str, file: Path) -> None:
    """A row a sample: photo, parse in palette colours over the photo, blend mask, edit.

    Args:
        panels: (id, photo uint8 ``[H, W, 3]``, labels int64 ``[H, W]``, blend mask float32 ``[H, W]``, edit uint8 or
            ``None`` where the photo was not edited).
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 2.0 * len(panels) + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title.replace("$", r"\$"), fontsize=10)
    grid = figure.subplots(len(panels), 4, squeeze=False)
    for axes, (id_, photo, labels, blend, edit) in zip(grid, panels, strict=True):
        overlay = (0.4 * photo + 0.6 * palette(space)[labels]).astype(np.uint8)
        for ax, image in zip(axes, (photo, overlay, blend, edit), strict=True):
            if image is None:
                ax.text(0.5, 0.5, "empty region:\nnot edited", ha="center", va="center", fontsize=8)
            else:
                shown = cv2.resize(image, (_PANEL_PX, _PANEL_PX), interpolation=cv2.INTER_AREA)
                ax.imshow(shown, cmap="gray", vmin=0, vmax=1)
            ax.set(xticks=[], yticks=[])
        axes[0].set_ylabel(id_.replace("$", r"\$"), fontsize=8)
    for ax, caption in zip(grid[0], _CAPTIONS, strict=True):
        ax.set_title(caption, fontsize=9)
    with failing_loudly(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file, dpi=110)

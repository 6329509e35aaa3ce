"""Figures from records."""

import warnings
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


def overlay(photo: np.ndarray, labels: np.ndarray, space: LabelSpace) -> np.ndarray:
    """uint8 ``[H, W, 3]``: palette colours of an integer ``[H, W]`` label map over a uint8 photo."""
    return (0.4 * photo + 0.6 * palette(space)[labels]).astype(np.uint8)


def panel_figure(rows: list[list[tuple[str, np.ndarray | None]]], title: str, file: Path) -> None:
    """A grid of pictures, a row a sample, the columns captioned.

    Args:
        rows: (caption, picture) pairs: uint8 ``[H, W, 3]``, float32 ``[H, W]`` in [0,1], or ``None`` where the photo
            was not edited.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = len(rows[0])
    figure = Figure(figsize=(1.9 * columns, 1.9 * len(rows) + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    if title:
        figure.suptitle(title.replace("$", r"\$"), fontsize=10)
    for axes, row in zip(figure.subplots(len(rows), columns, squeeze=False), rows, strict=True):
        for ax, (_, picture) in zip(axes, row, strict=True):
            ax.set(xticks=[], yticks=[])
            if picture is None:
                ax.set_box_aspect(1)  # as square as its neighbours
                ax.text(0.5, 0.5, "empty region:\nnot edited", ha="center", va="center", fontsize=8)
                continue
            shown = cv2.resize(picture, (_PANEL_PX, _PANEL_PX), interpolation=cv2.INTER_AREA)
            ax.imshow(shown, cmap="gray", vmin=0, vmax=1)
    for ax, (caption, _) in zip(figure.axes[:columns], rows[0], strict=True):
        ax.set_title(caption, fontsize=9)
    with failing_loudly(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing")  # a prompt may be in any script
            figure.savefig(file, dpi=110)

"""Figures from records."""

import warnings
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from semfacediff.labels import LabelSpace, palette
from semfacediff.records.columns import read_table
from semfacediff.records.writing import write_errors
from semfacediff.tables.drawing import BLACK, BLUE, GREEN, ORANGE, Axes, Figure, new_figure, save_figure, styled

_LINES = {"train": (BLUE, "-"), "val": (ORANGE, "--")}
_OTHER_LINE = (GREEN, ":")
_FEW_EPOCHS = 40


def training_curves(history: Path, file: Path) -> None:
    """:func:`curves_figure` of ``history.csv`` as PNG (``file``) and PDF."""
    save_figure(curves_figure(read_table(history)), file)


def curves_figure(history: pd.DataFrame) -> Figure:
    """Losses, mean IoUs and learning rates against the epoch, as far as the history has them.

    Args:
        history: an epoch a row: ``epoch``, columns ``*_loss``, ``*miou*`` (fractions), ``lr`` or ``*_lr``, and
            ``phase`` (what optimiser was at work): where it changes, a line is drawn between the two epochs.
    """
    names = [str(c) for c in history]
    panels = [
        ("loss", [c for c in names if c.endswith("_loss")], 1, min),
        ("mean IoU (%)", [c for c in names if "miou" in c], 100, max),
        ("learning rate", [c for c in names if c == "lr" or c.endswith("_lr")], 1, None),
    ]
    panels = [panel for panel in panels if panel[1]]
    with styled():
        figure = new_figure(4.2 * len(panels), 3.4)
        row = figure.subplots(1, len(panels), squeeze=False)[0]
        for ax, (title, columns, factor, best) in zip(row, panels, strict=True):
            for column in columns:
                _curve(ax, history["epoch"], factor * history[column], column, best)
            ax.set(xlabel="epoch", ylabel=title)
            if best is None:
                ax.set_yscale("log")
                for curve in ax.get_lines():
                    curve.set(drawstyle="steps-mid", linestyle="-")
            ax.grid(True)
            ax.xaxis.get_major_locator().set_params(integer=True)
            _mark_phases(ax, history)
            ax.legend(frameon=True, framealpha=0.9, edgecolor="none")
    return figure


def _curve(ax: Axes, epochs: pd.Series, values: pd.Series, column: str, best: Callable | None) -> None:
    known = values.notna()
    if not known.any():
        return
    epochs, values = epochs[known], values[known]
    colour, line = _LINES.get(column.split("_")[0], _OTHER_LINE) if "ema" not in column else _OTHER_LINE
    label = column.replace("_", " ")
    if best is not None and not column.startswith("train"):
        where = values.argmin() if best is min else values.argmax()
        label += f" (best {values.iloc[where]:.4g}, epoch {epochs.iloc[where]})"
        ax.plot(epochs.iloc[where], values.iloc[where], "o", ms=8, mfc="none", mec=BLACK)
    marker = "." if len(epochs) <= _FEW_EPOCHS else ""
    ax.plot(epochs, values, line, marker=marker, color=colour, label=label)


def _mark_phases(ax: Axes, history: pd.DataFrame) -> None:
    """A vertical line where the optimiser changes, with the new one's name above the frame."""
    if "phase" not in history:
        return
    phases, epochs = history["phase"].astype(str), history["epoch"]

    def write(x: float, phase: str) -> None:
        ax.text(x, 1.01, phase, transform=ax.get_xaxis_transform(), rotation=35, ha="left", va="bottom", fontsize=7)

    write(epochs.iloc[0], phases.iloc[0])
    for i in range(1, len(history)):
        if phases.iloc[i] != phases.iloc[i - 1]:
            between = (epochs.iloc[i - 1] + epochs.iloc[i]) / 2
            ax.axvline(between, color="0.35", lw=0.9, ls=(0, (4, 2)))
            write(between, phases.iloc[i])


_PANEL_PX = 256


def overlay(photo: np.ndarray, labels: np.ndarray, space: LabelSpace) -> np.ndarray:
    """uint8 ``[H, W, 3]``: palette colours of an integer ``[H, W]`` label map over a uint8 photo."""
    return (0.4 * photo + 0.6 * palette(space)[labels]).astype(np.uint8)


def panel_figure(rows: list[list[tuple[str, np.ndarray | None]]], title: str, file: Path) -> None:
    """A grid of pictures, a row a sample, the columns captioned; so is what has another caption than the first row.

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
    for i, (axes, row) in enumerate(zip(figure.subplots(len(rows), columns, squeeze=False), rows, strict=True)):
        for ax, (caption, picture), (above, _) in zip(axes, row, rows[0], strict=True):
            ax.set(xticks=[], yticks=[])
            if i == 0 or caption != above:
                ax.set_title(caption, fontsize=9)
            if picture is None:
                ax.set_box_aspect(1)  # as square as its neighbours
                ax.text(0.5, 0.5, "empty region:\nnot edited", ha="center", va="center", fontsize=8)
                continue
            shown = cv2.resize(picture, (_PANEL_PX, _PANEL_PX), interpolation=cv2.INTER_AREA)
            ax.imshow(shown, cmap="gray", vmin=0, vmax=1)
    with write_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing")  # a prompt may be in any script
            figure.savefig(file, dpi=110)

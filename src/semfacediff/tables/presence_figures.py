"""How often a class is in a photo against its F1 (SegFace, figure 1), from a record alone."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from semfacediff.records.columns import read_table
from semfacediff.records.folder import read_run
from semfacediff.tables.drawing import BLACK, BLUE, GREEN, ORANGE, PINK, Figure, new_figure, save_figure, styled
from semfacediff.tables.parsing_figures import Published, of_classes, published_f1, run_name

_MARKERS = (("o", BLACK), ("^", ORANGE), ("s", GREEN), ("D", PINK))


def presence(summary: pd.DataFrame, photos: int) -> pd.Series:
    """Share in [0,1] of the ``photos`` whose labels hold each class, most frequent first; without the background."""
    classes = of_classes(summary).drop(index="background")
    return (classes["images"].astype(float) / photos).sort_values(ascending=False, kind="stable")


def presence_figure(
    summary: pd.DataFrame, photos: int, published: Sequence[Published], ours: str, protocol: str
) -> Figure:
    """F1 of every class, classes ordered by how often they occur; the line says how often.

    Args:
        summary: ``summary.csv`` of a run of ``photos`` photos. published: F1 in per cent to put beside.
    """
    share = presence(summary, photos)
    f1 = of_classes(summary)["f1"].astype(float)
    series = [(ours, 100 * f1), *((result.name, result.values) for result in published)]
    place = np.arange(len(share))
    with styled():
        figure = new_figure(7.5, 3.8)
        ax = figure.subplots()
        # Side by side, or near values would cover each other.
        offsets = 0.5 * ((np.arange(len(series)) + 0.5) / len(series) - 0.5)
        for (name, values), offset, (marker, colour) in zip(series, offsets, _MARKERS, strict=False):
            y = pd.Series(values).reindex(share.index).astype(float)
            ax.plot(place + offset, y, marker, ls="none", color=colour, mec="white", mew=0.6, ms=6, label=name)
        ax.set(ylabel=f"F1 (%), protocol {protocol}", ylim=(-2, 102))
        ax.set_xticks(place, share.index, rotation=45, ha="right", rotation_mode="anchor")
        ax.grid(axis="y")
        right = ax.twinx()
        right.spines["right"].set_visible(True)
        right.plot(place, share, color=BLUE, lw=1.5, label="presence")
        right.set(ylim=(-0.02, 1.02))
        right.set_ylabel(f"share of the {photos} photos with the class", color=BLUE)
        figure.legend(loc="outside upper center", ncols=4)
    return figure


def draw_presence(folder: Path, out: Path, repository: Path) -> None:
    """``f1_by_presence`` (PNG and PDF) into ``out``, from the record of a parsing run or of a training's validation."""
    run = read_run(folder)
    photos = (run.get("data", {}).get("val") or run)["n"]
    protocol = run["identity"]["config"].get("protocol", "strict")
    summary, beside = read_table(folder / "summary.csv"), published_f1(repository)
    save_figure(presence_figure(summary, photos, beside, run_name(run), protocol), out / "f1_by_presence")

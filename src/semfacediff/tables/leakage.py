"""Which classes an edit disturbs outside its region: a table and a heat map from ``leakage.csv``."""

from pathlib import Path

import numpy as np
import pandas as pd

from semfacediff.errors import UserError
from semfacediff.labels import CELEBAMASK
from semfacediff.records.columns import read_table
from semfacediff.records.writing import write_errors
from semfacediff.tables.formats import markdown

SHOWN_TARGETS = 3
"""Classes named in a row as what the disturbed pixels became."""


def read_leakage(folder: Path) -> pd.DataFrame:
    """``attribute, before, after, pixels`` of a run.

    Raises:
        UserError: the run has none, or the file is not one.
    """
    file = folder / "leakage.csv"
    if not file.exists():
        raise UserError(
            f"{folder}: no leakage.csv; run evaluate.py with metrics.columns=[...,leakage] and a parser that judges "
            f"edits, in a new folder"
        )
    return read_table(file)


def disturbed(leakage: pd.DataFrame) -> pd.DataFrame:
    """One row an attribute and class before: ``attribute, class, pixels, lost, share, became``, worst share first.

    ``pixels`` of the class lay outside the region, ``lost`` of them are parsed as something else after the edit;
    ``became`` names what, the most frequent first, with its share of the lost.
    """
    rows = []
    for (attribute, name), group in leakage.groupby(["attribute", "before"], sort=False):
        pixels, moved = int(group["pixels"].sum()), group[group["after"] != name].sort_values("pixels", ascending=False)
        lost = int(moved["pixels"].sum())
        targets = zip(moved["after"][:SHOWN_TARGETS], moved["pixels"][:SHOWN_TARGETS], strict=True)
        became = ", ".join(f"{after} {100 * n / lost:.0f} %" for after, n in targets)
        rows.append((attribute, name, pixels, lost, lost / pixels, became))
    table = pd.DataFrame(rows, columns="attribute class pixels lost share became".split())
    order = {a: i for i, a in enumerate(dict.fromkeys(leakage["attribute"]))}
    table["place"] = table["attribute"].map(order)
    return table.sort_values(["place", "share"], ascending=[True, False], kind="stable").drop(columns="place")


def leakage_markdown(leakage: pd.DataFrame, attribute: str | None = None) -> str:
    """:func:`disturbed` as Markdown: every class that lost a pixel, of one attribute or of all."""
    table = disturbed(leakage)
    table = table[(table["lost"] > 0) & ((attribute is None) | (table["attribute"] == attribute))]
    rows = [
        [r["attribute"], r["class"], str(r["pixels"]), str(r["lost"]), f"{100 * r['share']:.2f}", r["became"]]
        for r in table.to_dict("records")
    ]
    return markdown(["edit", "class before", "pixels outside", "changed", "changed %", "became"], rows)


def leakage_figure(leakage: pd.DataFrame, title: str, file: Path) -> None:
    """Heat map: share of each class (columns) that an edit (rows) turned into something else outside its region.

    Cells are on a logarithmic scale and carry their number in per cent; a class that did not occur is blank.

    Args:
        file: .pdf or .png.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

    table = disturbed(leakage)
    attributes, there = (list(dict.fromkeys(leakage[key])) for key in ("attribute", "before"))
    classes = [name for name in CELEBAMASK.classes if name in there]  # every space's classes are among these
    grid = table.pivot(index="attribute", columns="class", values="share").reindex(attributes, axis=0)
    values = 100 * grid.reindex(classes, axis=1).to_numpy()
    figure = Figure(figsize=(2 + 0.55 * len(classes), 1.6 + 0.4 * len(attributes)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    image = axes.imshow(np.clip(values, 0.01, 100), cmap="cividis_r", norm=LogNorm(0.01, 100), aspect="auto")
    for (y, x), value in np.ndenumerate(values):
        if not np.isnan(value):
            ink = "white" if value > 3 else "black"
            axes.text(x, y, f"{value:.2g}" if value else "0", ha="center", va="center", fontsize=7, color=ink)
    axes.set_xticks(range(len(classes)), classes, rotation=60, ha="right", fontsize=8)
    axes.set_yticks(range(len(attributes)), attributes, fontsize=8)
    axes.set(xlabel="class before the edit, outside the region", ylabel="edit")
    axes.set_title(title.replace("$", r"\$"), fontsize=10)
    figure.colorbar(image, ax=axes, label="changed class, %")
    with write_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file, dpi=150)

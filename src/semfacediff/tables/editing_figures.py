"""Figures of an editing run from its record: bars an attribute beside the published ones, regions, leakage."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from semfacediff.records.columns import read_table
from semfacediff.records.folder import read_run
from semfacediff.records.pairing import by_stage
from semfacediff.tables.drawing import BLACK, SKY, Figure, new_figure, save_figure, styled
from semfacediff.tables.grid import Column
from semfacediff.tables.leakage import leakage_figure, read_leakage
from semfacediff.tables.scores import column
from semfacediff.tables.text import comparable_rows

OF_THESIS = {"fid": "5.6", "lpips": "5.7", "ssim": "5.8", "iou": "5.9"}
"""Score -> number of the thesis's figure; 5.6 is published as a picture only, without numbers."""
_MORE = ("kid", "clip", "seam", "geometry_shift_pct")


@dataclass(frozen=True)
class Bars:
    """One group of bars, float64 ``[K]`` for K attributes, NaN where there is none.

    Attributes:
        spread: standard deviations.
        published: whether these are a paper's numbers, which are hatched.
    """

    name: str
    mean: np.ndarray
    spread: np.ndarray
    published: bool = False


def bars_of_attributes(attributes: Sequence[str], groups: Sequence[Bars], shown: Column) -> Figure:
    """Means of each attribute as bars with their standard deviations, numbers above them.

    Bars begin at 0, so that their lengths may be compared.
    """
    place, width = np.arange(len(attributes)), 0.8 / len(groups)
    with styled():
        figure = new_figure(max(4.2, 1.4 + 1.15 * len(attributes)), 3.2)
        ax = figure.subplots()
        for k, group in enumerate(groups):
            colour, hatch = ("white", "////") if group.published else (SKY, None)
            at = place + (k - (len(groups) - 1) / 2) * width
            mean, spread = (shown.factor * x for x in (group.mean, group.spread))
            heights = np.nan_to_num(mean)
            ax.bar(at, heights, width, label=group.name, color=colour, edgecolor=BLACK, linewidth=0.7, hatch=hatch)
            known = ~np.isnan(mean) & ~np.isnan(spread)
            ax.errorbar(at[known], mean[known], spread[known], fmt="none", ecolor=BLACK, elinewidth=1, capsize=3)
            for x, value, sd in zip(at, mean, spread, strict=True):
                if not np.isnan(value):
                    top = max(0.0, value) + (0 if np.isnan(sd) else sd)
                    text = f"{value:.{min(shown.digits, 3)}f}"
                    ax.annotate(
                        text, (x, top), (0, 2), textcoords="offset points", ha="center", va="bottom", fontsize=6.5
                    )
        ax.set_xticks(place, attributes)
        ax.axhline(0, color=BLACK, lw=0.8)
        direction = {True: ", higher is better", False: ", lower is better", None: ""}[shown.up]
        ax.set_ylabel(f"{shown.heading}{direction}\n(mean, standard deviation)")
        ax.margins(y=0.12)
        ax.grid(axis="y")
        figure.legend(loc="outside upper center", ncols=len(groups))
    return figure


def score_bars(run: dict, summary: pd.DataFrame, published: pd.DataFrame | None, name: str) -> Figure | None:
    """Bars of one score, ours and the published ones; ``None`` where neither has a value."""
    attributes = list(summary["attribute"])
    mean = name if name in ("fid", "kid") else f"{name}_mean"
    ours = Bars(_name(run), _column(summary, mean), _column(summary, f"{name}_sd"))
    shown = column(name, run)
    measured = bool((~np.isnan(ours.mean)).any())
    groups = [ours] if measured else []
    if published is not None and f"{name}_mean" in published:
        rows = published.reindex(attributes)
        factor = shown.factor if name == "clip" else 1
        theirs, spread = (_column(rows, f"{name}_{part}") / factor for part in ("mean", "sd"))
        lacking = "" if measured else f"; {_name(run)}: not measured"
        groups.append(Bars(f"thesis, table 6.1{lacking}", theirs, spread, published=True))
    return bars_of_attributes(attributes, groups, shown) if groups else None


def _name(run: dict) -> str:
    return f"{run['editor']['name']}, protocol {run['identity']['config']['protocol']}"


def _column(table: pd.DataFrame, name: str) -> np.ndarray:
    return table[name].to_numpy(float) if name in table else np.full(len(table), np.nan)


def coverage_bars(run: dict, samples: pd.DataFrame, attributes: Sequence[str]) -> Figure:
    """How much of the photo each attribute's region takes: mean and standard deviation over the photos."""
    cover = samples.groupby("attribute")["coverage"]
    mean, spread = (100 * x.reindex(list(attributes)).to_numpy(float) for x in (cover.mean(), cover.std(ddof=1)))
    shown = Column("coverage", "region, % of the photo", None, 1)
    return bars_of_attributes(attributes, [Bars(f"parser {run['parser']['name']}", mean, spread)], shown)


def draw_editing_figures(folder: Path, out: Path, repository: Path) -> list[str]:
    """Draw what the record gives into ``out`` as PNG and PDF; returns the names of the files without suffix.

    ``fid`` (the thesis's figure 5.6), ``lpips`` (5.7), ``ssim`` (5.8), ``iou`` (5.9), ``kid``, ``clip``, ``seam`` and
    ``geometry_shift_pct``, each where it was measured or published; ``region_coverage`` (5.4); ``leakage``. The strips
    of photos (4.2, 4.3, 5.1 to 5.3, 5.5) need the photos: the run draws them while it has these.
    """
    run, summary = read_run(folder), by_stage(read_table(folder / "summary.csv"))
    samples = by_stage(read_table(folder / "samples.parquet"))
    published = None if "stage" in summary else comparable_rows(run, summary, repository)
    figures = {name: score_bars(run, summary, published, name) for name in (*OF_THESIS, *_MORE)}
    figures["region_coverage"] = coverage_bars(run, samples, list(summary["attribute"]))
    drawn = []
    for name, figure in figures.items():
        if figure is not None:
            save_figure(figure, out / name)
            drawn.append(name)
    if (folder / "leakage.csv").exists():
        for suffix in (".png", ".pdf"):
            leakage_figure(read_leakage(folder), _name(run), out / f"leakage{suffix}")
        drawn.append("leakage")
    return drawn

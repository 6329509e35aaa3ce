"""Scores by group of faces, as Markdown and as a figure."""

from pathlib import Path

import pandas as pd

from semfacediff.records.strata import MIN_STRATUM, Strata
from semfacediff.records.writing import write_errors
from semfacediff.tables.formats import markdown, number
from semfacediff.tables.grid import Column, Grid, Row, Value
from semfacediff.tables.scores import column

_NARROWEST = 0.01
_GAPS = (
    "gaps: permutation test of the largest minus the smallest stratum mean, each permutation picks its own; Holm over "
    "all gaps of the table"
)
_GREY, _INK = "#9a9a9a", "#0072b2"


def strata_table(rows: pd.DataFrame) -> str:
    """Rows of :func:`semfacediff.records.strata.by_stratum`; those of few samples stand in parentheses."""
    scores = list(dict.fromkeys(rows["score"]))
    shown = []
    for (attribute, stratum), group in rows.groupby(["attribute", "stratum"], sort=False):
        n = group["n"].max()
        few = n < MIN_STRATUM
        cells = [str(attribute), str(stratum), str(n), *(_cell(row, n) for row in group.to_dict("records"))]
        shown.append([f"({cell})" if few and cell and i else cell for i, cell in enumerate(cells)])
    return markdown(["attribute", "stratum", "n", *scores], shown)


def _cell(row: dict, n: int) -> str:
    """Mean and interval, or range of few values; the number of values where it is not the stratum's ``n``."""
    if not row["n"]:
        return ""
    spread = "" if pd.isna(row["low"]) else f" [{row['low']:.4f}, {row['high']:.4f}]"
    if row["few"]:
        spread = f" ({row['low']:.4f} to {row['high']:.4f})"
    return f"{row['mean']:.4f}{spread}" + (f" n={row['n']}" if row["n"] != n else "")


def gaps_table(rows: pd.DataFrame) -> str:
    """Rows of :func:`semfacediff.records.strata.gaps`."""
    cells = [
        [r["attribute"], r["score"], r["worst"], r["best"], f"{r['gap']:.4f}", f"{r['p']:.4f}", f"{r['p_holm']:.4f}"]
        for r in rows.to_dict("records")
    ]
    return markdown(["attribute", "score", "worst stratum", "best stratum", "gap", "p", "p (Holm)"], cells)


def strata_grid(strata: Strata, rows: pd.DataFrame, of_gaps: pd.DataFrame, run: dict) -> Grid:
    """The same as a named table: a row an attribute and stratum, the gaps below it.

    Args:
        rows, of_gaps: of :func:`semfacediff.records.strata.by_stratum` and ``gaps``. run: ``run.json``.
    """
    scores = list(dict.fromkeys(rows["score"]))
    columns = {score: column(score, run) for score in scores}
    made = []
    for (attribute, stratum), group in rows.groupby(["attribute", "stratum"], sort=False):
        cells = [Value(r["mean"], low=r["low"], high=r["high"], few=r["few"]) for r in group.to_dict("records")]
        few = " (few)" if group["n"].max() < MIN_STRATUM else ""
        made.append(Row((str(attribute), f"{stratum}{few}"), (Value(int(group["n"].max())), *cells)))
    notes = [
        f"gap: {r['attribute']}, {columns[r['score']].heading}: {r['worst']} is worse than {r['best']} by "
        f"{number(r['gap'], columns[r['score']])} (p {r['p']:.4f}, with Holm {r['p_holm']:.4f})"
        for r in of_gaps.to_dict("records")
    ]
    notes += [f"strata: {strata.rule}; n = photos; means with 95 % BCa intervals, photos resampled"]
    notes += [_GAPS] * bool(len(of_gaps))
    notes += [f"few: fewer than {MIN_STRATUM} photos, shown with the range of their values; part of no gap"] * bool(
        rows["few"].any()
    )
    config = run["identity"]["config"]
    editor = [f"editor {run['editor']['name']}"] if "editor" in run else []
    notes.append(", ".join([*editor, f"parser {run['parser']['name']}", f"protocol {config['protocol']}"]))
    return Grid(("attribute", strata.by), (Column("n", "n"), *columns.values()), made, notes=notes)


def strata_report(strata: Strata, rows: pd.DataFrame, of_gaps: pd.DataFrame, untold: list[str]) -> str:
    """Both tables and how to read them.

    Args:
        untold: scores whose direction is unknown, so that they have no worst stratum.
    """
    lines = [strata_table(rows), ""]
    lines += [gaps_table(of_gaps)] if len(of_gaps) else [f"no two strata of {MIN_STRATUM} samples: no gap to report"]
    lines += ["", f"strata: {strata.rule}; n = photos; means with 95 % BCa intervals, photos resampled"]
    if rows["few"].any():
        lines.append(f"in parentheses: fewer than {MIN_STRATUM} photos and the range of their values, part of no gap")
    lines += [_GAPS] if len(of_gaps) else []
    lines += [f"no gap of {', '.join(untold)}: the record does not say which direction is better"] if untold else []
    return "\n".join(lines)


def strata_figure(rows: pd.DataFrame, title: str, file: Path) -> None:
    """Means with intervals, a panel a score and a row of points an attribute; strata of few samples in grey.

    Args:
        file: .pdf or .png.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    scores, attributes, strata = (list(dict.fromkeys(rows[key])) for key in ("score", "attribute", "stratum"))
    height = 0.6 + 0.24 * len(attributes) * (len(strata) + 1)
    figure = Figure(figsize=(1.8 + 2.6 * len(scores), height), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title.replace("$", r"\$"), fontsize=10)
    place = {(a, s): -(i * (len(strata) + 1) + k) for i, a in enumerate(attributes) for k, s in enumerate(strata)}
    for axes, score in zip(figure.subplots(1, len(scores), squeeze=False, sharey=True)[0], scores, strict=True):
        for row in rows[(rows["score"] == score) & (rows["n"] > 0)].to_dict("records"):
            y, colour = place[row["attribute"], row["stratum"]], _GREY if row["few"] else _INK
            axes.plot([row["low"], row["high"]], [y, y], color=colour, linewidth=1.5)
            axes.plot([row["mean"]], [y], marker="o" if not row["few"] else "x", color=colour, markersize=4)
        axes.set_title(score, fontsize=9)
        axes.ticklabel_format(axis="x", useOffset=False)
        low, high = axes.get_xlim()
        if high - low < _NARROWEST:  # all the same but for the last bits
            axes.set_xlim(low - _NARROWEST / 2, high + _NARROWEST / 2)
        axes.grid(axis="x", alpha=0.3)
        axes.tick_params(labelsize=8)
        axes.set_yticks(list(place.values()), [f"{a}: {s}" for a, s in place], fontsize=7)
    with write_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file, dpi=150)

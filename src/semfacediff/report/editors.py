"""Editing runs side by side: effect against preservation, tiers and ranks."""

from dataclasses import dataclass

import pandas as pd

from semfacediff.errors import UserError
from semfacediff.metrics.overall import CHANGE, TOWARD
from semfacediff.records.pairing import scored, together
from semfacediff.records.ranking import ranked
from semfacediff.report.ablation import comparable
from semfacediff.report.charts import LineChart, line_chart
from semfacediff.report.headline import Table, shown
from semfacediff.report.reading import EDITING, Record
from semfacediff.tables.ranking import axis_scores, rank_grid, side_by_side
from semfacediff.tables.scores import column

FRONT = "Pareto front"


@dataclass(frozen=True)
class Editors:
    """``charts``: preservation against effect, one an attribute. ``left_out``: why runs are not among them."""

    charts: list[LineChart]
    side: Table
    ranks: Table
    left_out: list[str]


def editors(records: list[Record]) -> Editors | None:
    """The finished, comparable editing runs of the same photos as the first one; ``None`` if it stands alone."""
    kept, left_out = comparable([r for r in records if r.task == EDITING], judged=True)
    if len(kept) < 2:
        return None
    try:
        compared = together({r.id: (r.run, scored(r.samples.drop(columns="stage", errors="ignore"))) for r in kept})
    except UserError:  # no score or attribute in common
        return None
    scores = axis_scores(compared.directions)
    table = ranked(compared.samples, {name: compared.directions[name] for name in scores})
    if table.empty:
        return None
    side, ranks = shown(side_by_side(table, compared)), shown(rank_grid(table))
    return Editors(_charts(table, kept[0].run), side, ranks, left_out)


def _charts(table: pd.DataFrame, run: dict) -> list[LineChart]:
    kept = next((name for name in table["score"].unique() if name.startswith("ssim")), None)
    charts = []
    for attribute, rows in table.groupby("attribute", sort=False):
        of = {name: group.set_index("run") for name, group in rows.groupby("score")}
        effect = TOWARD if TOWARD in of else CHANGE
        if kept not in of or effect not in of:
            continue
        x, y = of[effect]["mean"], of[kept]
        points = {name: (x[name], y["mean"][name], y["low"][name], y["high"][name]) for name in x.index}
        nan = float("nan")
        front = [(*points[name][:2], nan, nan) for name in pareto_front({n: p[:2] for n, p in points.items()})]
        series = {FRONT: front, **{name: [point] for name, point in points.items()}}
        names = [column(name, run).heading for name in (kept, effect)]
        charts.append(line_chart(f"{attribute}: {names[0]}", names[1], series, round_ticks=True))
    return charts


def pareto_front(points: dict[str, tuple[float, float]]) -> list[str]:
    """Names of the (effect, preservation) that no other point reaches in both and exceeds in one."""

    def beaten(x: float, y: float) -> bool:
        return any(a >= x and b >= y and (a > x or b > y) for a, b in points.values())

    return [name for name, point in points.items() if not beaten(*point)]

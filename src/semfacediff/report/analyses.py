"""Distributions, strata, leakage and confusion of single runs, as the page shows them."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from semfacediff.errors import UserError
from semfacediff.labels import CELEBAMASK
from semfacediff.records.pairing import directions, scored
from semfacediff.records.statistics import blocks_of, bootstrap_intervals
from semfacediff.records.strata import BY, MIN_STRATUM, UNKNOWN, Strata, by_stratum, gaps, strata_of
from semfacediff.report.charts import Axis, Distribution, distribution
from semfacediff.report.reading import EDITING, Record
from semfacediff.report.wording import RAW, Score, numbers, scores_of
from semfacediff.tables.leakage import disturbed
from semfacediff.tables.scores import OF_EFFECT

_STRATIFIED = (*OF_EFFECT, *"lpips ssim iou clip identity identity_distance seam geometry_shift_pct".split())
_SAME = 1e-6


@dataclass(frozen=True)
class Plot:
    """Distributions of one score on one axis, with one row per attribute and run."""

    score: Score
    axis: Axis
    rows: list[Distribution]


def distributions(records: list[Record]) -> list[Plot]:
    """A plot for every score that any of the runs measured."""
    scores = {s.name: s for r in records for s in scores_of(r) if not s.name.endswith(RAW)}
    several = len(records) > 1
    plots = []
    for s in scores.values():
        values = {}
        for record in records:
            if s.name in record.samples:
                rows = record.samples[record.samples["status"] != "error"]
                column = s.factor * numbers(rows, s.name)
                names = rows["attribute"].astype(str) if "attribute" in rows else pd.Series("all photos", rows.index)
                for name in dict.fromkeys(names):
                    values[f"{name}, {record.id}" if several else name] = column[names == name].to_numpy()
        axis = Axis.over(np.concatenate(list(values.values())))
        drawn = [d for label, v in sorted(values.items()) if (d := distribution(label, v, axis)) is not None]
        plots.append(Plot(s, axis, drawn))
    return plots


@dataclass(frozen=True)
class Stratified:
    """``table``: one row per attribute and stratum, with n, whether it has few photos, and one cell per score."""

    by: str
    rule: str
    scores: list[Score]
    table: list[tuple[str, str, int, bool, list[str]]]
    gaps: list[str]


def strata(record: Record) -> tuple[list[Stratified], list[str]]:
    """The run's scores by every available grouping, and why others are unavailable."""
    scores = [s for s in scores_of(record) if s.name in _STRATIFIED and _differs(record.samples, s.name)]
    if record.task != EDITING or not scores:
        return [], ["no edit was scored"] if record.task == EDITING else []
    rows, found, unavailable = scored(record.samples.drop(columns="stage", errors="ignore")), [], []
    asked = record.config.get("stratify")
    for by in dict.fromkeys([*BY, *(asked if isinstance(asked, list) else [])]):
        try:
            of = strata_of(rows, str(by))
        except (UserError, ValueError, TypeError) as e:
            unavailable.append(f"{by}: {e}")
            continue
        if set(of.names) <= {UNKNOWN} or (of.of == UNKNOWN).all():
            unavailable.append(f"{by}: no photo of this run could be placed")
            continue
        found.append(_stratified(record, rows, of, scores))
    return found, unavailable


def _differs(samples: pd.DataFrame, name: str) -> bool:
    values = numbers(samples, name)
    values = values[np.isfinite(values)]
    return len(values) > 1 and values.max() - values.min() > _SAME


def _stratified(record: Record, rows: pd.DataFrame, of: Strata, scores: list[Score]) -> Stratified:
    table = by_stratum(rows, of, [s.name for s in scores])
    shown = []
    for (attribute, stratum), group in table.groupby(["attribute", "stratum"], sort=False):
        cells = {row["score"]: row for row in group.to_dict("records")}
        texts = [_with_interval(s, cells[s.name]) for s in scores]
        shown.append((str(attribute), str(stratum), int(group["n"].max()), bool(group["n"].max() < MIN_STRATUM), texts))
    known = {s.name: up for s in scores if (up := directions(record.run).get(s.name)) is not None}
    by_name = {s.name: s for s in scores}
    said = [_gap(by_name[g["score"]], g) for g in gaps(rows, of, known).to_dict("records")]
    return Stratified(of.by, of.rule, scores, shown, said)


def _gap(s: Score, gap: dict) -> str:
    tested = f"(p {gap['p']:.4f}, with Holm {gap['p_holm']:.4f})"
    return f"{gap['attribute']}, {s.label}: {gap['worst']} is worse than {gap['best']} by {s.text(gap['gap'])} {tested}"


def _with_interval(s: Score, row: dict) -> str:
    if not row["n"]:
        return ""
    low, high = s.text(row["low"]), s.text(row["high"])
    spread = f" ({low} to {high})" if row["few"] else f" [{low}, {high}]"
    return s.text(row["mean"]) + ("" if pd.isna(row["low"]) else spread)


def means(record: Record) -> dict[tuple[str, str], tuple[float, float, float]]:
    """(attribute, score) -> mean and the ends of its 95 % interval, of a run's scored edits."""
    if record.task != EDITING or "latency_s" not in record.samples:
        return {}
    rows = scored(record.samples.drop(columns="stage", errors="ignore"))
    blocks = blocks_of(rows, [s.name for s in scores_of(record)])
    return dict(zip(blocks.cells, zip(blocks.means, *bootstrap_intervals(blocks), strict=True), strict=True))


@dataclass(frozen=True)
class Cell:
    """``text`` as printed, ``weight`` 0..1 of its colour, ``title`` in words; all empty if there is no value."""

    text: str
    weight: float
    title: str


@dataclass(frozen=True)
class HeatMap:
    columns: list[str]
    rows: list[tuple[str, list[Cell]]]


_NOTHING = Cell("", 0, "")
_LEAST_PCT = 0.01


def leakage_map(record: Record) -> HeatMap | None:
    """Share of each class (columns) that an edit (rows) changed outside its region; log scale."""
    if record.leakage is None or record.leakage.empty:
        return None
    table = disturbed(record.leakage).set_index(["attribute", "class"])
    there = set(record.leakage["before"])
    classes = [name for name in CELEBAMASK.classes if name in there]
    rows = []
    for attribute in dict.fromkeys(record.leakage["attribute"]):
        cells = []
        for name in classes:
            if (attribute, name) not in table.index:
                cells.append(_NOTHING)
                continue
            found = table.loc[(attribute, name)]
            percent = 100 * found["share"]
            weight = np.log10(max(percent, _LEAST_PCT) / _LEAST_PCT) / np.log10(100 / _LEAST_PCT)
            became = f": {found['became']}" if found["lost"] else ""
            title = f"{attribute}: {found['lost']} of {found['pixels']} pixels of {name} changed class{became}"
            cells.append(Cell(f"{percent:.2f}" if percent else "0", round(float(weight), 3), title))
        rows.append((str(attribute), cells))
    return HeatMap(classes, rows)


_SHOWN_FROM_PCT = 0.5


def confusion_map(confusion: pd.DataFrame) -> HeatMap:
    """Share of the pixels of each true class (row) predicted as each class (column)."""
    classes = [str(name) for name in confusion["truth"]]
    counts = confusion[confusion.columns[1:]].to_numpy(float)
    rows = []
    for name, line in zip(classes, counts, strict=True):
        total, cells = line.sum(), []
        for other, count in zip(classes, line, strict=True):
            percent = 100 * count / total if total else 0.0
            text = f"{percent:.0f}" if percent >= _SHOWN_FROM_PCT else ""
            title = f"true {name}, predicted {other}: {percent:.2f} %" if total else f"{name} does not occur"
            cells.append(Cell(text, round(float(np.sqrt(percent / 100)), 3), title))
        rows.append((name, cells))
    return HeatMap(classes, rows)

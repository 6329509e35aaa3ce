"""Scores and speed of synthesis runs."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from semfacediff.report.charts import LineChart, line_chart
from semfacediff.report.headline import NOT_BESIDE, OURS, PUBLISHED, Row, Table, setup
from semfacediff.report.reading import SYNTHESIS, Record
from semfacediff.report.wording import Score
from semfacediff.tables.grid import Column, Value
from semfacediff.tables.published import published_reconstruction
from semfacediff.tables.run_tables import synthesis_grid

_RECONSTRUCTION = "reconstruction"
_PUBLISHED = "CelebAMask-HQ, another judge; size, SSIM and averaging of mIoU not stated"


def synthesis_headline(records: list[Record], repository: Path) -> Table | None:
    """Every task of every run, published reconstructions below unless faces are drawn; ``None`` without a run."""
    shown = [(r, r.summary) for r in records if r.task == SYNTHESIS and r.summary is not None]
    if not shown:
        return None
    found = [(r, task, n, of) for r, summary in shown for task, n, of in _scores(summary)]
    columns = [c for c in _columns(shown[0][1]) if any(c.name in of for *_, of in found)]
    rows = [
        Row(task, r.id, OURS, [n, *(_text(c, of.get(c.name)) for c in columns)], bool(r.doubts), setup(r))
        for r, task, n, of in found
    ]
    notes = ["photo: the photos themselves; first_stage: encoded and decoded, which no reconstruction can exceed"]
    theirs = published_reconstruction(repository)
    if any(r.drawn for r, _ in shown):
        notes.append(NOT_BESIDE)
    elif theirs is not None:
        for method, of in theirs.items():
            cells = ["", *(of.get(c.name, "") for c in columns)]
            rows.append(Row(_RECONSTRUCTION, f"{method}, published", PUBLISHED, cells, setup=_PUBLISHED))
        notes.append("published rows: SCA-DM, table 1")
    headings = [("n", ""), *((f"{c.heading} {_score(c).arrow}", _score(c).better) for c in columns)]
    return Table(headings, rows, notes)


def _columns(summary: pd.DataFrame) -> list[Column]:
    return list(synthesis_grid(summary).columns[1:])


def _scores(summary: pd.DataFrame) -> list[tuple[str, str, dict[str, float]]]:
    """(task, number of photos, column -> value of those that are there)."""
    grid, found = synthesis_grid(summary), []
    for row in grid.rows:
        n, *values = row.cells
        pairs = zip(grid.columns[1:], values, strict=True)
        of = {c.name: v.mean for c, v in pairs if isinstance(v, Value) and not v.missing}
        count = f"{n.mean:.0f}" if isinstance(n, Value) and not n.missing else ""
        found.append((str(row.labels[0]), count, of))
    return found


def _score(c: Column) -> Score:
    return Score(c.name, c.heading, c.up, c.factor, c.digits)


def _text(c: Column, value: float | None) -> str:
    return _score(c).text(value)


def synthesis_values(record: Record) -> dict[tuple[str, str], tuple[Score, Value]]:
    """(task, column) -> score and value, of every number of a run's summary."""
    if record.summary is None:
        return {}
    by_name = {c.name: _score(c) for c in _columns(record.summary)}
    scores = _scores(record.summary)
    return {(task, name): (by_name[name], Value(v)) for task, _, of in scores for name, v in of.items()}


def speed_table(records: Sequence[Record]) -> Table | None:
    """Seconds per photo by number of steps; ``None`` if no run measured them."""
    times = _times(records)
    if not times:
        return None
    rows = [
        Row(f"{steps:g} steps", r.id, OURS, [f"{seconds:.3f}", f"{seconds / steps:.4f}"])
        for r, of in times
        for steps, seconds in of
    ]
    columns = [("s per photo ↓", "lower is better"), ("s per step ↓", "lower is better")]
    return Table(columns, rows, ["one photo at a time, including decoding, on the machine listed above"])


def speed_chart(records: Sequence[Record]) -> LineChart:
    """The same as curves, one line per run."""
    nan = float("nan")
    series = {r.id: [(steps, seconds, nan, nan) for steps, seconds in of] for r, of in _times(records)}
    return line_chart("seconds per photo", "steps", series)


def _times(records: Sequence[Record]) -> list[tuple[Record, list[tuple[float, float]]]]:
    found = []
    for record in records:
        listed = record.run.get("latency")
        entries = [e for e in listed if isinstance(e, dict)] if isinstance(listed, list) else []
        steps = pd.to_numeric(pd.Series([e.get("steps") for e in entries], dtype=object), errors="coerce")
        seconds = [e.get("seconds") for e in entries]
        times = [
            (float(n), float(s)) for n, s in zip(steps, seconds, strict=True) if n > 0 and isinstance(s, int | float)
        ]
        found += [(record, times)] if times and record.task == SYNTHESIS else []
    return found

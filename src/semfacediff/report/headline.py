"""Main tables: scores of every run beside the published ones."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from semfacediff.report.naming import photos
from semfacediff.report.reading import EDITING, PARSING, TRAINING, Record
from semfacediff.report.wording import Score, score
from semfacediff.tables.formats import parts
from semfacediff.tables.grid import Cell, Column, Grid
from semfacediff.tables.parsing_figures import Published, of_classes, published_f1, published_iou
from semfacediff.tables.run_tables import kinds_grid
from semfacediff.tables.scores import OF_EFFECT, OF_PARSERS, OF_SETS
from semfacediff.tables.text import comparable_rows, counted, published_editing

OURS, PUBLISHED = "ours", "published"
_EDITING = (*OF_EFFECT, *"lpips ssim iou clip identity identity_distance overall seam geometry_shift_pct".split())
_NOT_IN_IOU = {"mean_f1_no_background": "f1", "pixel_accuracy": "f1", "mean_accuracy": "recall"}
"""Column of ``summary.csv`` that holds an aggregate; the others are in ``iou``."""
_PUBLISHED_N = "100"
"""Photos of the thesis's table 6.1."""
_THESIS = "protocol thesis; first 100 photos of CelebAMask-HQ, at 1024 px; SDXL inpainting"
_SETUPS = {
    "ce7454": "protocol ce7454; 1,000 validation photos of its own split, at 512 px",
    "segface": "protocol segface; test photos of CelebAMask-HQ, at 512 px",
}
"""Protocol and data of published numbers."""
NOT_BESIDE = "published rows are not shown: scores of drawn faces never stand beside those of photos"


@dataclass(frozen=True)
class Row:
    """``cells`` are texts in the order of the table's columns; ``kind`` is ours or published.

    ``setup``: protocol and data, shown in tables with published rows.
    """

    name: str
    of: str
    kind: str
    cells: list[str]
    doubtful: bool = False
    setup: str = ""


@dataclass(frozen=True)
class Table:
    columns: list[tuple[str, str]]
    """(heading, what is better)"""
    rows: list[Row]
    notes: list[str]

    @property
    def published(self) -> bool:
        """Whether published rows stand in it, so that protocol and data of every row must."""
        return any(row.kind == PUBLISHED for row in self.rows)


def editing_headline(records: list[Record], repository: Path) -> Table | None:
    """Mean and sd of every attribute, run by run, the thesis's row below; ``None`` without an editing run."""
    shown = [(r, r.summary) for r in records if r.task == EDITING and r.summary is not None]
    if not shown:
        return None
    scores = [score(name, shown[0][0].run) for name in _EDITING if any(_has(t, f"{name}_mean") for _, t in shown)]
    of_sets = [name for name in OF_SETS if any(_has(table, name) for _, table in shown)]
    columns = [("n", ""), *((f"{s.label} {s.arrow}", s.better) for s in scores)]
    columns += [(f"{OF_SETS[name].label} ↓", "lower is better") for name in of_sets] + [("latency s, median", "")]
    published = published_editing(repository)
    beside = [comparable_rows(r.run, table, repository) for r, table in shown]
    rows = []
    for name in dict.fromkeys(_row_name(row) for _, table in shown for row in table.to_dict("records")):
        with_paper = published is not None
        for (record, table), theirs in zip(shown, beside, strict=True):
            for row in table.to_dict("records"):
                if _row_name(row) == name:
                    rows.append(_ours(record, row, name, scores, of_sets))
                    with_paper &= theirs is not None and name in theirs.index
        if published is not None and with_paper:
            paper = published.to_dict("index")[name]
            cells = [_PUBLISHED_N, *(_spread(paper, s.name, s, 1 if s.name == "clip" else s.factor) for s in scores)]
            cells += ["" for _ in (*of_sets, "latency")]
            rows.append(Row(name, "thesis, table 6.1", PUBLISHED, cells, setup=_THESIS))
    notes = []
    if any(r.drawn for r, _ in shown):
        notes.append(NOT_BESIDE)
    notes += [f"{r.id}: {said}" for r, summary in shown for said in counted(summary)]
    return Table(columns, rows, notes)


def setup(record: Record) -> str:
    """Protocol and data of a run, to stand beside those of published numbers."""
    protocol, size = record.config.get("protocol"), record.config.get("working_size")
    validation = "validation of the best epoch; " if record.task == TRAINING else ""
    at = f", at {size} px" if size else ""
    return validation + (f"protocol {protocol}; " if protocol else "") + photos(record) + at


def kinds(record: Record) -> Table | None:
    """Scores by kind of task and by distance from the colour asked; ``None`` unless the run has a task set."""
    return None if record.by_kind is None else shown(kinds_grid(record.by_kind, record.run))


def shown(grid: Grid) -> Table:
    """A table as the page prints it; bold becomes a word."""
    better = {True: (" ↑", "higher is better"), False: (" ↓", "lower is better"), None: ("", "")}
    rows = []
    for row in grid.rows:
        cells = [_text(*pair) for pair in zip(row.cells, grid.columns, strict=True)]
        rows.append(Row(", ".join(row.labels[:-1]), row.labels[-1], OURS, cells))
    columns = [(c.heading + better[c.up][0], better[c.up][1]) for c in grid.columns]
    return Table(columns, rows, list(grid.notes))


def _text(cell: Cell, of: Column) -> str:
    if cell is None or isinstance(cell, str):
        return cell or ""
    return "" if cell.missing else "".join(parts(cell, of)).replace("±", " ± ") + " (best)" * cell.best


def _has(table: pd.DataFrame, column: str) -> bool:
    return column in table and bool(table[column].notna().any())


def _row_name(row: dict) -> str:
    return f"{row['stage']}_{row['attribute']}" if "stage" in row else str(row["attribute"])


def _ours(record: Record, row: dict, name: str, scores: list[Score], of_sets: list[str]) -> Row:
    cells = [f"{row['n']} of {row['n_expected']}" if row.get("n_expected") != row["n"] else str(row["n"])]
    cells += [_spread(row, s.name, s, s.factor) for s in scores]
    for column in of_sets:
        value, how = row.get(column), OF_SETS[column]
        cells.append("" if value is None or pd.isna(value) else f"{how.factor * value:.{how.digits}f}")
    median = row.get("latency_s_median")
    cells.append("" if median is None or pd.isna(median) else f"{median:.3f}")
    return Row(name, record.id, OURS, cells, bool(record.doubts), setup(record))


def _spread(row: dict, name: str, s: Score, factor: float) -> str:
    mean, sd = (row.get(f"{name}_{part}") for part in ("mean", "sd"))
    if mean is None or pd.isna(mean):
        return ""
    said = f"{factor * mean:.{s.digits}f}"
    return said if sd is None or pd.isna(sd) else f"{said} ± {factor * sd:.{s.digits}f}"


def parsing_headline(records: list[Record], repository: Path) -> Table | None:
    """Aggregates of every parsing run and of every training's best epoch, published means below."""
    shown = [
        (r, r.summary.set_index("class")) for r in records if r.task in (PARSING, TRAINING) and r.summary is not None
    ]
    if not shown:
        return None
    there = [n for n in OF_PARSERS if any(_aggregate(table, n) for _, table in shown)]
    rows = []
    for record, table in shown:
        cells = [_aggregate(table, name) for name in there]
        rows.append(Row(parser_name(record), record.id, OURS, cells, bool(record.doubts), setup(record)))
    headings = [(f"{OF_PARSERS[name].label} ↑", "higher is better") for name in there]
    if any(record.drawn for record, _ in shown):
        return Table(headings, rows, [NOT_BESIDE])
    works = {"miou": ("ce7454", published_iou), "mean_f1_no_background": ("segface", published_f1)}
    for column, (work, read) in works.items():
        for result in read(repository):
            cells = [f"{result.mean:.2f}" if name == column else "" for name in there]
            rows.append(Row(result.name, "published", PUBLISHED, cells, setup=_SETUPS[work]))
    return Table(headings, rows, ["published rows use other photos and protocols than ours (docs/protocols.md)"])


def _aggregate(table: pd.DataFrame, name: str) -> str:
    column = _NOT_IN_IOU.get(name, "iou")
    if name not in table.index or column not in table or pd.isna(table[column][name]):
        return ""
    said = f"{100 * table[column][name]:.2f}"
    if column == "iou" and "iou_low" in table and not pd.isna(table["iou_low"][name]):
        said += f" [{100 * table['iou_low'][name]:.2f}, {100 * table['iou_high'][name]:.2f}]"
    return said


def parser_name(record: Record) -> str:
    """Name of the architecture."""
    parser = record.run.get("parser") or record.config.get("parser") or {}
    return str(parser.get("name") or "parser")


@dataclass(frozen=True)
class ClassRow:
    """A class of a parsing run; fractions, ``None`` where absent; ``published`` by name of the work, in per cent."""

    name: str
    iou: float | None
    low: float | None
    high: float | None
    f1: float | None
    images: str
    published: list[tuple[int, str, float]]


def class_rows(record: Record, repository: Path) -> tuple[list[ClassRow], list[Published], str]:
    """Scores by class, published works beside them, and protocol and data of both; drawn faces stand alone."""
    works = [] if record.drawn else published_iou(repository)
    setups = f"Published: {_SETUPS['ce7454']}. This run: {setup(record)}." if works else ""
    rows: list[ClassRow] = []
    if record.summary is None:
        return rows, works, setups
    for name, row in of_classes(record.summary).iterrows():
        values = {key: _number(row.get(key)) for key in ("iou", "iou_low", "iou_high", "f1")}
        theirs = [(i, w.name, value) for i, w in enumerate(works) if (value := _number(w.values.get(name))) is not None]
        images = "" if _number(row.get("images")) is None else str(int(row["images"]))
        ends = values["iou_low"], values["iou_high"]
        rows.append(ClassRow(str(name), values["iou"], *ends, values["f1"], images, theirs))
    return rows, works, setups


def _number(value: float | None) -> float | None:
    return None if value is None or pd.isna(value) else float(value)

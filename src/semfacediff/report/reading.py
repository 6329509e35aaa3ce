"""Reads the contents of a run's folder, complete or not."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pandas as pd

from semfacediff.errors import UserError
from semfacediff.records.columns import read_table
from semfacediff.records.folder import DONE, read_run
from semfacediff.records.integrity import refuse_changed
from semfacediff.records.pairing import by_stage
from semfacediff.records.showcase import LIST, Showcase, read_showcase
from semfacediff.records.summary import summarise_edits
from semfacediff.tables.leakage import read_leakage
from semfacediff.tables.parsing_figures import of_classes, recorded_confusion

T = TypeVar("T")
BY_KIND = "summary_by_kind.csv"
EDITING, PARSING, TRAINING, SYNTHESIS = "editing", "parsing", "train_parser", "synthesis"
SYNTHESIS_TRAINING = "train_synthesis"
TRAININGS = (TRAINING, SYNTHESIS_TRAINING)
"""Their records have a history and no samples; that of a parser is scored at its end."""


@dataclass(frozen=True)
class Record:
    """One run.

    Attributes:
        id: the run's name; on the page what ran, in words (:func:`semfacediff.report.naming.named`), unique there.
        folder: its path. run: its ``run.json``.
        samples: rows of the samples, attributes of a cascade named by stage, tasks of a synthesis run as attributes;
            empty if there are none.
        summary: ``summary.csv``, or for an unfinished editing run the summary of its rows so far.
        by_kind: ``summary_by_kind.csv`` of a run with a task set.
        config_text: ``config.yaml``. showcase: pictures that the run keeps.
        missing: a message for every missing file.
    """

    id: str
    folder: Path
    run: dict
    samples: pd.DataFrame
    summary: pd.DataFrame | None
    by_kind: pd.DataFrame | None
    history: pd.DataFrame | None
    leakage: pd.DataFrame | None
    confusion: pd.DataFrame | None
    config_text: str | None
    showcase: Showcase | None
    missing: list[str]

    @property
    def task(self) -> str:
        return str(self.run.get("task"))

    @property
    def config(self) -> dict:
        found = self.run["identity"].get("config")
        return found if isinstance(found, dict) else {}

    @property
    def drawn(self) -> bool:
        """Whether the faces are drawn: such scores never stand beside published ones of photos."""
        data = self.config.get("data")
        return isinstance(data, dict) and data.get("name") == "toy"

    @property
    def doubts(self) -> list[str]:
        """Why its numbers are not comparable; empty if they are."""
        unfinished = [] if self.run["status"] == DONE else [f"its status is {self.run['status']}"]
        return [*map(str, self.run.get("not_comparable") or []), *unfinished]


def read_records(folders: list[Path]) -> tuple[list[Record], dict[str, str]]:
    """(records, folder -> why it could not be read), in the order given.

    Raises:
        UserError: a folder was given twice, or none contains a record.
    """
    twice = {f for f in folders if [x.resolve() for x in folders].count(f.resolve()) > 1}
    if twice:
        raise UserError(f"report: {min(twice)} was named twice; name each run once")
    records: list[Record] = []
    unread = {}
    for folder in folders:
        try:
            records.append(read_record(folder))
        except UserError as e:
            unread[str(folder)] = str(e)
    if not records:
        raise UserError("; ".join(unread.values()))
    return records, unread


def read_record(folder: Path) -> Record:
    """Read a run's folder.

    Raises:
        UserError: there is no folder, or no readable ``run.json``.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: expected the folder of a run, found none; name one with a run.json")
    run, missing = read_run(folder), []
    task = str(run.get("task"))
    try:
        refuse_changed(folder, run)
    except UserError as e:
        run = run | {"not_comparable": [*run.get("not_comparable", []), str(e)]}

    def optional(name: str, read: Callable[[], T], expected: bool) -> T | None:
        if not (folder / name).exists():
            missing.extend([f"{name} is missing"] if expected else [])
            return None
        try:
            return read()
        except (OSError, ValueError, UserError, KeyError, TypeError) as e:  # pandas's and Arrow's are ValueErrors
            missing.append(f"{name} cannot be read ({type(e).__name__})")
            return None

    samples = optional("samples.parquet", lambda: read_table(folder / "samples.parquet"), task not in TRAININGS)
    if samples is None:
        samples = _rows_so_far(folder / "samples.jsonl", _rows_expected(run), missing)
    samples = _named(samples, task, missing)
    scored = task != SYNTHESIS_TRAINING
    summary = optional("summary.csv", lambda: _with_columns(folder / "summary.csv", task), scored)
    if summary is None and task == EDITING and {"attribute", "latency_s"} <= set(samples.columns):
        attributes = list(dict.fromkeys(samples["attribute"]))
        summary = summarise_edits(samples, attributes, int(run.get("n_expected") or 0) // max(len(attributes), 1))
        missing.append("the summary covers the samples so far")
    classes = list(of_classes(summary).index) if summary is not None and task in (PARSING, TRAINING) else []
    confusion = None
    if task == PARSING and classes:
        name = "confusion.csv" if (folder / "confusion.csv").exists() else "samples.parquet"
        confusion = optional(name, lambda: recorded_confusion(folder, classes), False)
    return Record(
        id=str(run.get("run_id") or folder.name),
        folder=folder,
        run=run,
        samples=samples,
        summary=summary,
        by_kind=optional(BY_KIND, lambda: read_table(folder / BY_KIND), False),
        history=optional("history.csv", lambda: read_table(folder / "history.csv"), task in TRAININGS),
        leakage=optional("leakage.csv", lambda: read_leakage(folder), False),
        confusion=confusion,
        config_text=optional("config.yaml", lambda: (folder / "config.yaml").read_text(), True),
        showcase=optional(LIST, lambda: read_showcase(folder), False),
        missing=missing,
    )


def _named(samples: pd.DataFrame, task: object, missing: list[str]) -> pd.DataFrame:
    """``samples`` with attributes of a cascade named by stage, and tasks of a synthesis run as attributes."""
    if len(samples) and not {"sample_id", "status"} <= set(samples.columns):
        missing.append("samples have no columns sample_id and status, so they are not shown")
        return pd.DataFrame()
    if task == EDITING and len(samples) and "attribute" in samples:
        return by_stage(samples)
    return samples.assign(attribute=samples["task"]) if task == SYNTHESIS and "task" in samples else samples


def _with_columns(file: Path, task: str) -> pd.DataFrame:
    """``summary.csv``; a :class:`KeyError` if it is not one."""
    table = read_table(file)
    wanted = {EDITING: ["attribute", "n"], SYNTHESIS: ["task", "n"]}.get(task, ["class", "iou"])
    return table if set(wanted) <= set(table.columns) else table[wanted]


def _rows_expected(run: dict) -> int | None:
    """Expected number of rows; ``None`` if the record does not contain it."""
    n, plain = run.get("n_expected"), run.get("identity", {}).get("config", {})
    if run.get("task") != SYNTHESIS or not n:
        return n
    tasks = plain.get("generation", {}).get("tasks", [])
    return n * (len(tasks) + ("iou" in plain.get("metrics", {}).get("columns", []))) or None


def _rows_so_far(file: Path, n_expected: object, missing: list[str]) -> pd.DataFrame:
    """Complete lines of ``samples.jsonl``; others are reported in ``missing``."""
    if not file.exists():
        return pd.DataFrame()
    rows, broken = [], 0
    for line in file.read_bytes().splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if isinstance(row, dict):
            rows.append(row)
        else:
            broken += 1
    missing.append(f"the rows are those of samples.jsonl so far: {len(rows)} of {n_expected or 'unknown'}")
    if broken:
        missing.append(f"samples.jsonl: {broken} incomplete lines are ignored")
    return pd.DataFrame(rows)

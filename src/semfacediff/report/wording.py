"""Labels and number formats of scores."""

import math
from dataclasses import dataclass

import pandas as pd

from semfacediff.records.pairing import directions, numeric_scores
from semfacediff.report.reading import PARSING, TRAINING, Record
from semfacediff.tables.scores import OF_EDITS, OF_PARSERS, column

RAW = "_raw"
_PER_PHOTO = ("miou", "pixel_accuracy", "boundary_f1", "loss")
"""Scores per photo in a parsing run."""
_FACTS = ("coverage", "latency_s")


@dataclass(frozen=True)
class Score:
    """A column of ``samples``.

    Attributes:
        label: with its unit. up: whether higher is better; ``None`` = neither.
        factor, digits: how a value is printed.
    """

    name: str
    label: str
    up: bool | None
    factor: float = 1.0
    digits: int = 4

    def text(self, value: float | None) -> str:
        """A value as printed; empty for a missing one."""
        if value is None or pd.isna(value):
            return ""
        return "∞" if math.isinf(value) else f"{self.factor * value:.{self.digits}f}"

    @property
    def arrow(self) -> str:
        return {True: "↑", False: "↓", None: ""}[self.up]

    @property
    def better(self) -> str:
        return {True: "higher is better", False: "lower is better", None: ""}[self.up]


def score(name: str, run: dict | None = None) -> Score:
    """Label and format of a score as in the tables; direction and unit come from ``run`` (``run.json``) if given."""
    if name.removesuffix(RAW) in {**OF_EDITS, **OF_PARSERS}:
        c = column(name, run)
        return Score(name, c.heading, c.up, c.factor, c.digits)
    own = {"coverage": Score(name, "region %", None, 100, 2), "loss": Score(name, "loss", False)}
    own |= {"lpips_diversity": Score(name, "diversity", True)}
    return own.get(name) or Score(name, name.replace("_", " "), directions(run or {}).get(name))


def scores_of(record: Record, facts: bool = False) -> list[Score]:
    """Scores with at least one number in the record's samples; with ``facts`` also coverage and latency."""
    names = list(numeric_scores(record.samples, directions(record.run)))
    if record.task in (PARSING, TRAINING):
        names = [name for name in _PER_PHOTO if name in record.samples]
    if facts:
        names += [name for name in _FACTS if name in record.samples]
    return [score(n, record.run) for n in names if numbers(record.samples, n).notna().any()]


def numbers(samples: pd.DataFrame, column: str) -> pd.Series:
    """A column as float64; non-numeric values are missing."""
    return pd.to_numeric(samples[column], errors="coerce").astype(float)

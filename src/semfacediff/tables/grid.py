"""A table before it has a format: what stands in which cell, and how precisely."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd


@dataclass(frozen=True)
class Column:
    """A column of numbers.

    Attributes:
        name: in CSV files. heading: for people, without an arrow.
        up: whether higher is better; ``None``: neither.
        digits: after the point. factor: what values are multiplied by before they are shown.
    """

    name: str
    heading: str
    up: bool | None = None
    digits: int = 0
    factor: float = 1.0


@dataclass(frozen=True)
class Value:
    """A number, with a standard deviation or an interval; NaN where there is none.

    Attributes:
        within: standard deviation between the repeats of one photo, beside ``sd`` between photos.
        best: significantly better than every other setting; stands in bold.
        few: ``low`` and ``high`` are the range of too few values for an interval.
    """

    mean: float
    sd: float = float("nan")
    within: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")
    best: bool = False
    few: bool = False

    @property
    def missing(self) -> bool:
        return bool(pd.isna(self.mean))


Cell = Value | str | None
"""A number, words (which may come from a user), or nothing."""


@dataclass(frozen=True)
class Row:
    """One row: words that name it, then a cell for each column; ``strong`` = an aggregate, named in bold."""

    labels: tuple[str, ...]
    cells: tuple[Cell, ...]
    strong: bool = False


@dataclass(frozen=True)
class Grid:
    """A table.

    Attributes:
        labels: headings of the words that name a row.
        notes: what to know before using the numbers, a sentence each.
        command: what makes the record behind it.
    """

    labels: tuple[str, ...]
    columns: tuple[Column, ...]
    rows: Sequence[Row]
    title: str = ""
    notes: Sequence[str] = field(default_factory=tuple)
    command: str = ""

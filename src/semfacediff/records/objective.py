"""The one number of a finished run that a sweep optimises (``optimise=NAME``)."""

import difflib
import math
from pathlib import Path

import pandas as pd

from semfacediff.errors import UserError


def objective(folder: Path, name: str) -> float:
    """The number that ``name`` means in the record in ``folder``.

    Names, in this order: a column of ``history.csv`` (at the best epoch where the training keeps one, else at its end),
    ``ROW/COLUMN`` of ``summary.csv``, a column of it (mean over its rows), a row of it (its first number).

    Raises:
        UserError: the record has no such number, or it is not finite.
    """
    found = {**_means(folder), **_cells(folder), **_last(folder)}
    if name not in found:
        close = difflib.get_close_matches(name, found, n=3)
        hint = f"did you mean {' or '.join(close)}" if close else "name a column of history.csv or summary.csv"
        raise UserError(f"optimise={name}: {folder} has no such number; {hint}, or ROW/COLUMN of summary.csv")
    if not math.isfinite(found[name]):
        raise UserError(f"optimise={name}: the number is missing in {folder}, so that this run cannot be compared")
    return found[name]


def _last(folder: Path) -> dict[str, float]:
    """Column of ``history.csv`` -> its number at the best epoch, or the last one that there is."""
    from semfacediff.records.folder import read_run

    history = _numbers(folder / "history.csv")
    best = read_run(folder).get("best_epoch")
    row = history[history["epoch"] == best] if best else history.ffill().tail(1)
    return {str(c): float(row[c].iloc[0]) for c in row if len(row)}


def _cells(folder: Path) -> dict[str, float]:
    """``ROW/COLUMN`` -> number; and ``ROW`` -> its first number."""
    summary = _summary(folder)
    values = zip(summary.index, summary.to_numpy(float), strict=True)
    named = {f"{row}/{c}": float(value) for row, cells in values for c, value in zip(summary, cells, strict=True)}
    return {str(row): float(summary.loc[row].dropna().iloc[0]) for row in summary.dropna(how="all").index} | named


def _means(folder: Path) -> dict[str, float]:
    summary = _summary(folder)
    return {str(c): float(summary[c].mean()) for c in summary}


def _summary(folder: Path) -> pd.DataFrame:
    """``summary.csv`` by the names of its rows."""
    file = folder / "summary.csv"
    return _numbers(file, index_col=0) if file.exists() else pd.DataFrame()


def _numbers(file: Path, index_col: int | None = None) -> pd.DataFrame:
    """The columns of ``file`` that hold numbers."""
    frame = pd.read_csv(file, index_col=index_col) if file.exists() else pd.DataFrame({"epoch": []})
    return frame.apply(pd.to_numeric, errors="coerce").astype(float)

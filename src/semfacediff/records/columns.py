"""The tables of a record, read in one way: absent, unreadable or damaged, each is one sentence."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from semfacediff.errors import UserError

_NAMES = frozenset("sample_id attribute task class status before after truth".split())
"""Columns that name a row: texts without a gap."""
_TEXT = _NAMES | frozenset(
    "kind target distance prompt negative_prompt expanded_prompt mask_semantic mask_generation mask_blend edit_sha256 "
    "raw_sha256 inputs_sha256 note error traits leakage leakage_raw no_face no_face_raw phase run_id".split()
)
_LISTS = frozenset("confusion confusion_native boundary".split())
"""Counts of a photo, a list of lists of whole numbers. Every other column holds numbers."""
_NO_NUMBER = _TEXT | _LISTS
_NEEDED = {
    "samples.parquet": ("sample_id", "status"),
    "validation.parquet": ("sample_id", "miou", "confusion"),
    "leakage.csv": ("attribute", "before", "after", "pixels"),
    "confusion.csv": ("truth",),
    "summary_by_kind.csv": ("attribute", "kind", "distance", "n"),
}
_NEEDED_OF_SUMMARY = {"attribute": ("n", "n_empty"), "class": ("iou", "f1"), "task": ("n",)}
"""Column that names the rows -> columns that are always there."""


def read_table(file: Path, *needed: str, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """A table of a run: ``summary.csv``, ``summary_by_kind.csv``, ``samples.parquet``, ``leakage.csv``, ...

    Args:
        needed: columns that must be there, beside those that every such file has.
        columns: of Parquet, which to read (default: all); those that the file lacks are left out.

    Raises:
        UserError: the file is absent or cannot be read, lacks a column that is always there, or holds words in the
            place of numbers.
    """
    if not file.exists():
        raise UserError(f"{file}: not there: the run has not come to its end, or it was lost; repeat the run's command")
    try:
        table = pd.read_csv(file) if file.suffix == ".csv" else _parquet(file, columns)
    except (OSError, ValueError, KeyError, OverflowError, MemoryError) as e:  # pandas's and Arrow's are ValueErrors
        raise _damaged(file, type(e).__name__) from e
    always = _NEEDED.get(file.name, ())
    if file.name == "summary.csv":
        always = _NEEDED_OF_SUMMARY.get(next((c for c in _NEEDED_OF_SUMMARY if c in table), ""), ("attribute",))
    if absent := [c for c in (*always, *needed) if c not in table]:
        raise _damaged(file, f"no column {', '.join(absent)}")
    if file.name == "confusion.csv" and (other := set(table["truth"]) ^ set(table.columns.drop("truth"))):
        raise _damaged(file, f"a row or a column, but not both, of {', '.join(sorted(map(str, other)))}")
    for name in table:
        if reason := _strange(str(name), table[name]):
            raise _damaged(file, f"column {name}: {reason}")
    return table


def _parquet(file: Path, columns: Sequence[str] | None) -> pd.DataFrame:
    from pyarrow.parquet import read_schema

    there = set(read_schema(file).names) if columns is not None else ()
    return pd.read_parquet(file, columns=None if columns is None else [c for c in columns if c in there])


def _strange(name: str, values: pd.Series) -> str | None:
    """Why a column cannot be what it is named; ``None`` if it can."""
    if pd.api.types.is_numeric_dtype(values.dtype):
        return "expected texts, got numbers" if name in _NAMES and len(values) else None
    known = values.dropna()
    if name in _NAMES and len(known) < len(values):
        return f"{len(values) - len(known)} of {len(values)} cells are empty"
    if isinstance(values.dtype, pd.StringDtype) and name in _TEXT:
        return None
    wrong = [v for v in known if not fits(name, v)]
    return f"{len(wrong)} of {len(values)} cells are damaged (first {str(wrong[0])[:40]!r})" if wrong else None


def misfit(row: Mapping[str, object]) -> str | None:
    """The first column of a sample's row whose cell cannot be what it is named."""
    for name, value in row.items():
        if type(value) is float and name not in _NO_NUMBER:  # most cells, told without a call
            continue
        if not fits(name, value):
            return name
    return None


def fits(name: str, value: object) -> bool:
    """Whether a cell of a sample's row can be what its column is named; empty ones can."""
    if value is None:
        return name not in _NAMES
    if name in _TEXT:
        return isinstance(value, str)
    if name in _LISTS:
        return _counts(value)
    return isinstance(value, int | float) and not isinstance(value, str)


def _counts(rows: Any) -> bool:
    try:
        flat = list(itertools.chain.from_iterable(rows))
    except TypeError:
        return False
    return set(map(type, flat)) <= {int, np.int64} and min(flat, default=0) >= 0


def _damaged(file: Path, reason: str) -> UserError:
    return UserError(f"{file}: cannot be read ({reason}); copy it again, or repeat the run in a new folder")

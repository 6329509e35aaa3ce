"""Lists runs in the default folders: records only, no pictures."""

import os
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from semfacediff.errors import UserError
from semfacediff.report.reading import Record, read_record

_DEPTH = 4
_SKIPPED_FOLDERS = ("edits", "edits_raw", "figures", "features", "checkpoints", "report")
_SIGNIFICANT = 4


def runs_below(roots: Sequence[Path]) -> dict[str, Path]:
    """Name (path relative to the parent of its root) -> folder, of every folder with a ``run.json``, by name."""
    found: dict[str, Path] = {}
    for root in roots:
        for at, folders, files in os.walk(root):
            folder = Path(at)
            deep = len(folder.relative_to(root).parts) >= _DEPTH
            folders[:] = (
                [] if deep else sorted(f for f in folders if f not in _SKIPPED_FOLDERS and not f.startswith("."))
            )
            if "run.json" in files:
                found[str(folder.relative_to(root.parent))] = folder
    return dict(sorted(found.items()))


def chosen_run(name: str, roots: Sequence[Path]) -> Record:
    """The record of a run by its name in :func:`runs_below`; raises :class:`UserError` if missing or unreadable."""
    known = runs_below(roots)
    if name not in known:
        raise UserError(f"run '{name}' no longer exists; choose another")
    return read_record(known[name])


def summary_table(record: Record) -> pd.DataFrame:
    """``summary.csv`` as text, numbers with four digits, without empty columns."""
    if record.summary is None:
        return pd.DataFrame()
    return record.summary.dropna(axis="columns", how="all").map(_text)


def _text(value: object) -> str:
    if isinstance(value, float):
        return "" if pd.isna(value) else f"{value:.{_SIGNIFICANT}g}"
    return str(value)

"""The ledger of a sweep: which of its cells are finished, and where they lie.

A cell is a run. The name of its folder holds the digest of its scientific configuration, so that it does not depend on
the order or the number of the cells, and its ``run.json`` is the truth about it. ``sweep.json`` beside the cells is an
index for people, which also knows the cells that failed before they had a record.
"""

import contextlib
import fcntl
import json
import os
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from semfacediff.errors import UserError
from semfacediff.records.folder import DONE, INCOMPLETE, RUNNING, read_run
from semfacediff.records.writing import write_errors, write_text

INDEX = "sweep.json"
REFUSED, INTERRUPTED, CRASHED, NOT_RUN = "refused", "interrupted", "crashed", "not run"
_INDEX_LOCK = ".sweep.lock"
STATUS = {0: DONE, 1: INCOMPLETE, 2: REFUSED, 130: INTERRUPTED, 143: INTERRUPTED, 129: INTERRUPTED}
"""Exit code -> status of a cell."""


def finished_runs(folder: Path) -> list[tuple[list[str], Path]]:
    """(overrides, run folder) of every finished cell in a sweep's folder, by name of the folder.

    Overrides are the words of the command line, e.g. ``region.feather_sigma_px=7.0``. Parts of a sharded cell are no
    cells; what ``semfacediff merge`` made of them is one.

    Raises:
        UserError: a record is damaged, was changed by hand, or is of another schema version.
    """
    found = [(read_run(file.parent), file.parent) for file in sorted(folder.glob("*/run.json"))]
    return [(_overrides(run), path) for run, path in found if run["status"] == DONE and not run.get("part_of")]


def runs_of(folders: Sequence[Path]) -> list[Path]:
    """``folders``, a sweep's folder replaced by those of its cells, finished or not; what is neither stays as it is."""
    found: list[Path] = []
    for folder in folders:
        cells = [file.parent for file in sorted(folder.glob("*/run.json")) if not read_run(file.parent).get("part_of")]
        found += [folder] if (folder / "run.json").exists() or not cells else cells
    return found


def _overrides(run: dict) -> list[str]:
    """What follows ``python evaluate.py`` in the command that repeats a run."""
    return shlex.split(run.get("command", ""))[2:]


def read_index(folder: Path) -> dict[str, dict]:
    """Cell's folder -> its ``overrides``, ``status`` and ``exit`` code; empty if there is no index, or a damaged one.

    Nothing is lost with a damaged one: the next job of the sweep writes it anew, from the records.
    """
    try:
        cells = json.loads((folder / INDEX).read_text())["cells"]
        return {name: dict(cell) for name, cell in cells.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


@contextlib.contextmanager
def noted(folder: Path, cell: str, overrides: list[str]) -> Iterator[list[int]]:
    """Keep a cell's place in the index up to date while its job runs; the job appends its exit code to the list."""
    note(folder, cell, overrides, RUNNING, None)
    codes: list[int] = []
    try:
        yield codes
    except BaseException as e:
        code = getattr(e, "code", None)
        note(folder, cell, overrides, CRASHED if code is None else STATUS.get(code, CRASHED), code)
        raise
    skipped = codes[-1] == 0 and not (folder / cell).exists()  # for want of weights, which its configuration allows
    note(folder, cell, overrides, NOT_RUN if skipped else STATUS[codes[-1]], codes[-1])


def note(folder: Path, cell: str, overrides: list[str], status: str, code: int | None) -> None:
    """Write a cell's ``status`` and exit ``code`` into the index of the sweep in ``folder``."""
    with write_errors(folder / INDEX):
        lock = os.open(folder / _INDEX_LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)  # jobs of a launcher may run at the same time
        cells = {name: _as_recorded(folder / name, known) for name, known in read_index(folder).items()}
        cells[cell] = {"overrides": overrides, "status": status, "exit": code}
        text = json.dumps({"cells": dict(sorted(cells.items()))}, indent=1, ensure_ascii=False)
        write_text(folder / INDEX, text + "\n")
    finally:
        os.close(lock)


def _as_recorded(folder: Path, known: dict) -> dict:
    """A cell of the index, corrected by its record: a killed job could not say how it ended."""
    with contextlib.suppress(UserError):
        if known["status"] == RUNNING and read_run(folder)["status"] == DONE:
            return known | {"status": DONE, "exit": 0}
    return known

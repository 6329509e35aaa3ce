"""``steps.csv`` of a training: a row every few optimisation steps, for the mirror of the run, no part of its record."""

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path

from semfacediff.records.writing import write_text


class StepLog:
    """Appends to ``file``.

    Args:
        every: optimisation steps between two rows; 0: none is written.
    """

    def __init__(self, file: Path, every: int):
        self._file, self._every = file, every
        self._photos, self._seconds = 0, 0.0

    def begin(self, step: int) -> None:
        """Drop rows of steps after ``step``, where the training goes on: they come again."""
        if not self._every or not self._file.exists():
            return
        header, *rows = self._file.read_text().splitlines(keepends=True) or [""]
        kept = [row for row in rows if row.endswith("\n") and int(row.split(",")[0]) <= step]
        if kept:
            write_text(self._file, "".join([header, *kept]))
        else:
            self._file.unlink()

    def note(self, step: int, photos: int, seconds: float, facts: Callable[[], Mapping[str, float]]) -> None:
        """Count a step; every so many of them write ``facts`` and the photos a second since the last row.

        Args:
            step: counted from 1. photos: over all processes. seconds: that the step took, reading included.
        """
        if not self._every:
            return
        self._photos, self._seconds = self._photos + photos, self._seconds + seconds
        if step % self._every:
            return
        row = {"step": step, **facts(), "photos_per_s": self._photos / self._seconds}
        self._photos, self._seconds = 0, 0.0
        with contextlib.suppress(OSError), open(self._file, "a") as f:  # a full disk costs charts, not the training
            if not f.tell():
                f.write(",".join(row) + "\n")
            f.write(",".join(f"{value:.6g}" for value in row.values()) + "\n")

"""The per-sample file: appended and synced line by line, so that a kill costs the sample it hit and no other."""

import errno
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd

from semfacediff.errors import UserError
from semfacediff.records.columns import misfit
from semfacediff.records.writing import write_bytes, write_chunks, write_errors

OK, UNCHANGED, EMPTY_REGION, ERROR = "ok", "unchanged", "empty_region", "error"
"""Status of a row; of several that apply the last one here stands."""


def iterate_rows(file: Path, key: tuple[str, ...]) -> Iterator[dict]:
    """Whole lines of ``samples.jsonl``; none if there is no file, without the last one if a kill cut it off.

    Raises:
        UserError: a whole line is no row, so that the file was changed by something else.
    """
    if not file.exists():
        return
    with open(file, "rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.endswith(b"\n"):
                return
            try:
                row = json.loads(line)
                _ = row["status"], *(row[k] for k in key)
                wrong = misfit(row)
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
                raise UserError(
                    f"{file}: line {number} is no row of a run, so it was changed by hand; start in a new folder"
                ) from e
            if wrong is not None:
                raise UserError(
                    f"{file}: line {number} is no row of a run ({wrong} is {str(row[wrong])[:40]!r}), so it was "
                    f"changed by hand; start in a new folder"
                )
            yield row


def write_rows(file: Path, rows: Iterable[dict]) -> None:
    """Write ``samples.jsonl`` atomically."""
    write_chunks(file, map(_line, rows))


def table_of(rows: Iterable[dict]) -> pd.DataFrame:
    """``pd.DataFrame(list(rows))`` in a fraction of the memory: the rows themselves are not kept, nor a text twice."""
    columns: dict[str, list] = {}
    texts: dict[str, str] = {}
    names: list[str] = []
    appends: list[Callable[[object], None]] = []
    n = 0
    for row in rows:
        if list(row) != names:  # almost always they are those of the row before
            names, appends = list(row), []
            for name in names:
                column = columns.setdefault(name, [])
                column.extend([np.nan] * (n - len(column)))
                appends.append(column.append)
        for append, value in zip(appends, row.values(), strict=True):
            append(texts.setdefault(value, value) if isinstance(value, str) else value)
        n += 1
    for column in columns.values():
        column.extend([np.nan] * (n - len(column)))
    return pd.DataFrame(columns)


def refuse_changed_inputs(file: Path, key: tuple[str, ...], still_valid: Callable[[dict], bool]) -> None:
    """A finished run is only its inputs' result as long as they are the same.

    Raises:
        UserError: a row was made from files that have changed since.
    """
    changed = [row for row in iterate_rows(file, key) if not still_valid(row)]
    if changed:
        first = "/".join(str(changed[0][k]) for k in key)
        raise UserError(
            f"{file.parent} is finished, but the precomputed files of {len(changed)} of its rows (first {first}) have "
            f"changed since; set hydra.run.dir=DIR for a new run"
        )


class SampleLog:
    """``samples.jsonl`` of a run; in memory are the keys of its rows alone.

    Args:
        file: the file; made if absent. A last line cut off by a kill is removed, failed samples are tried again.
        key: the columns that name a row.
        still_valid: whether a row was made from the inputs as they are now; one that was not is made again.

    Raises:
        UserError: a whole line is no row, or one sample has two, so that the file was changed by something else.
    """

    def __init__(self, file: Path, key: tuple[str, ...], still_valid: Callable[[dict], bool] = lambda row: True):
        self.file, self.key = file, key
        self._places: dict[tuple, tuple[int, int]] = {}
        """Key -> (first byte, number of bytes) of its line."""
        self._end = 0
        kept = (row for row in iterate_rows(file, key) if row["status"] != ERROR and still_valid(row))
        write_chunks(file, map(self._placed, kept))
        with write_errors(file):
            self._handle = open(file, "ab", buffering=0)  # noqa: SIM115  kept open for the run

    @property
    def done(self) -> Set[tuple]:
        """Keys of all rows."""
        return self._places.keys()

    def __iter__(self) -> Iterator[dict]:
        """The rows, read from the file one by one."""
        return iterate_rows(self.file, self.key)

    @property
    def rows(self) -> list[dict]:
        """All rows at once, which thousands of photos make large."""
        return list(self)

    def key_of(self, row: dict) -> tuple:
        return tuple(row[k] for k in self.key)

    def _placed(self, row: dict) -> bytes:
        """The row's line, of which is noted that it comes next in the file."""
        key, line = self.key_of(row), _line(row)
        if key in self._places:
            raise UserError(f"{self.file}: a sample has two rows, so it was changed by hand; start in a new folder")
        self._places[key] = self._end, len(line)
        self._end += len(line)
        return line

    def append(self, row: dict) -> None:
        """Add one row and wait until it is on the disk; after an error the log is of no more use."""
        line = self._placed(row)
        with write_errors(self.file):
            if self._handle.write(line) < len(line):
                raise OSError(errno.ENOSPC, "no space left on the device")
            os.fsync(self._handle.fileno())
        self._refuse_deleted()

    def finish(self, order: Sequence[tuple]) -> pd.DataFrame:
        """Close the file with its rows in the given order of keys, whatever order they were made in; returns them.

        Raises:
            UserError: a row is of a sample that the run does not have.
        """
        if strange := self.done - set(order):
            raise UserError(f"{self.file}: the run has no sample {min(strange)}; start in a new folder")
        self._refuse_deleted()
        self.close()
        with open(self.file, "rb") as lines:
            write_chunks(self.file, (self._line_at(lines, key) for key in order if key in self._places))
        return table_of(self)

    def _refuse_deleted(self) -> None:
        if not self._handle.closed and os.fstat(self._handle.fileno()).st_nlink == 0:
            raise UserError(f"{self.file} was deleted while its run went on; repeat the command: the run starts over")

    def _line_at(self, lines: BinaryIO, key: tuple) -> bytes:
        first, length = self._places[key]
        lines.seek(first)
        return lines.read(length)

    def close(self) -> None:
        """Stop writing; what was appended stays."""
        self._handle.close()


def _line(row: dict) -> bytes:
    return json.dumps(row, ensure_ascii=False).encode() + b"\n"


def write_parquet(table: pd.DataFrame, file: Path) -> None:
    """Write ``table`` atomically as Parquet."""
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    write_bytes(file, buffer.getvalue())


def write_csv(table: pd.DataFrame, file: Path) -> None:
    """Write ``table`` atomically as CSV; empty cells are missing values."""
    write_bytes(file, table.to_csv(index=False, float_format="%.10g").encode())


def failure_facts(samples: pd.DataFrame) -> dict[str, Any]:
    """``n_failed`` and, if there is one, ``first_failure`` (which row, and why) for ``run.json``."""
    failed = samples[samples["status"] == ERROR]
    if failed.empty:
        return {"n_failed": 0, "first_failure": None}
    first = failed.iloc[0]
    named = "/".join(str(first[key]) for key in ("attribute", "task", "sample_id") if key in failed)
    return {"n_failed": len(failed), "first_failure": f"{named}: {first['error']}"}

"""The per-sample file: appended and synced line by line, so that a kill costs the sample it hit and no other."""

import errno
import io
import json
import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from semfacediff.errors import UserError
from semfacediff.records.writing import failing_loudly, write_bytes

OK, EMPTY_REGION, ERROR = "ok", "empty_region", "error"


def read_rows(file: Path, key: tuple[str, ...]) -> list[dict]:
    """Whole lines of ``samples.jsonl``; none if there is no file, without the last one if a kill cut it off.

    Raises:
        UserError: a whole line is no row, so that the file was changed by something else.
    """
    lines = file.read_bytes().split(b"\n")[:-1] if file.exists() else []
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            _ = row["status"], hash(tuple(row[k] for k in key))
        except (ValueError, KeyError, TypeError) as e:
            raise UserError(
                f"{file}: line {number} is no row of a run, so it was changed by hand; start in a new folder"
            ) from e
        rows.append(row)
    return rows


def refuse_changed_inputs(file: Path, key: tuple[str, ...], still_valid: Callable[[dict], bool]) -> None:
    """A finished run is only its inputs' result as long as they are the same.

    Raises:
        UserError: a row was made from files that have changed since.
    """
    changed = [row for row in read_rows(file, key) if not still_valid(row)]
    if changed:
        first = "/".join(str(changed[0][k]) for k in key)
        raise UserError(
            f"{file.parent} is finished, but the precomputed files of {len(changed)} of its rows (first {first}) have "
            f"changed since; set hydra.run.dir=DIR for a new run"
        )


class SampleLog:
    """``samples.jsonl`` of a run.

    Args:
        file: the file; made if absent. A last line cut off by a kill is removed, failed samples are tried again.
        key: the columns that name a row.
        still_valid: whether a row was made from the inputs as they are now; one that was not is made again.

    Raises:
        UserError: a whole line is no row, or one sample has two, so that the file was changed by something else.
    """

    def __init__(self, file: Path, key: tuple[str, ...], still_valid: Callable[[dict], bool] = lambda row: True):
        self.file, self.key = file, key
        self.rows = [row for row in read_rows(file, key) if row["status"] != ERROR and still_valid(row)]
        self.done = {self.key_of(row) for row in self.rows}
        if len(self.done) < len(self.rows):
            raise UserError(f"{file}: a sample has two rows, so it was changed by hand; start in a new folder")
        write_bytes(file, b"".join(self._line(row) for row in self.rows))
        with failing_loudly(file):
            self._handle = open(file, "ab", buffering=0)  # noqa: SIM115  kept open for the run

    @staticmethod
    def _line(row: dict) -> bytes:
        return json.dumps(row, ensure_ascii=False).encode() + b"\n"

    def key_of(self, row: dict) -> tuple:
        return tuple(row[k] for k in self.key)

    def append(self, row: dict) -> None:
        """Add one row and wait until it is on the disk."""
        with failing_loudly(self.file):
            line = self._line(row)
            if self._handle.write(line) < len(line):
                raise OSError(errno.ENOSPC, "no space left on the device")
            os.fsync(self._handle.fileno())
        self.rows.append(row)
        self.done.add(self.key_of(row))

    def finish(self, order: list[tuple]) -> pd.DataFrame:
        """Close the file with its rows in the given order of keys, whatever order they were made in; returns them.

        Raises:
            UserError: a row is of a sample that the run does not have.
        """
        place = {key: i for i, key in enumerate(order)}
        if strange := self.done - place.keys():
            raise UserError(f"{self.file}: the run has no sample {min(strange)}; start in a new folder")
        self.close()
        self.rows.sort(key=lambda row: place[self.key_of(row)])
        write_bytes(self.file, b"".join(self._line(row) for row in self.rows))
        return pd.DataFrame(self.rows)

    def close(self) -> None:
        """Stop writing; what was appended stays."""
        self._handle.close()


def write_parquet(table: pd.DataFrame, file: Path) -> None:
    """Write ``table`` atomically as Parquet."""
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    write_bytes(file, buffer.getvalue())


def write_csv(table: pd.DataFrame, file: Path) -> None:
    """Write ``table`` atomically as CSV; empty cells are missing values."""
    write_bytes(file, table.to_csv(index=False, float_format="%.10g").encode())

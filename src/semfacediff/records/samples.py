"""The per-sample file: appended and synced line by line, so that a kill costs the sample it hit and no other."""

import errno
import io
import json
import os
from pathlib import Path

import pandas as pd

from semfacediff.errors import UserError
from semfacediff.records.writing import failing_loudly, write_bytes

OK, EMPTY_REGION, ERROR = "ok", "empty_region", "error"


class SampleLog:
    """``samples.jsonl`` of a run.

    Args:
        file: the file; made if absent. A last line cut off by a kill is removed, failed samples are tried again.
        key: the columns that name a row.

    Raises:
        UserError: a whole line is no row, or one sample has two, so that the file was changed by something else.
    """

    def __init__(self, file: Path, key: tuple[str, ...]):
        self.file, self.key = file, key
        self.rows = [row for row in self._whole_lines() if row["status"] != ERROR]
        self.done = {self.key_of(row) for row in self.rows}
        if len(self.done) < len(self.rows):
            raise UserError(f"{file}: a sample has two rows, so it was changed by hand; start in a new folder")
        write_bytes(file, b"".join(self._line(row) for row in self.rows))
        with failing_loudly(file):
            self._handle = open(file, "ab", buffering=0)  # noqa: SIM115  kept open for the run

    def _whole_lines(self) -> list[dict]:
        if not self.file.exists():
            return []
        lines = self.file.read_bytes().split(b"\n")[:-1]
        rows = []
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
                _ = row["status"], hash(self.key_of(row))
            except (ValueError, KeyError, TypeError) as e:
                raise UserError(
                    f"{self.file}: line {number} is no row of a run, so it was changed by hand; start in a new folder"
                ) from e
            rows.append(row)
        return rows

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

    def table(self, order: list[tuple]) -> pd.DataFrame:
        """All rows in the given order of keys, whatever order they were made in.

        Raises:
            UserError: a row is of a sample that the run does not have.
        """
        place = {key: i for i, key in enumerate(order)}
        if strange := self.done - place.keys():
            raise UserError(f"{self.file}: the run has no sample {min(strange)}; start in a new folder")
        return pd.DataFrame(sorted(self.rows, key=lambda row: place[self.key_of(row)]))

    def close(self) -> None:
        self._handle.close()


def write_parquet(table: pd.DataFrame, file: Path) -> None:
    """Write ``table`` atomically as Parquet."""
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    write_bytes(file, buffer.getvalue())


def write_csv(table: pd.DataFrame, file: Path) -> None:
    """Write ``table`` atomically as CSV; empty cells are missing values."""
    write_bytes(file, table.to_csv(index=False, float_format="%.10g").encode())

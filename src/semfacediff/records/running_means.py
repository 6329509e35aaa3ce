"""Means over the samples of a run while it goes."""

import json
import math
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

POINTS = 200
"""Most points a run."""
_SETTINGS = frozenset("seed width height stage strength loss_weight".split())
"""Numbers of a row that say how it was made."""


def scores_of(row: Mapping) -> dict[str, float]:
    """The finite numbers of a row of ``samples.jsonl``, without those that say how it was made."""
    numbers = {k: v for k, v in row.items() if type(v) in (int, float) and k not in _SETTINGS}
    return {k: v for k, v in numbers.items() if math.isfinite(v)}


class RunningMeans:
    """Means over the rows of ``samples.jsonl`` so far, as the file grows.

    Args:
        file: the file; it need not be there yet.
        n_expected: rows that it will have; decides how far points are apart.
    """

    def __init__(self, file: Path, n_expected: int):
        self.file, self.stride = file, max(1, n_expected // POINTS)
        self._last = 0  # row of the last point
        self._forget()

    def _forget(self) -> None:
        self._identity: int | None = None
        self._offset, self._n, self._failed = 0, 0, 0
        self._sums: dict[str, list[float]] = defaultdict(lambda: [0, 0.0])

    def points(self, at_the_end: bool = False) -> Iterator[dict[str, float]]:
        """Name -> mean every few rows of what is new, and ``at_the_end`` of all there is; ``running/rows`` counts."""
        rewritten = self._rewritten()
        if rewritten:  # a run that begins or ends puts the file in order: the same rows, not in the order of before
            self._forget()
        for row in self._new_rows():
            self._add(row)
            if self._n % self.stride == 0 and self._n > self._last and not rewritten:
                yield self._point()
        if (at_the_end or rewritten) and self._n > self._last:
            yield self._point()

    def _rewritten(self) -> bool:
        if self._identity is None or not self.file.exists():
            return False
        now = self.file.stat()
        return now.st_ino != self._identity or now.st_size < self._offset

    def _new_rows(self) -> Iterator[dict]:
        if not self.file.exists():
            return
        with open(self.file, "rb") as f:
            self._identity = os.fstat(f.fileno()).st_ino
            f.seek(self._offset)
            for line in f:
                if not line.endswith(b"\n"):
                    return  # it is being written
                self._offset += len(line)
                yield json.loads(line)

    def _add(self, row: Mapping) -> None:
        self._n += 1
        self._failed += row.get("status") == "error"
        of = f"{row['attribute']}/" if "attribute" in row else ""
        for column, value in scores_of(row).items():
            sums = self._sums[f"running/{of}{column}"]
            sums[0] += 1
            sums[1] += value

    def _point(self) -> dict[str, float]:
        self._last = self._n
        means = {name: total / n for name, (n, total) in self._sums.items()}
        return {"running/rows": self._n, "running/failed": self._failed, **means}

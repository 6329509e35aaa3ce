"""What a training says while it runs: one line an epoch, or a validation, with the time that is left."""

import sys
import time
from collections.abc import Mapping
from pathlib import Path

_PERCENT = {"val_miou": "mIoU", "val_long_tail": "rare accessories"}
_PLAIN = {"train_loss": "loss", "loss": "loss", "val_loss": "validation loss", "lr": "learning rate"}


class ProgressLines:
    """Prints lines to stderr; the time left is that of the pace of this sitting.

    Args:
        unit: ``epoch`` or ``step``. total: how many there are. curve: a picture that is drawn anew before each line.
    """

    def __init__(self, unit: str, total: int, curve: Path):
        self.unit, self.total, self.curve = unit, total, curve
        self.first: tuple[float, int] | None = None
        """(seconds, done) at the first line of this sitting."""

    def show(self, done: int, row: Mapping[str, object], seconds: float | None = None) -> None:
        """Print the line of the last of ``done``; ``row``: of ``history.csv``; ``seconds``: the clock, for tests."""
        now = time.monotonic() if seconds is None else seconds
        line = f"{self.unit} {done}/{self.total}: {scores(row)}"
        if self.first is None:
            self.first = (now, done)
            line += f"; curves: {self.curve}"
        elif done < self.total:
            left = (now - self.first[0]) / (done - self.first[1]) * (self.total - done)
            line += f"; {duration(left)} left"
        print(line, file=sys.stderr)


def scores(row: Mapping[str, object]) -> str:
    """The main numbers of a row of ``history.csv``: losses, shares in per cent."""
    there = {key: value for key, value in row.items() if isinstance(value, float)}
    found = [f"{name} {there[key]:.4g}" for key, name in _PLAIN.items() if key in there]
    found += [f"{name} {100 * there[key]:.2f} %" for key, name in _PERCENT.items() if key in there]
    return ", ".join(found)


def duration(seconds: float) -> str:
    """``2 h 5 min``, ``12 min`` or ``40 s``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"

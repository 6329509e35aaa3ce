"""What Weights & Biases gets of a record's files: curves while they grow, tables and files when the run is over."""

import csv
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from semfacediff.records.integrity import FILES
from semfacediff.records.running_means import RunningMeans, scores_of

if TYPE_CHECKING:
    from wandb.sdk.wandb_run import Run

STEPS = "steps.csv"
"""A row every few optimisation steps of a training, written for W&B alone."""
MAX_FIGURES, MAX_PICTURES = 12, 48
_IDS = ("sample_id", "attribute", "task", "status")


class Curves:
    """Logs new rows of the files of a record, each file along an axis of its own.

    A run that W&B continues has them up to some point of each axis, which its summary says; they are not sent again.
    """

    def __init__(self, run: "Run", folder: Path, n_expected: int):
        self._run, self._folder = run, folder
        self._means = RunningMeans(folder / "samples.jsonl", n_expected)
        self._rows = {STEPS: 0, "history.csv": 0}
        self._reached: dict[str, float] = {}
        self._defined: set[str] = set()

    def send(self, at_the_end: bool = False) -> None:
        """Log what the files have got since the last call."""
        for row in self._new(STEPS):
            self._log("train/step", {f"train/{name}": value for name, value in row.items()})
        for row in self._new("history.csv"):
            self._log("epoch" if "epoch" in row else "step", row)
        for point in self._means.points(at_the_end):
            self._log("running/rows", point)

    def _new(self, name: str) -> Iterator[dict[str, float]]:
        rows = history(self._folder / name)
        new, self._rows[name] = rows[self._rows[name] :], len(rows)
        yield from new

    def _log(self, axis: str, values: Mapping[str, float]) -> None:
        if axis not in self._reached:
            self._run.define_metric(axis)
            self._reached[axis] = self._run.summary.get(axis, 0) if self._run.resumed else 0
        for name in values:
            if name not in self._defined and name != axis:
                self._run.define_metric(name, step_metric=axis)
                self._defined.add(name)
        if values[axis] > self._reached[axis]:
            self._run.log(dict(values))


def history(file: Path) -> list[dict[str, float]]:
    """The finite numbers of each whole line of a CSV file; empty if it is not there."""
    text = file.read_text() if file.exists() else ""
    rows = csv.DictReader(text[: text.rfind("\n") + 1].splitlines())
    return [{k: number for k, cell in row.items() if (number := _number(cell)) is not None} for row in rows]


def send_end(run: "Run", folder: Path, images: bool, artifact: str | None) -> None:
    """Log what a run leaves at its end.

    Args:
        images: whether photos may be sent.
        artifact: name of the artifact that gets the files of the record; ``None``: none.
    """
    import wandb

    _send_best(run, folder)
    _send_summary(run, folder / "summary.csv")
    _send_samples(run, folder, images)
    if images:
        run.log({f"figures/{png.stem}": wandb.Image(str(png)) for png in figures(folder)})
    if artifact:
        kept = wandb.Artifact(artifact, type="record")
        names = [folder / name for name in ("run.json", "config.yaml", STEPS, *FILES)]
        for file in [f for f in names if f.exists()] + (figures(folder) if images else []):
            kept.add_file(str(file), name=str(file.relative_to(folder)))
        run.log_artifact(kept)


def figures(folder: Path) -> list[Path]:
    """Figures that would be sent; they show photos."""
    return sorted((folder / "figures").glob("*.png"))[:MAX_FIGURES]


def _send_best(run: "Run", folder: Path) -> None:
    """The row of ``history.csv`` that was best, as ``best/<column>``; the summary has the last one without us."""
    facts = json.loads((folder / "run.json").read_text())
    for row in history(folder / "history.csv"):
        axis = "epoch" if "epoch" in row else "step"
        if row[axis] == facts.get(f"best_{axis}"):
            run.summary.update({f"best/{name}": value for name, value in row.items()})


def _send_summary(run: "Run", file: Path) -> None:
    """``summary.csv`` as a table, and its numbers by the names that ``optimise=`` knows.

    ``<row>/<column>``, e.g. ``hair/lpips_mean``, and the mean of each column whose rows are attributes or tasks.
    """
    import wandb

    if not file.exists():
        return
    columns, *rows = csv.reader(file.read_text().splitlines())
    cells = [[_number(text) for text in row[1:]] for row in rows]
    data = [[row[0], *numbers] for row, numbers in zip(rows, cells, strict=True)]
    run.log({"summary": wandb.Table(columns=columns, data=data)})
    scalars = {f"{row[0]}/{columns[i]}": cell for row in data for i, cell in enumerate(row) if i and cell is not None}
    for place, name in enumerate(columns[1:]):
        column = [cell for numbers in cells if (cell := numbers[place]) is not None]
        if column and columns[0] != "class":
            scalars[name] = sum(column) / len(column)
    run.summary.update(scalars)


def _send_samples(run: "Run", folder: Path, images: bool) -> None:
    """A table of the samples: what names them, their scores and, with ``images``, pictures of the first."""
    import wandb

    file = folder / "samples.jsonl"
    lines = file.read_bytes().splitlines(keepends=True) if file.exists() else []
    rows = [json.loads(line) for line in lines if line.endswith(b"\n")]
    if not rows:
        return
    ids = [name for name in _IDS if name in rows[0]]
    scores = list(dict.fromkeys(name for row in rows for name in scores_of(row)))
    data = [[*(row[i] for i in ids), *(scores_of(row).get(s) for s in scores)] for row in rows]
    if images:
        for place, row in enumerate(rows):
            picture = _picture(folder, row) if place < MAX_PICTURES else None
            data[place].append(wandb.Image(str(picture)) if picture else None)
    run.log({"samples": wandb.Table(columns=[*ids, *scores, *(["picture"] if images else [])], data=data)})


def _picture(folder: Path, row: Mapping) -> Path | None:
    """The edit or the generated photo of a sample, where the run has kept it."""
    of = f"samples/{row['task']}" if "task" in row else f"edits/{row.get('attribute')}"
    file = folder / of / f"{row['sample_id']}.png"
    return file if file.exists() else None


def _number(text: str | None) -> float | None:
    """A cell as a finite number; ``None`` for an empty one and for words."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None

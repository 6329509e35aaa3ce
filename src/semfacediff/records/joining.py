"""Samples of several runs in one table, which only runs that measured alike may enter."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from semfacediff.errors import UserError
from semfacediff.records.columns import read_table
from semfacediff.records.folder import DONE, read_run
from semfacediff.records.integrity import refuse_changed
from semfacediff.records.legacy_metrics import compared

_SETTINGS = ("protocol", "working_size", "region", "composite", "seeds")
"""What a protocol sets: runs that differ here measured different things under the same names."""


def joined_samples(folders: Sequence[Path]) -> pd.DataFrame:
    """``samples.parquet`` of every run, one below the other, with the run's id in column ``run_id``.

    Raises:
        UserError: a run is unfinished or not comparable, or measured something else than the first (named).
    """
    runs = [read_run(folder) for folder in folders]
    for folder, run in zip(folders, runs, strict=True):
        if run["status"] != DONE:
            raise UserError(f"{folder}: status {run['status']}; repeat its command before it is joined with others")
        if run["not_comparable"]:
            raise UserError(
                f"{folder}: not comparable ({'; '.join(run['not_comparable'])}); it is joined with no other"
            )
        refuse_changed(folder, run)
        refuse_other_metrics(folders[0], runs[0], folder, run)
    tables = [read_table(f / "samples.parquet").assign(run_id=r["run_id"]) for f, r in zip(folders, runs, strict=True)]
    return pd.concat(tables, ignore_index=True)


def refuse_other_metrics(first_folder: Path, first: dict, folder: Path, run: dict) -> None:
    """Values of two runs may be averaged only if protocol and identity of every metric agree.

    Args:
        first, run: ``run.json`` of the two folders.

    Raises:
        UserError: they differ; the sentence names metric, property and both values.
    """
    a, b = _measures(first), _measures(run)
    different = [key for key in sorted(a.keys() | b.keys()) if a.get(key) != b.get(key)]
    if different:
        key = different[0]
        more = f" (and {len(different) - 1} more)" if len(different) > 1 else ""
        raise UserError(
            f"{folder} and {first_folder} must not be averaged: {key} is {b.get(key, 'not there')!r} and "
            f"{a.get(key, 'not there')!r}{more}; measure both alike"
        )


def _measures(run: dict) -> dict[str, object]:
    """Everything that must agree, as ``metric.property`` -> value."""
    of_metrics = {
        f"{metric['metric']}.{key}": value
        for metric in run.get("metrics", [])
        for key, value in compared(metric).items()
        if key != "metric"
    }
    named = {f"{metric['metric']}": "measured" for metric in run.get("metrics", [])}
    asked = {key: run["identity"]["config"].get(key) for key in _SETTINGS}
    tasks = run["identity"].get("inputs", {}).get("tasks")
    return {"task": run.get("task"), "task set": tasks, **asked, **named, **of_metrics}

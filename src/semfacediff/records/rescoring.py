"""Metrics that a finished run lacks: whether its saved edits can be scored again, and what the record says of it."""

import shlex
from collections.abc import Mapping
from pathlib import Path

from semfacediff.records.legacy_metrics import compared, completed

SCORED = "scored"
"""Key of ``run.json``: column -> when it was made, and with which weights; of runs that were scored again."""


def same_metric(a: Mapping, b: Mapping) -> bool:
    """Whether two identities give the same numbers."""
    return compared(completed(dict(a))) == compared(completed(dict(b)))


def columns_made(run: Mapping, new: Mapping[str, Mapping], when: str) -> dict[str, dict]:
    """:data:`SCORED` with the metrics ``new`` (name -> identity): those before them are as old as the run."""
    first = {i["metric"]: {"when": run["finished"], "weights": i.get("weights")} for i in run.get("metrics", [])}
    return first | run.get(SCORED, {}) | {n: {"when": when, "weights": i.get("weights")} for n, i in new.items()}


def lacks_only_metrics(folder: Path, recorded: Mapping, asked: Mapping) -> str | None:
    """What to do where a run's identity differs from what is asked for in nothing but metrics; ``None``: in more.

    Args:
        recorded, asked: identities of runs, see :mod:`semfacediff.records.folder`.
    """
    if _without_metrics(recorded) != _without_metrics(asked):
        return None
    before, now = (identity["inputs"].get("metrics", {}) for identity in (recorded, asked))
    if other := [name for name in before if name in now and not same_metric(before[name], now[name])]:
        return (
            f"{folder} was scored with other weights or versions ({', '.join(other)}); a column has one set of them: "
            f"name the first ones, or set hydra.run.dir=DIR to score in a new run"
        )
    if new := [name for name in _columns(asked) if name not in _columns(recorded) or _newly(name, before, now)]:
        return (
            f"{folder} holds these edits, scored by fewer metrics; fill its columns without new edits: semfacediff "
            f"rescore {shlex.quote(str(folder))} --add {','.join(new)} --weights DIR"
        )
    more = [name for name in _columns(recorded) if name not in _columns(asked)] or sorted(before.keys() - now.keys())
    return (
        f"{folder} holds these edits, scored by more metrics ({', '.join(more)}); ask for them and their weights too, "
        f"or set hydra.run.dir=DIR"
    )


def _columns(identity: Mapping) -> list[str]:
    return identity["config"].get("metrics", {}).get("columns", [])


def _newly(name: str, before: Mapping, now: Mapping) -> bool:
    """Whether a metric had no weights before and has some now."""
    return any(name in metric.split(", ") for metric in now.keys() - before.keys())


def _without_metrics(identity: Mapping) -> dict:
    """What else determines a run; options of metrics belong to those that are there."""
    config, inputs = identity["config"], identity["inputs"]
    settings = {k: v for k, v in config.get("metrics", {}).items() if k not in ("columns", "options", "identity")}
    return {
        "config": {**config, "metrics": settings},
        "inputs": {k: v for k, v in inputs.items() if k != "metrics"},
    }

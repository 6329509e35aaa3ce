"""What a reader must know of a record before trusting a number made from it: superseded, dirty, unsealed."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

SHIPPED = Path(__file__).with_name("shipped_parsers.json")
"""Digests of the parsers that ship today (``current``) and that once shipped (``earlier``), and of exports of them."""


def superseded(run: dict, shipped: Mapping[str, dict] | None = None) -> str | None:
    """Why a run counts as superseded: it used a parser that came with an earlier version of the package.

    An export counts by the digest it was made from.

    Args:
        run: its ``run.json``. shipped: instead of :data:`SHIPPED`.

    Returns:
        "parser face_lite 289769bd, shipped today: c0df1183"; ``None`` if the run still stands.
    """
    known = shipped if shipped is not None else json.loads(SHIPPED.read_text("utf-8"))
    used = (_superseded(run.get(who) or {}, known) for who in ("parser", "judge"))
    return next(filter(None, used), None)


def _superseded(parser: Mapping, known: Mapping[str, dict]) -> str | None:
    own = parser.get("digest")
    digests = (own, known["exports"].get(own), parser.get("exported_from"))
    digest = next((d for d in digests if d in known["earlier"]), None)
    if digest is None or own in known["current"].values():
        return None
    name = known["earlier"][digest]
    return f"parser {name} {digest[:8]}, shipped today: {known['current'].get(name, 'none')[:8]}"


def dirty(run: dict) -> bool:
    """Whether the run came from a working tree with uncommitted changes."""
    return bool(run.get("code", {}).get("dirty"))


def sealed(run: dict) -> bool:
    """Whether the record holds digests of the files that its numbers are read from."""
    return bool(run.get("files"))


def standing_notes(runs: Sequence[dict]) -> list[str]:
    """Notes for a table made from ``runs``, a sentence each; none where all of them stand."""
    notes = [
        f"superseded: {_named(of, runs)} used {reason}; the command below gives other numbers today"
        for reason, of in _grouped(runs).items()
    ]
    changed = [run for run in runs if dirty(run)]
    return notes + ([f"made from a tree with uncommitted changes: {_named(changed, runs)}"] if changed else [])


def not_fresh(runs: Sequence[dict]) -> list[str]:
    """Why a table made from ``runs`` is not fresh, a reason each. The ``dirty`` flag of a training is not looked at."""
    reasons = [f"superseded run {run['run_id']} ({why})" for run in runs if (why := superseded(run))]
    scores = [run for run in runs if not str(run.get("task")).startswith("train")]
    reasons += [f"run {run['run_id']} is from a tree with uncommitted changes" for run in scores if dirty(run)]
    return reasons + [f"run {run['run_id']} has no digests of its files" for run in runs if not sealed(run)]


def _grouped(runs: Sequence[dict]) -> dict[str, list[dict]]:
    groups: dict[str, list[dict]] = {}
    for run in runs:
        if why := superseded(run):
            groups.setdefault(why, []).append(run)
    return groups


def _named(some: Sequence[dict], all_: Sequence[dict]) -> str:
    """ "all 4 runs", or the names of those meant."""
    if len(some) == len(all_) and len(some) > 1:
        return f"all {len(some)} runs"
    return f"run{'s' * (len(some) > 1)} {', '.join(run['run_id'] for run in some)}"

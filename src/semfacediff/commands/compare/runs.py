"""``semfacediff compare``: paired differences between two runs; ranks and tiers of any number."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from semfacediff.errors import UserError
from semfacediff.records.columns import read_table
from semfacediff.records.comparing import paired_differences
from semfacediff.records.pairing import PairedRuns, compared_runs, paired_runs
from semfacediff.records.summary import OF_ALIGNMENT
from semfacediff.tables.comparison import comparison_report
from semfacediff.tables.ranking import axis_scores, ranking
from semfacediff.tables.scores import OF_EFFECT


def compare(first: Path, second: Path, scores: list[str], raw: bool, as_json: bool = False) -> str:
    """The report of two runs' folders, or its rows as JSON.

    Args:
        scores: which; all that both measured if empty.
        raw: also those of the edits before the composite.

    Raises:
        UserError: the runs are not comparable, or a score is not in both.
    """
    pairs = paired_runs(first, second)
    known = _by_axis(pairs.directions, scores, "both")
    wanted = scores or [s for s in known if raw or _shown(s)]
    differences = paired_differences(*pairs.samples, wanted, pairs.directions)
    if as_json:
        return differences.to_json(orient="records", indent=1)
    return comparison_report(pairs, differences, _of_sets(pairs, first, second))


def rank(folders: Sequence[Path], scores: list[str], raw: bool, form: str, doubtful: bool = False) -> str:
    """Ranks and tiers of any number of runs, in one of the formats of tables.

    Args:
        scores: which; one or two of each axis if empty, with ``raw`` all that every run measured.
        doubtful: also of runs that say that they are not comparable; a note names them.

    Raises:
        UserError: the runs are not comparable, or a score is not in all of them.
    """
    compared = compared_runs(folders, doubtful)
    known = _by_axis(compared.directions, scores, "all")
    shown = known if raw else axis_scores(compared.directions)
    if any(run.get("editor", {}).get("maskless") for run in compared.runs.values()):
        shown = sorted(shown, key=lambda score: "_raw" not in score)  # the composite hides what it changed
    return ranking(compared, scores or shown, form)


def _by_axis(directions: Mapping[str, bool | None], asked: list[str], where: str) -> list[str]:
    """All scores, those of the effect first.

    Raises:
        UserError: one that was ``asked`` for is not among them.
    """
    if unknown := [s for s in asked if s not in directions]:
        raise UserError(f"compare: no score {', '.join(unknown)} in {where} runs; there are {', '.join(directions)}")
    return sorted(directions, key=lambda s: s.removesuffix("_raw") not in OF_EFFECT)


def _shown(score: str) -> bool:
    """Whether a score is shown unasked: that of the final edit, but of a motion the one before an exact composite,
    which undoes it."""
    return score in OF_ALIGNMENT or not ("_raw" in score or f"{score}_raw" in OF_ALIGNMENT)


def _of_sets(pairs: PairedRuns, first: Path, second: Path) -> list[str]:
    """FID and KID where both have them: one number per attribute and run, without a test."""
    tables = [read_table(folder / "summary.csv").set_index("attribute") for folder in (first, second)]
    said = []
    for attribute in tables[0].index.intersection(tables[1].index):
        for score in ("fid", "kid"):
            values = [table[score][attribute] for table in tables if score in table]
            if len(values) == 2 and not any(pd.isna(v) for v in values):
                shown = " and ".join(f"{v:.4f} (n = {t['n'][attribute]})" for v, t in zip(values, tables, strict=True))
                said.append(f"{attribute} {score}: {shown}; a distance of whole sets has no paired test")
    return said

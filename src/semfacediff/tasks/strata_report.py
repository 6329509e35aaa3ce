"""``semfacediff strata`` and ``semfacediff leakage``: what one run's record says by group of faces and by class."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from semfacediff.errors import UserError
from semfacediff.records.columns import read_table
from semfacediff.records.folder import read_run
from semfacediff.records.pairing import STRATIFIED, directions, numeric_scores, scored, scored_samples
from semfacediff.records.strata import BY, by_stratum, gaps, strata_of
from semfacediff.tables.leakage import leakage_figure, leakage_markdown, read_leakage
from semfacediff.tables.strata import strata_figure, strata_report

FIGURE_SUFFIXES = (".pdf", ".png")


def strata(folder: Path, by: str, scores: list[str], figure: Path | None = None, as_json: bool = False) -> str:
    """The report of a run by stratum, or its rows as JSON; draws the figure if one is asked for.

    Args:
        by: ``skin_tone``, ``pose``, ``region_size`` or an annotation's name.
        scores: which; all final scores if empty.

    Raises:
        UserError: the run cannot be used, or holds no such score or grouping.
    """
    _check_figure(figure)
    return _stratified(*scored_samples(folder, STRATIFIED), by, scores, figure, as_json)


def check_strata(asked: Sequence[str], annotations: Mapping[str, object], computed: Sequence[str] = BY) -> None:
    """Refuse a grouping that a record of these photos will not hold.

    Args:
        annotations: those that come with the photos. computed: groupings that such a run's rows are computed for.

    Raises:
        UserError: neither one of the computed groupings nor an annotation.
    """
    known = [*computed, *sorted(annotations.keys() - set(BY))]
    if unknown := [by for by in asked if by not in known]:
        raise UserError(f"stratify: expected of {', '.join(known)}, got {', '.join(unknown)}; choose among the former")


def of_run(folder: Path, by: str) -> str:
    """The report by stratum for the end of a run, whatever its status; it starts with a heading."""
    samples = scored(read_table(folder / "samples.parquet"))
    if samples.empty:
        return f"\nby {by}: nothing was scored"
    return f"\nby {by}:\n{_stratified(read_run(folder), samples, by, [])}"


def _stratified(
    run: dict, samples: pd.DataFrame, by: str, scores: list[str], figure: Path | None = None, as_json: bool = False
) -> str:
    known = numeric_scores(samples, directions(run))
    if unknown := [s for s in scores if s not in known]:
        raise UserError(f"strata: no score {', '.join(unknown)} in the record; there are {', '.join(known)}")
    wanted = scores or [s for s in known if not s.endswith("_raw") and np.isfinite(samples[s]).any()]
    found = strata_of(samples, by)
    rows = by_stratum(samples, found, wanted)
    if as_json:
        return rows.to_json(orient="records", indent=1)
    told = {s: better for s in wanted if (better := known[s]) is not None}
    if figure is not None:
        strata_figure(rows, f"{run['run_id']} by {by}", figure)
    return strata_report(found, rows, gaps(samples, found, told), [s for s in wanted if s not in told])


def leakage(folder: Path, attribute: str | None, figure: Path | None, as_json: bool = False) -> str:
    """Which classes each edit disturbed outside its region, or the counts as JSON; draws the heat map if asked for.

    Raises:
        UserError: the run cannot be used, has no leakage recorded or not edited the attribute.
    """
    _check_figure(figure)
    run, _ = scored_samples(folder)
    table = read_leakage(folder)
    if attribute is not None and attribute not in set(table["attribute"]):
        known = ", ".join(dict.fromkeys(table["attribute"])) or "none"
        raise UserError(f"leakage: {folder} has no edits of '{attribute}'; there are {known}")
    if table.empty:
        raise UserError(
            f"{folder}: the parser had no opinion of the edits; use one that parses them (parser.checkpoint)"
        )
    if figure is not None:
        leakage_figure(table, run["run_id"], figure)
    if as_json:
        chosen = table if attribute is None else table[table["attribute"] == attribute]
        return chosen.to_json(orient="records", indent=1)
    rule = "mask < 128" if run["identity"]["config"]["protocol"] == "thesis" else "blend mask = 0"
    note = f"parse before against parse after the edit, pixels outside ({rule}), summed over photos; {run['run_id']}"
    return f"{leakage_markdown(table, attribute)}\n\n{note}"


def _check_figure(figure: Path | None) -> None:
    if figure is not None and figure.suffix not in FIGURE_SUFFIXES:
        raise UserError(f"--figure: expected a file ending in {' or '.join(FIGURE_SUFFIXES)}, got {figure}")

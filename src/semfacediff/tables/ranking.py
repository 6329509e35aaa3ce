"""Any number of runs side by side: scores of each axis with tiers, and ranks with their intervals."""

from collections.abc import Mapping, Sequence

import pandas as pd

from semfacediff.metrics.overall import EFFECT, IDENTITY, OVERALL, PRESERVATION
from semfacediff.records.pairing import ComparedRuns
from semfacediff.records.ranking import ranked
from semfacediff.records.samples import UNCHANGED
from semfacediff.records.statistics import ALPHA, LEVEL, MIN_BLOCKS, PERMUTATIONS, RESAMPLES
from semfacediff.tables.formats import as_csv, as_latex, as_markdown
from semfacediff.tables.grid import Cell, Column, Grid, Row, Value
from semfacediff.tables.scores import column

_PRESERVATION = (PRESERVATION, "ssim_raw", "ssim")
"""The first of these that all runs measured stands for what was kept."""


def axis_scores(directions: Mapping[str, bool | None]) -> list[str]:
    """The scores that stand for effect, preservation, identity and the whole, of those measured; all if none is."""
    kept = next((score for score in _PRESERVATION if score in directions), PRESERVATION)
    return [s for s in (*EFFECT, kept, IDENTITY, OVERALL) if s in directions] or list(directions)


def ranking(compared: ComparedRuns, scores: Sequence[str], form: str = "md") -> str:
    """Scores side by side and the ranks, in a format; as CSV the ranks alone, which hold all numbers."""
    table = ranked(compared.samples, {score: compared.directions[score] for score in scores})
    if form == "json":
        return table.to_json(orient="records", indent=1) + "\n"
    if form == "csv":
        return as_csv(rank_grid(table))
    shown = as_markdown if form == "md" else as_latex
    return "\n".join(shown(grid) for grid in (side_by_side(table, compared), rank_grid(table)))


def side_by_side(table: pd.DataFrame, compared: ComparedRuns) -> Grid:
    """A row an attribute and run, its scores with their tiers, from what :func:`ranked` gave."""
    run = next(iter(compared.runs.values()))
    scores = list(dict.fromkeys(table["score"]))
    tiered = {score for score in scores if compared.directions[score] is not None}
    columns = []
    for score in scores:
        columns += [column(score, run), *([Column(f"{score}_tier", "tier")] if score in tiered else [])]
    found = {(row["attribute"], row["run"], row["score"]): row for row in table.to_dict("records")}
    rows = []
    for attribute in dict.fromkeys(table["attribute"]):
        for name in compared.runs:
            cells: list[Cell] = []
            for score in scores:
                row = found.get((attribute, name, score))
                cells.append(Value(row["mean"], best=row["best"]) if row else None)
                cells += [Value(row["tier"]) if row else None] if score in tiered else []
            rows.append(Row((attribute, name), tuple(cells)))
    return Grid(("attribute", "run"), tuple(columns), rows, "Runs side by side", _notes(compared))


def rank_grid(table: pd.DataFrame) -> Grid:
    """A row an attribute, score and run with its rank, from what :func:`ranked` gave."""
    columns = (
        *(Column("n", "n"), Column("mean", "mean", digits=4), Column("rank", "rank"), Column("tier", "tier")),
        Column("better_than", "significantly better than"),
    )
    rows = []
    for row in table.to_dict("records"):
        mean = Value(row["mean"], low=row["low"], high=row["high"], best=row["best"])
        rank = Value(row["rank"], low=row["rank_low"], high=row["rank_high"])
        cells = (Value(row["n"]), mean, rank, Value(row["tier"]), ", ".join(row["better_than"]))
        rows.append(Row((row["attribute"], row["score"], row["run"]), cells))
    method = (
        f"means with {100 * LEVEL:.0f} % BCa intervals, ranks with {100 * LEVEL:.0f} % bootstrap intervals "
        f"({RESAMPLES} resamples of the photos that all runs scored; none under {MIN_BLOCKS} photos)"
    )
    return Grid(("attribute", "score", "run"), columns, rows, "Ranks", (method,))


def _notes(compared: ComparedRuns) -> list[str]:
    notes = [
        f"tier: no two runs of a tier can be told apart; all pairs of runs are tested photo by photo (sign flips, "
        f"{PERMUTATIONS} draws), with Holm's correction over all pairs and scores of the table, p at most {ALPHA}",
        "bold (best): significantly better than every other run; a score of what was kept is not bold where the effect "
        "of another run is significantly higher",
        "editors: " + ", ".join(f"{name} {run.get('editor', {}).get('name')}" for name, run in compared.runs.items()),
    ]
    doubts = {name: run["not_comparable"] for name, run in compared.runs.items() if run.get("not_comparable")}
    notes += [f"not comparable: {name} ({'; '.join(why)})" for name, why in doubts.items()]
    idle = []
    for name, rows in compared.samples.items():
        unchanged = rows["status"] == UNCHANGED
        idle += [f"{name} {unchanged.sum()} of {len(rows)}"] if unchanged.any() else []
    gain = "edits that changed nothing, whose gains count as 0 in the tests: "
    return [*notes, gain + ", ".join(idle)] if idle else notes

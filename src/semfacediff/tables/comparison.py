"""Two runs side by side, as Markdown."""

import math

import pandas as pd

from semfacediff.config.prompts import KEEP
from semfacediff.records.pairing import PairedRuns
from semfacediff.records.samples import UNCHANGED
from semfacediff.records.statistics import ALPHA, LEVEL, PERMUTATIONS, RESAMPLES
from semfacediff.tables.formats import markdown

_HEADINGS = ["attribute", "score", "n", "first", "second", "second - first", "interval", "p (Holm)", "effect", "better"]


def comparison_table(differences: pd.DataFrame, directions: dict[str, bool | None]) -> str:
    """Rows of :func:`semfacediff.records.comparing.paired_differences`; the better run is bold where significant.

    Args:
        directions: score -> whether higher is better; ``None`` = there is no better.
    """
    rows = []
    for row in differences.to_dict("records"):
        arrow = {True: " (up)", False: " (down)", None: ""}[directions[row["score"]]]
        spread = "" if pd.isna(row["low"]) else f"[{_signed(row['low'])}, {_signed(row['high'])}]"
        rows.append(
            [
                row["attribute"],
                f"{row['score']}{arrow}",
                str(row["n"]),
                *(_number(row[side]) for side in ("first", "second")),
                _signed(row["difference"]),
                spread,
                "" if pd.isna(row["p_holm"]) else f"{row['p_holm']:.4f}",
                _signed(row["effect"], 2),
                _better(row, directions[row["score"]]),
            ]
        )
    return markdown(_HEADINGS, rows)


def _better(row: dict, up: bool | None) -> str:
    if up is None or not row["p_holm"] <= ALPHA or row["difference"] * row["earned"] <= 0:
        return ""
    second = (row["difference"] > 0) == up
    return "" if row["less"] == (-1 if second else 1) else "**second**" if second else "**first**"


def _number(value: float) -> str:
    return "" if pd.isna(value) else f"{value:.4f}"


def _signed(value: float, digits: int = 4) -> str:
    """A number with its sign; what rounds to 0 has none."""
    if math.isnan(value):
        return ""
    return f"{value:+.{digits}f}" if round(value, digits) else f"{0:.{digits}f}"


def _unchanged(pairs: PairedRuns) -> list[str]:
    """In how many edits of which run nothing changed though a change was asked for, and what follows."""
    said = []
    for which, rows in zip(("first", "second"), pairs.samples, strict=True):
        if "status" not in rows:
            continue
        rows = rows[rows["kind"] != KEEP] if "kind" in rows else rows
        counts = (rows["status"] == UNCHANGED).groupby(rows["attribute"], sort=False).agg(["sum", "size"])
        said += [f"{a} of the {which} unchanged in {n} of {of}" for a, n, of in counts.itertuples() if n]
    rule = "what an edit that changed nothing gains counts as 0 in p"
    return [f"{', '.join(said)}; {rule}"] if said else []


def _did_less(differences: pd.DataFrame) -> list[str]:
    """Where one of the two did less, so that nothing of what it kept is bold."""
    found = differences[differences["less"] != 0].groupby("attribute", sort=False)["less"].first()
    said = [f"{attribute} of the {'second' if sign < 0 else 'first'}" for attribute, sign in found.items()]
    return [f"significantly lower effect: {', '.join(said)}; nothing that it kept is printed as better"] if said else []


def comparison_report(pairs: PairedRuns, differences: pd.DataFrame, of_sets: list[str]) -> str:
    """The table, what it rests on, and how the two configurations differ.

    Args:
        of_sets: sentences on scores of whole sets, which have no value for each photo.
    """
    empty = differences[differences["n"] == 0]
    lacking = [f"{r['attribute']} {r['score']}" for r in empty.to_dict("records")]
    notes = [f"no photo has a finite value in both: {', '.join(lacking)}"] if lacking else []
    differences = differences[differences["n"] > 0]
    names = " and ".join(
        f"{which} = {run['run_id']}" for which, run in zip(("first", "second"), pairs.runs, strict=True)
    )
    method = (
        f"{names}; paired by photo; {100 * LEVEL:.0f} % BCa intervals ({RESAMPLES} resamples of photos), sign-flip "
        f"tests ({PERMUTATIONS} draws, exact for few photos), Holm over the rows that differ, effect = rank-biserial "
        f"correlation; better only where p <= {ALPHA}"
    )
    unchanged = _unchanged(pairs)
    unchanged += _did_less(differences)
    settings = pairs.settings or ["none: the two runs have the same settings"]
    lines = [comparison_table(differences, pairs.directions), "", method, *unchanged, *of_sets, *notes, *pairs.notes]
    return "\n".join(
        [*lines, "", "differences of the configurations (first was, second now):", *(f"- {s}" for s in settings)]
    )

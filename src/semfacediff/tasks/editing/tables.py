"""The tables at the end of an editing run, from its rows; those of a merged run are made by the same lines."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from semfacediff.editing.apply import EditSpec
from semfacediff.labels import LabelSpace
from semfacediff.metrics.leakage import leakage_table
from semfacediff.records.pairing import by_stage
from semfacediff.records.samples import failure_facts, write_csv, write_parquet
from semfacediff.records.summary import repeat_facts, summarise_edits, summarise_kinds, summarise_stages


def write_editing_tables(
    folder: Path,
    samples: pd.DataFrame,
    specs: Sequence[EditSpec],
    n_expected: Mapping[str, int],
    of_sets: Mapping[str, Mapping[str, float]],
    space: LabelSpace | None,
) -> dict[str, object]:
    """Write ``samples.parquet``, ``summary.csv``, ``leakage.csv`` and, of a task set, ``summary_by_kind.csv``.

    Returns the counts and notes for ``run.json``.

    Args:
        samples: all rows, in order.
        n_expected: spec's name -> edits that should be there.
        of_sets: spec's name -> what was measured of all its edits together.
        space: of the judge's labels; ``None`` where leakage was not measured.
    """
    write_parquet(samples, folder / "samples.parquet")
    write_csv(_summary(samples, specs, n_expected, of_sets), folder / "summary.csv")
    if "kind" in samples:
        write_csv(summarise_kinds(samples), folder / "summary_by_kind.csv")
    if space is not None:
        write_csv(leakage_table(by_stage(samples), space), folder / "leakage.csv")
    failed = failure_facts(samples)
    noted = samples[samples["note"].notna()].groupby("attribute")["note"]
    notes = {attribute: said.value_counts().to_dict() for attribute, said in noted}
    facts: dict[str, object] = {"n": len(samples) - failed["n_failed"], **failed, "editor_notes": notes}
    return facts | ({"repeats": repeat_facts(samples)} if "repeat" in samples else {})


def _summary(
    samples: pd.DataFrame,
    specs: Sequence[EditSpec],
    n_expected: Mapping[str, int],
    of_sets: Mapping[str, Mapping[str, float]],
) -> pd.DataFrame:
    if specs[0].stage is None:
        of_each: dict[str, list[EditSpec]] = {}
        for spec in specs:
            of_each.setdefault(spec.attribute, []).append(spec)
        measured = {a: _mean_of([of_sets[s.name] for s in own if s.name in of_sets]) for a, own in of_each.items()}
        expected = {a: sum(n_expected[s.name] for s in own) for a, own in of_each.items()}
        return summarise_edits(samples, list(of_each), expected, measured)
    of_stages = {spec.stage: of_sets[spec.name] for spec in specs if spec.stage is not None and spec.name in of_sets}
    attributes = {spec.stage: spec.attribute for spec in specs if spec.stage is not None}
    return summarise_stages(samples, attributes, n_expected[specs[0].name], of_stages)


def _mean_of(sets: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Of the repeats, each of which is a set of edits of all photos: a distance of sets has no values to pool.

    ``fid_n`` is that of the smallest set.
    """
    known: dict[str, list[float]] = {}
    for of_set in sets:
        for name, value in of_set.items():
            known.setdefault(name, []).append(value)
    return {name: min(of) if name == "fid_n" else sum(of) / len(of) for name, of in known.items()}

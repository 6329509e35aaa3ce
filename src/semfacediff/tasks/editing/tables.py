"""The tables at the end of an editing run, from its rows; those of a merged run are made by the same lines."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from semfacediff.editing.apply import EditSpec
from semfacediff.labels import LabelSpace
from semfacediff.metrics.leakage import leakage_table
from semfacediff.records.pairing import by_stage
from semfacediff.records.samples import ERROR, write_csv, write_parquet
from semfacediff.records.summary import summarise_edits, summarise_kinds, summarise_stages


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
        space: of the parser's labels; ``None`` where leakage was not measured.
    """
    write_parquet(samples, folder / "samples.parquet")
    write_csv(_summary(samples, specs, n_expected, of_sets), folder / "summary.csv")
    if "kind" in samples:
        write_csv(summarise_kinds(samples), folder / "summary_by_kind.csv")
    if space is not None:
        write_csv(leakage_table(by_stage(samples), space), folder / "leakage.csv")
    failed = int((samples["status"] == ERROR).sum())
    noted = samples[samples["note"].notna()].groupby("attribute")["note"]
    notes = {attribute: said.value_counts().to_dict() for attribute, said in noted}
    return {"n": len(samples) - failed, "n_failed": failed, "editor_notes": notes}


def _summary(
    samples: pd.DataFrame,
    specs: Sequence[EditSpec],
    n_expected: Mapping[str, int],
    of_sets: Mapping[str, Mapping[str, float]],
) -> pd.DataFrame:
    if specs[0].stage is None:
        return summarise_edits(samples, [spec.attribute for spec in specs], n_expected, of_sets)
    of_stages = {spec.stage: of_sets[spec.name] for spec in specs if spec.stage is not None and spec.name in of_sets}
    attributes = {spec.stage: spec.attribute for spec in specs if spec.stage is not None}
    return summarise_stages(samples, attributes, n_expected[specs[0].name], of_stages)

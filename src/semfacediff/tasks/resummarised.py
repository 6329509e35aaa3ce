"""Whether the summary of a record is that of its samples, computed again by what wrote it."""

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
from pyarrow.parquet import read_table as read_parquet

from semfacediff.errors import UserError, printable
from semfacediff.labels import CELEBAMASK, space
from semfacediff.records.columns import read_table
from semfacediff.records.folder import DONE, read_config, read_run
from semfacediff.records.integrity import refuse_changed
from semfacediff.records.samples import iterate_rows, table_of
from semfacediff.records.summary import summarise_edits, summarise_kinds, summarise_stages
from semfacediff.tasks.editing.sample_row import row_key
from semfacediff.tasks.parsing.scores import parsing_summary
from semfacediff.tasks.synthesis.tables import synthesis_summary

RTOL, ATOL = 1e-6, 1e-9
"""Summaries hold ten digits; sums of another version of numpy or pandas end a few roundings apart."""
_OF_SETS = ("fid", "fid_n", "kid", "kid_sd")
"""Measured of features of the photos, which a record may lack."""
_KEYS = ("stage", "attribute", "kind", "distance", "class", "task")
"""Columns that name a row of a summary."""


def refuse_inconsistent(folder: Path) -> None:
    """Check a finished record that came from elsewhere; of a training, which has no samples, the digests alone.

    Raises:
        UserError: it is unfinished, of another schema, a digest does not match, its two files of samples differ, or a
            number of its summary is not that of its samples (named).
    """
    try:
        _check(folder)
    except UserError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as e:  # of facts that nobody of ours wrote
        raise UserError(
            f"{folder}: not a record ({type(e).__name__}: {printable(str(e))[:80]}); export it again"
        ) from e


def _check(folder: Path) -> None:
    run = read_run(folder)
    read_config(folder)
    if run["status"] != DONE:
        raise UserError(f"{folder}: status {run['status']}, expected {DONE}; repeat its command, then export it again")
    refuse_changed(folder, run)
    if run["task"].startswith("train"):
        return
    samples = read_table(folder / "samples.parquet")
    _refuse_other_rows(folder, run)
    if run["task"] == "editing":
        told = read_table(folder / "summary.csv")
        if absent := sorted({*samples["attribute"]} - {*told["attribute"]}):
            raise UserError(f"{folder / 'summary.csv'}: no row of {absent[0]}, which has samples; restore the record")
        _refuse_other(folder / "summary.csv", _editing(samples, told))
        if (file := folder / "summary_by_kind.csv").is_file():
            _refuse_other(file, summarise_kinds(samples))
        return
    plain = run["identity"]["config"]
    rows = [{k: v for k, v in row.items() if v is not None} for row in samples.to_dict("records")]
    if run["task"] == "parsing":
        of_data = space(plain["data"].get("label_space", CELEBAMASK.name))
        found = parsing_summary(rows, of_data, plain["protocol"], run["seed"])
    else:
        judged = "iou" in plain["metrics"]["columns"]
        found = synthesis_summary(samples, {}, space(run["measured"]["label_space"]) if judged else None)
    _refuse_other(folder / "summary.csv", found)


def _editing(samples: pd.DataFrame, told: pd.DataFrame) -> pd.DataFrame:
    if "stage" in told:
        stages = dict(zip(told["stage"], told["attribute"], strict=True))
        return summarise_stages(samples, stages, int(told["n_expected"].iloc[0]))
    expected = dict(zip(told["attribute"], told["n_expected"], strict=True))
    return summarise_edits(samples, list(expected), expected)


def _refuse_other_rows(folder: Path, run: dict) -> None:
    """``samples.jsonl``, where it is kept, holds the rows of ``samples.parquet``."""
    file = folder / "samples.jsonl"
    if not file.is_file():
        return
    key = row_key(run["identity"]["config"]) if run["task"] == "editing" else ("sample_id",)
    buffer = io.BytesIO()
    table_of(iterate_rows(file, key)).to_parquet(buffer, index=False)
    logged, kept = (read_parquet(source).to_pylist() for source in (buffer, folder / "samples.parquet"))
    if len(logged) != len(kept):
        raise UserError(f"{file}: {len(logged)} rows, samples.parquet has {len(kept)}; restore the record")
    for a, b in zip(logged, kept, strict=True):
        if json.dumps(a) != json.dumps(b):
            raise UserError(f"{file}: the row of {b['sample_id']} differs in samples.parquet; restore the record")


def _refuse_other(file: Path, found: pd.DataFrame) -> None:
    """Compare the file with the recomputed summary, in the rows and columns of both; earlier versions wrote fewer."""
    told = read_table(file)
    keys = [name for name in _KEYS if name in told]
    told, found = (of.set_index(keys[0] if len(keys) == 1 else keys) for of in (told, found))
    if strange := told.index.difference(found.index).tolist():
        raise UserError(f"{file}: the row {strange[0]} is of no sample; restore the record")
    found = found.loc[told.index]
    for name in (c for c in told if c in found and c not in _OF_SETS):
        a, b = (pd.to_numeric(of[name]).to_numpy(float) for of in (told, found))
        if wrong := np.flatnonzero(~np.isclose(a, b, RTOL, ATOL, equal_nan=True)).tolist():
            i = wrong[0]
            raise UserError(
                f"{file}: {name} of {told.index[i]} is {a[i]:.6g}, its samples give {b[i]:.6g}; restore the record"
            )

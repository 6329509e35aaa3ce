"""The ends of each axis of the score ``overall``: python benchmarks/overall.py SWEEP [--out FILE | --table]

Reads the records of a sweep of ``experiment=controls`` that measured its axes, writes the means of the controls that
are the ends of each axis, and prints what every control of the sweep scores under several weights of the axes. The file
in the package was made from the first 100 choice photos, in about half an hour of one core:

    python evaluate.py -m experiment=controls data=shards data.root=DIR data.split_rule.modulo=20 data.split=val \\
        data.n=100 'attributes=[hair,lips,skin]' 'prompts.skin=green skin' editor.donors=DIR_OF_OTHER_PEOPLE \\
        'metrics.columns=[effect,alignment,ssim,identity]' hydra.sweep.dir=SWEEP

``editor.kind=nothing,asked_colour,photo_noise,other_face`` are enough for the file. Another person's hair or lips leave
the person; so the mean of ``identity`` that counts as 0 is taken over the edits of ``skin``, all others over all edits.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from semfacediff.controls import PIXELS
from semfacediff.errors import UserError
from semfacediff.metrics.overall import (
    ANCHORS,
    BOUNDS,
    EFFECT,
    IDENTITY,
    PRESERVATION,
    Overall,
    harmonic_mean,
    read_anchors,
)
from semfacediff.records.pairing import scored
from semfacediff.records.writing import write_bytes
from semfacediff.tables.ablation import Setting, read_sweep

WEIGHTS = {
    "1:1:1": (1, 1, 1),
    "2:1:1": (2, 1, 1),
    "1:2:1": (1, 2, 1),
    "1:1:2": (1, 1, 2),
    "1:1:0": (1, 1, 0),
    "0:1:1": (0, 1, 1),
}
"""Of effect, preservation and identity."""
FACE = "skin"


def controls(sweep: Path) -> tuple[dict[str, pd.DataFrame], Setting]:
    """(control -> its scored rows, one of the runs)."""
    settings = {s.run["identity"]["config"]["editor"]["kind"]: s for s in read_sweep(sweep)}
    rows = {
        kind: scored(pd.read_parquet(settings[kind].folder / "samples.parquet")) for kind in PIXELS if kind in settings
    }
    needed = {kind for ends in BOUNDS.values() for kind in ends}
    if absent := sorted(needed - rows.keys()):
        raise UserError(
            f"{sweep}: no finished run of editor.kind={','.join(absent)}; run experiment=controls with them"
        )
    return rows, settings["nothing"]


def anchors(rows: Mapping[str, pd.DataFrame]) -> dict[str, dict[str, object]]:
    """Column -> the two controls, their means and the edits behind them."""
    found: dict[str, dict[str, object]] = {}
    for column, ends in BOUNDS.items():
        found[column] = {}
        for end, kind in zip(("zero", "one"), ends, strict=True):
            of = rows[kind][rows[kind]["attribute"] == FACE] if kind == "other_face" else rows[kind]
            values = of[column].dropna()
            found[column] |= {end: round(float(values.mean()), 4), f"{end}_is": kind, f"{end}_n": len(values)}
    return found


def by_weights(rows: Mapping[str, pd.DataFrame], overall: Overall) -> pd.DataFrame:
    """A row a control: means of the three axes, and of the score under each of the :data:`WEIGHTS`."""
    shown = {}
    for kind, table in rows.items():
        axes = [
            [overall.placed(c, row[c]) for c in (EFFECT[0], PRESERVATION, IDENTITY)] for row in table.to_dict("records")
        ]
        known = pd.DataFrame(axes, columns=["E", "P", "I"]).astype(float).dropna()
        of = {name: [harmonic_mean(axis, w) for axis in known.to_numpy().tolist()] for name, w in WEIGHTS.items()}
        shown[kind] = {**known.mean(), **pd.DataFrame(of).mean()}
    return pd.DataFrame(shown).T


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sweep", type=Path)
    parser.add_argument("--out", type=Path, default=ANCHORS)
    parser.add_argument("--table", action="store_true", help="write nothing: the table with the anchors in the package")
    asked = parser.parse_args(words)
    rows, setting = controls(asked.sweep)
    if not asked.table:
        found = {
            "n": rows["nothing"]["sample_id"].nunique(),
            "attributes": setting.run["identity"]["config"]["attributes"],
            "data": setting.run["identity"]["inputs"]["data"],
            "command": setting.run["command"],
            "anchors": anchors(rows),
        }
        write_bytes(asked.out, (json.dumps(found, indent=1) + "\n").encode())
        print(json.dumps(found, indent=1), f"written: {asked.out}", sep="\n")
    overall = read_anchors() if asked.table else read_anchors(asked.out)
    print(by_weights(rows, overall).round(3).to_string())


if __name__ == "__main__":
    main()

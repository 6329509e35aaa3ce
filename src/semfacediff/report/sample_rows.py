"""The samples as data for the page's script: every row once, every text once."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from semfacediff.records.samples import ERROR
from semfacediff.report.reading import EDITING, SYNTHESIS, Record
from semfacediff.report.wording import RAW, Score, numbers, scores_of

_SIGNIFICANT = 6
_RANKED = ("lpips", "iou", "seam", "geometry_shift_pct", "clip", "ssim", "miou")
"""Default scores to rank samples: the first that was measured and differs."""
_RANKED_FACES = ("miou", "ssim")
"""The same if all runs are synthesis runs: every task has a mIoU."""
_SAME = 1e-6
_ITSELF = "photo"
"""Task of rows that score the photo itself."""

Key = tuple[int, str, str]
"""(number of the run, sample id, attribute)."""


@dataclass(frozen=True)
class Pictures:
    """Pictures of the samples.

    Attributes:
        files: name -> data URI. of: sample -> panel -> name of its picture. notes: sample -> what is missing and why.
        showcases: (number of the run, file of its showcase) -> data URI.
        licence: source and permitted use of the photos.
        left_out: messages about omitted pictures.
    """

    files: dict[str, str]
    of: Mapping[Key, dict[str, str]]
    notes: Mapping[Key, str]
    showcases: Mapping[tuple[int, str], str]
    licence: str
    left_out: list[str]


def columns(records: Sequence[Record]) -> list[Score]:
    """Every column with a number in some run; scores before the composite come last."""
    found = {s.name: s for r in records for s in scores_of(r, facts=True)}
    return sorted(found.values(), key=lambda s: s.name.endswith(RAW))


def ranking(records: Sequence[Record]) -> Score | None:
    """The initial score to rank samples."""
    known = {s.name: s for s in columns(records)}
    first = _RANKED_FACES if all(r.task == SYNTHESIS for r in records) else _RANKED
    for name in [*(n for n in first if n in known), *known]:
        if known[name].up is not None:
            values = pd.concat([numbers(r.samples, name) for r in records if name in r.samples])
            values = values[np.isfinite(values)]
            if len(values) and values.max() - values.min() > _SAME:
                return known[name]
    return None


def extremes(records: Sequence[Record], rank: Score | None, count: int) -> list[Key]:
    """The ``count`` worst and best of every attribute and task, over all runs; the most extreme ones first.

    Edits and synthesised faces have pictures. Without a ``rank`` the first and last by name are used.
    """
    tables = [
        _made(r).assign(run=i, value=numbers(_made(r), rank.name) if rank else 0.0)
        for i, r in enumerate(records)
        if r.task in (EDITING, SYNTHESIS) and {"attribute", *([rank.name] if rank else [])} <= set(r.samples.columns)
    ]
    if not tables:
        return []
    table = pd.concat(tables, ignore_index=True)
    table = table[table["value"].notna()].sort_values(["value", "sample_id"], kind="stable")
    placed = []  # (distance from the nearer end, key)
    for _, group in table.groupby("attribute", sort=False):
        n = len(group)
        keys = zip(group["run"], group["sample_id"], group["attribute"], strict=True)
        for i, (run, sample_id, attribute) in enumerate(keys):
            place = min(i, n - 1 - i)
            if place < count:
                placed.append((place, (int(run), str(sample_id), str(attribute))))
    return [key for _, key in sorted(placed)]


def _made(record: Record) -> pd.DataFrame:
    """Rows of a run's results."""
    return record.samples[(record.task != SYNTHESIS) | (record.samples["attribute"] != _ITSELF)]


def group_name(records: Sequence[Record]) -> str:
    """What distinguishes a photo's rows: attributes of edits, or tasks of synthesis."""
    return "task" if all(r.task == SYNTHESIS for r in records) else "attribute"


def payload(records: Sequence[Record], rank: Score | None, pictures: Pictures | None) -> dict:
    """Data for the script; plain JSON types, infinite values as the text "inf"."""
    shown, texts = columns(records), _Texts()
    rows = []
    for i, record in enumerate(records):
        rows += _rows(i, record, shown, texts, pictures)
    return {
        "runs": [r.id for r in records],
        "made": ["generated photo" if r.task == SYNTHESIS else "edit" for r in records],
        "group": group_name(records),
        "doubtful": [bool(r.doubts) for r in records],
        "columns": [
            {
                "name": s.name,
                "label": s.label,
                "up": s.up,
                "factor": s.factor,
                "digits": s.digits,
                "raw": s.name.endswith(RAW),
            }
            for s in shown
        ],
        "rank": None if rank is None else rank.name,
        "texts": texts.all,
        "rows": rows,
    }


def _rows(i: int, record: Record, shown: Sequence[Score], texts: "_Texts", pictures: Pictures | None) -> list[list]:
    table = record.samples
    if table.empty:
        return []
    values = [[_plain(v) for v in numbers(table, s.name)] if s.name in table else [None] * len(table) for s in shown]
    known = {name: _texts_of(table, name) for name in ("sample_id", "attribute", "status", "prompt", "note", "error")}
    rows = []
    for k, scores in enumerate(zip(*values, strict=True) if values else [()] * len(table)):
        key = (i, known["sample_id"][k], known["attribute"][k])
        said = known["error"][k] if known["status"][k] == ERROR else known["note"][k]
        seen = pictures.of.get(key) if pictures else None
        note = pictures.notes.get(key, "") if pictures else ""
        fields = (known[name][k] for name in ("sample_id", "attribute", "status", "prompt"))
        rows.append([i, *(texts.place(t) for t in (*fields, said)), list(scores), seen, texts.place(note)])
    return rows


def _texts_of(table: pd.DataFrame, column: str) -> list[str]:
    if column not in table:
        return [""] * len(table)
    return ["" if not isinstance(v, str) and pd.isna(v) else str(v) for v in table[column]]


def _plain(value: float) -> float | str | None:
    if math.isnan(value):
        return None
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return float(f"{value:.{_SIGNIFICANT}g}")


class _Texts:
    """Texts by index; a prompt occurs in thousands of rows."""

    def __init__(self):
        self.all: list[str] = [""]
        self._places = {"": 0}

    def place(self, text: str) -> int:
        if text not in self._places:
            self._places[text] = len(self.all)
            self.all.append(text)
        return self._places[text]

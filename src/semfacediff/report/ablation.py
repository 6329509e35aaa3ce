"""Scores against the settings that differ between runs."""

from collections.abc import Sequence
from dataclasses import dataclass

from semfacediff.errors import UserError
from semfacediff.records.pairing import refuse_other_judge, refuse_other_measurement, scored
from semfacediff.report.charts import LineChart, line_chart
from semfacediff.report.generation import synthesis_values
from semfacediff.report.naming import labels, said, varied
from semfacediff.report.reading import EDITING, SYNTHESIS, TRAINING, Record
from semfacediff.report.wording import RAW, Score, score, scores_of
from semfacediff.tables.ablation import Setting, interval_values, parser_values
from semfacediff.tables.grid import Value
from semfacediff.tables.scores import OF_PARSERS

_FEWEST = 2


@dataclass(frozen=True)
class Ablation:
    """Runs that differ in one setting, with one chart per score. ``fixed``: other settings of these runs."""

    setting: str
    fixed: str
    charts: list[LineChart]
    runs: list[str]


def ablations(records: list[Record]) -> tuple[list[Ablation], list[str]]:
    """Every setting that differs among the runs, and why runs were left out of the curves.

    Runs of one task are compared if they are finished, comparable, and have the same photos and metrics.
    """
    found, left_out = [], []
    for task in dict.fromkeys(r.task for r in records):
        group = [r for r in records if r.task == task]
        kept, why = comparable(group) if len(group) >= _FEWEST else ([], [])
        left_out += why
        found += _of_group(kept) if len(kept) >= _FEWEST else []
    return found, left_out


def comparable(records: Sequence[Record], judged: bool = False) -> tuple[list[Record], list[str]]:
    """Those that can stand beside the first finished and comparable one, and why others cannot.

    Args:
        judged: whether one parser must have judged the edits of all.
    """
    kept: list[Record] = []
    left_out = []
    for record in records:
        why = why_not(kept[0] if kept else None, record, judged)
        kept += [] if why else [record]
        left_out += [f"{record.id}: {why}"] if why else []
    return kept, left_out


def why_not(first: Record | None, record: Record, judged: bool = False) -> str:
    """Why a run cannot stand beside ``first``; empty if it can. ``judged``: as :func:`comparable`."""
    if record.doubts:
        return "; ".join(record.doubts)
    if record.summary is None or (record.task == EDITING and record.samples.empty):
        return "it has no scores"
    if first is None:
        return ""
    if record.task == TRAINING:
        digests = [r.run["identity"].get("inputs", {}).get("val") for r in (first, record)]
        return "" if digests[0] == digests[1] else f"validated on other photos than {first.id}"
    try:
        refuse_other_measurement(first.folder, first.run, record.folder, record.run)
        if judged:
            refuse_other_judge(first.folder, first.run, record.folder, record.run)
    except UserError as e:
        return str(e)
    return ""


def _of_group(records: list[Record]) -> list[Ablation]:
    settings, values = varied(records), [_values(r) for r in records]
    keys = tuple(settings[0])
    words = dict(zip(keys, labels(keys), strict=True))
    found = []
    for key in keys:
        groups: dict[str, list[int]] = {}
        for i, own in enumerate(settings):
            groups.setdefault(", ".join(f"{words[k]} {said(own[k])}" for k in keys if k != key), []).append(i)
        for fixed, members in groups.items():
            if len({repr(settings[i][key]) for i in members}) >= _FEWEST:
                charts = _charts(words[key], [(settings[i][key], values[i]) for i in members])
                found.append(Ablation(words[key], fixed, charts, [records[i].id for i in members]))
    return found


Values = dict[tuple[str, str], tuple[Score, Value]]
"""(line, score's name) -> score and mean with its interval."""


def _values(record: Record) -> Values:
    if record.task == SYNTHESIS:
        return synthesis_values(record)
    if record.task != EDITING:
        of_parser = parser_values(Setting({}, record.run, record.folder), list(OF_PARSERS))
        return {("all photos", n): (score(n, record.run), v) for n, v in of_parser.items() if not v.missing}
    scores = {s.name: s for s in scores_of(record) if not s.name.endswith(RAW)}
    found = interval_values(scored(record.samples.drop(columns="stage", errors="ignore")), list(scores))
    return {(a, n): (scores[n], v) for (a, n), v in found.items() if not v.missing}


def _charts(setting: str, runs: list[tuple[object, Values]]) -> list[LineChart]:
    """One chart per score, one line per attribute; x is the setting, or its index if it is not a number."""
    numeric = all(isinstance(v, int | float) and not isinstance(v, bool) for v, _ in runs)
    order = {name: float(i) for i, name in enumerate(dict.fromkeys(said(v) for v, _ in runs))}
    names = None if numeric else {x: name for name, x in order.items()}
    scores = {n: s for _, values in runs for (_, n), (s, _) in values.items()}
    charts = []
    for name, s in scores.items():
        series: dict[str, list] = {}
        for value_of, values in runs:
            x = float(value_of) if numeric and isinstance(value_of, int | float) else order[said(value_of)]
            for (line, n), (_, value) in values.items():
                if n == name:
                    ends = (s.factor * v for v in (value.mean, value.low, value.high))
                    series.setdefault(line, []).append((x, *ends))
        charts.append(line_chart(f"{s.label} {s.arrow}", setting, series, names))
    return charts

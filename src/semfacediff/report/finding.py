"""What was found: a sentence a task, generated from the statistics, and the table and pictures behind it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from semfacediff.errors import UserError
from semfacediff.metrics.overall import CHANGE, OVERALL, TOWARD
from semfacediff.records.samples import UNCHANGED
from semfacediff.report.ablation import comparable
from semfacediff.report.generation import synthesis_headline, synthesis_values
from semfacediff.report.headline import Table, parsing_headline, shown
from semfacediff.report.naming import photos
from semfacediff.report.overview import needs_weights
from semfacediff.report.reading import EDITING, SYNTHESIS, TRAINING, Record
from semfacediff.report.sample_rows import Key, Pictures
from semfacediff.report.wording import Score, numbers
from semfacediff.tables.ablation import Setting, parser_values, settings_grid, settings_of
from semfacediff.tables.grid import Grid, Row, Value

_COLUMNS = (TOWARD, CHANGE, OVERALL, "ssim", "ssim_raw", "lpips", "iou", "identity", "clip", "seam")
_OF_FACES = (("reconstruction", "ssim_mean"), ("reconstruction", "miou"))
_HALF = 0.5
"""Share of the way to the prompt's colour from which an edit counts as done."""


@dataclass(frozen=True)
class Finding:
    """``said``: one sentence. ``table``: the numbers behind it, ``None`` where there are none."""

    said: str
    table: Table | None


@dataclass(frozen=True)
class Picture:
    """``name`` of its file on the page, and words for those who see it and those who do not."""

    name: str
    caption: str
    alt: str


def findings(records: Sequence[Record], repository: Path) -> list[Finding]:
    """What the runs of each task show. ``repository``: root of the published numbers."""
    made = []
    for task in dict.fromkeys(r.task for r in records):
        group = [r for r in records if r.task == task]
        if task == EDITING:
            made.append(_of_edits(group))
        elif task == SYNTHESIS:
            made.append(Finding(_of_faces(group), synthesis_headline(group, repository)))
        else:
            made.append(Finding(_of_parsers(group), parsing_headline(group, repository)))
    return made


def missing_weights(records: Sequence[Record]) -> str:
    """One sentence about the scores that runs lack for want of weights; empty if none does."""
    columns = {r.id: [c for c, why in _empty(r).items() if needs_weights(why)] for r in records}
    of = [name for name, own in columns.items() if own]
    if not of:
        return ""
    names = ", ".join(dict.fromkeys(c for own in columns.values() for c in own))
    where = "" if len(of) == len(records) else f" in {len(of)} of {len(records)} runs"
    refill = ""
    if any(r.task == EDITING and columns[r.id] for r in records):
        refill = f", and semfacediff rescore RUN --add {names.replace(' ', '')} fills the columns"
    return f"Not measured{where} because weights are missing: {names}; semfacediff doctor lists the files{refill}."


def _empty(record: Record) -> dict[str, str]:
    found = record.run.get("empty_columns")
    return found if isinstance(found, dict) else {}


# --------------------------------------------------------------------------------------------------------------------
# Editing.


def _of_edits(records: Sequence[Record]) -> Finding:
    kept, left_out = comparable(records, judged=True)
    if not kept:
        return Finding(f"Nothing can be concluded: {'; '.join(left_out)}.", None)
    try:
        grid = _grid(kept)
    except (UserError, KeyError, ValueError) as e:
        return Finding(f"Nothing can be concluded: the rows cannot be compared ({e}).", None)
    alone = len(kept) == 1
    said = _of_one(kept[0], grid) if alone else _of_several(kept, grid)
    if left_out:
        said += f" Excluded: {'; '.join(left_out)}."
    first = grid.rows[0].labels[0]
    rows = [Row((row.labels[not alone], ""), row.cells) for row in grid.rows if alone or row.labels[0] == first]
    # The page states once which weights are missing, and its other sections the rest.
    notes = [n for n in grid.notes if n.startswith(("means ", "bold: ", "edits that changed nothing"))]
    return Finding(said, shown(replace(grid, rows=rows, notes=[n.replace("bold: ", "best: ") for n in notes])))


def _grid(kept: Sequence[Record]) -> Grid:
    """The table of the settings, every run named as on the page."""
    names = {r.folder: r.id for r in kept}
    settings = settings_of([(r.run, r.folder) for r in kept])
    settings = [Setting(s.values | {"run": names[s.folder]}, s.run, s.folder) for s in settings]
    there = [n for n in _COLUMNS if any(n in r.samples and numbers(r.samples, n).notna().any() for r in kept)]
    if "ssim_raw" in there:  # an exact composite makes the other one 1
        there = [n for n in there if n != "ssim"]
    grid = settings_grid(settings, there)
    return replace(grid, rows=[Row((row.labels[0], row.labels[-1]), row.cells) for row in grid.rows])


def _of_several(kept: Sequence[Record], grid: Grid) -> str:
    """Which run is significantly better, over all attributes or else for the first one where one is."""
    over, n = f"Over {photos(kept[0])}", len(kept)
    for group in dict.fromkeys(row.labels[0] for row in grid.rows):
        rows = [(row.labels[1], _won(grid, row)) for row in grid.rows if row.labels[0] == group]
        better = [(name, scores) for name, scores in rows if scores]
        if better:
            than = "the other run" if n == 2 else f"each of the other {n - 1} runs"
            where = "" if group == grid.rows[0].labels[0] else f" for {group}"
            (name, scores), *others = better
            more = "".join(f"; {name} in {_listed(scores)}" for name, scores in others)
            return f"{over}, {name} is significantly better than {than}{where} in {_listed(scores)}{more}."
    if not any(note.startswith("bold: ") for note in grid.notes):
        return f"{over}, nothing was tested: the runs have no score with a direction in common."
    if n == 2:
        return f"{over}, the two runs do not differ significantly in any score tested."
    return f"{over}, none of the {n} runs is significantly better than all others in any score tested."


def _won(grid: Grid, row: Row) -> list[str]:
    """Headings of the scores in which a row is significantly better than all others."""
    cells = zip(grid.columns, row.cells, strict=True)
    return [c.heading for c, cell in cells if isinstance(cell, Value) and cell.best]


def _of_one(record: Record, grid: Grid) -> str:
    """Was the edit done, and was the rest left alone?"""
    first = dict(zip((c.name for c in grid.columns), grid.rows[0].cells, strict=True))
    effect = _effect(first.get(TOWARD), first.get(CHANGE))
    rows = record.samples[record.samples["status"] != "error"]
    idle = int((rows["status"] == UNCHANGED).sum())
    also = f"; {idle} of {len(rows)} edits changed nothing" if idle else ""
    return f"{record.id}: {effect}{also}), and {_rest(record, first)}."


def _effect(toward: object, change: object) -> str:
    """Whether the edit was done, and an open bracket with by how much."""
    if isinstance(toward, Value) and not toward.missing:
        interval = toward.low == toward.low and not toward.few
        low = toward.low if interval else toward.mean
        done = "was done" if low >= _HALF else "was done in part" if low > 0 else "was not done"
        said = f", 95 % interval {100 * toward.low:.0f} to {100 * toward.high:.0f}" if interval else ""
        return f"the edit {done} (colours moved {100 * toward.mean:.0f} % of the way to the prompts'{said}"
    if isinstance(change, Value) and not change.missing:
        return f"the edit was made (regions changed by {change.mean:.1f} CIEDE2000; no prompt names a colour to reach"
    return "whether the edit was done was not measured (no score of its effect"


def _rest(record: Record, first: dict) -> str:
    """Whether pixels outside the region changed, and what the editor changed there before the composite."""
    raw = first.get("ssim_raw")
    before = f"SSIM before the composite {raw.mean:.4f}" if isinstance(raw, Value) and not raw.missing else ""
    if "max_abs_outside" in record.samples:
        largest = numbers(record.samples, "max_abs_outside").dropna()
        touched = int((largest > 0).sum())
        if len(largest) and not touched:
            return f"the rest was left alone (largest change outside 0{f', {before}' if before else ''})"
        if len(largest):
            return f"the rest was changed in {touched} of {len(largest)} edits (by up to {largest.max():.0f} of 255)"
    kept = first.get("ssim") or raw
    if isinstance(kept, Value) and not kept.missing:
        return f"the rest was kept with SSIM {kept.mean:.4f}"
    return "the rest was not measured"


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


# --------------------------------------------------------------------------------------------------------------------
# Parsers, trainings and synthesis.


def _of_parsers(records: Sequence[Record]) -> str:
    kept, left_out = comparable(records)
    scores = {r.id: parser_values(Setting({}, r.run, r.folder), ["miou"])["miou"] for r in kept}
    scores = {name: value for name, value in scores.items() if not value.missing}
    if not scores:
        return f"Nothing can be concluded: {'; '.join(left_out) or 'no mean IoU was measured'}."
    name = max(scores, key=lambda of: scores[of].mean)
    best = scores[name]
    interval = f" (95 % interval {100 * best.low:.2f} to {100 * best.high:.2f})" if best.low == best.low else ""
    said = f"mean IoU {100 * best.mean:.2f} %{interval}"
    if len(scores) == 1:
        return f"{name}: {said}."
    return f"{name} has the highest of {len(scores)} mean IoUs, {said}; {_tested(kept)}."


def _tested(kept: Sequence[Record]) -> str:
    """Whether one of several settings is significantly better than all others; only trainings can be tested."""
    if kept[0].task != TRAINING:
        return "pooled scores are not tested"
    grid = settings_grid(settings_of([(r.run, r.folder) for r in kept]), ["miou"])
    won = [row.labels for row in grid.rows if any(isinstance(c, Value) and c.best for c in row.cells)]
    if won:
        setting = ", ".join(f"{label} {value}" for label, value in zip(grid.labels, won[0], strict=True))
        return f"{setting} is significantly better than every other setting"
    tested = any(note.startswith("bold: ") for note in grid.notes)
    return "no setting is significantly better than all others" if tested else "the differences are not tested"


def _of_faces(records: Sequence[Record]) -> str:
    said = []
    for record in records:
        values = synthesis_values(record)
        of = [_with_unit(s, v) for (task, n), (s, v) in values.items() if (task, n) in _OF_FACES]
        said.append(f"{record.id}: reconstructions reach {_listed(of)}" if of else f"{record.id}: no scores")
    return "; ".join(said) + "."


def _with_unit(s: Score, value: Value) -> str:
    """``mIoU 5.83 %`` of the label ``mIoU %``."""
    return f"{s.label.removesuffix(' %')} {s.text(value.mean)}" + " %" * s.label.endswith(" %")


# --------------------------------------------------------------------------------------------------------------------
# Pictures.


def four_pictures(records: Sequence[Record], rank: Score | None, pictures: Pictures | None) -> list[Picture]:
    """The worst and the best edit that the page has pictures of, each beside its photo; empty without pictures."""
    if pictures is None:
        return []
    keys = [key for key, panels in pictures.of.items() if {"photo", "edit"} <= set(panels)]
    if not keys:
        return []
    values = {key: _value(records, rank, key) for key in keys}
    order = sorted((k for k in keys if np.isfinite(values[k])), key=lambda k: values[k]) or keys
    order = order[::-1] if rank is not None and rank.up is False else order
    ends = {"worst": order[0], "best": order[-1]} if rank is not None else {"first": order[0], "last": order[-1]}
    if order[0] == order[-1]:
        ends = {"only": order[0]}
    shown = []
    for word, key in ends.items():
        run, sample, attribute = key
        said = f"{word}: {attribute}" + (f", {rank.label} {rank.text(values[key])}" if rank else "")
        said += f" ({records[run].id})" if len(records) > 1 else ""
        shown.append(Picture(pictures.of[key]["photo"], f"photo {sample}", f"Photo {sample}"))
        shown.append(Picture(pictures.of[key]["edit"], said, f"{attribute} of {sample}, {word}"))
    return shown


def _value(records: Sequence[Record], rank: Score | None, key: Key) -> float:
    run, sample, attribute = key
    rows = records[run].samples
    if rank is None or rank.name not in rows:
        return float("nan")
    own = rows[(rows["sample_id"].astype(str) == sample) & (rows["attribute"].astype(str) == attribute)]
    return float(numbers(own, rank.name).mean())

"""The table of any records: one run's own table, or a row for each of several runs, named by what differs."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from semfacediff.errors import UserError
from semfacediff.places import repository
from semfacediff.records.columns import read_table
from semfacediff.records.folder import DONE, read_run
from semfacediff.records.integrity import refuse_changed
from semfacediff.records.ledger import runs_of
from semfacediff.records.pairing import directions
from semfacediff.records.standing import standing_notes
from semfacediff.tables.ablation import Setting, left_out, settings_grid, settings_of
from semfacediff.tables.grid import Grid, Row, Value
from semfacediff.tables.run_tables import editing_grid, parsing_grid, synthesis_grid
from semfacediff.tables.scores import OF_PARSERS, edit_scores, refuse_unknown
from semfacediff.tables.text import comparable_rows, editing_notes, parsing_notes, run_notes, synthesis_notes

NOTES = ("none", "short", "full")


def own_grid(folders: Sequence[Path], names: Sequence[str] = (), notes: str = "short") -> Grid:
    """The table of runs, of sweeps' cells, or of one run.

    Args:
        folders: of runs or of sweeps. names: scores, in the order of the columns; empty: those that were measured.
        notes: ``none``; ``short``: empty columns in one note, without the commands; ``full``.

    Raises:
        UserError: no finished run, runs that may not stand in one table, or an unknown score.
    """
    found = [(read_run(folder), folder) for folder in runs_of(folders)]
    there = [(run, folder) for run, folder in found if run["status"] == DONE]
    if not there:
        command = found[0][0].get("command", "its command")
        raise UserError(f"{folders[0]}: no run is finished; continue with: {command}")
    if len(found) == 1:
        grid = _of_one(*found[0], names)
    else:
        grid = _of_several(there, names)
        grid = replace(grid, notes=[*grid.notes, *left_out([f.name for run, f in found if run["status"] != DONE])])
    said = [*standing_notes([run for run, _ in there]), *grid.notes]
    said += [f"{folder.name} is not comparable: {'; '.join(run['not_comparable'])}" for run, folder in there
             if run["not_comparable"] and len(found) > 1]  # fmt: skip
    title = f"{there[0][0]['task'].replace('_', ' ')}: {', '.join(folder.name for folder in folders)}"
    command = str(there[0][0].get("command", "")) if len(found) == 1 and notes == "full" else ""
    return replace(grid, title=title, notes=_kept(said, notes), command=command)


def _kept(said: Sequence[str], notes: str) -> list[str]:
    if notes == "full":
        return list(dict.fromkeys(said))
    if notes == "none":
        return []
    empty = [note for note in said if note.startswith("column ") and " is empty: " in note]
    names = dict.fromkeys(note.split()[1] for note in empty)
    short = [note for note in dict.fromkeys(said) if note not in empty]
    if names:
        said_how = "semfacediff doctor says what is missing, semfacediff rescore fills them"
        short.append(f"not measured: {', '.join(names)}; {said_how}")
    return short


def _of_one(run: dict, folder: Path, names: Sequence[str]) -> Grid:
    refuse_changed(folder, run)
    if run["task"] == "train_synthesis":
        raise UserError(f"{folder}: a training of synthesis has no scores of its own; evaluate it with task=synthesis")
    summary = read_table(folder / "summary.csv")
    if run["task"] == "editing":
        published = comparable_rows(run, summary, repository())
        grid = editing_grid(summary, published, run)
        return replace(_selected(grid, names), notes=editing_notes(run, summary, published))
    if run["task"] == "synthesis":
        notes = [*run_notes(run), *synthesis_notes(run)]
        return replace(_selected(synthesis_grid(summary), names), notes=notes)
    notes = parsing_notes(run, summary) if run["task"] == "parsing" else run_notes(run)
    return replace(_selected(parsing_grid(summary), names), notes=notes)


def _selected(grid: Grid, names: Sequence[str]) -> Grid:
    """The columns ``names``; the count of photos stays. Without names, those that are not empty."""
    values = {c.name: [row.cells[k] for row in grid.rows] for k, c in enumerate(grid.columns)}
    measured = [name for name, cells in values.items() if any(_there(cell) for cell in cells)]
    refuse_unknown(names, list(values), "--columns")
    kept = [n for n in ("n",) if n in values] + list(names) if names else measured
    at = [[c.name for c in grid.columns].index(name) for name in dict.fromkeys(kept)]
    rows = [Row(row.labels, tuple(row.cells[k] for k in at), row.strong) for row in grid.rows]
    return replace(grid, columns=tuple(grid.columns[k] for k in at), rows=rows)


def _there(cell: object) -> bool:
    return not cell.missing if isinstance(cell, Value) else bool(cell)


def _of_several(found: Sequence[tuple[dict, Path]], names: Sequence[str]) -> Grid:
    settings = settings_of(found, doubtful=True)
    if len({s.label for s in settings}) < len(settings):  # some were made twice
        settings = [replace(s, values={**s.values, "run": s.folder.name}) for s in settings]
    task = settings[0].run["task"]
    if task == "editing":
        known = [*edit_scores(), *(n for n in directions(settings[0].run) if n not in edit_scores())]
        refuse_unknown(names, known, "--columns")
        grid = settings_grid(settings, names or _measured(settings))
        absent = {n: why for s in settings for n, why in s.run.get("empty_columns", {}).items()}
        said = [f"column {name} is empty: {why}" for name, why in absent.items()]
        return replace(grid, notes=[*grid.notes, *(() if names else said)])
    if task in ("parsing", "train_parser"):
        refuse_unknown(names, list(OF_PARSERS), "--columns")
        return settings_grid(settings, names or list(OF_PARSERS))
    raise UserError(f"a table of several runs of task={task} is not made; name one run")


def _measured(settings: Sequence[Setting]) -> list[str]:
    """Scores that one of the runs has, in the order of a run's own table; time comes last."""
    found: dict[str, None] = {}
    for s in settings:
        grid = editing_grid(read_table(s.folder / "summary.csv"), None, s.run)
        found |= {c.name: None for k, c in enumerate(grid.columns) if any(_there(row.cells[k]) for row in grid.rows)}
    return [*(name for name in found if name not in ("n", "latency_s_median")), "latency_s"]

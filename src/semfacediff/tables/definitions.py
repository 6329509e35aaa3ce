"""Tables by name: ``experiments/tables/<name>.yaml`` says which records feed a table; its numbers come from them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import yaml

from semfacediff.errors import UserError
from semfacediff.places import results
from semfacediff.records.columns import read_table
from semfacediff.records.folder import DONE, read_run
from semfacediff.records.integrity import refuse_changed
from semfacediff.records.ledger import finished_runs
from semfacediff.records.pairing import STRATIFIED, directions, numeric_scores, scored_samples
from semfacediff.records.standing import standing_notes, superseded
from semfacediff.records.strata import by_stratum, gaps, strata_of
from semfacediff.tables.ablation import ablation_grid
from semfacediff.tables.controls import controls_grid
from semfacediff.tables.grid import Grid
from semfacediff.tables.published import (
    beside,
    class_f1,
    course_report,
    per_class,
    published_rows,
    step_rows,
    synthesis_rows,
)
from semfacediff.tables.run_tables import editing_grid, empty_columns, parsing_grid
from semfacediff.tables.scores import OF_PARSERS, edit_scores, refuse_unknown
from semfacediff.tables.strata import strata_grid
from semfacediff.tables.text import comparable_rows, editing_notes, parsing_notes, run_notes, synthesis_notes

RUNS = Path("results") / "runs"
"""As records and tables are named to a reader; :func:`semfacediff.places.results` says where they lie."""


@dataclass(frozen=True)
class TableDefinition:
    """One table.

    Attributes:
        name: file name without suffix, in ``experiments/tables`` and ``results/tables``.
        title: heading, stating data, n, parser and protocol.
        kind: one of :data:`KINDS`.
        command: what makes the records.
        run: below ``results/runs``, of kinds with one record.
        runs: name in the table -> run, of kinds with several; optional in ``class_f1``, ``beside`` and the kinds of
            synthesis.
        models: name in the table -> what the published table calls it.
        sweep: folder of runs below ``results/runs`` (kinds ``ablation`` and ``controls``).
        by: how photos are told apart (kind ``strata``).
        columns: scores of an ablation, of controls or of strata.
        protocol: what the records must have followed.
        published: file in ``results/published``. labels: its columns that name a row.
        notes: what else a reader must know.
    """

    name: str
    title: str
    kind: str
    command: str = ""
    run: str = ""
    runs: Mapping[str, str] = field(default_factory=dict)
    models: Mapping[str, str] = field(default_factory=dict)
    sweep: str = ""
    by: str = ""
    columns: tuple[str, ...] = ()
    protocol: str | None = None
    published: str = ""
    labels: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def needed(self) -> list[str]:
        """Runs, or the sweep, without which there is no table; none where published rows stand alone."""
        if self.sweep:
            return [self.sweep]
        optional = self.kind in ("class_f1", "beside", "synthesis", "synthesis_steps")
        return [self.run] if self.run else [] if optional else list(self.runs.values())

    def records(self, repository: Path) -> list[dict]:
        """``run.json`` of every run that feeds the table; of optional ones those that are there."""
        if self.sweep:
            return [read_run(folder) for _, folder in finished_runs(results(repository) / "runs" / self.sweep)]
        named = [self.run] if self.run else list(self.runs.values())
        return [read_run(results(repository) / "runs" / run) for run in named if _there(repository, run)]

    def missing(self, repository: Path) -> list[str]:
        """Runs without which the table cannot be made, below ``results/runs``."""
        if self.sweep:
            return [] if finished_runs(results(repository) / "runs" / self.sweep) else self.needed
        return [run for run in self.needed if not _there(repository, run)]


def _there(repository: Path, run: str) -> bool:
    return (results(repository) / "runs" / run / "run.json").exists()


def definitions(repository: Path) -> dict[str, TableDefinition]:
    """All definitions, by name.

    Raises:
        UserError: a file has other keys than its kind's, an unknown kind or an unknown metric.
    """
    files = sorted((repository / "experiments" / "tables").glob("*.yaml"))
    return {file.stem: _definition(file) for file in files}


def _definition(file: Path) -> TableDefinition:
    try:
        plain = yaml.safe_load(file.read_text("utf-8"))
        plain |= {key: tuple(plain[key]) for key in ("columns", "labels", "notes") if key in plain}
        definition = TableDefinition(name=file.stem, **plain)
    except (TypeError, yaml.YAMLError, UnicodeDecodeError) as e:
        raise UserError(f"{file}: not a table's definition ({' '.join(str(e).split())})") from e
    if definition.kind not in KINDS:
        raise UserError(f"{file}: kind '{definition.kind}' is not one of {', '.join(KINDS)}")
    needed, optional = KINDS[definition.kind].keys, KINDS[definition.kind].optional
    given = plain.keys() - {"title", "kind", "notes"}
    if absent := [key for key in needed if key not in given]:
        raise UserError(f"{file}: a table of kind '{definition.kind}' needs {', '.join(absent)}")
    if strange := sorted(given - {*needed, *optional}):
        raise UserError(f"{file}: a table of kind '{definition.kind}' has no {', '.join(strange)}")
    refuse_unknown(definition.columns, [*edit_scores(), *OF_PARSERS], str(file))
    return definition


# --------------------------------------------------------------------------------------------------------------------
# Records.


def _record(definition: TableDefinition, name: str, repository: Path, task: tuple[str, ...]) -> tuple[dict, Path]:
    """(``run.json``, folder) of a run that may stand in the table."""
    folder = results(repository) / "runs" / name
    where = f"table '{definition.name}': run {name}"
    run = read_run(folder)
    refuse_changed(folder, run)
    if run.get("task") not in task:
        raise UserError(f"{where} is of task={run.get('task')}, expected task={' or '.join(task)}")
    doubts = list(run["not_comparable"]) + ([] if run["status"] == DONE else [f"its status is {run['status']}"])
    if doubts:
        raise UserError(f"{where} cannot enter a table: {'; '.join(doubts)}")
    protocol = run["identity"]["config"].get("protocol")
    if definition.protocol is not None and protocol != definition.protocol:
        raise UserError(f"{where} follows protocol {protocol}, the table is of protocol {definition.protocol}")
    return run, folder


def _editing(definition: TableDefinition, repository: Path) -> Grid:
    run, folder = _record(definition, definition.run, repository, ("editing",))
    summary = read_table(folder / "summary.csv")
    published = comparable_rows(run, summary, repository)
    notes = editing_notes(run, summary, published)
    if empty := empty_columns(run, list(run.get("empty_columns", {}))):
        notes.append(_to_fill(empty, definition.run))
    return replace(editing_grid(summary, published, run), notes=notes)


def _parsing(definition: TableDefinition, repository: Path) -> Grid:
    run, folder = _record(definition, definition.run, repository, ("parsing",))
    summary = read_table(folder / "summary.csv")
    return replace(parsing_grid(summary), notes=parsing_notes(run, summary))


_PARSERS = ("parsing", "train_parser")


def _per_class(definition: TableDefinition, repository: Path) -> Grid:
    runs = {label: _record(definition, run, repository, _PARSERS) for label, run in definition.runs.items()}
    protocols = {label: run["identity"]["config"].get("protocol", "strict") for label, (run, _) in runs.items()}
    if len(set(protocols.values())) > 1:
        said = ", ".join(f"{label} {protocol}" for label, protocol in protocols.items())
        raise UserError(f"table '{definition.name}': its runs follow several protocols ({said}); score them alike")
    folders = {label: folder for label, (_, folder) in runs.items()}
    grid = per_class(folders, published_rows(repository, definition.published))
    protocol = next(iter(protocols.values()))
    return replace(grid, notes=[*grid.notes, f"ours: protocol {protocol}, {_photos(runs)}"])


def _photos(runs: Mapping[str, tuple[dict, Path]]) -> str:
    counts = {label: (run["data"].get("val") or run)["n"] for label, (run, _) in runs.items()}
    if len(set(counts.values())) == 1:
        return f"{next(iter(counts.values()))} photos"
    return ", ".join(f"{label} {n} photos" for label, n in counts.items())


_BUDGET = ("train.epochs", "train.size", "train.batch_size")


def _course_report(definition: TableDefinition, repository: Path) -> Grid:
    runs = {label: _record(definition, run, repository, ("train_parser",)) for label, run in definition.runs.items()}
    ours = {label: (definition.models.get(label, ""), folder, run) for label, (run, folder) in runs.items()}
    grid = course_report(ours, published_rows(repository, definition.published))
    return replace(grid, notes=[*(_budget(label, run) for label, (run, _) in runs.items()), *grid.notes])


def _budget(label: str, run: dict) -> str:
    epochs, size, batch = (_leaf(run, key) for key in _BUDGET)
    start = "from the weights of an earlier run" if run["identity"]["inputs"].get("start_weights") else "from scratch"
    validated = (run["data"].get("val") or run)["n"]
    return (
        f"{label}: {start}, {epochs} epochs of {run['n']} photos at {size} px, batches of {batch}; {validated} photos "
        f"to validate"
    )


def _leaf(run: dict, key: str) -> object:
    value = run["identity"]["config"]
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _class_f1(definition: TableDefinition, repository: Path) -> Grid:
    runs, notes = _there_and_absent(definition, repository)
    folders = {label: folder for label, (_, folder) in runs.items()}
    grid = class_f1(folders, published_rows(repository, definition.published), list(definition.labels))
    return replace(grid, notes=["F1 of each class in per cent, as printed", *notes])


def _beside(definition: TableDefinition, repository: Path) -> Grid:
    runs, notes = _there_and_absent(definition, repository)
    grid = beside(runs, published_rows(repository, definition.published), list(definition.labels))
    machines = sorted({_machine(run) for run, _ in runs.values() if "photos_per_s" in run})
    speeds = [f"ours: photos/s from photo to label map, one by one, on {', '.join(machines)}"] if machines else []
    return replace(grid, notes=["published numbers as printed", *speeds, *notes])


def _machine(run: dict) -> str:
    hardware = run["hardware"]
    return ", ".join(hardware["accelerators"]) or f"{hardware['torch_threads']} CPU threads"


def _there_and_absent(definition: TableDefinition, repository: Path) -> tuple[dict[str, tuple[dict, Path]], list[str]]:
    """(those of the runs of ``task=parsing`` that are there, what is to be said of them and of the others)."""
    there = {label: run for label, run in definition.runs.items() if _there(repository, run)}
    runs = {label: _record(definition, run, repository, ("parsing",)) for label, run in there.items()}
    absent = [label for label in definition.runs if label not in there]
    lacking = [f"no record of ours yet ({', '.join(absent)}); the command makes it"] if absent else []
    return runs, ([f"ours: protocol {definition.protocol}, {_photos(runs)}"] if runs else []) + lacking


def _synthesis_runs(definition: TableDefinition, repository: Path) -> tuple[dict[str, tuple[dict, Path]], list[str]]:
    """(those of the runs that are there, notes)."""
    there = {label: run for label, run in definition.runs.items() if _there(repository, run)}
    runs = {label: _record(definition, run, repository, ("synthesis",)) for label, run in there.items()}
    notes = [
        f"{label}: {note}" for label, (run, _) in runs.items() for note in [*run_notes(run), *synthesis_notes(run)]
    ]
    absent = [label for label in definition.runs if label not in there]
    return runs, notes + ([f"no record of ours yet ({', '.join(absent)}); the command makes it"] if absent else [])


def _synthesis(definition: TableDefinition, repository: Path) -> Grid:
    runs, notes = _synthesis_runs(definition, repository)
    published = published_rows(repository, definition.published)
    grid = synthesis_rows({label: folder for label, (_, folder) in runs.items()}, published, list(definition.labels))
    return replace(grid, notes=["published rows as printed", *notes])


def _synthesis_steps(definition: TableDefinition, repository: Path) -> Grid:
    runs, notes = _synthesis_runs(definition, repository)
    published = published_rows(repository, definition.published)
    return replace(step_rows(runs, published, list(definition.labels)), notes=notes)


def _ablation(definition: TableDefinition, repository: Path) -> Grid:
    return _swept(definition, repository, ablation_grid, definition.columns)


def _controls(definition: TableDefinition, repository: Path) -> Grid:
    return _swept(definition, repository, controls_grid, [name.removesuffix("_raw") for name in definition.columns])


def _swept(definition: TableDefinition, repository: Path, made: Callable[..., Grid], metrics: Sequence[str]) -> Grid:
    """What ``made`` makes of the sweep; a note names those of ``metrics`` whose weights were absent."""
    sweep = results(repository) / "runs" / definition.sweep
    grid = made(sweep, definition.columns, definition.command)
    absent = {name for _, folder in finished_runs(sweep) for name in read_run(folder).get("empty_columns", {})}
    empty = [name for name in metrics if name in absent]
    return replace(grid, notes=[*grid.notes, *([_to_fill(empty, definition.sweep)] if empty else [])])


def _to_fill(empty: Sequence[str], runs: str) -> str:
    return (
        f"to fill {', '.join(empty)}: place those weights (semfacediff doctor says where), then semfacediff rescore "
        f"{RUNS / runs} --add {','.join(empty)}, or repeat the command below where its edits are not kept"
    )


def _strata(definition: TableDefinition, repository: Path) -> Grid:
    run, folder = _record(definition, definition.run, repository, STRATIFIED)
    _, samples = scored_samples(folder, STRATIFIED)
    found, known = strata_of(samples, definition.by), numeric_scores(samples, directions(run))
    refuse_unknown(definition.columns, list(known), f"table '{definition.name}'")
    rows = by_stratum(samples, found, definition.columns)
    told = {score: up for score in definition.columns if (up := known[score]) is not None}
    return strata_grid(found, rows, gaps(samples, found, told), run)


@dataclass(frozen=True)
class _Kind:
    grid: Callable[[TableDefinition, Path], Grid]
    keys: tuple[str, ...]
    optional: tuple[str, ...] = ()


KINDS: Mapping[str, _Kind] = {
    "editing": _Kind(_editing, ("run", "command"), ("protocol",)),
    "parsing": _Kind(_parsing, ("run", "command"), ("protocol",)),
    "per_class": _Kind(_per_class, ("runs", "published", "command"), ("protocol",)),
    "course_report": _Kind(_course_report, ("runs", "models", "published", "command")),
    "class_f1": _Kind(_class_f1, ("published", "labels"), ("runs", "protocol", "command")),
    "beside": _Kind(_beside, ("published", "labels", "runs", "protocol", "command")),
    "synthesis": _Kind(_synthesis, ("published", "labels"), ("runs", "command")),
    "synthesis_steps": _Kind(_synthesis_steps, ("published", "labels"), ("runs", "command")),
    "ablation": _Kind(_ablation, ("sweep", "columns", "command")),
    "controls": _Kind(_controls, ("sweep", "columns", "command")),
    "strata": _Kind(_strata, ("run", "by", "columns", "command")),
}
"""How each kind of table is made, and the keys its definition must and may have beside title and notes."""


def table(definition: TableDefinition, repository: Path) -> Grid:
    """The table, from records alone.

    Raises:
        UserError: a run is missing (the sentence holds the command that makes it), unfinished, not comparable, changed
            by hand, or measured something else than the others.
    """
    if missing := definition.missing(repository):
        raise UserError(
            f"table '{definition.name}' needs the run{'s' * (len(missing) > 1)} {', '.join(missing)}; make "
            f"{'them' if len(missing) > 1 else 'it'} with: {definition.command}"
        )
    grid = KINDS[definition.kind].grid(definition, repository)
    runs = definition.records(repository)
    title = f"Superseded: {definition.title}" if any(map(superseded, runs)) else definition.title
    notes = (*standing_notes(runs), *definition.notes, *grid.notes)
    return replace(grid, title=title, notes=notes, command=definition.command)

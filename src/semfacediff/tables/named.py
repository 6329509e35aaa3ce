"""Tables by name: ``experiments/tables/<name>.yaml`` says which run feeds a table; the text comes from its record."""

from dataclasses import dataclass
from pathlib import Path

import yaml

from semfacediff.errors import UserError
from semfacediff.records.folder import DONE, read_run
from semfacediff.records.writing import write_text
from semfacediff.tables.text import editing_report, parsing_report

KINDS = ("editing", "parsing")


@dataclass(frozen=True)
class TableDefinition:
    """One table.

    Attributes:
        name: file name without suffix, in ``experiments/tables`` and ``results/tables``.
        title: heading, stating data, n, parser and protocol.
        kind: ``editing`` or ``parsing``.
        run: run below ``results/runs`` that it is made from.
        command: what makes that run.
    """

    name: str
    title: str
    kind: str
    run: str
    command: str


def definitions(repository: Path) -> dict[str, TableDefinition]:
    """All definitions, by name.

    Raises:
        UserError: a file has other keys than a definition's, or an unknown kind.
    """
    found = {}
    for file in sorted((repository / "experiments" / "tables").glob("*.yaml")):
        try:
            definition = TableDefinition(name=file.stem, **yaml.safe_load(file.read_text()))
        except TypeError as e:
            raise UserError(f"{file}: not a table's definition ({e})") from e
        if definition.kind not in KINDS:
            raise UserError(f"{file}: kind '{definition.kind}' is not one of {', '.join(KINDS)}")
        found[file.stem] = definition
    return found


def rendered(definition: TableDefinition, repository: Path) -> str:
    """The table as Markdown.

    Raises:
        UserError: the run is missing (the sentence holds the command that makes it), unfinished or not comparable.
    """
    folder = repository / "results" / "runs" / definition.run
    if not (folder / "run.json").exists():
        raise UserError(f"table '{definition.name}' needs the run {definition.run}; make it with: {definition.command}")
    run = read_run(folder)
    doubts = list(run["not_comparable"]) + ([] if run["status"] == DONE else [f"its status is {run['status']}"])
    if doubts:
        raise UserError(f"table '{definition.name}': run {definition.run} cannot enter a table: {'; '.join(doubts)}")
    report = parsing_report(folder) if definition.kind == "parsing" else editing_report(folder, repository)
    table, _, notes = report.partition("\n\n")
    lines = [*(f"- {note}" for note in notes.splitlines()), f"- Command: `{definition.command}`"]
    return "\n".join([f"# {definition.title}", "", table, "", *lines, ""])


def write_tables(names: list[str], repository: Path, check: bool) -> list[str]:
    """Render tables into ``results/tables``, or only compare; returns the names that are stale (``check``).

    Args:
        names: which; all if empty.
    """
    known = definitions(repository)
    unknown = [n for n in names if n not in known]
    if unknown:
        raise UserError(f"unknown table {', '.join(unknown)}; there are {', '.join(known) or 'none'}")
    stale = []
    for name in names or known:
        file, text = repository / "results" / "tables" / f"{name}.md", rendered(known[name], repository)
        if not check:
            write_text(file, text)
        elif not file.exists() or file.read_text() != text:
            stale.append(name)
        print(text)
    return stale

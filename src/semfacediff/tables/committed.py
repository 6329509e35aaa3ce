"""The tables in ``results/tables``: written from records, and checked against them."""

import difflib
from collections.abc import Sequence
from pathlib import Path

from semfacediff.errors import UserError
from semfacediff.places import results
from semfacediff.records.ledger import finished_runs
from semfacediff.records.standing import not_fresh
from semfacediff.records.writing import write_text
from semfacediff.tables.definitions import TableDefinition, definitions, table
from semfacediff.tables.formats import FORMATS, rendered
from semfacediff.tables.grid import Grid


def _file(repository: Path, name: str, form: str) -> Path:
    return results(repository) / "tables" / f"{name}.{form}"


def _known(names: list[str], repository: Path) -> tuple[dict[str, TableDefinition], list[str]]:
    """All definitions, and the tables that ``names`` mean: ``segface`` means all called ``segface_*``."""
    known = definitions(repository)
    groups = {n: [n] if n in known else [k for k in known if k.startswith(f"{n}_")] for n in names}
    unknown = [n for n, members in groups.items() if not members]
    if unknown:
        close = difflib.get_close_matches(unknown[0], known, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise UserError(
            f"unknown table {', '.join(unknown)}; {hint}expected the folder of a run or sweep, or a name that "
            f"semfacediff list tables prints"
        )
    return known, list(dict.fromkeys(member for members in groups.values() for member in members))


def write_tables(names: list[str], repository: Path, form: str = "md") -> dict[str, list[str]]:
    """Render tables into ``results/tables`` and print them; returns those that want runs, with the runs.

    Args:
        names: which, or the first words of several (``segface``); if empty, all that can be made. A table that was
            named must be one of these.
        form: ``md``, ``tex`` or ``csv``.
    """
    (known, named), wanting = _known(names, repository), {}
    for name in named or known:
        if name not in names and (missing := known[name].missing(repository)):
            wanting[name] = missing
            continue
        text = rendered(table(known[name], repository), form)
        write_text(_file(repository, name, form), text)
        print(text)
    return wanting


def own_sweeps(names: list[str], repository: Path) -> dict[str, Path]:
    """Named tables of sweeps -> your own sweep of the same experiment, in ``outputs`` of the current folder."""
    known, named = _known(names, repository)
    found = {}
    for name in named:
        for sweep in sorted(Path("outputs").glob(f"*/{known[name].sweep}")) if known[name].sweep else ():
            if finished_runs(sweep):
                found[name] = sweep
    return found


def stale_tables(names: list[str], repository: Path, form: str | None = None) -> list[str]:
    """Committed tables that records and definitions no longer give, as paths below the repository.

    Args:
        names: which, or the first words of several; if empty, all in ``results/tables``. One that was named must be
            there.
        form: of one format only.
    """
    known, named = _known(names, repository)
    there = _committed(repository, FORMATS if form is None else (form,))
    wanted = [f for f in there if not names or f.stem in named]
    wanted += [_file(repository, n, form or "md") for n in names if n in known and n not in {f.stem for f in there}]
    grids: dict[str, Grid | None] = {}
    stale = []
    for file in wanted:
        if file.stem not in grids:
            grids[file.stem] = table(known[file.stem], repository) if file.stem in known else None
        grid = grids[file.stem]
        if grid is None or not file.exists() or file.read_text("utf-8") != rendered(grid, file.suffix[1:]):
            stale.append(str(file.relative_to(results(repository).parent)))
    return stale


def _committed(repository: Path, forms: Sequence[str]) -> list[Path]:
    return [file for file in sorted((results(repository) / "tables").glob("*")) if file.suffix[1:] in forms]


def tables_to_renew(names: list[str], repository: Path) -> dict[str, list[str]]:
    """Committed table -> why its records should be made again: superseded, dirty or without digests of their files.

    Args:
        names: which, or the first words of several; if empty, all in ``results/tables``.
    """
    known, named = _known(names, repository)
    committed = {file.stem for file in _committed(repository, FORMATS)} & known.keys()
    wanted = sorted(committed if not names else committed & set(named))
    reasons = {name: not_fresh(known[name].records(repository)) for name in wanted}
    return {name: why for name, why in reasons.items() if why}

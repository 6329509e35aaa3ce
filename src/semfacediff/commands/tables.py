"""``semfacediff tables``: tables of your own records, and the named ones of ``results/tables``."""

import argparse
import sys
from pathlib import Path

from semfacediff.errors import EXIT_INCOMPLETE, UserError

HELP = "render the table of runs or of a sweep, or the named tables from the records in results/runs"
_FORMATS = ("md", "tex", "csv")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name",
        nargs="*",
        metavar="RUN|SWEEP|NAME",
        help="folders of runs or sweeps: one table of them; or tables of experiments/tables (default: all with "
        "complete records), which are also written to results/tables",
    )
    parser.add_argument("--format", choices=_FORMATS, help="default: md; with --check all existing ones")
    parser.add_argument("--columns", metavar="SCORE,...", help="of runs: scores, in this order (default: all measured)")
    parser.add_argument(
        "--notes", choices=("none", "short", "full"), help="of runs: what stands below (default: short)"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="of runs: write to FILE (.md, .tex or .csv)")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a committed table is stale")
    parser.add_argument(
        "--fresh", action="store_true", help="with --check: also fail on records that should be renewed"
    )


def run(arguments: argparse.Namespace) -> int:
    from semfacediff.config import repository
    from semfacediff.tables.committed import own_sweeps, stale_tables, tables_to_renew, write_tables
    from semfacediff.tables.definitions import definitions

    a = arguments
    if a.fresh and not a.check:
        raise UserError("--fresh extends --check; run: semfacediff tables --check --fresh")
    known = definitions(repository())
    folders = [Path(name).expanduser() for name in a.name if name not in known and Path(name).expanduser().is_dir()]
    if folders:
        if len(folders) < len(a.name) or a.check:
            raise UserError("tables: name folders of runs, or tables of experiments/tables; --check is for the latter")
        return _of_folders(folders, a)
    for option in ("columns", "notes", "out"):
        if getattr(a, option) is not None:
            raise UserError(f"--{option} is for folders of runs, and none of {', '.join(a.name) or 'none'} is one")
    if a.check:
        stale = stale_tables(a.name, repository(), a.format)
        for file in stale:
            print(f"error: {file} is stale; run: semfacediff tables {Path(file).stem}", file=sys.stderr)
        renew = tables_to_renew(a.name, repository()) if a.fresh else {}
        for name, reasons in renew.items():
            print(f"error: {name} is not fresh: {'; '.join(reasons)}; repeat: {known[name].command}", file=sys.stderr)
        return EXIT_INCOMPLETE if stale or renew else 0
    for name, runs in write_tables(a.name, repository(), a.format or "md").items():
        print(f"not made: {name} needs {', '.join(runs)}; make with: {known[name].command}", file=sys.stderr)
    for name, sweep in own_sweeps(a.name, repository()).items():
        print(f"{name} is of results/runs; your own sweep: semfacediff tables {sweep}", file=sys.stderr)
    return 0


def _of_folders(folders: list[Path], a: argparse.Namespace) -> int:
    from semfacediff.records.writing import write_text
    from semfacediff.tables.formats import rendered
    from semfacediff.tables.own import own_grid

    form = a.format or (a.out.suffix[1:] if a.out else "md")
    if form not in _FORMATS:
        raise UserError(f"--out {a.out}: expected a file .md, .tex or .csv, or --format")
    grid = own_grid(folders, [name for name in (a.columns or "").split(",") if name], a.notes or "short")
    if a.out is None:
        print(rendered(grid, form), end="")
    else:
        write_text(a.out.expanduser(), rendered(grid, form))
        print(a.out)
    return 0

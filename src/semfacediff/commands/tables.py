"""``semfacediff tables``: render tables from records into results/tables."""

import argparse
import sys
from pathlib import Path

from semfacediff.errors import EXIT_INCOMPLETE, UserError

HELP = "render tables from records into results/tables"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="*", help="table of experiments/tables (default: all with complete records)")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a committed table is stale")
    parser.add_argument(
        "--fresh", action="store_true", help="with --check: also fail on records that should be renewed"
    )
    parser.add_argument("--format", choices=("md", "tex", "csv"), help="default: md; with --check all existing ones")


def run(arguments: argparse.Namespace) -> int:
    from semfacediff.config import repository
    from semfacediff.tables.committed import stale_tables, tables_to_renew, write_tables
    from semfacediff.tables.definitions import definitions

    a = arguments
    if a.fresh and not a.check:
        raise UserError("--fresh extends --check; run: semfacediff tables --check --fresh")
    if a.check:
        stale = stale_tables(a.name, repository(), a.format)
        for file in stale:
            print(f"error: {file} is stale; run: semfacediff tables {Path(file).stem}", file=sys.stderr)
        renew = tables_to_renew(a.name, repository()) if a.fresh else {}
        for name, reasons in renew.items():
            command = definitions(repository())[name].command
            print(f"error: {name} is not fresh: {'; '.join(reasons)}; repeat: {command}", file=sys.stderr)
        return EXIT_INCOMPLETE if stale or renew else 0
    for name, runs in write_tables(a.name, repository(), a.format or "md").items():
        command = definitions(repository())[name].command
        print(f"not made: {name} needs {', '.join(runs)}; make with: {command}", file=sys.stderr)
    return 0

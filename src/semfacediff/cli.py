"""``semfacediff``: everything that is not a Hydra run."""

import argparse
import sys

from semfacediff.errors import UserError
from semfacediff.hydra_app import EXIT_INCOMPLETE, EXIT_MISTAKE


def _tables(arguments: argparse.Namespace) -> int:
    from semfacediff.config import repository
    from semfacediff.tables.named import write_tables

    stale = write_tables(arguments.name, repository(), arguments.check)
    for name in stale:
        print(f"error: results/tables/{name}.md is stale; run: semfacediff tables {name}", file=sys.stderr)
    return EXIT_INCOMPLETE if stale else 0


def main(words: list[str] | None = None) -> int:
    """Parse the command line and run the subcommand; returns its exit code."""
    parser = argparse.ArgumentParser("semfacediff", description="Records to tables. Runs: train_parser.py, evaluate.py")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    tables = commands.add_parser("tables", help="render tables from records into results/tables")
    tables.add_argument("name", nargs="*", help="tables of experiments/tables (default: all)")
    tables.add_argument("--check", action="store_true", help="write nothing; fail if a committed table is stale")
    tables.set_defaults(run=_tables)
    arguments = parser.parse_args(words)
    try:
        return arguments.run(arguments)
    except UserError as e:
        print(f"error: {e}", file=sys.stderr)
        return EXIT_MISTAKE


if __name__ == "__main__":
    sys.exit(main())

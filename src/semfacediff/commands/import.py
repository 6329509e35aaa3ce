"""``semfacediff import``: file the records of a zip under results/runs after checking every number in them."""  # noqa: N999

import argparse
from pathlib import Path

HELP = "file the records of a zip of 'export --to zip' under results/runs, after checking them"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE.zip")
    parser.add_argument("--into", type=Path, metavar="DIR", help="instead of results/runs")


def run(arguments: argparse.Namespace) -> int:
    from semfacediff.commands.export.record_zip import import_records
    from semfacediff.config import repository, results

    a = arguments
    return import_records(a.file.expanduser(), a.into.expanduser() if a.into else results(repository()) / "runs")

"""``semfacediff strata``: print a run's scores by group of faces: n, intervals, gap, worst group."""

import argparse
from pathlib import Path

from semfacediff.commands.arguments import add_json
from semfacediff.errors import UserError

HELP = "print a run's scores by group of faces: n, intervals, gap, worst group"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN|SWEEP", help="folders of finished runs or sweeps")
    parser.add_argument("--by", required=True, help="skin_tone, pose, region_size, or an annotation of the data set")
    parser.add_argument("--score", nargs="+", default=[], help="columns (default: all measured ones)")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="also draw it (.pdf or .png)")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    from semfacediff.records.ledger import runs_of
    from semfacediff.tasks.strata_report import strata

    folders = runs_of([folder.expanduser() for folder in arguments.runs])
    if len(folders) > 1 and (arguments.figure is not None or arguments.json):
        option = "figure" if arguments.figure is not None else "json"
        raise UserError(f"strata: --{option} is of one run, got {len(folders)}; name one")
    for folder in folders:
        heading = [f"## {folder.name}"] if len(folders) > 1 else []
        print(*heading, strata(folder, arguments.by, arguments.score, arguments.figure, arguments.json), sep="\n\n")
    return 0

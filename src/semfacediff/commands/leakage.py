"""``semfacediff leakage``: print the classes that a run's edits changed outside their regions."""

import argparse
from pathlib import Path

from semfacediff.commands.arguments import add_json

HELP = "print the classes that a run's edits changed outside their regions"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="RUN")
    parser.add_argument("--attribute", help="one attribute's edits (default: all)")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="also draw the heat map (.pdf or .png)")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    from semfacediff.tasks.strata_report import leakage

    a = arguments
    print(leakage(a.folder.expanduser(), a.attribute, a.figure, a.json))
    return 0

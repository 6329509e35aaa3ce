"""``semfacediff init``: create a starter project with your own conf/ and experiments/."""

import argparse
from pathlib import Path

HELP = "create a starter project with your own conf/ and experiments/"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="DIR", help="a new folder")


def run(arguments: argparse.Namespace) -> int:
    from semfacediff.commands.init.project import start_project

    return start_project(arguments.folder.expanduser())

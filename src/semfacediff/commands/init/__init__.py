"""``semfacediff init``: a starter project: conf/ and experiments/ of your own, with one preset."""

import argparse
from pathlib import Path

HELP = "a starter project: conf/ and experiments/ of your own, with one preset"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="DIR", help="a new folder")


def run(arguments: argparse.Namespace) -> int:
    from semfacediff.commands.init.project import start_project

    return start_project(arguments.folder.expanduser())

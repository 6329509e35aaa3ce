"""``semfacediff compare``: compare two runs photo by photo, and their configurations."""

import argparse
from pathlib import Path

HELP = "compare two runs photo by photo, and their configurations"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("first", type=Path, metavar="RUN", help="folder of a finished run")
    parser.add_argument("second", type=Path, metavar="RUN", help="another one, of the same photos and protocol")
    parser.add_argument("--score", nargs="+", default=[], help="columns (default: all that both measured)")
    parser.add_argument("--raw", action="store_true", help="also the edits before the composite")


def run(arguments: argparse.Namespace) -> int:
    from semfacediff.commands.compare.runs import compare

    a = arguments
    print(compare(a.first.expanduser(), a.second.expanduser(), a.score, a.raw))
    return 0

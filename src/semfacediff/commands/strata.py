"""``semfacediff strata``: print a run's scores by group of faces: n, intervals, gap, worst group."""

import argparse
from pathlib import Path

HELP = "print a run's scores by group of faces: n, intervals, gap, worst group"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="RUN")
    parser.add_argument("--by", required=True, help="skin_tone, pose, region_size, or an annotation of the data set")
    parser.add_argument("--score", nargs="+", default=[], help="columns (default: all measured ones)")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="also draw it (.pdf or .png)")


def run(arguments: argparse.Namespace) -> int:
    from semfacediff.tasks.strata_report import strata

    print(strata(arguments.folder.expanduser(), arguments.by, arguments.score, arguments.figure))
    return 0

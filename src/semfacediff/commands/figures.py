"""``semfacediff figures``: draw the figures of runs and sweeps again from their records."""

import argparse
from pathlib import Path

HELP = "draw the figures of runs and sweeps again from their records"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_folder", nargs="+", type=Path, metavar="RUN", help="a run, or the folder of a sweep")
    parser.add_argument("--out", type=Path, help="parent of one folder per run (default: figures/ in the run)")
    parser.add_argument("--score", nargs="+", default=[], help="scores of a sweep's curves (default: the usual ones)")


def run(arguments: argparse.Namespace) -> int:
    from semfacediff.config import repository
    from semfacediff.tables.draw_all import draw

    for run in arguments.run_folder:
        out = arguments.out / run.name if arguments.out else run / "figures"
        draw(run, out, repository(), arguments.score)
        print(out)
    return 0

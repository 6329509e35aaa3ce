"""``semfacediff compare``: compare runs photo by photo; of two, their configurations too."""

import argparse
from pathlib import Path

from semfacediff.commands.arguments import add_json
from semfacediff.errors import UserError

HELP = "compare runs photo by photo; of two, their configurations too"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "runs", type=Path, nargs="+", metavar="RUN|SWEEP", help="finished runs of the same photos and protocol"
    )
    parser.add_argument(
        "--score", nargs="+", default=[], help="columns (default: of two runs all that both measured, else a few)"
    )
    parser.add_argument("--raw", action="store_true", help="all columns, also of the edits before the composite")
    parser.add_argument("--doubtful", action="store_true", help="rank runs too that say that they are not comparable")
    parser.add_argument("--format", choices=("md", "csv", "tex"), help="ranks and tiers as a table, also of two runs")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    from semfacediff.commands.compare.runs import compare, rank
    from semfacediff.records.ledger import runs_of

    a = arguments
    folders = runs_of([folder.expanduser() for folder in a.runs])
    if a.json and a.format is not None:
        raise UserError(f"compare: --json and --format {a.format} are two forms; give one of them")
    if len(folders) < 2:
        raise UserError(f"compare: expected two runs or more, got {folders[0]}; name another one")
    if len(folders) == 2 and a.format is None and not a.doubtful:
        print(compare(folders[0], folders[1], a.score, a.raw, a.json))
    else:
        print(rank(folders, a.score, a.raw, "json" if a.json else a.format or "md", a.doubtful), end="")
    return 0

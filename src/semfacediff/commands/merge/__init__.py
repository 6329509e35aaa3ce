"""``semfacediff merge``: the record of a whole run from those of its parts (shard.index)."""

import argparse
from pathlib import Path

HELP = "the record of a whole run from those of its parts (shard.index)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folders of all parts, in any order")
    parser.add_argument("--out", type=Path, required=True, help="folder of the whole run's record")


def run(arguments: argparse.Namespace) -> int:
    from semfacediff.commands.merge.parts import merge

    return merge([run.expanduser() for run in arguments.runs], arguments.out.expanduser())

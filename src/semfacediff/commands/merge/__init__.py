"""``semfacediff merge``: merge the shards of a run (shard.index) into one record."""

import argparse
from pathlib import Path

HELP = "merge the shards of a run (shard.index) into one record"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folders of all shards, in any order")
    parser.add_argument("--out", type=Path, required=True, help="folder of the merged record")


def run(arguments: argparse.Namespace) -> int:
    from semfacediff.commands.merge.parts import merge

    return merge([run.expanduser() for run in arguments.runs], arguments.out.expanduser())

"""``semfacediff doctor``: list what is available and what each command needs; downloads nothing."""

import argparse
from pathlib import Path

from semfacediff.commands.arguments import add_json

HELP = "list what is available and what each command needs; downloads nothing"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--weights", "--root", dest="root", metavar="DIR", help="folder of weights, as weights.root")
    parser.add_argument("--data", metavar="DIR", help="as data.root (default: SEMFACEDIFF_DATA)")
    parser.add_argument(
        "--parser",
        "--checkpoint",
        dest="checkpoint",
        metavar="RUN",
        help="as parser.checkpoint (default: the runs in this checkout)",
    )
    add_json(parser)
    parser.add_argument("--make-tiny", type=Path, metavar="DIR", help="write tiny diffusion pipelines for trials")


def run(arguments: argparse.Namespace) -> int:
    if arguments.make_tiny:
        from semfacediff.commands.doctor.machine import make_twins

        return make_twins(arguments.make_tiny.expanduser())
    from semfacediff.commands.doctor.machine import doctor

    return doctor(arguments.root, arguments.json, arguments.data, arguments.checkpoint)

"""``semfacediff gpu-check``: check an accelerator at real sizes with random weights, 10 min."""

import argparse
from pathlib import Path

HELP = "check an accelerator at real sizes with random weights, 10 min"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", type=Path, default=Path("outputs/gpu_check"), metavar="DIR", help="folder of the record"
    )
    parser.add_argument("--device", default="auto", metavar="auto|mps|cuda|cuda:N")
    parser.add_argument("--toy", action="store_true", help="all checks with tiny networks on the CPU")
    parser.add_argument(
        "--only", nargs="+", choices=("parser", "loader", "metrics", "inception", "sca_dm", "sdxl", "several")
    )


def run(arguments: argparse.Namespace) -> int:
    from semfacediff.commands.gpu_check.checks import gpu_check

    return gpu_check(arguments.out.expanduser(), arguments.device, arguments.toy, arguments.only or ())

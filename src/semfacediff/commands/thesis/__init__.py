"""``semfacediff thesis``: list the thesis's experiments and their requirements, or run them."""

import argparse
from pathlib import Path

from semfacediff.commands.arguments import positive
from semfacediff.errors import UserError

HELP = "list the thesis's experiments and their requirements, or run them"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "words", nargs="*", metavar="KEY=VALUE", help="for every experiment: weights.root=DIR data.n=10"
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--run", dest="run_them", action="store_true", help="run those with nothing missing, one by one")
    what.add_argument(
        "--real", action="store_true", help="instead: table 6.1 with the public weights, fetched first, as one zip"
    )
    parser.add_argument("--n", type=positive, metavar="N", help="with --real: photos (default: 20)")
    parser.add_argument("--steps", metavar="A,B", help="with --real: some of parser,floors,edits,tables (default: all)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="with --real: default outputs/thesis_real")
    parser.add_argument("--data", metavar="DIR", help="as data.root (default: SEMFACEDIFF_DATA)")
    parser.add_argument("--checkpoint", metavar="RUN", help="as parser.checkpoint (default: a run in this checkout)")


def run(arguments: argparse.Namespace) -> int:
    a = arguments
    if a.real:
        from semfacediff.commands.thesis.real import STEPS, Asked, real

        steps = tuple(a.steps.split(",")) if a.steps else STEPS
        out = a.out.expanduser() if a.out else Path("outputs", "thesis_real")
        return real(Asked(a.n or 20, steps, out, tuple(a.words), a.data, a.checkpoint))
    if lone := [key for key in ("n", "steps", "out") if getattr(a, key)]:
        raise UserError(f"--{lone[0]} is for --real; add it, or write data.n=N and hydra.run.dir=DIR")
    from semfacediff.commands.thesis.experiments import thesis

    return thesis(a.run_them, a.words, a.data, a.checkpoint)

"""``semfacediff thesis``: list the thesis's experiments and their requirements, or run them."""

import argparse

HELP = "list the thesis's experiments and their requirements, or run them"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "words", nargs="*", metavar="KEY=VALUE", help="for every experiment: weights.root=DIR data.n=10"
    )
    parser.add_argument(
        "--run", dest="run_them", action="store_true", help="run those with nothing missing, one by one"
    )
    parser.add_argument("--data", metavar="DIR", help="as data.root (default: SEMFACEDIFF_DATA)")
    parser.add_argument("--checkpoint", metavar="RUN", help="as parser.checkpoint (default: a run in this checkout)")


def run(arguments: argparse.Namespace) -> int:
    from semfacediff.commands.thesis.experiments import thesis

    a = arguments
    return thesis(a.run_them, a.words, a.data, a.checkpoint)

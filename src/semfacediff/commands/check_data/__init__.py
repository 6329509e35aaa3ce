"""``semfacediff check-data``: read a data set once; count its parts and find photos that are in two of them."""

import argparse

HELP = "read a data set once: defects, photos of each part, near-duplicates, with --people persons in two parts"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", nargs="+", metavar="KEY=VALUE", help="as in evaluate.py: data=shards data.root=DIR")
    parser.add_argument(
        "--people", action="store_true", help="also find persons of val and test in train (extra faces; 0.3 s a photo)"
    )
    parser.add_argument("--json", action="store_true", help="print every pair as JSON")


def run(arguments: argparse.Namespace) -> int:
    from semfacediff.commands.check_data.parts import check_data

    return check_data(arguments.words, arguments.people, arguments.json)

"""``semfacediff fetch``: download the named weights, or all that doctor lists as missing."""

import argparse

HELP = "download the named weights, or all that doctor lists as missing"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name", nargs="*", metavar="NAME", help="as doctor prints it, or OWNER/MODEL[/FOLDER] of the hub"
    )


def run(arguments: argparse.Namespace) -> int:
    from semfacediff.commands.fetch.weights import fetch

    return fetch(arguments.name)

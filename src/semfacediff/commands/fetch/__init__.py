"""``semfacediff fetch``: download weights: those that doctor says are missing, or those named."""

import argparse

HELP = "download weights: those that doctor says are missing, or those named"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name", nargs="*", metavar="NAME", help="as doctor prints it, or OWNER/MODEL[/FOLDER] of the hub"
    )


def run(arguments: argparse.Namespace) -> int:
    from semfacediff.commands.fetch.weights import fetch

    return fetch(arguments.name)

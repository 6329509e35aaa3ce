"""Types of arguments that several subcommands take."""

import argparse
from pathlib import Path

from semfacediff.errors import UserError


def add_json(parser: argparse.ArgumentParser) -> None:
    """``--json``: what a command prints, for programs."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def existing_photo(path: Path) -> Path:
    """The path of a photo or a folder that is there; asked before anything is loaded that takes seconds.

    Raises:
        UserError: nothing is there.
    """
    path = path.expanduser()
    if not path.exists():
        raise UserError(f"PHOTO: expected a photo or a folder of photos, nothing is at {path}; correct the path")
    return path


def positive(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got '{text}'")
    return int(text)

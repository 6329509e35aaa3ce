"""The parser that is used where none is named."""

from pathlib import Path


def default_parser() -> Path | None:
    """Folder of the parser that ships with the package; ``None``: none ships with this version."""
    return None

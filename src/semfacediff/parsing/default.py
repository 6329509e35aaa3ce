"""The parser that is used where none is named."""

from pathlib import Path

from semfacediff.parsing.checkpoint import WEIGHTS

SHIPPED = "face_lite"
FOLDER = Path(__file__).parent / "shipped" / SHIPPED


def default_parser() -> Path | None:
    """Folder of the parser that ships with the package; ``None``: none ships with this version."""
    return FOLDER if (FOLDER / WEIGHTS).is_file() else None

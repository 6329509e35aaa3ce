"""The parsers that ship with the package, and the one of them that is used where none is named."""

from pathlib import Path

from semfacediff.parsing.checkpoint import WEIGHTS

SHIPPED = "face_lite"
FOLDER = Path(__file__).parent / "shipped" / SHIPPED


def default_parser() -> Path | None:
    """Folder of the parser that ships with the package; ``None``: none ships with this version."""
    return FOLDER if (FOLDER / WEIGHTS).is_file() else None


def shipped_parsers() -> dict[str, Path]:
    """Name -> folder of every parser that ships with the package, by name."""
    return {file.parent.name: file.parent for file in sorted(FOLDER.parent.glob(f"*/{WEIGHTS}"))}

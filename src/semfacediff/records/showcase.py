"""``showcase/showcase.json``: which pictures a synthesis run keeps of what its model makes, and what each one shows.

A picture is listed before its file is written, and files are written whole: one that is listed and there was made as
the list says.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from semfacediff.records.writing import write_text

PHOTO, LABELS, EDITED_LABELS = "photo", "labels", "edited_labels"
FIRST_STAGE, RECONSTRUCTION, NOISE = "first_stage", "reconstruction", "noise"
SWAP_STYLE, SWAP_PARTS, MIX, INTERPOLATION, EDIT = "swap_style", "swap_parts", "mix", "interpolation", "edit"

LIST = "showcase/showcase.json"
_VERSION = 1


@dataclass(frozen=True)
class Item:
    """What a picture shows.

    Attributes:
        kind: one of the kinds above. ids: of the face whose layout it has, then of the reference, if there is one.
        parts: whose style is the reference's; all of them where none is named.
        weight: of the reference's style, 0..1. draw: counts results out of noise for one layout.
        change: what was done to the layout, in words.
    """

    kind: str
    ids: tuple[str, ...]
    parts: tuple[str, ...] = ()
    weight: float | None = None
    draw: int | None = None
    change: str | None = None

    @property
    def file(self) -> str:
        """Where it is kept in the run's folder."""
        counted = [f"{number:g}" for number in (self.weight, self.draw) if number is not None]
        return f"showcase/{'_'.join([self.ids[0], self.kind, *self.ids[1:], *counted])}.png"


@dataclass(frozen=True)
class Showcase:
    """The pictures of a run.

    Attributes:
        notes: every picture's item -> what was not as asked; empty as a rule.
        files: item -> its file in the run's folder. left_out: sentences on what is not shown, and why.
        broken: entries of the list that cannot be read.
    """

    notes: dict[Item, str]
    files: dict[Item, str]
    left_out: list[str]
    broken: int = 0


def write_showcase(folder: Path, notes: dict[Item, str], left_out: Sequence[str]) -> None:
    """Write the list whole."""
    pictures = [asdict(item) | {"file": item.file, "note": note} for item, note in notes.items()]
    plain = {"schema_version": _VERSION, "pictures": pictures, "left_out": list(left_out)}
    write_text(folder / LIST, json.dumps(plain, indent=1, ensure_ascii=False) + "\n")


def read_showcase(folder: Path) -> Showcase:
    """The list of a run's folder, as far as it can be read.

    Raises:
        OSError: it is not there. ValueError: it is no list of pictures.
    """
    plain = json.loads((folder / LIST).read_text(encoding="utf-8"))
    if not isinstance(plain, dict) or not isinstance(plain.get("pictures"), list):
        raise ValueError(f"{folder / LIST}: expected pictures, found none")
    found = [_entry(entry) for entry in plain["pictures"]]
    whole = [entry for entry in found if entry]
    left_out = plain.get("left_out")
    return Showcase(
        notes={item: note for item, _, note in whole},
        files={item: file for item, file, _ in whole},
        left_out=[str(text) for text in left_out] if isinstance(left_out, list) else [],
        broken=len(found) - len(whole),
    )


def _entry(plain: object) -> tuple[Item, str, str] | None:
    """(item, file, note); ``None`` where it is no entry."""
    if not isinstance(plain, dict):
        return None
    try:
        ids, parts = (tuple(map(str, plain[key])) for key in ("ids", "parts"))
        weight, draw = plain["weight"], plain["draw"]
        numbers = None if weight is None else float(weight), None if draw is None else int(draw)
        item = Item(str(plain["kind"]), ids, parts, *numbers, plain["change"] and str(plain["change"]))
        return (item, str(plain["file"]), str(plain["note"])) if ids else None
    except (KeyError, TypeError, ValueError):
        return None

"""What the name of a released weights file says: SegFace's are told apart by the name of their folder alone."""

import re
from dataclasses import dataclass
from pathlib import Path

from semfacediff.errors import UserError
from semfacediff.labels import SPACES
from semfacediff.parsing import segface
from semfacediff.parsing.registry import kind

_NAME = re.compile(r"(?:(?P<backbone>[a-z0-9_]+?)_)?(?P<data>celeba?|lapa|helen)_?(?P<size>\d{2,4})(?!\d)")
_SPACES = {"celeb": "segface", "celeba": "segface", "lapa": "lapa", "helen": "helen"}
_BACKBONES = {"convnext": "convnext_base", "swinb": "swin_base", "swinv2b": "swinv2_base"}
"""Short names of backbones in released names; the others are called as here."""


@dataclass(frozen=True)
class NamedFile:
    """``name``: architecture; ``text``: the part of the path that says all of it. ``None``: it is not said."""

    name: str | None = None
    label_space: str | None = None
    input_size: int | None = None
    text: str | None = None


def read_name(file: Path) -> NamedFile:
    """What the file's own name says, else that of its folder: ``swinb_lapa_224/model_299.pt``."""
    for text in (file.stem, file.absolute().parent.name):
        if found := _NAME.search(text.lower()):
            backbone = _BACKBONES.get(found["backbone"], found["backbone"])
            name = f"segface_{backbone}" if backbone in segface.PARSER.variants else None
            return NamedFile(name, _SPACES[found["data"]], int(found["size"]), text)
    return NamedFile()


def space_of(name: str, classes: int | None, file: Path) -> str:
    """The label space of a file of ``classes`` classes whose name does not say it.

    Raises:
        UserError: several are possible.
    """
    own = kind(name).label_space
    fitting = [s.name for s in SPACES.values() if s.n == classes]
    if classes is None or own in fitting or len(fitting) < 2:
        return own
    raise UserError(
        f"{file}: its {classes} classes may be those of {' or '.join(fitting)}, and its name does not say which "
        f"(as swinb_lapa_224 does); set parser.label_space={'|'.join(fitting)}"
    )


def size_of(name: str, file: Path) -> int:
    """The input size in px of a file whose name does not say it.

    Raises:
        UserError: the architecture was released at several.
    """
    sizes = kind(name).sizes
    if len(sizes) == 1:
        return sizes[0]
    raise UserError(
        f"{file}: {name} was released for {', '.join(map(str, sizes))} px, and the file's name does not say for which "
        f"(as swinb_celeba_448 does); set parser.input_size={'|'.join(map(str, sizes))}"
    )

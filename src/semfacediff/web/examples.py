"""Photos to try the page with: drawn faces, and a portrait in the public domain."""

from collections.abc import Callable
from functools import partial
from importlib import resources

from semfacediff.data.reading import decode_photo
from semfacediff.data.toy import draw_face
from semfacediff.tasks.editing.sample_row import encoded_png

_SIDE_PX = 512
_ASTRONAUT = resources.files("skimage") / "data" / "astronaut.png"
"""Among the files of scikit-image; its own function would download what is not there."""


def _drawn(index: int) -> bytes:
    return encoded_png(draw_face(0, index, _SIDE_PX)[0])


def _astronaut() -> bytes:
    """Head and shoulders of Eileen Collins (NASA, 1993, public domain)."""
    return encoded_png(decode_photo(_ASTRONAUT.read_bytes(), _ASTRONAUT.name)[:320, 80:368])


EXAMPLES: dict[str, Callable[[], bytes]] = {f"drawing {i}": partial(_drawn, i) for i in (1, 2)}
EXAMPLES |= {"astronaut": _astronaut} if _ASTRONAUT.is_file() else {}
"""Name -> bytes of its PNG."""

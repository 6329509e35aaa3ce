"""What a metric of one edit is given, and what it says of itself."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

PROTOCOLS = ("thesis", "strict")


def known_protocol(protocol: str) -> str:
    """``protocol``, if it is one; a :class:`ValueError` otherwise, for a misspelt one would score as another."""
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol: expected one of {', '.join(PROTOCOLS)}, got '{protocol}'")
    return protocol


@dataclass(frozen=True)
class EditPair:
    """One edit as metrics see it, at the size the protocol works at.

    Attributes:
        photo, edit: uint8 ``[H, W, 3]`` RGB.
        blend: uint8 ``[H, W]``: the blend mask, 255 = edit.
        before, after: bool ``[H, W]``: the attribute's region in the parse of photo and edit; ``after`` is ``None``
            where the parser has no opinion.
        prompt: what the edit was asked to be.

    Raises:
        ValueError: another type or size; floats in [0,1] or [-1,1] would be scored without complaint otherwise.
    """

    photo: np.ndarray
    edit: np.ndarray
    blend: np.ndarray
    before: np.ndarray
    after: np.ndarray | None
    prompt: str = ""

    def __post_init__(self):
        height, width = self.photo.shape[:2]
        for name, dtype, shape in (
            ("photo", np.uint8, (height, width, 3)),
            ("edit", np.uint8, (height, width, 3)),
            ("blend", np.uint8, (height, width)),
            ("before", np.bool_, (height, width)),
            ("after", np.bool_, (height, width)),
        ):
            x = getattr(self, name)
            if x is not None and (x.dtype != dtype or x.shape != shape):
                raise ValueError(
                    f"{name}: expected {np.dtype(dtype)} {list(shape)}, as the photo has, got {x.dtype} {list(x.shape)}"
                )


class Metric(Protocol):
    """Scores one edit.

    Attributes:
        columns: names of what :meth:`score` returns.
        higher_is_better: direction of each column; ``None`` where there is none.
    """

    columns: tuple[str, ...]
    higher_is_better: dict[str, bool | None]

    def score(self, pair: EditPair) -> dict[str, float | None]:
        """Value of every column; ``None`` = missing (undefined for this edit)."""
        ...

    def note(self, prompt: str) -> str | None:
        """What a reader of this prompt's scores must know; most metrics have nothing to say."""
        return None

    def identity(self) -> dict[str, object]:
        """Range, resize, implementation, version, weights: two values are comparable only if these agree."""
        ...

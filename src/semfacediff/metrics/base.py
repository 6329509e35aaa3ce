"""What a metric of one edit is given, and what it says of itself."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class EditPair:
    """One edit as metrics see it, at the size the protocol works at.

    Attributes:
        photo, edit: uint8 ``[H, W, 3]`` RGB.
        blend: uint8 ``[H, W]``: the blend mask, 255 = edit.
        before, after: bool ``[H, W]``: the attribute's region in the parse of photo and edit; ``after`` is ``None``
            where the parser has no opinion.
    """

    photo: np.ndarray
    edit: np.ndarray
    blend: np.ndarray
    before: np.ndarray
    after: np.ndarray | None


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

    def identity(self) -> dict[str, object]:
        """Range, resize, implementation, version, weights: two values are comparable only if these agree."""
        ...

"""Label maps as layouts of faces to be made: one-hot masks, parts by name, and editing.

Editing takes and returns ``[H,W]`` integer arrays of one label space and leaves its argument as it is.
"""

import difflib
from collections.abc import Iterable

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from semfacediff.errors import UserError
from semfacediff.labels import ATTRIBUTES, CELEBAMASK, LabelSpace


def one_hot(labels: Tensor | np.ndarray, classes: int) -> Tensor:
    """float32 ``[N,classes,H,W]`` from integers ``[N,H,W]``.

    Raises:
        UserError: a label is none of the classes.
    """
    labels = torch.as_tensor(labels).long()
    low, high = (int(v) for v in labels.aminmax())
    if low < 0 or high >= classes:
        raise UserError(
            f"label maps: expected labels 0..{classes - 1}, got {low}..{high}; convert them to the model's label space"
        )
    n, height, width = labels.shape
    # Not by F.one_hot, whose integers take eight times the memory.
    return torch.zeros(n, classes, height, width, device=labels.device).scatter_(1, labels[:, None], 1)


def part_indices(parts: str | Iterable[str], space: LabelSpace) -> list[int]:
    """Label values of ``parts``, sorted: class names, or attributes (``lips``, ``eyes``) for several at once.

    Raises:
        UserError: an unknown name, with its near misses; no name at all.
    """
    names = [parts] if isinstance(parts, str) else list(parts)
    if not names:
        raise UserError(f"parts: expected at least one name, got none; choose of {', '.join(space.classes)}")
    return sorted({i for name in names for i in _indices(name, space)})


def _indices(name: str, space: LabelSpace) -> list[int]:
    if name in space.classes:
        return [space.classes.index(name)]
    if name in ATTRIBUTES and set(ATTRIBUTES[name]) <= set(space.classes):
        return [space.classes.index(c) for c in ATTRIBUTES[name]]
    known = dict.fromkeys((*space.classes, *ATTRIBUTES))
    close = difflib.get_close_matches(name, known, n=2)
    hint = f"did you mean {' or '.join(close)}?" if close else f"choose of {', '.join(known)}"
    raise UserError(f"parts: label space '{space.name}' has no part '{name}'; {hint}")


def paint(labels: np.ndarray, part: str, where: np.ndarray, space: LabelSpace = CELEBAMASK) -> np.ndarray:
    """``labels`` with class ``part`` wherever ``where``, bool ``[H,W]``, says so.

    Raises:
        UserError: an unknown part, one that is several classes, or ``where`` of another size.
    """
    if where.shape != labels.shape:
        raise UserError(
            f"paint '{part}': expected an area of the label map's size {list(labels.shape)}, got {list(where.shape)}"
        )
    return np.where(where.astype(bool), labels.dtype.type(_one(part, space)), labels)


def remove(labels: np.ndarray, part: str, space: LabelSpace = CELEBAMASK, fill: str | None = None) -> np.ndarray:
    """``labels`` without ``part``: its pixels become class ``fill``, or that of the nearest pixel that is left.

    Raises:
        UserError: an unknown part or filling, a part that is not there, or nothing left to fill from.
    """
    gone = _area(labels, part, space)
    if fill is not None:
        return paint(labels, fill, gone, space)
    if gone.all():
        raise UserError(f"remove '{part}': the label map holds nothing else to fill it from; name a filling")
    rows, columns = distance_transform_edt(gone, return_distances=False, return_indices=True)
    return labels[rows, columns]


def move(
    labels: np.ndarray, part: str, right: int, down: int, space: LabelSpace = CELEBAMASK, fill: str | None = None
) -> np.ndarray:
    """``labels`` with ``part`` moved by pixels (negative: left, up); it leaves what :func:`remove` fills in.

    What is moved past the border is lost.

    Raises:
        UserError: as of :func:`remove`.
    """
    rows, columns = np.nonzero(_area(labels, part, space))
    to_rows, to_columns = rows + down, columns + right
    inside = (to_rows >= 0) & (to_rows < labels.shape[0]) & (to_columns >= 0) & (to_columns < labels.shape[1])
    moved = remove(labels, part, space, fill)
    moved[to_rows[inside], to_columns[inside]] = labels[rows[inside], columns[inside]]
    return moved


def _area(labels: np.ndarray, part: str, space: LabelSpace) -> np.ndarray:
    found = np.isin(labels, part_indices(part, space))
    if not found.any():
        present = ", ".join(space.classes[i] for i in np.unique(labels) if i < space.n)
        raise UserError(f"the label map has no '{part}'; its parts are {present}")
    return found


def _one(part: str, space: LabelSpace) -> int:
    indices = part_indices(part, space)
    if len(indices) > 1:
        raise UserError(
            f"paint '{part}': expected one class, got several; "
            f"paint {' and '.join(space.classes[i] for i in indices)} one by one"
        )
    return indices[0]

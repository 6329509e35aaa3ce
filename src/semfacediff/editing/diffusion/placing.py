"""Where in a photo the model works: the frame or a crop around the region, brought to the model's square and back."""

from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image
from torch import Tensor

from semfacediff.data.sizes import resized_photo
from semfacediff.types import to_tensor, to_uint8

SMALLEST_CROP = 1 / 8
"""Side of the smallest crop as a share of the photo's long side; below that there is little left to magnify."""


@dataclass(frozen=True)
class Box:
    """Pixels ``[top, top + height) x [left, left + width)`` of a photo."""

    top: int
    left: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


@dataclass(frozen=True)
class Placed:
    """A photo in the model's square.

    Attributes:
        photo: RGB, ``size x size``; what the box does not fill repeats its right and bottom edge.
        mask: L, ``size x size``, 255 = repaint; either constant on the model's latent cells, or with its levels.
        box: the part of the photo that is in it. shape: (height, width) of that part within the square.
    """

    photo: Image.Image
    mask: Image.Image
    box: Box
    shape: tuple[int, int]


def whole(height: int, width: int) -> Box:
    """The frame."""
    return Box(0, 0, height, width)


def zoom_box(mask: np.ndarray, context: float) -> Box:
    """A square around the region, moved into the frame; clipped where the frame is smaller than the square.

    The frame itself if the region is empty, or so large that the square covers it.

    Args:
        mask: bool ``[H, W]``.
        context: added on each side, as a share of the region's longer side.
    """
    height, width = mask.shape
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return whole(height, width)
    spans = [(rows[0], rows[-1] + 1), (columns[0], columns[-1] + 1)]
    longer = max(end - start for start, end in spans)
    side = max(round(longer * (1 + 2 * context)), round(max(height, width) * SMALLEST_CROP), 1)
    (top, tall), (left, wide) = (_span(*span, side, n) for span, n in zip(spans, (height, width), strict=True))
    return Box(top, left, tall, wide)


def _span(start: int, end: int, side: int, n: int) -> tuple[int, int]:
    """(first pixel, length) of ``side`` pixels centred on ``start..end`` within ``n`` pixels."""
    length = min(side, n)
    first = (start + end - length) // 2
    return int(min(max(first, 0), n - length)), int(length)


def placed(photo: Tensor, mask: Tensor, box: Box, size: int, cell: int | None) -> Placed:
    """``box`` of a photo in the model's square: LANCZOS, aspect kept, at the top left.

    With a ``cell`` the mask grows to every latent cell that it touches: the model sees one value a cell, and thin
    regions (eyebrows, earrings) would lose pixels to rounding. Without, it keeps its levels, resized as the photo is.

    Args:
        photo: float32 ``[3, H, W]`` in [0, 1]. mask: float32 ``[1, H, W]`` in [0, 1].
        size: side of the square, a multiple of ``cell``. cell: pixels along one side of a latent cell, or ``None``.
    """
    pixels = to_uint8(photo[(slice(None), *box.slices)])
    scale = size / max(box.height, box.width)
    height, width = (min(max(round(n * scale), 1), size) for n in (box.height, box.width))
    shape, below, right = (height, width), size - height, size - width
    square = cv2.copyMakeBorder(
        resized_photo(pixels, shape, Image.Resampling.LANCZOS), 0, below, 0, right, cv2.BORDER_REPLICATE
    )
    levels = np.rint(mask[(0, *box.slices)].numpy() * 255).astype(np.uint8)
    levels = (
        resized_photo(levels, shape, Image.Resampling.LANCZOS)
        if cell is None
        else _resized_mask(levels > 127, shape).astype(np.uint8) * 255
    )
    levels = np.pad(levels, ((0, below), (0, right)))
    if cell is not None:
        levels = levels.reshape(size // cell, cell, size // cell, cell).max(axis=(1, 3)).repeat(cell, 0).repeat(cell, 1)
    return Placed(Image.fromarray(square), Image.fromarray(levels), box, shape)


def pasted(photo: Tensor, made: Tensor, at: Placed) -> Tensor:
    """The photo with what the model made in the box, float32 ``[3, H, W]``; beyond the box not a bit changes.

    Args:
        photo: float32 ``[3, H, W]`` in [0, 1]. made: float32 ``[3, size, size]`` in [0, 1].
    """
    inner = made[:, : at.shape[0], : at.shape[1]]
    if at.shape != (at.box.height, at.box.width):
        inner = to_tensor(resized_photo(to_uint8(inner), (at.box.height, at.box.width), Image.Resampling.LANCZOS))
    result = photo.clone()
    result[(slice(None), *at.box.slices)] = inner
    return result


def _resized_mask(mask: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """bool at ``shape``: shrinking keeps every pixel that the region touches, growing takes the nearest."""
    if mask.shape == shape:
        return mask
    shrinks = shape[0] < mask.shape[0] or shape[1] < mask.shape[1]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_NEAREST_EXACT
    return cv2.resize(mask.astype(np.float32), shape[::-1], interpolation=how) > 0

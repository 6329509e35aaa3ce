"""A photo of any shape in a square, and the way back.

The photo keeps its aspect, is scaled with LANCZOS to touch the square's sides and lies centred on white (thesis,
section 5.1). The way back is exact where it can be: every pixel knows its place, label maps that were not made smaller
return as they were, and what an edit left alone in the square is the photo's own pixel again, to the bit.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from semfacediff.data.sizes import resized_photo

WHITE = 255
LANCZOS = Image.Resampling.LANCZOS


@dataclass(frozen=True)
class Placement:
    """Where a photo lies in its square; all in px.

    Attributes:
        height, width: of the photo.
        side: of the square.
        top, left, box_height, box_width: the part of the square that shows the photo.
    """

    height: int
    width: int
    side: int
    top: int
    left: int
    box_height: int
    box_width: int

    @property
    def box(self) -> tuple[slice, slice]:
        """Rows and columns of the square that show the photo."""
        return slice(self.top, self.top + self.box_height), slice(self.left, self.left + self.box_width)


def placement(height: int, width: int, side: int, enlarge: bool = True) -> Placement:
    """Where a photo of this size lies in a square of ``side`` px.

    Args:
        enlarge: scale a smaller photo up to the square's sides; ``False`` leaves it as it is, as a thumbnail would.
    """
    longest = max(height, width)
    if longest <= side and not enlarge:
        h, w = height, width
    else:
        h, w = (max(1, (2 * n * side + longest) // (2 * longest)) for n in (height, width))
    return Placement(height, width, side, (side - h) // 2, (side - w) // 2, h, w)


def to_square(photo: np.ndarray, side: int, enlarge: bool = True) -> tuple[np.ndarray, Placement]:
    """uint8 ``[side, side, 3]`` with the photo (uint8 ``[H, W, 3]``) centred on white, and where it lies."""
    height, width = photo.shape[:2]
    place = placement(height, width, side, enlarge)
    square = np.full((side, side, 3), WHITE, np.uint8)
    square[place.box] = resized_photo(photo, (place.box_height, place.box_width), LANCZOS)
    return square, place


def labels_to_square(labels: np.ndarray, place: Placement, fill: int = 0) -> np.ndarray:
    """``[side, side]`` map of integer labels ``[H, W]``, nearest; ``fill`` beside the photo."""
    square = np.full((place.side, place.side), fill, labels.dtype)
    rows = _nearest(place.height, place.box_height)
    square[place.box] = labels[np.ix_(rows, _nearest(place.width, place.box_width))]
    return square


def labels_to_photo(square: np.ndarray, place: Placement) -> np.ndarray:
    """``[H, W]`` map at the photo's size from one of the square, nearest: the inverse unless the photo was shrunk."""
    rows = place.top + _nearest(place.box_height, place.height)
    return square[np.ix_(rows, place.left + _nearest(place.box_width, place.width))]


def _nearest(source: int, target: int) -> np.ndarray:
    """int64 ``[target]``: for each target pixel the source pixel that holds its centre; whole numbers, no rounding."""
    return (2 * np.arange(target) + 1) * source // (2 * target)


def edit_to_photo(photo: np.ndarray, square: np.ndarray, edited: np.ndarray, place: Placement) -> np.ndarray:
    """The photo at its own size with the edit in it.

    Pixels whose place in the square the edit left alone are the photo's own; the others are the edit's, scaled.

    Args:
        photo: uint8 ``[H, W, 3]``, what :func:`to_square` was given.
        square: uint8 ``[side, side, 3]``, what it gave.
        edited: the same after the edit.
    """
    changed = (square[place.box] != edited[place.box]).any(axis=2)
    if not changed.any():
        return photo.copy()
    scaled = resized_photo(np.ascontiguousarray(edited[place.box]), (place.height, place.width), LANCZOS)
    # The box filter is above 0 wherever a changed pixel of the square touches the photo's pixel.
    touched = Image.fromarray(changed.astype(np.float32)).resize((place.width, place.height), Image.Resampling.BOX)
    return np.where((np.asarray(touched) > 0)[..., None], scaled, photo)

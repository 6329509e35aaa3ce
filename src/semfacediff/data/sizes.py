"""The sizes at which photos and label maps meet: one rule, and the functions that bring either to another size.

Photo and label map of a sample may differ in size (CelebAMask-HQ: photos 1024 px, masks 512 px), not in aspect ratio.

    scores of a label map          the labels' own size; logits are resized to it (:func:`scored_size`)
    facts about a photo            the photo's own size; labels are brought to it by nearest neighbour
    edits                          the photo's own size, likewise
    sizes of regions               fractions of the frame
    what a network is given        its own input size, photo and labels
    protocols of published works   :data:`FIXED_PX`

Nothing else changes a size before something is measured.
"""

import numpy as np
from PIL import Image

from semfacediff.errors import UserError

FIXED_PX = {"thesis": 1024, "ce7454": 512, "segface": 512}
"""Side of the square at which a published work measures: ``thesis`` photo, parse and edit; ``ce7454`` and ``segface``
the labels. ``segface`` means the parser's input size, and this one for a parser that has none."""


def scored_size(protocol: str, labels: tuple[int, int], input_size: int | None = None) -> tuple[int, int]:
    """(height, width) at which label maps are scored.

    Args:
        labels: (height, width) of the true label map. input_size: side of the parser's square, px, if it has one.
    """
    if protocol not in FIXED_PX:
        return labels
    side = input_size if protocol == "segface" and input_size else FIXED_PX[protocol]
    return side, side


def resized_labels(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """``labels`` (uint8 ``[H, W]``) at ``size`` = (height, width), nearest neighbour: the pixel under each centre.

    By Pillow, as the published works do: it decides which pixel counts where a centre lies on a border of two.
    """
    if labels.shape == tuple(size):
        return labels
    return np.asarray(Image.fromarray(labels).resize(size[::-1], Image.Resampling.NEAREST))


def resized_photo(photo: np.ndarray, size: tuple[int, int], how: Image.Resampling) -> np.ndarray:
    """``photo`` (uint8 ``[H, W, 3]``) at ``size`` = (height, width), by Pillow."""
    if photo.shape[:2] == tuple(size):
        return photo
    return np.asarray(Image.fromarray(photo).resize(size[::-1], how))


def at_working_size(photo: np.ndarray, side: int | None) -> np.ndarray:
    """The photo (uint8 ``[H, W, 3]``) as it is edited: its own size, or a square of ``side`` px (LANCZOS)."""
    return photo if side is None else resized_photo(photo, (side, side), Image.Resampling.LANCZOS)


def same_aspect(photo: tuple[int, int], labels: tuple[int, int]) -> bool:
    """Whether one (height, width) is the other scaled, each side rounded to whole pixels."""
    (h, w), (mh, mw) = photo, labels
    # Some factor s has |mh - s h| < 1/2 and |mw - s w| < 1/2, or the same with the two exchanged.
    return 2 * abs(mh * w - mw * h) < max(h + w, mh + mw)


def in_frame(labels: np.ndarray, name: str, photo: tuple[int, int], allow_resize: bool) -> np.ndarray:
    """A label map that has its photo's aspect ratio: ``labels`` itself, or resized to the photo's size if that may be.

    Args:
        labels: uint8 ``[H, W]``. name: of its file. photo: (height, width).
        allow_resize: ``data.allow_mask_resize``.

    Raises:
        UserError: another aspect ratio, and ``allow_resize`` is off.
    """
    if same_aspect(photo, labels.shape):
        return labels
    if not allow_resize:
        (height, width), (mask_height, mask_width) = photo, labels.shape
        raise UserError(
            f"{name}: the label map is {mask_width}x{mask_height} px, its photo {width}x{height}, which is another "
            f"aspect ratio; set data.allow_mask_resize=true if the two show the same frame"
        )
    return resized_labels(labels, photo)

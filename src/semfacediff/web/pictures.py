"""Pictures for display, at most :data:`SHOWN_PX` wide or high; only downloads have the photo's own size."""

from collections.abc import Iterable

import cv2
import numpy as np
from PIL import Image

from semfacediff.labels import LabelSpace
from semfacediff.tables.figures import overlay
from semfacediff.tasks.synthesis.grids import tiled
from semfacediff.types import RegionMasks

SHOWN_PX = 1024
ENLARGED_PX = 256
"""Side to which smaller squares are enlarged for display."""
_TINT, _OPACITY = np.array([255, 0, 160], np.float32), 0.4
"""Colour that no face has, and its share where an edit changes everything."""


def shown(picture: np.ndarray) -> np.ndarray:
    """Downscale a uint8 ``[H, W, 3]`` picture to uint8 ``[h, w, 3]`` for display."""
    size = _size(picture)
    return picture if size is None else cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def parse_picture(photo: np.ndarray, labels: np.ndarray, space: LabelSpace) -> np.ndarray:
    """uint8 ``[h, w, 3]``: the classes' colours over the photo."""
    size = _size(photo)
    small = labels if size is None else cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST)
    return overlay(shown(photo), small, space)


def photo_and_parse(photo: np.ndarray, labels: np.ndarray, space: LabelSpace) -> np.ndarray:
    """uint8 ``[h, 2 w, 3]``: the photo, and :func:`parse_picture` of it."""
    return np.concatenate([shown(photo), parse_picture(photo, labels, space)], axis=1)


def row(squares: Iterable[np.ndarray]) -> np.ndarray:
    """uint8 ``[h, w, 3]``: squares (uint8 ``[S, S, 3]``) side by side, small ones enlarged (bicubic)."""
    return tiled([np.stack([_enlarged(square) for square in squares])])


def _enlarged(square: np.ndarray) -> np.ndarray:
    side = max(len(square), ENLARGED_PX)
    return np.asarray(Image.fromarray(square).resize((side, side), Image.Resampling.BICUBIC))


def mask_picture(photo: np.ndarray, masks: RegionMasks) -> np.ndarray:
    """uint8 ``[h, w, 3]``: the photo, tinted where an edit may change it, in a black and white outline."""
    size, blend = _size(photo), masks.blend[0].numpy()
    weight = blend if size is None else cv2.resize(blend, size, interpolation=cv2.INTER_AREA)
    share = _OPACITY * weight[..., None]
    seen = np.rint(shown(photo) * (1 - share) + _TINT * share).astype(np.uint8)
    lines, _ = cv2.findContours((weight >= 0.5).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    thin = max(1, max(weight.shape) // 500)
    for colour, width in (((0, 0, 0), 3 * thin), ((255, 255, 255), thin)):
        cv2.drawContours(seen, lines, -1, colour, width)
    return seen


def encoded(picture: np.ndarray) -> bytes:
    """JPEG bytes, for display only; downloads are PNG."""
    return cv2.imencode(".jpg", np.ascontiguousarray(picture[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()


def _size(picture: np.ndarray) -> tuple[int, int] | None:
    """(width, height) for display; ``None`` = unchanged."""
    height, width = picture.shape[:2]
    scale = SHOWN_PX / max(height, width)
    return None if scale >= 1 else (max(1, round(width * scale)), max(1, round(height * scale)))

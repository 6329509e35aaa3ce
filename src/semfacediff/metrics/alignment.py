"""Did the edit move, zoom or turn the photo? And the edit with that undone."""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np

from semfacediff.controls import KEPT_OUTSIDE
from semfacediff.metrics.base import OURS, EditPair, Metric, declared
from semfacediff.metrics.cache import LRUCache, content
from semfacediff.metrics.outside import eroded, outside

_SIDES = {128: 1e-5, 512: 1e-3}
"""Long sides of the pictures that are aligned one after another, coarse to fine; larger photos are reduced. Each with
the gain of correlation under which it ends: the fine one, where a step takes 40 times as long, starts half a pixel off
and gets within a hundredth in two steps."""
_MOST_STEPS = 60
_SMOOTH_PX = 5
_MARGIN_PX = 6
"""Of the picture that is aligned: around the region, so that what moved out of it is not taken for the outside."""
_LEAST_OUTSIDE = 0.02
"""Share of the frame below which nothing can be said of its motion."""
_FARTHEST = 0.2
"""Of the long side, and the same as a zoom: what is farther away was not aligned but lost."""
_KEPT = 8


@dataclass(frozen=True)
class Motion:
    """How the edit's outside lies relative to the photo's.

    Attributes:
        x, y: shift of the frame's centre, px, to the right and down. zoom: factor. turn: radians, from x toward y.
    """

    x: float = 0.0
    y: float = 0.0
    zoom: float = 1.0
    turn: float = 0.0

    @property
    def still(self) -> bool:
        return self == Motion()

    def matrix(self, shape: tuple[int, ...]) -> np.ndarray:
        """float64 ``[2, 3]``: from a pixel of the photo to where the edit shows it, for frames of ``shape``."""
        cos, sin = self.zoom * np.cos(self.turn), self.zoom * np.sin(self.turn)
        linear = np.array([[cos, -sin], [sin, cos]])
        centre = (np.array(shape[1::-1]) - 1) / 2
        return np.column_stack([linear, centre + (self.x, self.y) - linear @ centre])


class Alignment(Metric):
    """Motion of the outside, edit against photo: ``shift_px`` (of the frame's centre), ``zoom_pct``, ``rotation_deg``.

    All are 0 where nothing moved; a positive zoom enlarges, a positive rotation turns clockwise. An affine map is
    fitted to the lumas outside the blend mask by maximising the enhanced correlation coefficient (Evangelidis and
    Psarakis, PAMI 2008; OpenCV), in two sizes; of it, shift, zoom and rotation are kept. Exactly 0 where the outside
    is equal to the bit. Missing where under 2 % of the frame lies outside, or where no map is found, as for a flat
    outside or another photo.
    """

    columns = ("shift_px", "zoom_pct", "rotation_deg")
    higher_is_better: ClassVar = dict.fromkeys(columns)
    orders: ClassVar = {
        "shift_px": ("nothing < shift_1px < shift_3px", KEPT_OUTSIDE),
        "zoom_pct": ("nothing < zoom_1pct", KEPT_OUTSIDE),
        "rotation_deg": (KEPT_OUTSIDE,),
    }

    def __init__(self):
        self._motions: LRUCache[Motion | None] = LRUCache(_KEPT)

    def motion(self, pair: EditPair) -> Motion | None:
        """How the edit moved; ``None`` where it cannot be said."""
        key = content(pair.photo), content(pair.edit), content(pair.blend)
        return self._motions.get(key, lambda: _motion(pair))

    def score(self, pair: EditPair) -> dict[str, float | None]:
        found = self.motion(pair)
        if found is None:
            return dict.fromkeys(self.columns)
        return {
            "shift_px": float(np.hypot(found.x, found.y)),
            "zoom_pct": 100 * (found.zoom - 1),
            "rotation_deg": float(np.degrees(found.turn)),
        }

    def registered(self, pair: EditPair) -> EditPair | None:
        """``pair`` with the motion of its edit undone, by cubic interpolation; ``None`` where it is unknown.

        What the moved edit does not show belongs to the region, so that it enters no score of the outside.
        """
        found = self.motion(pair)
        if found is None:
            return None
        if found.still:
            return pair
        matrix, (height, width) = found.matrix(pair.blend.shape), pair.blend.shape
        back = cv2.WARP_INVERSE_MAP
        edit = cv2.warpAffine(pair.edit, matrix, (width, height), flags=cv2.INTER_CUBIC | back)
        full = np.full((height, width), 255, np.uint8)
        shown = cv2.warpAffine(full, matrix, (width, height), flags=cv2.INTER_LINEAR | back)
        lost = ~eroded(shown == 255, 2)  # the kernel reaches two pixels
        return dataclasses.replace(pair, edit=edit, blend=np.where(lost, np.uint8(255), pair.blend))

    def identity(self) -> dict[str, object]:
        return declared(
            ", ".join(self.columns),
            **OURS,
            bounds={"shift_px": [0, None], "zoom_pct": [-100, None], "rotation_deg": [-180, 180]},
            unit={"shift_px": "px", "zoom_pct": "%", "rotation_deg": "degrees"},
            higher_is_better=None,
            resize=f"long side to at most {max(_SIDES)} px",
            input="8-bit RGB to luma, outside the blend mask",
        )


def _motion(pair: EditPair) -> Motion | None:
    kept = outside(pair.blend, "strict")
    if kept.mean() < _LEAST_OUTSIDE:
        return None
    changed = cv2.split(cv2.absdiff(pair.photo, pair.edit))
    if not any(cv2.minMaxLoc(channel, mask=kept.view(np.uint8))[1] for channel in changed):
        return Motion()
    warp = np.eye(2, 3, dtype=np.float64)  # of coordinates that begin at the frame's corner, not at a pixel's centre
    for side, gain in _SIDES.items():
        scale = min(1.0, side / max(kept.shape))
        photo, edit = (_luma(x, scale) for x in (pair.photo, pair.edit))
        mask = _reduced(kept, photo.shape)
        if mask.mean() < 255 * _LEAST_OUTSIDE:
            return None
        start = _of_pixels(warp, scale).astype(np.float32)
        try:
            steps = cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, _MOST_STEPS, gain
            _, found = cv2.findTransformECC(photo, edit, start, cv2.MOTION_AFFINE, steps, mask, _SMOOTH_PX)
        except cv2.error:  # flat, or nothing in common
            return None
        warp = _of_corner(found.astype(np.float64), scale)
    return _similar(warp, kept.shape)


def _luma(photo: np.ndarray, scale: float) -> np.ndarray:
    """float32 ``[h, w]`` in [0, 255], reduced by averaging."""
    grey = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY).astype(np.float32)
    size = tuple(max(1, round(scale * side)) for side in grey.shape[::-1])
    return grey if scale == 1 else cv2.resize(grey, size, interpolation=cv2.INTER_AREA)


def _reduced(kept: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """uint8 {0, 255} ``[h, w]``: pixels that lie in ``kept`` with all around them."""
    share = cv2.resize(kept.astype(np.float32), shape[::-1], interpolation=cv2.INTER_AREA)
    inside = eroded(share > 0.999, min(_MARGIN_PX, min(shape) // 16))
    return inside.astype(np.uint8) * 255


def _of_pixels(warp: np.ndarray, scale: float) -> np.ndarray:
    """A map of corner coordinates of the photo as one of pixel indices of a picture reduced by ``scale``."""
    linear, shift = warp[:, :2], scale * warp[:, 2]
    return np.column_stack([linear, shift + linear @ (0.5, 0.5) - 0.5])


def _of_corner(warp: np.ndarray, scale: float) -> np.ndarray:
    """The inverse of :func:`_of_pixels`."""
    linear = warp[:, :2]
    return np.column_stack([linear, (warp[:, 2] - linear @ (0.5, 0.5) + 0.5) / scale])


def _similar(warp: np.ndarray, shape: tuple[int, ...]) -> Motion | None:
    """Shift, zoom and turn of an affine map of corner coordinates; ``None`` where it is no motion of a photo."""
    linear, centre = warp[:, :2], np.array(shape[1::-1]) / 2
    determinant = np.linalg.det(linear)
    x, y = linear @ centre + warp[:, 2] - centre
    zoom = float(np.sqrt(max(determinant, 0.0)))
    if not (np.hypot(x, y) <= _FARTHEST * max(shape) and abs(zoom - 1) <= _FARTHEST):
        return None
    turn = np.arctan2(linear[1, 0] - linear[0, 1], linear[0, 0] + linear[1, 1])
    return Motion(float(x), float(y), zoom, float(turn))


METRIC = Alignment

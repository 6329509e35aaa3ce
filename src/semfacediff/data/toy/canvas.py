"""Where a face is painted: photo and label map, written from one and the same coverage mask."""

from functools import lru_cache

import cv2
import numpy as np

from semfacediff.labels import CELEBAMASK

_SUBPIXEL_BITS = 4
_L = {name: i for i, name in enumerate(CELEBAMASK.classes)}


class Canvas:
    """Photo float32 ``[3, S, S]`` 0..255 and labels uint8 ``[S, S]``, painted together.

    The photo is planar because that blends faster.
    """

    def __init__(self, size: int):
        self.size = size
        self.photo = np.zeros((3, size, size), np.float32)
        self.labels = np.zeros((size, size), np.uint8)

    def fill(
        self,
        outline: np.ndarray | list[np.ndarray],
        colour: np.ndarray,
        label: str | None = None,
        alpha: float = 1.0,
        within: tuple[str, ...] = (),
        keep: tuple[str, ...] = (),
    ) -> None:
        """Paint a polygon, or the union of several.

        Args:
            outline: ``[K, 2]`` frame coordinates, or a list of such; parts outside the frame are cut off.
            colour: RGB 0..255, or a texture float32 ``[3, S, S]`` of which the covered part is taken.
            label: class that the covered pixels get; ``None`` leaves the labels alone.
            alpha: opacity, 0..1.
            within: paint only on pixels that bear one of these labels now.
            keep: labels that show through, so that they are painted over but stay in the label map.
        """
        one = 1 << _SUBPIXEL_BITS
        outlines = outline if isinstance(outline, list) else [outline]
        fixed = [np.rint((points * self.size - 0.5) * one).astype(np.int32) for points in outlines]
        boxes = np.array([cv2.boundingRect(points) for points in fixed])
        (x0, y0) = np.maximum(boxes[:, :2].min(0) // one - 1, 0).tolist()
        (x1, y1) = np.minimum((boxes[:, :2] + boxes[:, 2:]).max(0) // one + 3, self.size).tolist()
        if x0 >= x1 or y0 >= y1:
            return
        cover = np.zeros((y1 - y0, x1 - x0), np.uint8)
        for points in fixed:
            cv2.fillPoly(cover, [points - np.array([x0 * one, y0 * one], np.int32)], 255, cv2.LINE_AA, _SUBPIXEL_BITS)
        photo, labels = self.photo[:, y0:y1, x0:x1], self.labels[y0:y1, x0:x1]
        if within:
            cover *= _member(within)[labels]
        colour = colour[:, y0:y1, x0:x1] if colour.ndim == 3 else colour[:, None, None]
        photo += (colour - photo) * (cover * np.float32(alpha / 255))
        if label is not None:
            top = cover > 127
            if keep:
                top &= _member(keep)[labels] == 0
            np.copyto(labels, _L[label], where=top)


@lru_cache
def _member(names: tuple[str, ...]) -> np.ndarray:
    """uint8 ``[19]``: 1 for the classes in ``names``."""
    return np.isin(np.arange(CELEBAMASK.n), [_L[name] for name in names]).astype(np.uint8)

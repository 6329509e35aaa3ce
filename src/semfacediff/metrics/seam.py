"""Does the edit end in a visible line?"""

from typing import ClassVar

import cv2
import numpy as np

from semfacediff.metrics.base import NO_RESIZE, OURS, EditPair, Metric, declared
from semfacediff.metrics.cielab import cielab
from semfacediff.metrics.outside import box

_SCHARR_SCALE = 1 / 32
"""Makes OpenCV's 3-10-3 kernel a derivative per pixel."""
_NEIGHBOURS = np.ones((3, 3), np.uint8)


def ring(blend: np.ndarray) -> np.ndarray:
    """bool ``[H, W]``: where the uint8 blend mask is on its way from 0 to 255.

    Pixels whose 3x3 neighbourhood is neither all 0 nor all 255: the feathered rim and one pixel on either side, or the
    two pixels beside the step of a hard mask. The frame's edge is no boundary.
    """
    return (cv2.dilate(blend, _NEIGHBOURS) > 0) & (cv2.erode(blend, _NEIGHBOURS) < 255)


def gradient_energy(photo: np.ndarray) -> np.ndarray:
    """float32 ``[H, W]``: squared colour gradient of a uint8 ``[H, W, 3]`` photo, (CIELAB units per pixel)^2.

    Trace of the structure tensor of a multi-channel picture (Di Zenzo, "A note on the gradient of a multi-image",
    1986), with the derivatives of Scharr's 3x3 kernel; the frame is reflected at its edge.
    """
    lab = cielab(photo)
    x, y = (cv2.Scharr(lab, -1, dx, 1 - dx, None, _SCHARR_SCALE, 0, cv2.BORDER_REFLECT) for dx in (1, 0))
    return np.einsum("ijk,ijk->ij", x, x) + np.einsum("ijk,ijk->ij", y, y)


class Seam(Metric):
    """Jump of the gradient on the ring of the blend mask, edit minus photo, in CIELAB units per pixel.

    Root mean square of the colour gradient over :func:`ring`, of the edit less that of the photo: 0 where the edit has
    the edges that were there before, positive where it adds one, negative where it smooths one away. Squares, because
    a step of a given height over a ring of w pixels then counts sqrt(w / 2) times as much when it is sharp as when it
    is drawn out over the ring, while plain magnitudes add up to the same. The same under both protocols; missing where
    the mask has no boundary. Values depend on the working size, for a sharp photo has steeper edges per pixel than
    its enlargement.
    """

    columns = ("seam",)
    higher_is_better: ClassVar = {"seam": False}
    orders: ClassVar = {"seam": ("region_blur < nothing < region_noise < photo_noise",)}

    def score(self, pair: EditPair) -> dict[str, float | None]:
        where = ring(pair.blend)
        if not where.any():
            return {"seam": None}
        around = box(where, 1)  # as far as the kernel reaches
        energies = (gradient_energy(photo[around])[where[around]] for photo in (pair.edit, pair.photo))
        edit, photo = (float(np.sqrt(energy.mean(dtype=np.float64))) for energy in energies)
        return {"seam": edit - photo}

    def identity(self) -> dict[str, object]:
        return declared(
            "seam",
            **OURS,
            bounds=[None, None],
            unit="CIELAB units per pixel",
            higher_is_better=False,
            resize=NO_RESIZE,
            input="8-bit RGB to CIELAB (D65), Scharr 3x3, ring of the blend mask",
        )


METRIC = Seam

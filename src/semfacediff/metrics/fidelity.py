"""SSIM, PSNR and the largest change, outside the edit."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import cv2
import numpy as np
from PIL import Image

from semfacediff.controls import KEPT_OUTSIDE
from semfacediff.metrics.base import NO_RESIZE, OURS, EditPair, Metric, OfProtocol, declared, held_to
from semfacediff.metrics.needs import Needs
from semfacediff.metrics.outside import SSIM_ERODE_PX, eroded, outside

_WINDOW = 7
INNER = (slice(_WINDOW // 2, -(_WINDOW // 2)),) * 2
"""Of a map: windows that lie in the frame, over which scikit-image takes its mean."""
_ROWS = 64
_OF_DAMAGE = (
    "shift_3px < shift_1px < nothing",
    *(f"{kind} < nothing" for kind in ("zoom_1pct", "jpeg_50", "resampled", "photo_noise", "colour_cast")),
    "half_outside < nothing",
    KEPT_OUTSIDE,
)
"""How a score of the outside that falls with damage orders controls."""


def luma(photo: np.ndarray) -> np.ndarray:
    """uint8 ``[H, W]``: ITU-R 601-2 luma as Pillow's mode "L" computes it."""
    return np.asarray(Image.fromarray(photo).convert("L"))


def ssim_map(photo: np.ndarray, edit: np.ndarray) -> np.ndarray:
    """float64 ``[H, W]``: structural similarity of uint8 ``[H, W]`` pictures around each pixel.

    The map of ``skimage.metrics.structural_similarity(photo, edit, data_range=255, full=True)``: 7x7 uniform window,
    sample covariance, the frame reflected at its edge. Sums over windows of 8-bit numbers are whole numbers, so that
    they are exact here, and several times as quick.

    Raises:
        ValueError: shapes differ, or a side is shorter than the window.
    """
    if photo.shape != edit.shape or min(photo.shape) < _WINDOW:
        raise ValueError(f"SSIM: expected equal shapes, sides from {_WINDOW} px, got {photo.shape} and {edit.shape}")
    similarity = np.empty(photo.shape)
    border, n = _WINDOW // 2, _WINDOW**2
    a, b = (cv2.copyMakeBorder(x, *(border,) * 4, cv2.BORDER_REFLECT) for x in (photo, edit))
    sums = [_window_sums(x) for x in (a, b)]
    squares = [_window_sums(cv2.multiply(x, y, dtype=cv2.CV_16U)) for x, y in ((a, a), (b, b), (a, b))]
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    for top in range(0, len(photo), _ROWS):  # what is computed together stays in the processor's cache
        rows = slice(top, top + _ROWS)
        x, y = (s[rows] / n for s in sums)
        xx, yy, xy = (s[rows] / n for s in squares)
        covariance, *variances = (n / (n - 1) * (s - p) for s, p in ((xy, x * y), (xx, x * x), (yy, y * y)))
        numerator = (2 * (x * y) + c1) * (2 * covariance + c2)
        similarity[rows] = numerator / ((x * x + y * y + c1) * (sum(variances) + c2))
    return similarity


def _window_sums(x: np.ndarray) -> np.ndarray:
    """int32 ``[H, W]`` from uint8 or uint16 ``[H + 6, W + 6]``."""
    border = _WINDOW // 2
    sums = cv2.boxFilter(x, cv2.CV_32S, (_WINDOW, _WINDOW), normalize=False, borderType=cv2.BORDER_ISOLATED)
    return sums[border:-border, border:-border]


class SSIM(OfProtocol):
    """Structural similarity of 8-bit luma (Wang et al. 2004; as scikit-image, 7x7 uniform window, data range 255).

    ``thesis``: the region is set to 0 in both photos and the mean is taken over the whole frame, so that the region
    counts as a perfect match. ``strict``: the map is averaged over the outside, eroded by half a window; missing where
    nothing is left.

    Args:
        protocol: ``thesis`` or ``strict``.
    """

    columns = ("ssim",)
    of_outside = True
    higher_is_better: ClassVar = {"ssim": True}
    orders: ClassVar = {"ssim": _OF_DAMAGE}
    map = staticmethod(ssim_map)

    @classmethod
    def opened(cls, name: str, options: Mapping[str, Any], needs: Needs) -> Sequence[Metric]:
        from semfacediff.metrics.pie import BackgroundSSIM  # which measures with what is here

        return [BackgroundSSIM()] if needs.protocol == "pie" else super().opened(name, options, needs)

    def score(self, pair: EditPair) -> dict[str, float | None]:
        photo, edit, kept = luma(pair.photo), luma(pair.edit), outside(pair.blend, self.protocol)
        if self.protocol == "thesis":
            return {"ssim": float(self.map(photo * kept, edit * kept)[INNER].mean())}
        kept = eroded(kept, SSIM_ERODE_PX)
        if not kept.any():
            return {"ssim": None}
        return {"ssim": float(self.map(photo, edit)[kept].mean())}

    def identity(self) -> dict[str, object]:
        return declared(
            "ssim",
            **OURS,
            held_to=held_to("scikit-image", "1e-9"),
            bounds=[-1, 1],
            unit="1",
            higher_is_better=True,
            resize=NO_RESIZE,
            protocol=self.protocol,
            input="8-bit luma (Pillow L)",
            window="uniform 7x7",
        )


class PSNR(OfProtocol):
    """Peak signal-to-noise ratio in dB (infinite for equal photos) and largest 8-bit difference, over the outside."""

    columns = ("psnr_outside", "max_abs_outside")
    of_outside = True
    higher_is_better: ClassVar = {"psnr_outside": True, "max_abs_outside": False}
    orders: ClassVar = {
        "psnr_outside": _OF_DAMAGE,
        "max_abs_outside": ("nothing < shift_1px < shift_3px", "nothing < jpeg_50 < photo_noise", KEPT_OUTSIDE),
    }

    @classmethod
    def opened(cls, name: str, options: Mapping[str, Any], needs: Needs) -> Sequence[Metric]:
        from semfacediff.metrics.pie import BackgroundError  # which measures with what is here

        return [BackgroundError()] if needs.protocol == "pie" else super().opened(name, options, needs)

    def score(self, pair: EditPair) -> dict[str, float | None]:
        kept = outside(pair.blend, self.protocol)
        if not kept.any():
            return {"psnr_outside": None, "max_abs_outside": None}
        # Counts of 8-bit differences are exact and far smaller than the differences themselves.
        differences, where = cv2.absdiff(pair.photo, pair.edit), kept.view(np.uint8)
        histograms = [cv2.calcHist([differences], [c], where, [256], [0, 256]).ravel() for c in range(3)]
        counts = np.rint(np.sum(histograms, axis=0).astype(np.float64)).astype(np.int64)
        mse = float(counts @ np.arange(256) ** 2) / counts.sum()
        psnr = 10 * math.log10(255**2 / mse) if mse else math.inf
        return {"psnr_outside": psnr, "max_abs_outside": float(np.flatnonzero(counts)[-1])}

    def identity(self) -> dict[str, object]:
        return declared(
            ", ".join(self.columns),
            **OURS,
            bounds={"psnr_outside": [0, None], "max_abs_outside": [0, 255]},
            unit={"psnr_outside": "dB", "max_abs_outside": "8-bit levels"},
            higher_is_better=dict(self.higher_is_better),
            resize=NO_RESIZE,
            protocol=self.protocol,
            input="8-bit RGB",
        )

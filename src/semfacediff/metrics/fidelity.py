"""SSIM, PSNR and the largest change, outside the edit."""

import math
from typing import ClassVar

import cv2
import numpy as np
import skimage
from PIL import Image
from skimage.metrics import structural_similarity

from semfacediff.metrics.base import NO_RESIZE, OURS, EditPair, Metric, declared, known_protocol
from semfacediff.metrics.outside import SSIM_ERODE_PX, eroded, outside


def luma(photo: np.ndarray) -> np.ndarray:
    """uint8 ``[H, W]``: ITU-R 601-2 luma as Pillow's mode "L" computes it."""
    return np.asarray(Image.fromarray(photo).convert("L"))


class SSIM(Metric):
    """Structural similarity of 8-bit luma (Wang et al. 2004; scikit-image, 7x7 uniform window, data range 255).

    ``thesis``: the region is set to 0 in both photos and the mean is taken over the whole frame, so that the region
    counts as a perfect match. ``strict``: the map is averaged over the outside, eroded by half a window; missing where
    nothing is left.

    Args:
        protocol: ``thesis`` or ``strict``.
    """

    columns = ("ssim",)
    higher_is_better: ClassVar = {"ssim": True}

    def __init__(self, protocol: str):
        self.protocol = known_protocol(protocol)

    def score(self, pair: EditPair) -> dict[str, float | None]:
        photo, edit, kept = luma(pair.photo), luma(pair.edit), outside(pair.blend, self.protocol)
        if self.protocol == "thesis":
            return {"ssim": float(structural_similarity(photo * kept, edit * kept, data_range=255))}
        kept = eroded(kept, SSIM_ERODE_PX)
        if not kept.any():
            return {"ssim": None}
        _, map_ = structural_similarity(photo, edit, data_range=255, full=True)
        return {"ssim": float(map_[kept].mean())}

    def identity(self) -> dict[str, object]:
        return declared(
            "ssim",
            implementation="scikit-image",
            version=skimage.__version__,
            bounds=[-1, 1],
            unit="1",
            higher_is_better=True,
            resize=NO_RESIZE,
            protocol=self.protocol,
            input="8-bit luma (Pillow L)",
            window="uniform 7x7",
        )


class PSNR(Metric):
    """Peak signal-to-noise ratio in dB (infinite for equal photos) and largest 8-bit difference, over the outside."""

    columns = ("psnr_outside", "max_abs_outside")
    higher_is_better: ClassVar = {"psnr_outside": True, "max_abs_outside": False}

    def __init__(self, protocol: str):
        self.protocol = known_protocol(protocol)

    def score(self, pair: EditPair) -> dict[str, float | None]:
        kept = outside(pair.blend, self.protocol)
        if not kept.any():
            return {"psnr_outside": None, "max_abs_outside": None}
        # Counts of 8-bit differences are exact and far smaller than the differences themselves.
        counts = np.bincount(cv2.absdiff(pair.photo, pair.edit)[kept].ravel(), minlength=256)
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

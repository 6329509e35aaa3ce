"""Scores of generated photos: similarity to the photo they reconstruct, and variety among photos of one label map."""

import itertools
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from skimage.metrics import structural_similarity

from semfacediff.metrics.base import EditPair
from semfacediff.metrics.fidelity import SSIM, luma
from semfacediff.metrics.perceptual import LPIPS


class FrameSSIM:
    """Structural similarity of 8-bit luma over the whole frame (scikit-image, 7x7 uniform window, data range 255)."""

    columns = ("ssim",)
    higher_is_better: ClassVar = {"ssim": True}

    def score(self, photo: np.ndarray, generated: np.ndarray) -> float:
        """Both uint8 ``[H, W, 3]``, H and W at least 7."""
        return float(structural_similarity(luma(photo), luma(generated), data_range=255))

    def identity(self) -> dict[str, object]:
        of_edits = SSIM("strict").identity()
        del of_edits["protocol"]  # nothing is masked
        return of_edits | {"input": f"{of_edits['input']}, whole frame"}


class Diversity:
    """Mean LPIPS over all pairs of photos of the same label map; 0 where they are all the same.

    Args:
        lpips: unmasked it is the distance's usual form: the mean over the frame.
    """

    columns = ("lpips_diversity",)
    higher_is_better: ClassVar = {"lpips_diversity": True}

    def __init__(self, lpips: LPIPS):
        self.lpips = lpips

    def score(self, photos: Sequence[np.ndarray]) -> float:
        """Of at least two uint8 ``[H, W, 3]`` photos."""
        pairs = list(itertools.combinations(photos, 2))
        return float(np.mean([self._distance(a, b) for a, b in pairs]))

    def _distance(self, a: np.ndarray, b: np.ndarray) -> float:
        nothing = np.zeros(a.shape[:2], np.uint8)
        return self.lpips.score(EditPair(photo=a, edit=b, blend=nothing, before=nothing > 0, after=None))["lpips"]

    def identity(self) -> dict[str, object]:
        own = {"metric": "lpips_diversity", "higher_is_better": True}
        return self.lpips.identity() | own | {"pairs": "all of a label map, mean; then the mean over label maps"}

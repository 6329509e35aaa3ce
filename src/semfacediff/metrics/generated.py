"""Scores of generated photos: similarity to the photo they reconstruct, and variety among photos of one label map."""

import itertools
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from semfacediff.metrics.base import NO_RESIZE, OURS, EditPair, declared
from semfacediff.metrics.fidelity import INNER, SSIM, luma, ssim_map
from semfacediff.metrics.perceptual import LPIPS


class FrameSSIM:
    """Structural similarity of 8-bit luma over the whole frame (:mod:`semfacediff.metrics.fidelity`)."""

    columns = ("ssim",)
    higher_is_better: ClassVar = {"ssim": True}

    def score(self, photo: np.ndarray, generated: np.ndarray) -> float:
        """Both uint8 ``[H, W, 3]``, H and W at least 7."""
        return float(ssim_map(luma(photo), luma(generated))[INNER].mean())

    def identity(self) -> dict[str, object]:
        of_edits = SSIM("strict").identity()
        del of_edits["protocol"]  # nothing is masked
        return of_edits | {"input": f"{of_edits['input']}, whole frame"}


class LayoutFit:
    """How much of a photo's colours its label map tells, without a judge: R² of every pixel by its class's mean colour.

    1: every class has one colour; 0: the classes tell nothing. Many a map tells something of any face, so the value of
    another face's map stands beside it: a photo that follows its map is told better by that than by the other.
    """

    columns = ("layout_r2", "layout_r2_other")
    higher_is_better: ClassVar = {"layout_r2": True, "layout_r2_other": None}

    def score(self, photo: np.ndarray, labels: np.ndarray) -> float | None:
        """Of uint8 ``[H, W, 3]`` and integers ``[H, W]``; ``None`` for a photo of one colour."""
        colours, classes = photo.reshape(-1, 3).astype(np.float64), labels.ravel()
        total = colours.var(0).sum()
        if total == 0:
            return None
        counts = np.bincount(classes)
        means = [np.bincount(classes, channel) / np.maximum(counts, 1) for channel in colours.T]
        left = sum(((channel - mean[classes]) ** 2).mean() for channel, mean in zip(colours.T, means, strict=True))
        return float(1 - left / total)

    def identity(self) -> dict[str, object]:
        return declared(
            "layout_r2, layout_r2_other",
            **OURS,
            bounds=[0, 1],
            unit="1",
            higher_is_better=self.higher_is_better,
            resize=NO_RESIZE,
            input="8-bit RGB, all pixels; the other map is that of the next face of the data set",
        )


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
        nothing = np.zeros(photos[0].shape[:2], np.uint8)
        two = itertools.combinations(photos, 2)
        pairs = [EditPair(photo=a, edit=b, blend=nothing, before=nothing > 0, after=None) for a, b in two]
        return float(np.array([score["lpips"] for score in self.lpips.scores(pairs)], np.float64).mean())

    def identity(self) -> dict[str, object]:
        own = {"metric": "lpips_diversity", "higher_is_better": True}
        return self.lpips.identity() | own | {"pairs": "all of a label map, mean; then the mean over label maps"}

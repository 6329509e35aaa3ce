"""A metric: how much the share of edge pixels outside the edit changed, in points.

semfacediff evaluate metrics=no_weights metrics.columns=[ssim,edge_density:EdgeDensity]
    metrics.options={EdgeDensity:{threshold:0.2}}
"""

from dataclasses import dataclass

import cv2
import numpy as np

from semfacediff.metrics.base import NO_RESIZE, Metric, declared


@dataclass
class Options:
    threshold: float = 0.1
    """Of the gradient's magnitude, in luma of [0, 1] per px, from which on a pixel is an edge."""


class EdgeDensity(Metric):
    columns = ("edge_change_points",)
    higher_is_better = {"edge_change_points": False}
    orders = {"edge_change_points": ("nothing = region_blur < photo_noise", "nothing < resampled")}
    of_outside = True

    def __init__(self, threshold: float):
        self.threshold = threshold

    def score(self, pair):
        outside = cv2.erode((pair.blend == 0).astype(np.uint8), np.ones((3, 3))) > 0
        if not outside.any():
            return {"edge_change_points": None}
        before, after = (self._edges(picture)[outside].mean() for picture in (pair.photo, pair.edit))
        return {"edge_change_points": 100 * abs(float(after) - float(before))}

    def _edges(self, picture):
        luma = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
        x, y = (cv2.Sobel(luma, cv2.CV_32F, *axis, scale=1 / 8) for axis in ((1, 0), (0, 1)))
        return np.hypot(x, y) > self.threshold

    def identity(self):
        return declared(
            "edge_change_points",
            implementation="edge_density.py",
            version="1",
            bounds=[0, 100],
            unit="points",
            higher_is_better=False,
            resize=NO_RESIZE,
            threshold=self.threshold,
        )

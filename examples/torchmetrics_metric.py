"""A metric of torchmetrics by name (pip install torchmetrics), of the whole photo.

semfacediff evaluate metrics=no_weights metrics.columns=[ssim,torchmetrics_metric:FromTorchmetrics]
    metrics.options={FromTorchmetrics:{function:universal_image_quality_index}}
"""

import importlib.metadata
from dataclasses import dataclass

import torch
import torchmetrics.functional.image as functions

from semfacediff.metrics.base import NO_RESIZE, Metric, declared


@dataclass
class Options:
    function: str = "universal_image_quality_index"
    """Of torchmetrics.functional.image, called with float32 [1, 3, H, W] in [0, 1]: edit, photo."""
    higher_is_better: bool = True

    def __post_init__(self):
        if not callable(getattr(functions, self.function, None)):
            raise ValueError(f"function: torchmetrics.functional.image has no '{self.function}'")


class FromTorchmetrics(Metric):
    columns = ("torchmetrics",)
    higher_is_better = {"torchmetrics": True}
    orders = {"torchmetrics": ("photo_noise < nothing", "region_noise < nothing")}

    def __init__(self, function: str, higher_is_better: bool):
        self.function = function
        self.higher_is_better = {"torchmetrics": higher_is_better}

    def score(self, pair):
        edit, photo = (torch.from_numpy(p.copy()).permute(2, 0, 1)[None] / 255 for p in (pair.edit, pair.photo))
        value = float(getattr(functions, self.function)(edit, photo))
        return {"torchmetrics": None if value != value else value}

    def identity(self):
        return declared(
            "torchmetrics",
            implementation=f"torchmetrics.functional.image.{self.function}",
            version=importlib.metadata.version("torchmetrics"),
            bounds=[None, None],
            unit="1",
            higher_is_better=self.higher_is_better["torchmetrics"],
            resize=NO_RESIZE,
        )

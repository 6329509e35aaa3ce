"""An editor: blurs the region, whatever the prompt says.

semfacediff evaluate editor=python editor.target=blur_editor:Blur editor.options={sigma_px:4} metrics=no_weights
"""

from dataclasses import dataclass

import cv2
import torch

from semfacediff.editing.base import Editor


@dataclass
class Options:
    sigma_px: float = 4.0
    """Of the Gaussian, in px of the photo."""

    def __post_init__(self):
        if self.sigma_px <= 0:
            raise ValueError(f"sigma_px: expected a number over 0, got {self.sigma_px}")


class Blur(Editor):
    batchable = True

    def __init__(self, sigma_px: float):
        self.sigma_px = sigma_px

    def edit(self, requests):
        return [self._blurred(request) for request in requests]

    def _blurred(self, request):
        pixels = cv2.GaussianBlur(request.photo.permute(1, 2, 0).numpy(), (0, 0), self.sigma_px)
        blurred = torch.from_numpy(pixels).permute(2, 0, 1).clamp(0, 1)
        return torch.where(request.masks.generation > 0.5, blurred, request.photo)

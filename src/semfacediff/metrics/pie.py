"""The background metrics of PIE-Bench (Ju et al., Direct Inversion, ICLR 2024), under ``protocol=pie``.

Both photos are multiplied by 1 - mask, in [0, 1], and compared over the whole frame: a region counts as a perfect
match, so that values depend on its size. The protocol brings photos to 512 px.
"""

import importlib.metadata
import math
import warnings
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
from skimage.metrics import structural_similarity
from torch import Tensor

from semfacediff.metrics.base import NO_RESIZE, OURS, EditPair, Metric, declared
from semfacediff.metrics.perceptual import load_trunk

_INPUT = "8-bit RGB in [0,1] x (1 - mask)"
_FALLS = ("shift_3px < shift_1px < nothing", "photo_noise < nothing", "half_outside < nothing")
_RISES = ("nothing < shift_1px < shift_3px", "nothing < photo_noise", "nothing < half_outside")


def backgrounds(pair: EditPair) -> tuple[np.ndarray, np.ndarray]:
    """float32 ``[H, W, 3]`` in [0, 1]: photo and edit times 1 - mask."""
    kept = (1 - pair.blend.astype(np.float32) / 255)[..., None]
    return pair.photo.astype(np.float32) / 255 * kept, pair.edit.astype(np.float32) / 255 * kept


class BackgroundSSIM(Metric):
    """Structural similarity of the backgrounds in RGB, mean over channels and frame (Wang et al. 2004).

    Gaussian window of 11 px, sigma 1.5, population covariance, data range 1, the outer 5 px left out: what
    ``torchmetrics.StructuralSimilarityIndexMeasure(data_range=1)`` computes, here by scikit-image.
    """

    columns = ("ssim",)
    of_outside = True
    higher_is_better: ClassVar = {"ssim": True}
    orders: ClassVar = {"ssim": _FALLS}

    def score(self, pair: EditPair) -> dict[str, float]:
        photo, edit = (x.astype(np.float64) for x in backgrounds(pair))
        window = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
        return {"ssim": float(structural_similarity(photo, edit, data_range=1.0, channel_axis=-1, **window))}

    def identity(self) -> dict[str, object]:
        return declared(
            "ssim",
            implementation="scikit-image",
            version=importlib.metadata.version("scikit-image"),
            bounds=[-1, 1],
            unit="1",
            higher_is_better=True,
            resize=NO_RESIZE,
            protocol="pie",
            input=_INPUT,
            window="Gaussian 11x11, sigma 1.5",
        )


class BackgroundError(Metric):
    """Mean squared error of the backgrounds in [0, 1] over the whole frame, and its PSNR in dB (infinite for none)."""

    columns = ("psnr_background", "mse_background")
    of_outside = True
    higher_is_better: ClassVar = {"psnr_background": True, "mse_background": False}
    orders: ClassVar = {"psnr_background": _FALLS, "mse_background": _RISES}

    def score(self, pair: EditPair) -> dict[str, float]:
        photo, edit = backgrounds(pair)
        mse = float(np.square(photo - edit).mean(dtype=np.float64))
        return {"psnr_background": -10 * math.log10(mse) if mse else math.inf, "mse_background": mse}

    def identity(self) -> dict[str, object]:
        return declared(
            ", ".join(self.columns),
            **OURS,
            bounds={"psnr_background": [0, None], "mse_background": [0, 1]},
            unit={"psnr_background": "dB", "mse_background": "1"},
            higher_is_better=dict(self.higher_is_better),
            resize=NO_RESIZE,
            protocol="pie",
            input=_INPUT,
        )


class BackgroundLPIPS(Metric):
    """LPIPS (Zhang et al., CVPR 2018) of the backgrounds, brought to [-1, 1], with SqueezeNet 1.1 as its trunk.

    Args:
        trunk: torchvision SqueezeNet 1.1 state dict, or ``None`` for random weights (tests only).
        weights: how the record names the trunk. device: where it runs.

    Raises:
        UserError: the state dict is not a SqueezeNet 1.1's.
    """

    columns = ("lpips",)
    of_outside = True
    higher_is_better: ClassVar = {"lpips": False}
    orders: ClassVar = {"lpips": _RISES}

    def __init__(self, trunk: Mapping[str, Tensor] | None, weights: str, device: torch.device):
        import lpips

        self.weights, self.device = weights, device
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # lpips calls torchvision by its old keyword
            torch.default_generator.manual_seed(0)  # random trunks, where asked for, are at least the same ones
            net = lpips.LPIPS(net="squeeze", pnet_rand=True, verbose=False)
        if trunk is not None:
            load_trunk(net.net, trunk, "lpips_squeeze", "SqueezeNet 1.1")
        self.net = net.eval().to(device)

    @torch.inference_mode()
    def score(self, pair: EditPair) -> dict[str, float]:
        photo, edit = (torch.from_numpy(2 * x - 1).permute(2, 0, 1)[None].to(self.device) for x in backgrounds(pair))
        return {"lpips": float(self.net(photo, edit))}

    def identity(self) -> dict[str, object]:
        return declared(
            "lpips",
            implementation="lpips",
            version=importlib.metadata.version("lpips"),
            bounds=[0, None],
            unit="1",
            higher_is_better=False,
            resize=NO_RESIZE,
            weights=self.weights,
            protocol="pie",
            input=f"{_INPUT}, to [-1,1]",
            network="SqueezeNet 1.1",
        )

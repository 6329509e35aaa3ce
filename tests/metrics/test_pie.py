"""PIE-Bench's background metrics against its formulas in torch, and against ``lpips`` as it is."""

import dataclasses
import math
import warnings

import lpips
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from semfacediff import config
from semfacediff.errors import UserError
from semfacediff.metrics.opening import open_metrics
from semfacediff.metrics.pie import BackgroundError, BackgroundLPIPS, BackgroundSSIM

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def masked(pair):
    """A pair with a mask of 0 and 1, and both photos times 1 - mask as float64 ``[1, 3, H, W]`` in [0, 1]."""
    p = pair()
    p = dataclasses.replace(p, blend=np.where(p.blend > 127, np.uint8(255), np.uint8(0)))
    kept = torch.from_numpy((p.blend == 0).astype(np.float64))
    photos = [torch.from_numpy(x).double().permute(2, 0, 1)[None] / 255 * kept for x in (p.photo, p.edit)]
    return p, photos


def gaussian_ssim(x: torch.Tensor, y: torch.Tensor) -> float:
    """Wang et al.'s SSIM of ``[1, 3, H, W]`` in [0, 1]: windows that fit into the frame, mean over all of them."""
    at = torch.arange(11, dtype=torch.float64) - 5
    row = torch.exp(-((at / 1.5) ** 2) / 2)
    window = torch.outer(row, row).expand(3, 1, 11, 11) / row.sum() ** 2
    ex, ey, exx, eyy, exy = (F.conv2d(z, window, groups=3) for z in (x, y, x * x, y * y, x * y))
    c1, c2 = 0.01**2, 0.03**2
    over = (2 * ex * ey + c1) * (2 * (exy - ex * ey) + c2)
    return float((over / ((ex**2 + ey**2 + c1) * (exx - ex**2 + eyy - ey**2 + c2))).mean())


def test_ssim_and_error_are_those_of_the_masked_photos(masked):
    p, (photo, edit) = masked
    # float32 pixels, 121 products a window, values up to 1
    assert BackgroundSSIM().score(p)["ssim"] == pytest.approx(gaussian_ssim(photo, edit), abs=1e-5)
    scores, mse = BackgroundError().score(p), float(((photo - edit) ** 2).mean())
    assert scores["mse_background"] == pytest.approx(mse, rel=1e-5)
    assert scores["psnr_background"] == pytest.approx(10 * math.log10(1 / mse), rel=1e-5)
    assert mse > 0


@pytest.fixture(scope="module")
def squeeze() -> dict[str, torch.Tensor]:
    from torchvision.models import squeezenet1_1

    with torch.random.fork_rng():
        torch.manual_seed(4)
        return squeezenet1_1(weights=None).state_dict()


def test_lpips_is_that_of_the_package_with_the_given_trunk(masked, squeeze):
    p, photos = masked
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = lpips.LPIPS(net="squeeze", pnet_rand=True, verbose=False).eval()
    layers = [m for m in net.net.modules() if isinstance(m, torch.nn.Conv2d)]
    convolutions = [k.removesuffix(".weight") for k in squeeze if k.startswith("features") and k.endswith(".weight")]
    for layer, name in zip(layers, convolutions, strict=True):
        layer.weight.data, layer.bias.data = squeeze[f"{name}.weight"], squeeze[f"{name}.bias"]
    with torch.no_grad():
        expected = float(net(*(2 * x.float() - 1 for x in photos)))
    assert BackgroundLPIPS(squeeze, "random", CPU).score(p)["lpips"] == pytest.approx(expected, rel=1e-4, abs=1e-7)
    with pytest.raises(UserError, match=r"weights\.lpips_squeeze: not a torchvision SqueezeNet 1\.1 state dict"):
        BackgroundLPIPS({}, "nothing", CPU)


def test_equal_backgrounds_are_perfect_whatever_the_region(masked):
    p, _ = masked
    edit = np.where(p.blend[..., None] == 0, p.photo, 255 - p.photo)
    same = dataclasses.replace(p, edit=edit)
    assert BackgroundSSIM().score(same) == {"ssim": pytest.approx(1, abs=1e-12)}
    assert BackgroundError().score(same) == {"psnr_background": math.inf, "mse_background": 0.0}


def test_the_protocol_measures_with_them(compose):
    words = (
        "protocol=pie",
        "metrics=no_weights",
        "metrics.columns=[ssim,psnr,lpips,iou]",
        "weights.lpips_squeeze=random",
    )
    settings = config.typed(compose("evaluate", *words, "weights.lpips_squeeze=random"), config.EditingEvaluation)
    assert (settings.working_size, settings.composite, settings.region.feather_sigma_px) == (512, "off", 0.0)
    metrics = open_metrics(settings, CPU)
    assert [c for m in metrics.each for c in m.columns] == ["ssim", "psnr_background", "mse_background", "lpips", "iou"]
    assert [m["protocol"] for m in metrics.identities()[:3]] == ["pie"] * 3
    assert metrics.doubts == ["lpips: weights random are not the public squeezenet1_1-b8a52dc0.pth"]
    with pytest.raises(UserError, match=r"protocol=pie scores edits; use protocol=strict, ce7454 or segface"):
        config.typed(compose("evaluate", "protocol=pie", "task=parsing"), config.ParsingEvaluation)

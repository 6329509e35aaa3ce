"""LPIPS (Zhang et al., CVPR 2018) outside the edit, through the ``lpips`` package, AlexNet trunk."""

import importlib.metadata
import warnings
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from semfacediff.errors import UserError
from semfacediff.metrics.base import NO_RESIZE, EditPair, Metric, declared, known_protocol
from semfacediff.metrics.outside import outside


def _in_lpips_range(photo: np.ndarray, device: torch.device) -> Tensor:
    """float32 ``[1, 3, H, W]`` in [-1,1]."""
    x = torch.from_numpy(photo.astype(np.float32)).permute(2, 0, 1)[None].to(device)
    return x / 127.5 - 1


class LPIPS(Metric):
    """Distance of deep features; 0 for equal photos.

    ``thesis``: both photos are multiplied by the outside, so that the region is mid-grey in both, and the value is the
    mean over the frame. ``strict``: the spatial map of the untouched photos is averaged over the outside.

    Args:
        protocol: ``thesis`` or ``strict``.
        trunk: torchvision AlexNet state dict, or ``None`` for random weights (tests only).
        weights: how the record names the trunk.
        device: where it runs.

    Raises:
        UserError: the state dict is not an AlexNet's.
    """

    columns = ("lpips",)
    higher_is_better: ClassVar = {"lpips": False}

    def __init__(self, protocol: str, trunk: Mapping[str, Tensor] | None, weights: str, device: torch.device):
        import lpips

        self.protocol, self.weights, self.device = known_protocol(protocol), weights, device
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # lpips calls torchvision by its old keyword
            torch.default_generator.manual_seed(0)  # random trunks, where asked for, are at least the same ones
            net = lpips.LPIPS(net="alex", spatial=protocol == "strict", pnet_rand=True, verbose=False)
        if trunk is not None:
            _load_trunk(net.net, trunk)
        self.net = net.eval().to(device)

    @torch.inference_mode()
    def score(self, pair: EditPair) -> dict[str, float | None]:
        kept = outside(pair.blend, self.protocol)
        if self.protocol == "strict" and not kept.any():
            return {"lpips": None}
        photo, edit = (_in_lpips_range(p, self.device) for p in (pair.photo, pair.edit))
        mask = torch.from_numpy(kept).to(self.device)
        if self.protocol == "thesis":
            return {"lpips": float(self.net(photo * mask, edit * mask))}
        return {"lpips": float(self.net(photo, edit)[0, 0][mask].double().mean())}

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
            protocol=self.protocol,
            input="RGB in [-1,1]",
            network="AlexNet",
        )


def _load_trunk(net: torch.nn.Module, state: Mapping[str, Tensor]) -> None:
    """Put torchvision's ``features.<i>.*`` into lpips' slices of the same layers, which keep the indices."""
    own = {
        f"slice{k}.{name}.{kind}": f"features.{name}.{kind}"
        for k in range(1, 6)
        for name, layer in getattr(net, f"slice{k}").named_children()
        for kind in layer.state_dict()
    }
    missing = [source for source in own.values() if source not in state]
    if missing:
        raise UserError(f"weights.lpips_alexnet: not a torchvision AlexNet state dict (no {', '.join(missing[:3])})")
    try:
        net.load_state_dict({target: state[source] for target, source in own.items()})
    except RuntimeError as e:
        raise UserError(f"weights.lpips_alexnet: not a torchvision AlexNet ({str(e).splitlines()[-1].strip()})") from e

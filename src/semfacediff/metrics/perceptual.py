"""LPIPS (Zhang et al., CVPR 2018) outside the edit, through the ``lpips`` package, AlexNet trunk."""

import importlib.metadata
import warnings
from collections.abc import Iterator, Mapping
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from semfacediff.errors import UserError
from semfacediff.metrics.base import NO_RESIZE, EditPair, Metric, declared, known_protocol
from semfacediff.metrics.deep_features import Box, Features, Trunk, is_part
from semfacediff.metrics.keeping import Kept, content
from semfacediff.metrics.outside import outside

_KEPT_PHOTOS = 2
"""Photos whose features wait for their next edit; about 60 MB each at 1024 px."""


def _in_lpips_range(photo: np.ndarray, device: torch.device) -> Tensor:
    """float32 ``[1, 3, H, W]`` in [-1,1]."""
    x = torch.from_numpy(photo.astype(np.float32)).permute(2, 0, 1)[None].to(device)
    return x / 127.5 - 1


class LPIPS(Metric):
    """Distance of deep features; 0 for equal photos.

    ``thesis``: both photos are multiplied by the outside, so that the region is mid-grey in both, and the value is the
    mean over the frame. ``strict``: the spatial map of the untouched photos is averaged over the outside.

    The photo's features are computed once for all of its edits, those of an edit only where it can differ from what it
    was made of (:mod:`semfacediff.metrics.deep_features`).

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
        self._slices = [list(getattr(self.net.net, f"slice{k}")) for k in range(1, 6)]
        self._trunk = Trunk([layer for part in self._slices for layer in part])
        self._photos: Kept[Features] = Kept(_KEPT_PHOTOS)

    @torch.inference_mode()
    def score(self, pair: EditPair) -> dict[str, float | None]:
        kept = outside(pair.blend, self.protocol)
        if self.protocol == "strict" and not kept.any():
            return {"lpips": None}
        mask = torch.from_numpy(kept).to(self.device)
        if self.protocol == "strict":
            photo = self._of_photo(pair.photo)
            map_ = self._map(photo, self._features(pair.edit, like=photo), kept.shape)
            return {"lpips": float(map_[mask].double().mean())}
        photo = self._features(pair.photo, mask, self._of_photo(pair.photo) if is_part(~mask) else None)
        return {"lpips": float(self._mean(photo, self._features(pair.edit, mask, photo)))}

    def _of_photo(self, photo: np.ndarray) -> Features:
        """The whole photo's, computed once for all of its edits."""
        return self._photos.get(content(photo), lambda: self._features(photo))

    def _features(self, photo: np.ndarray, mask: Tensor | None = None, like: Features | None = None) -> Features:
        """Of a uint8 ``[H, W, 3]`` photo, mid-grey where ``mask`` is False."""
        x = _in_lpips_range(photo, self.device)
        return self._trunk.features(self.net.scaling_layer(x if mask is None else x * mask), like)

    def _mean(self, photo: Features, edit: Features) -> Tensor:
        """The distance, averaged over the frame."""
        return sum(part.sum() / (size[0] * size[1]) for part, _, size in self._distances(photo, edit))

    def _map(self, photo: Features, edit: Features, shape: tuple[int, int]) -> Tensor:
        """float32 ``[H, W]``: the distance at every pixel."""
        total = torch.zeros(shape, device=self.device)
        for part, box, size in self._distances(photo, edit):
            whole = part.new_zeros(1, 1, *size)
            whole[(..., *box)] = part
            total += torch.nn.functional.interpolate(whole, size=shape, mode="bilinear", align_corners=False)[0, 0]
        return total

    def _distances(self, photo: Features, edit: Features) -> Iterator[tuple[Tensor, Box, torch.Size]]:
        """(float32 ``[1, 1, h, w]``, where that lies, size of the whole) of each compared layer; 0 elsewhere."""
        of_part, at = edit.other is photo, -1
        for part, weigh in zip(self._slices, self.net.lins, strict=True):
            at += sum(not isinstance(layer, torch.nn.ReLU) for layer in part)
            a, b = photo.outputs[at], edit.outputs[at]
            box = edit.changed[at] if of_part else (slice(None), slice(None))
            a_part, b_part = a[(..., *box)], b[(..., *box)]
            if a_part.numel():
                yield weigh((_unit(a_part) - _unit(b_part)) ** 2), box, a.shape[2:]

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


def _unit(x: Tensor) -> Tensor:
    """``[N, C, h, w]`` features at length 1 along C."""
    return x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10)


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

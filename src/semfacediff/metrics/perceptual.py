"""LPIPS (Zhang et al., CVPR 2018) outside the edit: the network of the ``lpips`` package, AlexNet trunk."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from semfacediff.errors import UserError
from semfacediff.metrics.base import NO_RESIZE, OURS, EditPair, Metric, declared, held_to, known_protocol
from semfacediff.metrics.cache import LRUCache, content
from semfacediff.metrics.deep_features import Box, Features, Trunk, is_part
from semfacediff.metrics.needs import Needs
from semfacediff.metrics.outside import outside
from semfacediff.metrics.weights import LPIPS_ALEXNET, LPIPS_SQUEEZE

_KEPT_PHOTOS = 2
"""Photos whose features wait for their next edit; about 60 MB each at 1024 px."""


def _in_lpips_range(photos: np.ndarray, device: torch.device) -> Tensor:
    """float32 ``[N, 3, H, W]`` in [-1,1] of uint8 ``[N, H, W, 3]``."""
    x = torch.from_numpy(photos.astype(np.float32)).permute(0, 3, 1, 2).to(device)
    return x / 127.5 - 1


def _mean_over(map_: Tensor, mask: Tensor) -> float | None:
    """Mean of float32 ``[H, W]`` where ``mask``; summed in float64 on the host, as not every device has it."""
    return float(map_[mask].cpu().double().mean()) if mask.any() else None


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
    of_outside = True
    higher_is_better: ClassVar = {"lpips": False}
    orders: ClassVar = {
        "lpips": ("nothing < shift_1px < shift_3px", *(f"nothing < {k}" for k in ("jpeg_50", "photo_noise")))
    }

    @classmethod
    def opened(cls, name: str, options: Mapping[str, Any], needs: Needs) -> Sequence[Metric]:
        if needs.protocol == "pie":
            from semfacediff.metrics.pie import BackgroundLPIPS  # which measures with what is here

            found = needs.weights(LPIPS_SQUEEZE, name)
            return [BackgroundLPIPS(found.state, found.name, needs.device)] if found else []
        found = needs.weights(LPIPS_ALEXNET, name)
        return [cls(needs.protocol, found.state, found.name, needs.device)] if found else []

    def __init__(self, protocol: str, trunk: Mapping[str, Tensor] | None, weights: str, device: torch.device):
        import lpips

        self.protocol, self.weights, self.device = known_protocol(protocol), weights, device
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # lpips calls torchvision by its old keyword
            torch.default_generator.manual_seed(0)  # random trunks, where asked for, are at least the same ones
            net = lpips.LPIPS(net="alex", spatial=protocol == "strict", pnet_rand=True, verbose=False)
        if trunk is not None:
            load_trunk(net.net, trunk, "lpips_alexnet", "AlexNet")
        self.net = net.eval().to(device)
        self._slices = [list(getattr(self.net.net, f"slice{k}")) for k in range(1, 6)]
        self._trunk = Trunk([layer for part in self._slices for layer in part])
        self.together = device.type != "cpu"
        self._photos: LRUCache[Features] = LRUCache(_KEPT_PHOTOS)

    def scores(self, pairs: Sequence[EditPair]) -> list[dict[str, float | None]]:
        if not self.together or len({pair.photo.shape for pair in pairs}) != 1:
            return [self.score(pair) for pair in pairs]
        return self._scored_together(pairs)

    @torch.inference_mode()
    def _scored_together(self, pairs: Sequence[EditPair]) -> list[dict[str, float | None]]:
        """Of one size, whole photos in batches: an accelerator would wait for the bounds of what changed."""
        kept = torch.from_numpy(np.stack([outside(pair.blend, self.protocol) for pair in pairs])).to(self.device)
        mask = kept[:, None] if self.protocol == "thesis" else None
        photos, edits = (
            self._features(np.stack([getattr(pair, of) for pair in pairs]), mask) for of in ("photo", "edit")
        )
        if self.protocol == "thesis":
            return [{"lpips": value} for value in self._means(photos, edits).tolist()]
        maps = self._maps(photos, edits, kept.shape[1:])
        return [{"lpips": _mean_over(map_, mask)} for map_, mask in zip(maps, kept, strict=True)]

    @torch.inference_mode()
    def score(self, pair: EditPair) -> dict[str, float | None]:
        kept = outside(pair.blend, self.protocol)
        if self.protocol == "strict" and not kept.any():
            return {"lpips": None}
        mask = torch.from_numpy(kept).to(self.device)
        if self.protocol == "strict":
            photo = self._of_photo(pair.photo)
            map_ = self._maps(photo, self._features(pair.edit[None], like=photo), kept.shape)[0]
            return {"lpips": _mean_over(map_, mask)}
        photo = self._features(pair.photo[None], mask, self._of_photo(pair.photo) if is_part(~mask) else None)
        return {"lpips": float(self._means(photo, self._features(pair.edit[None], mask, photo)))}

    def _of_photo(self, photo: np.ndarray) -> Features:
        """The whole photo's, computed once for all of its edits."""
        return self._photos.get(content(photo), lambda: self._features(photo[None]))

    def _features(self, photos: np.ndarray, mask: Tensor | None = None, like: Features | None = None) -> Features:
        """Of uint8 ``[N, H, W, 3]`` photos, mid-grey where ``mask`` is False."""
        x = _in_lpips_range(photos, self.device)
        return self._trunk.features(self.net.scaling_layer(x if mask is None else x * mask), like)

    def _means(self, photo: Features, edit: Features) -> Tensor:
        """float32 ``[N]``: the distance, averaged over the frame."""
        parts = self._distances(photo, edit)
        return sum((part.sum((1, 2, 3)) / (size[0] * size[1]) for part, _, size in parts), photo.photo.new_zeros(1))

    def _maps(self, photo: Features, edit: Features, shape: Sequence[int]) -> Tensor:
        """float32 ``[N, H, W]``: the distance at every pixel."""
        total = torch.zeros(len(photo.photo), *shape, device=self.device)
        for part, box, size in self._distances(photo, edit):
            whole = part.new_zeros(len(part), 1, *size)
            whole[(..., *box)] = part
            total += torch.nn.functional.interpolate(whole, size=shape, mode="bilinear", align_corners=False)[:, 0]
        return total

    def _distances(self, photo: Features, edit: Features) -> Iterator[tuple[Tensor, Box, torch.Size]]:
        """(float32 ``[N, 1, h, w]``, where that lies, size of the whole) of each compared layer; 0 elsewhere."""
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
            **OURS,
            held_to=held_to("lpips", "1e-5"),
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


def load_trunk(net: torch.nn.Module, state: Mapping[str, Tensor], key: str, network: str) -> None:
    """Put torchvision's ``features.<i>.*`` into lpips' slices of the same layers, which keep the indices.

    Args:
        key: below ``weights``. network: what ``state`` should be; both for messages.
    """
    own = {target: f"features.{target.partition('.')[2]}" for target in net.state_dict()}
    missing = [source for source in own.values() if source not in state]
    if missing:
        raise UserError(f"weights.{key}: not a torchvision {network} state dict (no {', '.join(missing[:3])})")
    try:
        net.load_state_dict({target: state[source] for target, source in own.items()})
    except RuntimeError as e:
        raise UserError(f"weights.{key}: not a torchvision {network} ({str(e).splitlines()[-1].strip()})") from e

"""Metrics that this package computes in its own way, computed by the libraries they are held to: slower, same columns.

``metrics.reference=true`` uses them.
"""

import contextlib
import importlib.metadata
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from semfacediff.metrics.base import EditPair
from semfacediff.metrics.effect import Effect
from semfacediff.metrics.fidelity import SSIM
from semfacediff.metrics.inception import FEATURES, Inception
from semfacediff.metrics.outside import outside
from semfacediff.metrics.perceptual import LPIPS
from semfacediff.metrics.set_scores import SetScores


def as_reference(metric: Any) -> Any:
    """The same metric by its library, with the same weights; one that has no such library as it is."""
    by_library = _BY_LIBRARY.get(type(metric))
    if by_library is None:
        return metric
    made: Any = object.__new__(by_library)
    made.__dict__ = dict(vars(metric))
    if isinstance(made, SetScores) and isinstance(made.network, Inception):
        made.network = ReferenceInception(made.network)
    return made


def by(library: str, identity: Mapping[str, object]) -> dict[str, object]:
    """``identity`` of a metric of ours as its library computes it."""
    named = {"implementation": library, "version": importlib.metadata.version(library), "reference": True}
    return {key: value for key, value in identity.items() if key != "held_to"} | named


class ReferenceSSIM(SSIM):
    """``skimage.metrics.structural_similarity``."""

    @staticmethod
    def map(photo: np.ndarray, edit: np.ndarray) -> np.ndarray:
        from skimage.metrics import structural_similarity

        return structural_similarity(photo, edit, data_range=255, full=True)[1]

    def identity(self) -> dict[str, object]:
        return by("scikit-image", super().identity())


class ReferenceEffect(Effect):
    """Colours and their differences by ``skimage.color.rgb2lab`` and ``deltaE_ciede2000``, in float64."""

    @staticmethod
    def lab(photo: np.ndarray) -> np.ndarray:
        from skimage.color import rgb2lab

        return rgb2lab(photo)

    @staticmethod
    def difference(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        from skimage.color import deltaE_ciede2000

        return deltaE_ciede2000(first, second)

    def identity(self) -> dict[str, object]:
        return by("scikit-image", super().identity())


class ReferenceLPIPS(LPIPS):
    """``lpips.LPIPS`` called with both photos, every time."""

    def scores(self, pairs: Sequence[EditPair]) -> list[dict[str, float | None]]:
        return [self.score(pair) for pair in pairs]

    @torch.inference_mode()
    def score(self, pair: EditPair) -> dict[str, float | None]:
        kept = outside(pair.blend, self.protocol)
        if self.protocol == "strict" and not kept.any():
            return {"lpips": None}
        photo, edit = (self._in_range(x) for x in (pair.photo, pair.edit))
        if self.protocol == "thesis":
            mask = torch.from_numpy(kept).to(self.device)
            return {"lpips": float(self.net(photo * mask, edit * mask))}
        return {"lpips": float(self.net(photo, edit)[0, 0].cpu().numpy()[kept].mean(dtype=np.float64))}

    def _in_range(self, photo: np.ndarray) -> Tensor:
        """float32 ``[1, 3, H, W]`` in [-1,1]."""
        return torch.from_numpy(photo).to(self.device).permute(2, 0, 1)[None].float() / 127.5 - 1

    def identity(self) -> dict[str, object]:
        return by("lpips", super().identity())


class ReferenceInception(Inception):
    """``pytorch_fid.inception.InceptionV3``, one photo at a time."""

    def __init__(self, ours: Inception):
        from pytorch_fid import inception

        self.weights, self.device = ours.weights, ours.device
        own = {k: v for k, v in ours.net.state_dict().items() if not k.startswith("fc.")}
        linear = {"fc.weight": torch.zeros(1008, FEATURES), "fc.bias": torch.zeros(1008)}
        with mock.patch.object(inception, "load_state_dict_from_url", return_value=own | linear):
            self.net = inception.InceptionV3().eval().to(ours.device)

    @torch.inference_mode()
    def features(self, photos: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for photo in photos:
            x = torch.from_numpy(np.array(photo)).to(self.device).permute(2, 0, 1)[None].float() / 255
            yield self.net(x)[0][0, :, 0, 0].cpu().numpy()


class ReferenceSetScores(SetScores):
    """FID by ``pytorch_fid.fid_score`` from NumPy's mean and covariance; KID as it is."""

    @staticmethod
    def distance(photos: np.ndarray, edits: np.ndarray) -> float:
        from pytorch_fid.fid_score import calculate_frechet_distance

        moments = [(x.mean(0), np.cov(x, rowvar=False)) for x in (photos.astype(float), edits.astype(float))]
        with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return max(0.0, float(calculate_frechet_distance(*moments[0], *moments[1])))

    def identities(self) -> list[dict[str, object]]:
        return [by("pytorch-fid", one) if one["metric"] == "fid" else one for one in super().identities()]


_BY_LIBRARY: dict[type, type] = {
    SSIM: ReferenceSSIM,
    LPIPS: ReferenceLPIPS,
    Effect: ReferenceEffect,
    SetScores: ReferenceSetScores,
}

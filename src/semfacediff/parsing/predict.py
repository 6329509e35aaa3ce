"""From photos to label maps, whatever makes them."""

import functools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semfacediff import config, plugins
from semfacediff.data.sizes import resized_labels
from semfacediff.labels import LabelSpace, attribute_indices, space
from semfacediff.parsing.checkpoint import ParserCard
from semfacediff.types import FaceSample, check_image, to_tensor


class Parser(ABC):
    """Gives a label map before and after an edit.

    ``before`` and ``after`` return int64 ``[H, W]`` in ``label_space`` at the size of the photo they are given
    (float32 ``[3, H, W]`` in [0,1]); ``after`` may return ``None``: no opinion.
    """

    label_space: LabelSpace

    @classmethod
    def opened(cls, settings: config.ParserConfig, data_space: LabelSpace) -> "tuple[Parser, dict]":
        """The parser that ``parser=`` describes, and its facts for the record.

        Raises:
            UserError: it cannot be made of its options.
        """
        name = str(settings.name)
        made = plugins.made("parser", name, settings.options)
        return made, {"name": name, **plugins.code_identity("parser", name), "label_space": made.label_space.name}

    @abstractmethod
    def before(self, sample: FaceSample, photo: Tensor) -> Tensor: ...

    @abstractmethod
    def after(self, sample: FaceSample, attribute: str, photo: Tensor) -> Tensor | None: ...

    def network(self) -> "ModelParser | None":
        """This parser, if its logits can be had; ``None`` for one that only gives label maps."""
        return None

    def check(self, attributes: list[str]) -> None:
        """Refuse attributes that this parser cannot tell, before any work.

        Raises:
            UserError: its label space lacks one of their classes, or its files do.
        """
        for attribute in attributes:
            attribute_indices(attribute, self.label_space)

    def fingerprint(self, sample_id: str, attribute: str | None) -> str | None:
        """Digest of the files the parse (and that of the edit) is read from; ``None`` for a parser that computes."""
        return None


def landmarks_of(sample: FaceSample, size: tuple[int, int]) -> Tensor | None:
    """float32 ``[1, 5, 2]`` in px of the sample's photo resized to ``size`` = (height, width); ``None`` without any."""
    if sample.landmarks is None:
        return None
    height, width = sample.photo.shape[:2]
    scale = torch.tensor([size[1] / width, size[0] / height])
    return (torch.from_numpy(sample.landmarks) * scale)[None]


def labels_like(labels: np.ndarray, photo: Tensor) -> Tensor:
    """int64 ``[H, W]``: a label map at the size of a photo ``[3, H, W]``."""
    height, width = photo.shape[-2:]
    return torch.from_numpy(resized_labels(labels, (height, width)).astype(np.int64))


@runtime_checkable
class CoarseNetwork(Protocol):
    """A network that can leave enlarging its logits, its last step, to :func:`enlarged_argmax`."""

    def coarse(self, x: Tensor) -> Tensor:
        """Logits of normalised photos, before that step."""
        ...


class ModelParser(Parser):
    """A neural parser with its preparation: resize to a square, normalise, logits, resize back, argmax.

    One whose card says ``uses_landmarks`` is given those of a photo that has some; others leave them alone.

    Args:
        model: kept; its convolutions and linear layers are cast to ``precision``.
        precision: of those layers. What is sensitive stays float32, as torch's autocast decides; logits always are.
    """

    def __init__(
        self, model: nn.Module, card: ParserCard, device: torch.device, precision: torch.dtype = torch.float32
    ):
        self.label_space = space(card.label_space)
        self.card = card
        self.device = device
        self.model = model.eval().to(device).to(memory_format=torch.channels_last)
        self._autocast = functools.partial(torch.autocast, device.type, precision, precision != torch.float32)
        if precision != torch.float32:  # once, where autocast would at every call
            for layer in filter(_has_many_weights, model.modules()):
                layer.to(precision)
        self._mean = torch.tensor(card.mean, device=device).view(1, 3, 1, 1)
        self._std = torch.tensor(card.std, device=device).view(1, 3, 1, 1)

    @torch.inference_mode()
    def logits(self, photos: Tensor, landmarks: Tensor | None = None) -> Tensor:
        """float32 ``[N, C, s, s]`` at the card's input size, from float32 ``[N, 3, H, W]`` in [0,1].

        Args:
            landmarks: float32 ``[N, 5, 2]`` in px of the photos, see :attr:`FaceSample.landmarks`; NaN: none.
        """
        x, marks = self._prepared(photos), []
        if landmarks is not None and self.card.uses_landmarks:
            (height, width), s = photos.shape[-2:], self.card.input_size
            marks = [landmarks.to(x) * x.new_tensor([s / width, s / height])]
        return self._computed(x, marks)

    def _computed(self, x: Tensor, marks: Sequence[Tensor]) -> Tensor:
        with self._autocast():
            return self.model(x, *marks).float()

    @torch.inference_mode()
    def logits_of(self, samples: Sequence[FaceSample]) -> Tensor:
        """float32 ``[N, C, s, s]`` as :meth:`logits` gives them, of photos (with their landmarks) of any sizes."""
        x = torch.cat([self._prepared(to_tensor(one.photo)[None]) for one in samples])
        marks, s = [], self.card.input_size
        if self.card.uses_landmarks and any(one.landmarks is not None for one in samples):
            none = torch.full((1, 5, 2), torch.nan)
            found = (landmarks_of(one, (s, s)) for one in samples)
            marks = [torch.cat([none if one is None else one for one in found]).to(x)]
        return self._computed(x, marks)

    def _prepared(self, photos: Tensor) -> Tensor:
        check_image(photos, "photos")
        s = (self.card.input_size,) * 2
        x = photos.to(self.device)
        if tuple(x.shape[-2:]) != s:
            x = F.interpolate(x, size=s, mode="bilinear", align_corners=False, antialias=True)
        return ((x - self._mean) / self._std).contiguous(memory_format=torch.channels_last)

    @torch.inference_mode()
    def predict(self, photos: Tensor, size: tuple[int, int] | None = None, landmarks: Tensor | None = None) -> Tensor:
        """int64 ``[N, *size]`` on the CPU (by default at the photos' size): logits are resized, then argmax is taken.

        On the CPU photos go through one by one: convolutions of another batch size may round differently, and a label
        map must not depend on its neighbours; nothing is gained from batches there.
        """
        height, width = size or photos.shape[-2:]
        size = height, width
        if self.device.type == "cpu" and size == (self.card.input_size,) * 2 and isinstance(self.model, CoarseNetwork):
            network = self.model
            return torch.cat([self.label_map(self._coarse(network, photo), size) for photo in photos.split(1)])
        step = 1 if self.device.type == "cpu" else len(photos)
        marks = [None] * len(photos) if landmarks is None else landmarks.split(step)
        return torch.cat(
            [self.label_map(self.logits(*pair), size) for pair in zip(photos.split(step), marks, strict=False)]
        )

    def network(self) -> "ModelParser":
        return self

    @torch.inference_mode()
    def _coarse(self, network: CoarseNetwork, photo: Tensor) -> Tensor:
        x = self._prepared(photo)
        with self._autocast():
            return network.coarse(x).float()

    @staticmethod
    def label_map(logits: Tensor, size: tuple[int, int]) -> Tensor:
        """int64 ``[N, *size]`` on the CPU: argmax of float32 ``[N, C, h, w]``, resized bilinearly before."""
        if logits.device.type == "cpu" and all(a > b for a, b in zip(size, logits.shape[-2:], strict=True)):
            return torch.stack([enlarged_argmax(one, size) for one in logits])
        if tuple(logits.shape[-2:]) != size:
            logits = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
        return logits.argmax(1).cpu()

    def before(self, sample: FaceSample, photo: Tensor) -> Tensor:
        return self.predict(photo[None], landmarks=self._landmarks(sample, photo))[0]

    def after(self, sample: FaceSample, attribute: str, photo: Tensor) -> Tensor | None:
        return self.predict(photo[None], landmarks=self._landmarks(sample, photo))[0]

    @staticmethod
    def _landmarks(sample: FaceSample, photo: Tensor) -> Tensor | None:
        """``[1, 5, 2]``, where ``photo`` is the sample's frame; another one may show another part of it."""
        height, width = photo.shape[-2:]
        return landmarks_of(sample, (height, width)) if (height, width) == sample.photo.shape[:2] else None


def _has_many_weights(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Conv2d | nn.Linear)


def enlarged_argmax(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """int64 ``[H, W]`` at ``size``: argmax of float32 ``[C, h, w]`` on the CPU, enlarged bilinearly before.

    Where the four neighbours of a pixel have one and the same largest class, so has every mean of them: only beside the
    borders of classes are logits resized at all.
    """
    (top, bottom, v), (left, right, u) = (
        _neighbours(n, given) for n, given in zip(size, logits.shape[-2:], strict=True)
    )
    coarse = logits.argmax(0).to(torch.uint8)
    corners = [[coarse[rows][:, columns] for columns in (left, right)] for rows in (top, bottom)]
    labels = corners[0][0]
    differs = (labels != corners[0][1]) | (labels != corners[1][0]) | (labels != corners[1][1])
    labels = labels.long()
    y, x = differs.nonzero(as_tuple=True)
    flat = logits.permute(1, 2, 0).reshape(-1, len(logits))
    u, v, width = u[x, None], v[y, None], logits.shape[-1]
    upper, lower = (flat[r * width + left[x]] * (1 - u) + flat[r * width + right[x]] * u for r in (top[y], bottom[y]))
    labels[y, x] = (upper * (1 - v) + lower * v).argmax(1)
    return labels


def _neighbours(n: int, given: int) -> tuple[Tensor, Tensor, Tensor]:
    """(index before, index after, weight of the latter) of ``n`` pixels in ``given`` ones, pixel centres aligned."""
    at = ((torch.arange(n, dtype=torch.float32) + 0.5) * (given / n) - 0.5).clamp_(min=0)
    before = at.long()
    return before, (before + 1).clamp_(max=given - 1), at - before

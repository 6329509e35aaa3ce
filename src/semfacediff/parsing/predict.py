"""From photos to label maps, whatever makes them."""

from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semfacediff.data.reading import Blob, decode_labels
from semfacediff.errors import UserError
from semfacediff.labels import LabelSpace, attribute_indices, space
from semfacediff.parsing.checkpoint import ParserCard
from semfacediff.types import FaceSample, check_image
from semfacediff.weight_files import fingerprint


class Parser(Protocol):
    """Gives a label map before and after an edit.

    ``before`` and ``after`` return int64 ``[H, W]`` in ``label_space`` at the size of the photo they are given
    (float32 ``[3, H, W]`` in [0,1]); ``after`` may return ``None``: no opinion.
    """

    label_space: LabelSpace

    def before(self, sample: FaceSample, photo: Tensor) -> Tensor: ...

    def after(self, sample: FaceSample, attribute: str, photo: Tensor) -> Tensor | None: ...

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


def resized_labels(labels: Tensor, size: tuple[int, int]) -> Tensor:
    """Nearest-neighbour resize of an integer ``[H, W]`` map to ``size`` = (height, width), pixel centres aligned."""
    if tuple(labels.shape) == size:
        return labels.long()
    return F.interpolate(labels[None, None].float(), size=size, mode="nearest-exact")[0, 0].long()


class ModelParser(Parser):
    """A neural parser with its preparation: resize to a square, normalise, logits, resize back, argmax."""

    def __init__(self, model: nn.Module, card: ParserCard, device: torch.device):
        self.label_space = space(card.label_space)
        self.card = card
        self.device = device
        self.model = model.eval().to(device, memory_format=torch.channels_last)
        self._mean = torch.tensor(card.mean, device=device).view(1, 3, 1, 1)
        self._std = torch.tensor(card.std, device=device).view(1, 3, 1, 1)

    @torch.inference_mode()
    def logits(self, photos: Tensor) -> Tensor:
        """float32 ``[N, C, s, s]`` at the card's input size, from float32 ``[N, 3, H, W]`` in [0,1]."""
        check_image(photos, "photos")
        s = (self.card.input_size,) * 2
        x = photos.to(self.device)
        if tuple(x.shape[-2:]) != s:
            x = F.interpolate(x, size=s, mode="bilinear", align_corners=False, antialias=True)
        return self.model(((x - self._mean) / self._std).contiguous(memory_format=torch.channels_last))

    @torch.inference_mode()
    def predict(self, photos: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """int64 ``[N, *size]`` on the CPU (by default at the photos' size): logits are resized, then argmax is taken.

        On the CPU photos go through one by one: convolutions of another batch size may round differently, and a label
        map must not depend on its neighbours; nothing is gained from batches there.
        """
        size = size or tuple(photos.shape[-2:])
        chunks = photos.split(1) if self.device.type == "cpu" else (photos,)
        return torch.cat([self.label_map(self.logits(chunk), size) for chunk in chunks])

    @staticmethod
    def label_map(logits: Tensor, size: tuple[int, int]) -> Tensor:
        if tuple(logits.shape[-2:]) != size:
            logits = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
        return logits.argmax(1).cpu()

    def before(self, sample: FaceSample, photo: Tensor) -> Tensor:
        return self.predict(photo[None])[0]

    def after(self, sample: FaceSample, attribute: str, photo: Tensor) -> Tensor | None:
        return self.predict(photo[None])[0]


class GroundTruthParser(Parser):
    """The data set's own labels before the edit, and no opinion after it."""

    def __init__(self, label_space: LabelSpace):
        self.label_space = label_space

    def before(self, sample: FaceSample, photo: Tensor) -> Tensor:
        return resized_labels(torch.from_numpy(sample.labels.copy()), tuple(photo.shape[-2:]))

    def after(self, sample: FaceSample, attribute: str, photo: Tensor) -> Tensor | None:
        return None


class PrecomputedParser(Parser):
    """Label maps from disk: ``<root>/before/<id>.png`` and ``<root>/after/<attribute>/<id>.png``, nearest-resized.

    Without a folder ``after`` it has no opinion of edits.
    """

    def __init__(self, root: Path, label_space: LabelSpace):
        if not (root / "before").is_dir():
            raise UserError(f"parser.root: expected label maps in {root / 'before'}, found no such folder")
        self.root = root
        self.label_space = label_space

    def fingerprint(self, sample_id: str, attribute: str | None) -> str:
        folders = ["before"] if attribute is None else ["before", f"after/{attribute}"]
        return fingerprint(*(self.root / folder / f"{sample_id}.png" for folder in folders))

    def check(self, attributes: list[str]) -> None:
        super().check(attributes)
        missing = [f"after/{a}" for a in attributes if not (self.root / "after" / a).is_dir()]
        if self._judges_edits and missing:
            raise UserError(f"parser.root: no folder {', '.join(missing)} in {self.root}; or choose attributes=[...]")

    @property
    def _judges_edits(self) -> bool:
        return (self.root / "after").is_dir()

    def _read(self, relative: str, size: tuple[int, int]) -> Tensor:
        labels = decode_labels(Blob(self.root / relative, relative).read(), relative, self.label_space)
        return resized_labels(torch.from_numpy(labels.copy()), size)

    def before(self, sample: FaceSample, photo: Tensor) -> Tensor:
        return self._read(f"before/{sample.id}.png", tuple(photo.shape[-2:]))

    def after(self, sample: FaceSample, attribute: str, photo: Tensor) -> Tensor | None:
        if not self._judges_edits:
            return None
        return self._read(f"after/{attribute}/{sample.id}.png", tuple(photo.shape[-2:]))

"""ImageNet weights that the training of a SegFace starts from: torchvision's files, by path or from its cache."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torchvision.models import get_model_weights

from semfacediff.downloads import RemoteFile, fetch_line, get
from semfacediff.errors import UserError
from semfacediff.parsing.registry import flat_state_dict, load_exactly
from semfacediff.parsing.segface.backbones import spec
from semfacediff.parsing.segface.model import SegFace
from semfacediff.weight_files import file_digest, read_weights

IMAGENET = "imagenet"
_CLASSIFIERS = ("classifier.", "head.", "fc.")


@dataclass(frozen=True)
class ImageNetFile:
    """torchvision's first release of ImageNet weights for a network; ``size_mb`` in units of 1,048,576 bytes."""

    url: str
    size_mb: float

    @property
    def name(self) -> str:
        return self.url.rsplit("/", 1)[-1]

    @property
    def sha256_prefix(self) -> str:
        """First 8 hex digits, which torchvision writes into the name."""
        return self.name.rpartition("-")[2].removesuffix(".pth")

    @property
    def cached(self) -> Path:
        return Path(torch.hub.get_dir()) / "checkpoints" / self.name

    def fetched(self, name: str) -> Path:
        """Download it into torch's cache; ``name`` is for messages. A :class:`DownloadError` if it cannot be had."""
        return get(f"{name} ({self.size_mb:.0f} MB)", [lambda: RemoteFile(self.url, self.cached, self.sha256_prefix)])

    @classmethod
    def of(cls, backbone: str) -> "ImageNetFile":
        weights = get_model_weights(spec(backbone).network).IMAGENET1K_V1
        return cls(weights.url, weights.meta["_file_size"])


def start_from(model: SegFace, name: str, where: str) -> Path:
    """Load a classifier's weights into the backbone of a fresh ``segface_<backbone>``; the file's path.

    Args:
        where: ``imagenet`` (torchvision's file, in torch's cache) or a file of the same keys.

    Raises:
        UserError: nothing is there, or the weights are another network's (their keys are listed).
    """
    path = found(name, where)
    s = model.backbone.spec
    state: dict[str, Tensor] = {}
    for key, value in flat_state_dict(read_weights(path)).items():
        if not key.startswith(_CLASSIFIERS):
            state[s.renamed(key) or key] = value
    load_exactly(model.backbone, state, f"parser.pretrained: {path}")
    return path


def start_digest(name: str, where: str) -> str:
    """SHA-256 of the file that ``parser.pretrained`` means; a :class:`UserError` if there is none."""
    return file_digest(found(name, where))


def found(name: str, where: str) -> Path:
    """The file that ``where`` means for parser ``name``; a :class:`UserError` if there is none."""
    if where != IMAGENET:
        path = Path(where).expanduser()
        if not path.is_file():
            raise UserError(
                f"parser.pretrained: no file is at {path}; expected torchvision's weights of "
                f"{spec(_backbone(name)).network}, or '{IMAGENET}' to take them from torch's cache"
            )
        return path
    file = ImageNetFile.of(_backbone(name))
    if not file.cached.is_file():
        raise UserError(
            f"parser.pretrained: {file.name} ({file.size_mb:.0f} MB, SHA-256 {file.sha256_prefix}...) is not in "
            f"{file.cached.parent}; fetch it with '{fetch_line(f'{IMAGENET}_{_backbone(name)}')}', set "
            "parser.pretrained=FILE, or start from scratch with parser.pretrained=null"
        )
    return file.cached


def _backbone(name: str) -> str:
    return name.removeprefix("segface_")

"""Where pretrained weights of the metrics come from, and what to do when they are not there."""

import socket
import urllib.error
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from semfacediff.errors import UserError
from semfacediff.weight_files import file_digest, read_weights

RANDOM = "random"
_TIMEOUT_S = 15


@dataclass(frozen=True)
class PublicWeights:
    """A file that the field uses under this name.

    Attributes:
        key: configuration key below ``weights``. file, url: its public name and source.
        size: bytes. sha256_prefix: first hex digits of its digest.
        cache: folder where the library that uses it keeps it; torch's own if ``None``.
        columns: what cannot be measured without it.
    """

    key: str
    file: str
    url: str
    size: int
    sha256_prefix: str
    cache: str | None = None
    columns: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.file} ({self.size / 1e6:.0f} MB, SHA-256 {self.sha256_prefix[:8]}...)"


LPIPS_ALEXNET = PublicWeights(
    key="lpips_alexnet",
    file="alexnet-owt-7be5be79.pth",
    url="https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
    size=244_408_911,
    sha256_prefix="7be5be79",
    columns=("lpips",),
)
INCEPTION = PublicWeights(
    key="inception",
    file="pt_inception-2015-12-05-6726825d.pth",
    url="https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
    size=95_628_359,
    sha256_prefix="6726825d",
    columns=("fid", "kid"),
)
_CLIP_DIGEST = "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af"
CLIP_VIT_B_32 = PublicWeights(
    key="clip",
    file="ViT-B-32.pt",
    url=f"https://openaipublic.azureedge.net/clip/models/{_CLIP_DIGEST}/ViT-B-32.pt",
    size=353_976_522,
    sha256_prefix=_CLIP_DIGEST,
    cache="~/.cache/clip",
    columns=("clip",),
)
CLIP_MODEL = "ViT-B-32-quickgelu"
"""The open_clip architecture that OpenAI's file belongs to."""
PUBLIC = (LPIPS_ALEXNET, INCEPTION, CLIP_VIT_B_32)


class MissingWeightsError(UserError):
    """The weights are nowhere; ``metrics.on_missing=skip`` turns this into an empty column."""


@dataclass(frozen=True)
class FoundWeights:
    """A state dict (``None`` = random weights) and how records name it."""

    state: Mapping[str, Tensor] | None
    name: str
    comparable: bool


def cached(weights: PublicWeights) -> Path:
    """Where the library that uses the file keeps it."""
    folder = Path(torch.hub.get_dir()) / "checkpoints" if weights.cache is None else Path(weights.cache).expanduser()
    return folder / weights.file


def located(weights: PublicWeights, root: str | None) -> Path | None:
    """The file in ``root`` or in the library's cache, if it is in one of them. Reads and fetches nothing."""
    places = [Path(root).expanduser() / weights.file] if root else []
    return next((path for path in (*places, cached(weights)) if path.is_file()), None)


def shown(path: Path) -> str:
    """Home abbreviated: messages enter records, which should not name a machine's users."""
    home = Path.home()
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)


def _downloaded(weights: PublicWeights) -> Path | None:
    target = cached(weights)
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_TIMEOUT_S)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(weights.url, str(target), weights.sha256_prefix)
    except (urllib.error.URLError, OSError, RuntimeError):
        return None
    finally:
        socket.setdefaulttimeout(before)
    return target


def find(weights: PublicWeights, explicit: str | None, root: str | None, download: bool) -> FoundWeights:
    """Explicit path, then ``root``, then the library's cache, then (if allowed) a download.

    Raises:
        UserError: the explicit path does not exist or cannot be read.
        MissingWeightsError: nothing is found; the sentence names file, place, size, digest and the ways out.
    """
    if explicit == RANDOM:
        return FoundWeights(None, RANDOM, comparable=False)
    if explicit is not None:
        path = Path(explicit).expanduser()
        if not path.is_file():
            raise UserError(f"weights.{weights.key}: no file at {path}; correct the path, or unset it to search for it")
        return _read(weights, path)
    path = located(weights, root) or (_downloaded(weights) if download else None)
    if path is None:
        raise MissingWeightsError(
            f"weights.{weights.key}: {weights} is neither at weights.root nor in {shown(cached(weights).parent)}, and "
            f"{'could not be downloaded' if download else 'weights.download is off'}; place it there, set "
            f"weights.{weights.key}=FILE, or leave its columns empty with metrics.on_missing=skip"
        )
    return _read(weights, path)


def find_clip(model: str, explicit: str | None, root: str | None, download: bool) -> FoundWeights:
    """:func:`find` for ``metrics.clip.model``; a public file is known for the default architecture only.

    With any other architecture OpenAI's file is not what the field means, so that the run is not comparable.
    """
    if model == CLIP_MODEL:
        return find(CLIP_VIT_B_32, explicit, root, download)
    if explicit is None:
        raise MissingWeightsError(
            f"weights.clip: no public file is known for metrics.clip.model={model}; set weights.clip=FILE, "
            f"metrics.clip.model={CLIP_MODEL}, or leave its columns empty with metrics.on_missing=skip"
        )
    return replace(find(CLIP_VIT_B_32, explicit, root, download=False), comparable=False)


def _read(weights: PublicWeights, path: Path) -> FoundWeights:
    digest = file_digest(path)
    known, program = digest.startswith(weights.sha256_prefix), _is_torchscript(path)
    if program and not known:
        # OpenAI's file is a program that holds the parameters; no other one is opened.
        raise UserError(
            f"{path}: a TorchScript program, and not the public {weights.file}; save its state dict with torch.save, "
            f"and name that file"
        )
    try:
        state = _archived(path) if program else read_weights(path)
    except UserError as e:
        size = path.stat().st_size
        told = f"; the public {weights.file} has {weights.size:,} bytes, this file {size:,}"
        raise UserError(f"{e}{'' if size == weights.size else told}") from e
    return FoundWeights(state, f"sha256:{digest}", comparable=known)


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _archived(path: Path) -> Mapping[str, Tensor]:
    """Parameters of a TorchScript archive."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated, the file is of 2021
        return torch.jit.load(str(path), map_location="cpu").state_dict()

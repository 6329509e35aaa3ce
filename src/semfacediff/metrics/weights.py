"""Where pretrained weights of the metrics come from, and what to do when they are not there."""

import contextlib
import socket
import urllib.error
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from semfacediff.errors import UserError
from semfacediff.weight_files import file_digest, read_pickle_safely

RANDOM = "random"
_TIMEOUT_S = 15


@dataclass(frozen=True)
class PublicWeights:
    """A file that the field uses under this name.

    Attributes:
        key: configuration key below ``weights``. file, url: its public name and source.
        size: bytes. sha256_prefix: first hex digits of its digest.
    """

    key: str
    file: str
    url: str
    size: int
    sha256_prefix: str


LPIPS_ALEXNET = PublicWeights(
    key="lpips_alexnet",
    file="alexnet-owt-7be5be79.pth",
    url="https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
    size=244_408_911,
    sha256_prefix="7be5be79",
)


class MissingWeightsError(UserError):
    """The weights are nowhere; ``metrics.on_missing=skip`` turns this into an empty column."""


@dataclass(frozen=True)
class FoundWeights:
    """A state dict (``None`` = random weights) and how records name it."""

    state: Mapping[str, Tensor] | None
    name: str
    comparable: bool


def _cached(weights: PublicWeights) -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / weights.file


def _shown(path: Path) -> str:
    """Home abbreviated: messages enter records, which should not name a machine's users."""
    home = Path.home()
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)


def _downloaded(weights: PublicWeights) -> Path | None:
    target = _cached(weights)
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
    places = [Path(root).expanduser() / weights.file] if root else []
    for path in (*places, _cached(weights)):
        if path.is_file():
            return _read(weights, path)
    path = None
    if download:
        with contextlib.suppress(UserError):
            path = _downloaded(weights)
    if path is None:
        raise MissingWeightsError(
            f"weights.{weights.key}: {weights.file} ({weights.size / 1e6:.0f} MB, SHA-256 {weights.sha256_prefix}...) "
            f"is neither at weights.root nor in {_shown(_cached(weights).parent)}, and "
            f"{'could not be downloaded' if download else 'weights.download is off'}; place it there, set "
            f"weights.{weights.key}=FILE, or leave its columns empty with metrics.on_missing=skip"
        )
    return _read(weights, path)


def _read(weights: PublicWeights, path: Path) -> FoundWeights:
    digest = file_digest(path)
    known = digest.startswith(weights.sha256_prefix)
    return FoundWeights(read_pickle_safely(path), f"sha256:{digest}", comparable=known)

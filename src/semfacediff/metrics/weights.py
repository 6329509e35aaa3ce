"""Where pretrained weights of the metrics come from, and what to do when they are not there."""

import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from semfacediff.downloads import DownloadError, RemoteFile, Source, fetch_line, get
from semfacediff.errors import UserError
from semfacediff.hub import cached_files, hub_source
from semfacediff.metrics.clip_layouts import as_openai, tensor_digest
from semfacediff.weight_files import file_digest, in_home, read_weights, shown

RANDOM = "random"


@dataclass(frozen=True)
class PublicFile:
    """A published file of some weights.

    Attributes:
        file: its name. size: bytes. sha256: its digest.
        url, cache: plain address, and the folder where the library that uses it keeps it; torch's own if ``None``.
        hub, revision: instead, repository of the model hub, and the commit that is fetched; ``None``: only found.
    """

    file: str
    size: int
    sha256: str
    url: str | None = None
    cache: str | None = None
    hub: str | None = None
    revision: str | None = None

    @property
    def below_root(self) -> Path:
        """Its place in ``weights.root``: a file of a repository lies in a folder called like the repository."""
        return Path(self.hub.partition("/")[2]) / self.file if self.hub else Path(self.file)

    def kept(self) -> list[Path]:
        """Where a library may have put it, there or not; of a repository the snapshots that have it."""
        if self.hub:
            return cached_files(self.hub, self.file)
        folder = in_home(self.cache) if self.cache else Path(torch.hub.get_dir()) / "checkpoints"
        return [folder / self.file]

    def source(self) -> Source | None:
        """How it is fetched, if it is."""
        if url := self.url:
            return lambda: RemoteFile(url, self.kept()[0], self.sha256, self.size)
        return hub_source(f"{self.hub}@{self.revision}", {self.file: self.sha256}) if self.revision else None


@dataclass(frozen=True)
class PublicWeights:
    """Weights that the field uses under this name.

    Attributes:
        key: configuration key below ``weights``. columns: what cannot be measured without them.
        files: published files with the same tensors, the original first.
        layouts: whether these differ in names and precision, so that records name the tensors instead of the file.
    """

    key: str
    columns: tuple[str, ...]
    files: tuple[PublicFile, ...]
    layouts: bool = False

    def __str__(self) -> str:
        original = self.files[0]
        others = " or another public copy" if len(self.files) > 1 else ""
        return f"{original.file} ({original.size / 1e6:.0f} MB, SHA-256 {original.sha256[:8]}...){others}"

    def published(self, path: Path) -> bool:
        """Whether ``path`` is, byte for byte, one of the published files."""
        return file_digest(path) in {f.sha256 for f in self.files}


LPIPS_ALEXNET = PublicWeights(
    "lpips_alexnet",
    ("lpips",),
    (
        PublicFile(
            "alexnet-owt-7be5be79.pth",
            244_408_911,
            "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
            url="https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
        ),
    ),
)
LPIPS_SQUEEZE = PublicWeights(
    "lpips_squeeze",
    ("lpips",),
    (
        PublicFile(
            "squeezenet1_1-b8a52dc0.pth",
            4_958_839,
            "b8a52dc049b60e4b6ab68ad0df457362afab8b6304b2febdc1650a5dab4d7e7b",
            url="https://download.pytorch.org/models/squeezenet1_1-b8a52dc0.pth",
        ),
    ),
)
"""Of ``protocol=pie`` alone."""
INCEPTION = PublicWeights(
    "inception",
    ("fid", "kid"),
    (
        PublicFile(
            "pt_inception-2015-12-05-6726825d.pth",
            95_628_359,
            "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
            url="https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
            "pt_inception-2015-12-05-6726825d.pth",
        ),
    ),
)
_OPENAI = "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af"
_TRANSFORMERS = "openai/clip-vit-base-patch32"
CLIP_VIT_B_32 = PublicWeights(
    "clip",
    ("clip",),
    (
        PublicFile(
            "ViT-B-32.pt",
            353_976_522,
            _OPENAI,
            url=f"https://openaipublic.azureedge.net/clip/models/{_OPENAI}/ViT-B-32.pt",
            cache="~/.cache/clip",
        ),
        PublicFile(
            "open_clip_model.safetensors",
            605_143_284,
            "e6d1bd7789aa45192b3bf90570a789b478bae1b74ebcce7eddd908e83a2b7c31",
            hub="timm/vit_base_patch32_clip_224.openai",
            revision="a6f597a30f7b82c51704746581f9a4e41421e878",
        ),
        PublicFile(
            "model.safetensors",  # of a conversion, refs/pr/15, which transformers 5 takes
            605_157_884,
            "99d28a652e6ec46629ab7047a0ac82c69b1fe11e0ce672c43af65d3a9a3fc05d",
            hub=_TRANSFORMERS,
        ),
        PublicFile(
            "pytorch_model.bin",
            605_247_071,
            "a63082132ba4f97a80bea76823f544493bffa8082296d62d71581a4feff1576f",
            hub=_TRANSFORMERS,
            revision="3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268",
        ),
    ),
    layouts=True,
)
CLIP_MODEL = "ViT-B-32-quickgelu"
"""The open_clip architecture that OpenAI's weights belong to."""
PUBLIC = (LPIPS_ALEXNET, INCEPTION, CLIP_VIT_B_32, LPIPS_SQUEEZE)


class MissingWeightsError(UserError):
    """The weights are nowhere; ``metrics.on_missing=skip`` turns this into an empty column."""


@dataclass(frozen=True)
class FoundWeights:
    """A state dict (``None`` = random weights) and how records name it.

    ``name`` is ``sha256:`` and the file's digest; of CLIP, which is published in several layouts, ``tensors:`` and the
    digest of the tensors, so that runs with different copies have the same identity.
    """

    state: Mapping[str, Tensor] | None
    name: str
    comparable: bool


def find_local(weights: PublicWeights, root: str | None) -> Path | None:
    """The file in ``root`` or in a library's cache, if it is in one of them. Reads and fetches nothing.

    Of several files the first that has its published size: another one may be what an interrupted download left.
    """
    found = list(_candidates(weights, root))
    return next((path for path, file in found if path.stat().st_size == file.size), found[0][0] if found else None)


def _candidates(weights: PublicWeights, root: str | None) -> Iterator[tuple[Path, PublicFile]]:
    """Files of the right name that are there, with what they should be, in the order of the search."""
    places = [(Path(root).expanduser() / file.below_root, file) for file in weights.files] if root else []
    places += [(path, file) for file in weights.files for path in file.kept()]
    return ((path, file) for path, file in places if path.is_file())


def fetched(weights: PublicWeights) -> Path:
    """Download them to where the library that uses them looks, from the hub first, which has mirrors.

    Raises:
        DownloadError: no source gives them.
    """
    ordered = sorted(weights.files, key=lambda file: file.hub is None)
    get(weights.key, [source for file in ordered if (source := file.source())])
    path = find_local(weights, None)
    if path is None:
        raise DownloadError(f"{weights.key}: what was fetched is not where {weights} belongs")
    return path


def find(weights: PublicWeights, explicit: str | None, root: str | None, download: bool) -> FoundWeights:
    """Explicit path, then ``root``, then the libraries' caches, then (if allowed) a download.

    Args:
        explicit: a file, a folder that holds one of the published names, or ``random``.

    Raises:
        UserError: the explicit path does not exist or cannot be read.
        MissingWeightsError: nothing is found; the sentence names file, place, size, digest and the ways out.
    """
    if explicit == RANDOM:
        return FoundWeights(None, RANDOM, comparable=False)
    if explicit is not None:
        return _read(weights, _explicit(weights, Path(explicit).expanduser()), root)
    path, why = find_local(weights, root), "weights.download is off"
    if path is None and download:
        try:
            path = fetched(weights)
        except DownloadError as e:
            why = f"could not be downloaded ({e})"
    if path is None:
        raise MissingWeightsError(
            f"weights.{weights.key}: {weights} is neither at weights.root nor in "
            f"{shown(weights.files[0].kept()[0].parent)}{' or the hub cache' * (len(weights.files) > 1)}, and {why}; "
            f"fetch it with '{fetch_line(weights.key)}', place it there, set weights.{weights.key}=FILE, or leave its "
            f"columns empty with metrics.on_missing=skip"
        )
    return _read(weights, path, root)


def find_clip(model: str, explicit: str | None, root: str | None, download: bool) -> FoundWeights:
    """:func:`find` for ``metrics.clip.model``; public files are known for the default architecture only.

    With any other architecture OpenAI's weights are not what the field means, so that the run is not comparable.
    """
    if model == CLIP_MODEL:
        return find(CLIP_VIT_B_32, explicit, root, download)
    if explicit is None:
        raise MissingWeightsError(
            f"weights.clip: no public file is known for metrics.clip.model={model}; set weights.clip=FILE, "
            f"metrics.clip.model={CLIP_MODEL}, or leave its columns empty with metrics.on_missing=skip"
        )
    return replace(find(CLIP_VIT_B_32, explicit, root, download=False), comparable=False)


def _explicit(weights: PublicWeights, path: Path) -> Path:
    found = path if path.is_file() else next((p for f in weights.files if (p := path / f.file).is_file()), None)
    if found is None:
        raise UserError(f"weights.{weights.key}: no file at {path}; correct the path, or unset it to search for it")
    return found


def _read(weights: PublicWeights, path: Path, root: str | None) -> FoundWeights:
    state, known = _state(weights, path), weights.published(path)
    if not weights.layouts:
        return FoundWeights(state, f"sha256:{file_digest(path)}", known)
    state = as_openai(state)
    tensors = tensor_digest(state)
    return FoundWeights(state, f"tensors:{tensors}", known or _vouched(weights, tensors, path, root))


def _vouched(weights: PublicWeights, tensors: str, path: Path, root: str | None) -> bool:
    """Whether a published file on this machine has the same tensors."""
    others = (other for other, _ in _candidates(weights, root) if other != path and weights.published(other))
    return any(tensor_digest(as_openai(_state(weights, other))) == tensors for other in others)


def _state(weights: PublicWeights, path: Path) -> Mapping[str, Tensor]:
    program, original = _is_torchscript(path), weights.files[0]
    if program and not weights.published(path):
        # OpenAI's file is a program that holds the parameters; no other one is opened.
        raise UserError(
            f"{path}: a TorchScript program, and not the public {original.file}; save its state dict with torch.save, "
            f"and name that file"
        )
    try:
        return _archived(path) if program else read_weights(path)
    except UserError as e:
        size = path.stat().st_size
        public = next((f for f in weights.files if f.file == path.name), original)
        told = (
            f"; the public {public.file} has {public.size:,} bytes, this file {size:,}; remove it and fetch it with "
            f"'{fetch_line(weights.key)}'"
        )
        raise UserError(f"{e}{'' if size == public.size else told}") from e


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

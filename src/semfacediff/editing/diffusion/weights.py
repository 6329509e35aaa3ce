"""Folders of pipelines: where they are looked for, whether they are complete, and their digest.

A pipeline is a folder as ``save_pretrained`` writes it: ``model_index.json`` and a folder for each part.
"""

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from semfacediff.downloads import DownloadError, fetch_line, get
from semfacediff.editing.diffusion.lora import Lora
from semfacediff.errors import UserError
from semfacediff.hub import ID, INDEX, cached_folder, hub_source
from semfacediff.weight_files import file_digest, file_state

PUBLIC_PIPELINES = {
    "sdxl_inpaint": "diffusers/stable-diffusion-xl-1.0-inpainting-0.1",
    "sd_inpaint": "stable-diffusion-v1-5/stable-diffusion-inpainting",
}
"""Editor -> id of its public pipeline; ``inpaint`` has none of its own."""
TWIN_MARK = "random_weights.json"
"""A pipeline with this file in its folder holds random weights: it is for tests, its results compare with none."""
WITHOUT_WEIGHTS = "editor=recolor needs no weights"

_TOKENS = ("tokenizer.json", "vocab.json", "spiece.model", "tokenizer.model")
_PROCESSOR = ("preprocessor_config.json", "processor_config.json")
_LFS = b"version https://git-lfs"


class NoPipelineError(UserError):
    """There is no pipeline where one is looked for."""


@dataclass(frozen=True)
class PipelineFiles:
    """A complete pipeline on disk.

    Attributes:
        folder: holds ``model_index.json``.
        parts: part -> class name, e.g. ``unet`` -> ``UNet2DConditionModel``.
        left_out: parts of the folder that are not to be opened.
        kind: class of diffusers to open it with; ``None``: what its index says.
        lora: added to its weights.
    """

    folder: Path
    parts: dict[str, str]
    left_out: tuple[str, ...] = ()
    kind: str | None = None
    lora: Lora | None = None

    def without(self, part: str) -> "PipelineFiles":
        """The pipeline without ``part``, if it has one."""
        if part not in self.parts:
            return self
        return replace(self, parts={p: k for p, k in self.parts.items() if p != part}, left_out=(*self.left_out, part))

    @property
    def doubts(self) -> list[str]:
        """Why results made with it are comparable with none."""
        return ["editor: random weights, for tests"] if (self.folder / TWIN_MARK).is_file() else []

    def variant(self, half: bool) -> str | None:
        """``fp16`` where only those weights are there, or where half precision is wanted and they are there."""
        models = [p for p, kind in self.parts.items() if _needed(kind) == "weights"]
        plain = all(_weights_of(self.folder / p, "") for p in models)
        fp16 = any(_weights_of(self.folder / p, ".fp16") for p in models)
        return "fp16" if fp16 and (half or not plain) else None

    def digest(self, half: bool) -> str:
        """SHA-256 over names and contents of the files that are loaded; reads all of them, a few seconds for SDXL."""
        files = sorted(self._loaded(self.variant(half)))
        with ThreadPoolExecutor(4) as pool:
            contents = list(pool.map(file_digest, files))
        names = [f.relative_to(self.folder).as_posix() for f in files]
        listed = list(zip(names, contents, strict=True))
        listed += [("lora", f"{self.lora.digest} {self.lora.weight!r}")] if self.lora else []
        return hashlib.sha256(json.dumps(listed).encode()).hexdigest()

    def state(self, half: bool) -> list[tuple | None]:
        """What changes with the files that are loaded, without reading them."""
        lora = [self.lora.file] if self.lora else []
        return [file_state(file) for file in (*sorted(self._loaded(self.variant(half))), *lora)]

    def _loaded(self, variant: str | None) -> Iterator[Path]:
        yield self.folder / INDEX
        for part, kind in self.parts.items():
            folder = self.folder / part
            yield from (
                f for f in folder.iterdir() if f.suffix in (".json", ".txt", ".model") and ".index." not in f.name
            )
            if _needed(kind) == "weights":
                yield from _weights_of(folder, f".{variant}" if variant else "") or _weights_of(folder, "")


def find_pipeline(editor: str, explicit: str | None, root: str | None, download: bool) -> PipelineFiles:
    """The pipeline of ``editor``: ``explicit`` (folder or id), else in ``root``, the hub's cache, or downloaded.

    In ``root`` the folder is called like the editor or like the last part of the pipeline's id.

    Raises:
        NoPipelineError: it is nowhere. UserError: it is incomplete.
        The sentence says what to fetch or to place, and what needs no weights.
    """
    id_ = PUBLIC_PIPELINES.get(editor)
    if explicit is not None:
        folder = Path(explicit).expanduser()
        if folder.is_dir():
            return _complete(folder, editor)
        if not ID.fullmatch(explicit):
            raise UserError(
                f"weights.{editor}: no folder at {explicit}; name a pipeline's folder or hub id, or unset it"
            )
        id_ = explicit
    names = [*([editor] if explicit is None else []), *([id_.partition("/")[2]] if id_ else [])]
    folders = [Path(root).expanduser() / name for name in names] if root else []
    if local := next((f for f in folders if f.is_dir()), None):
        return _complete(local, editor)
    if id_ is None:
        where = f", or a folder '{editor}' at weights.root" if root else ""
        raise NoPipelineError(
            f"editor={editor} opens any pipeline of its kind: name one with weights.{editor}=FOLDER|ID{where}; "
            f"{WITHOUT_WEIGHTS}"
        )
    return _of_hub(editor, id_, download)


def _of_hub(editor: str, id_: str, download: bool) -> PipelineFiles:
    """The pipeline in the hub's cache, where an interrupted download may have left some of it."""
    name = editor if PUBLIC_PIPELINES.get(editor) == id_ else id_
    folder, why = cached_folder(id_), "weights.download is off"
    if download and (folder is None or missing_pieces(folder)):
        try:
            folder, why = get(name, [hub_source(id_)]), "the hub has no more of it"
        except DownloadError as e:
            why = f"could not be downloaded ({e})"
    lacks = missing_pieces(folder) if folder else []
    if folder is None or lacks:
        place = "which is neither at weights.root nor in the hub's cache"
        if lacks:
            place = f"of which the hub's cache lacks {', '.join(lacks)}"
        raise NoPipelineError(
            f"editor={editor} needs the pipeline {id_}, {place}, and {why}; fetch it with '{fetch_line(name)}', or set "
            f"weights.{editor}=FOLDER; {WITHOUT_WEIGHTS}"
        )
    return PipelineFiles(folder, _parts(folder))


def missing_pieces(folder: Path) -> list[str]:
    """Files that ``folder`` lacks to be a pipeline, relative to it, in the order of ``model_index.json``."""
    if not (folder / INDEX).is_file():
        return [INDEX]
    return [piece for part, kind in _parts(folder).items() for piece in _missing(folder / part, _needed(kind))]


def _complete(folder: Path, editor: str) -> PipelineFiles:
    if missing := missing_pieces(folder):
        raise UserError(
            f"weights.{editor}: the pipeline in {folder} lacks {', '.join(missing)}; copy or fetch it whole; "
            f"{WITHOUT_WEIGHTS}"
        )
    return PipelineFiles(folder, _parts(folder))


def _parts(folder: Path) -> dict[str, str]:
    """Part -> class name, without parts that the pipeline does not use."""
    file = folder / INDEX
    try:
        index = json.loads(file.read_text())
        return {p: entry[1] for p, entry in index.items() if isinstance(entry, list) and entry[1] is not None}
    except (ValueError, AttributeError, IndexError) as e:
        raise UserError(f"{file}: not the index of a pipeline ({str(e)[:80]}); copy it again") from e


def _needed(kind: str) -> str:
    """What a part of class ``kind`` consists of."""
    if "Scheduler" in kind:
        return "scheduler_config.json"
    if "Tokenizer" in kind:
        return "tokens"
    if kind.endswith(("Processor", "FeatureExtractor")):
        return "processor"
    return "weights"


def _missing(part: Path, needed: str) -> list[str]:
    if needed == "tokens":
        lacking = [] if any(_there(part / name) for name in _TOKENS) else ["tokenizer.json"]
        if _there(part / "vocab.json") and not _there(part / "tokenizer.json"):
            lacking = ["merges.txt"]
        # Without its configuration a tokenizer knows no limit, and nothing would say that a prompt is too long.
        return [f"{part.name}/{name}" for name in (*lacking, "tokenizer_config.json") if not _there(part / name)]
    if needed == "processor":
        return [] if any(_there(part / name) for name in _PROCESSOR) else [f"{part.name}/{_PROCESSOR[0]}"]
    if needed != "weights":
        return [] if _there(part / needed) else [f"{part.name}/{needed}"]
    config = [] if _there(part / "config.json") else [f"{part.name}/config.json"]
    found = _weights_of(part, "") or _weights_of(part, ".fp16")
    if not found:
        return [*config, f"{part.name}/ weights (.safetensors)"]
    return config + [f"{part.name}/{f.name}" for f in found if not _there(f)]


def _weights_of(part: Path, variant: str) -> list[Path]:
    """Weight files of a part, ``variant`` "" or ".fp16"; shards as their index names them, whether there or not."""
    for suffix in (".safetensors", ".bin"):
        for index in sorted(part.glob(f"*{suffix}.index*.json")):
            if (".fp16" in index.name) == bool(variant):
                return [part / name for name in _shards(index)]
        files = [f for f in sorted(part.glob(f"*{suffix}")) if (".fp16." in f.name) == bool(variant)]
        if files := [f for f in files if ".non_ema" not in f.name]:
            return files
    return []


def _shards(index: Path) -> list[str]:
    try:
        return sorted(set(json.loads(index.read_text())["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise UserError(f"{index}: not the index of a part's weights ({str(e)[:80]}); copy it again") from e


def _there(file: Path) -> bool:
    """Whether the file is there and no empty one or pointer of Git LFS, which an incomplete clone leaves behind."""
    if not file.is_file():
        return False
    with open(file, "rb") as f:
        start = f.read(len(_LFS))
    return bool(start) and start != _LFS

"""The model hub: what its cache on this machine holds, and what of a repository is fetched into it.

``HF_HOME``, ``HF_HUB_CACHE``, ``HF_TOKEN`` and ``HF_ENDPOINT`` (a mirror) mean what they mean to ``huggingface_hub``,
whose downloads resume. Nothing here needs transformers or diffusers.
"""

import glob
import json
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from semfacediff.downloads import TIMEOUT_S, DownloadError, Source, check_space, megabytes
from semfacediff.weight_files import file_digest, shown

ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
"""``OWNER/MODEL``."""
PLACE = re.compile(rf"({ID.pattern})(?:@([\w.-]+))?(?:/(\w[\w./-]*))?")
"""``OWNER/MODEL[@REVISION][/FOLDER]``."""
INDEX, CONFIG, PREPROCESSOR = "model_index.json", "config.json", "preprocessor_config.json"
_WEIGHTS = r"(diffusion_pytorch_model|pytorch_model|model)\b.*{}(\.index.*\.json)?"
"""Names of weights, shards and their index; gets a suffix."""
_BESIDE_WEIGHTS = (".json", ".txt", ".model")


def cached_folder(id_: str, revision: str | None = None) -> Path | None:
    """The snapshot of ``revision`` (default: ``main``) in the hub's cache, complete or not."""
    return snapshot(_repository(id_), revision)


def cached_place(text: str) -> Path | None:
    """The folder that ``OWNER/MODEL[@REVISION][/FOLDER]`` means in the cache; ``None``: nothing of it is there."""
    if not (found := PLACE.fullmatch(text)) or not (folder := cached_folder(found[1], found[2])):
        return None
    place = folder / (found[3] or "")
    return place if place.is_dir() else None


def snapshot(repository: Path, revision: str | None = None) -> Path | None:
    """The snapshot of a ``models--OWNER--MODEL`` folder; without ``revision`` that of ``main``, else its only one."""
    reference = repository / "refs" / (revision or "main")
    commit = reference.read_text().strip() if reference.is_file() else revision
    if commit is None:
        every = list((repository / "snapshots").glob("*"))
        return every[0] if len(every) == 1 else None
    folder = repository / "snapshots" / commit
    return folder if folder.is_dir() else None


def cached_files(id_: str, file: str) -> list[Path]:
    """``file`` in all snapshots of a repository in the hub's cache, the newest first; dangling links do not count."""
    found = [path for path in _repository(id_).glob(f"snapshots/*/{file}") if path.is_file()]
    return sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)


def is_whole_model(folder: Path) -> bool:
    """Whether a folder holds a configuration and weights."""
    names = [path.name for path in folder.iterdir() if path.is_file()]
    return CONFIG in names and any(".index." not in name for name in _weights(names, halves=False))


def hub_source(place: str, files: Mapping[str, str] | None = None) -> Source:
    """Files of a repository, by default those that a pipeline of diffusers or a model of transformers consists of.

    Args:
        place: ``OWNER/MODEL[@REVISION][/FOLDER]``, with a folder all files in it; the revision is ``main`` if unsaid.
        files: instead, names with the SHA-256 that they must have.
    """
    found = PLACE.fullmatch(place)
    if found is None:
        raise ValueError(f"{place}: expected OWNER/MODEL[@REVISION][/FOLDER]")
    id_, revision, inside = found.groups()
    return lambda: _asked(id_, revision, inside, files)


@dataclass(frozen=True)
class HubFile:
    """A file of a repository: bytes, and the digest that the hub gives for large ones."""

    name: str
    size: int | None
    sha256: str | None


@dataclass(frozen=True)
class HubOrder:
    """Files of a repository at a commit, as the hub lists them."""

    id_: str
    revision: str | None
    commit: str
    files: tuple[HubFile, ...]

    def __str__(self) -> str:
        size, left = (sum(f.size or 0 for f in files) for files in (self.files, self._absent()))
        here = f" ({megabytes(size - left)} of it are here)" if left < size else ""
        of = f"{len(self.files)} files" if len(self.files) > 1 else self.files[0].name
        return f"{of} of {self.id_}, {megabytes(size)}{here}, from {_endpoint()} to {shown(_repository(self.id_))}"

    def fetch(self) -> Path:
        """The snapshot's folder with all files in it, whole and checked."""
        from huggingface_hub import snapshot_download

        check_space(_repository(self.id_), sum(f.size or 0 for f in self._absent()))
        names = [glob.escape(f.name) for f in self.files]
        _told(
            lambda: snapshot_download(
                self.id_, revision=self.revision, allow_patterns=names, endpoint=_endpoint(), etag_timeout=TIMEOUT_S
            ),
            f"{self.id_}: not fetched whole from {_endpoint()}, the same command continues",
        )
        folder = _repository(self.id_) / "snapshots" / self.commit
        for file in self.files:
            self._check(folder / file.name, file)
        return folder

    def _absent(self) -> Iterator[HubFile]:
        folder = _repository(self.id_) / "snapshots" / self.commit
        return (f for f in self.files if not (folder / f.name).is_file())

    def _check(self, path: Path, file: HubFile) -> None:
        if not path.is_file():
            raise DownloadError(f"{self.id_}: {file.name} did not arrive from {_endpoint()}; fetch again")
        digest = file_digest(path) if file.sha256 else None
        if digest != file.sha256 or file.size not in (None, path.stat().st_size):
            got = f"SHA-256 {digest[:16]}..." if digest else f"{path.stat().st_size:,} bytes"
            wanted = f"{file.sha256[:16]}..." if file.sha256 else f"{file.size:,}"
            path.resolve().unlink()
            path.unlink(missing_ok=True)
            raise DownloadError(
                f"{self.id_}: {_endpoint()} gave {file.name} with {got}, expected {wanted}; it was deleted, fetch again"
            )


def _asked(id_: str, revision: str | None, inside: str | None, files: Mapping[str, str] | None) -> HubOrder:
    from huggingface_hub import HfApi

    api = HfApi(endpoint=_endpoint())
    info = _told(
        lambda: api.model_info(id_, revision=revision, files_metadata=True, timeout=TIMEOUT_S),
        f"{id_}: {_endpoint()} does not list it",
    )
    known = {s.rfilename: HubFile(s.rfilename, s.size, s.lfs.sha256 if s.lfs else None) for s in info.siblings or ()}
    if files is not None:
        wanted = tuple(HubFile(n, known[n].size if n in known else None, digest) for n, digest in files.items())
    elif inside is not None:
        wanted = tuple(file for name, file in sorted(known.items()) if name.startswith(f"{inside}/"))
        if not wanted:
            raise DownloadError(f"{id_}: it has no folder {inside}; fetch {id_}, or another folder of it")
    else:
        wanted = tuple(known[name] for name in sorted(_chosen(id_, revision, known)))
    return HubOrder(id_, revision, info.sha, wanted)


def _chosen(id_: str, revision: str | None, names: Collection[str]) -> set[str]:
    """What of a repository's files a pipeline or a model consists of, its weights once."""
    if INDEX in names:
        from huggingface_hub import hf_hub_download

        file = _told(
            lambda: hf_hub_download(id_, INDEX, revision=revision, endpoint=_endpoint(), etag_timeout=TIMEOUT_S),
            f"{id_}: {_endpoint()} does not give its {INDEX}",
        )
        return {INDEX, *_of_pipeline(Path(file), names)}
    beside = [n for n in names if n in (CONFIG, PREPROCESSOR)]
    if not (weights := _weights(names, halves=False)) or CONFIG not in beside:
        raise DownloadError(
            f"{id_}: it has neither {INDEX} nor {CONFIG} with weights (.safetensors, .bin), so that it is not known "
            f"what of it to fetch; put the files into a folder and name that"
        )
    return {*beside, *weights}


def _of_pipeline(index: Path, names: Collection[str]) -> Iterator[str]:
    """The files of the parts that the index names; of each the half-precision weights, else the full ones."""
    try:
        parts = [part for part, entry in json.loads(index.read_text()).items() if isinstance(entry, list) and entry[1]]
    except (ValueError, AttributeError, IndexError) as e:
        raise DownloadError(f"{shown(index)}: not the index of a pipeline ({str(e)[:80]}); fetch again") from e
    for part in parts:
        inside = [PurePosixPath(n).name for n in names if PurePosixPath(n).parent == PurePosixPath(part)]
        beside = [n for n in inside if n.endswith(_BESIDE_WEIGHTS) and ".index." not in n]
        yield from (f"{part}/{name}" for name in (*beside, *_weights(inside, halves=True)))


def _weights(names: Collection[str], halves: bool) -> list[str]:
    """Files of weights in one folder, shards with their index; of several kinds the first: safetensors before pickles.

    Args:
        halves: whether ``fp16`` comes before full precision, or does not count.
    """
    for suffix in (".safetensors", ".bin"):
        for half in (True, False) if halves else (False,):
            found = [n for n in names if re.fullmatch(_WEIGHTS.format(re.escape(suffix)), n) and ".non_ema" not in n]
            if found := [n for n in found if (".fp16" in n) == half]:
                return found
    return []


def _repository(id_: str) -> Path:
    """The folder of a model in the hub's cache."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE) / f"models--{id_.replace('/', '--')}"


def _endpoint() -> str:
    from huggingface_hub import constants

    return (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")


def _told(call: Callable[[], Any], failed: str) -> Any:
    """What ``call`` returns; its error as one sentence that begins with ``failed``."""
    from huggingface_hub import constants
    from huggingface_hub.utils import logging

    if constants.HF_HUB_OFFLINE:
        raise DownloadError(f"{failed.partition(':')[0]}: HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set; unset it")
    before = logging.get_verbosity()
    logging.set_verbosity_error()  # what fails in the end is said in one sentence
    try:
        return call()
    except Exception as e:  # of the client's HTTP library, which changes with its version
        told = next((line.strip() for line in str(e).splitlines() if line.strip()), "")
        raise DownloadError(f"{failed} ({type(e).__name__}{': ' * bool(told)}{told[:160]})") from e
    finally:
        logging.set_verbosity(before)

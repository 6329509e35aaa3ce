"""``semfacediff fetch``: the public weights, which of them are available, and how to download the others."""

import difflib
import functools
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from semfacediff.downloads import DownloadError, fetch_line, get
from semfacediff.editing.diffusion.weights import PUBLIC_PIPELINES, NoPipelineError, find_pipeline
from semfacediff.errors import EXIT_MISTAKE, UserError
from semfacediff.hub import PLACE, cached_folder, hub_source, is_whole_model
from semfacediff.metrics.weights import PUBLIC, PublicWeights, fetched, find_local
from semfacediff.parsing import segface
from semfacediff.parsing.public import PUBLIC_PARSERS
from semfacediff.weight_files import file_digest, shown

HUB_PARSERS = {p.id: p.what for p in PUBLIC_PARSERS.values() if not p.on_request} | {
    "nvidia/segformer-b5-finetuned-ade-640-640": "parser.pretrained, the start of the thesis's training"
}
"""Id on the hub -> what it is for."""
_HASHED_BYTES = 1 << 30
"""Files larger than any public one are not hashed, so that the command stays fast."""


def of_public(root: str | None) -> dict[str, dict[str, dict]]:
    """Facts of all public weights by kind and name: their paths; ``fetch`` is the command for missing ones.

    Args:
        root: ``weights.root``.
    """
    return {
        "weights": {w.key: _weights(w, root) for w in PUBLIC},
        "pipelines": {editor: _pipeline(editor, root) for editor in (*PUBLIC_PIPELINES, "inpaint")},
        "public_parsers": {id_: _parser(id_) for id_ in HUB_PARSERS},
    }


def fetch(names: Iterable[str]) -> int:
    """Download ``names``, or all that :func:`of_public` finds missing, into the caches of the libraries.

    A failed download is reported and does not stop the others. The exit code says whether all succeeded.

    Args:
        names: keys of ``weights``, ``imagenet_<backbone>``, or ``OWNER/MODEL[@REVISION][/FOLDER]`` of the hub.
    """
    known = _ways()
    missing = [name for kind in of_public(None).values() for name, fact in kind.items() if fact["fetch"]]
    wanted = list(dict.fromkeys(names)) or missing
    for name in wanted:
        if name not in known and not PLACE.fullmatch(name):
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}? " if close else ""
            raise UserError(
                f"fetch: '{name}' is unknown; {hint}known are {', '.join(known)} and ids OWNER/MODEL[@REVISION]"
            )
    failed = 0
    for name in wanted:
        try:
            place = known[name]() if name in known else get(name, [hub_source(name)])
        except DownloadError as e:
            failed += 1
            print(f"error: {name}: {str(e).removeprefix(f'{name}: ')}", file=sys.stderr)
        else:
            print(f"{name}: {shown(place)}", flush=True)
    if not wanted:
        print("nothing is missing")
    return EXIT_MISTAKE if failed else 0


def _ways() -> dict[str, Callable[[], Path]]:
    """Name -> function that returns its path and downloads it if missing."""
    ways: dict[str, Callable[[], Path]] = {}
    for weights in PUBLIC:
        ways[weights.key] = functools.partial(_metrics_weights, weights)
    for name, id_ in {**PUBLIC_PIPELINES, **{id_: id_ for id_ in HUB_PARSERS}}.items():
        ways[name] = functools.partial(get, name, [hub_source(id_)])
    for backbone in segface.PARSER.variants:
        ways[f"imagenet_{backbone}"] = functools.partial(_imagenet, backbone)
    return ways


def _imagenet(backbone: str) -> Path:
    from semfacediff.parsing.segface.pretrained import ImageNetFile  # imports torchvision, which takes seconds

    return ImageNetFile.of(backbone).fetched(f"imagenet_{backbone}")


def _metrics_weights(weights: PublicWeights) -> Path:
    path = find_local(weights, None)
    if path is not None and not weights.published(path):
        raise DownloadError(f"{shown(path)} is another file than the public one; remove it first")
    return path or fetched(weights)


def _weights(public: PublicWeights, root: str | None) -> dict:
    """Weights of a metric: ``state`` is ``there``, ``another file`` (of that name), ``unread`` or ``missing``."""
    path, original = find_local(public, root), public.files[0]
    place = (Path(root).expanduser() if root else original.kept()[0].parent) / original.file
    wanted = {"file": original.file, "size": original.size, "sha256": original.sha256, "url": original.url}
    facts = {**wanted, "columns": list(public.columns), "place": str(path or place), "found_size": None, "digest": None}
    if path is None:
        return facts | {"state": "missing", "fetch": fetch_line(public.key)}
    size = path.stat().st_size
    facts |= {"found_size": size, "fetch": None}
    if size > _HASHED_BYTES or not os.access(path, os.R_OK):
        return facts | {"state": "unread"}
    facts["digest"] = file_digest(path)
    return facts | {"state": "there" if public.published(path) else "another file"}


def _pipeline(editor: str, root: str | None) -> dict:
    """A diffusion editor's pipeline: its path and warnings, or the error and how to get it."""
    id_ = PUBLIC_PIPELINES.get(editor)
    begun = bool(id_ and cached_folder(id_))
    facts: dict[str, object] = {
        "place": None,
        "incomplete": begun,
        "doubts": [],
        "error": None,
        "fetch": fetch_line(editor) if id_ else None,
    }
    try:
        files = find_pipeline(editor, None, root, download=False)
    except NoPipelineError:
        return facts
    except UserError as e:
        return facts | {"error": str(e), "fetch": None}
    return facts | {"place": str(files.folder), "incomplete": False, "doubts": files.doubts, "fetch": None}


def _parser(id_: str) -> dict:
    """A parser of the hub: its path in the hub's cache, or how to get or complete it."""
    folder = cached_folder(id_)
    if folder is not None and is_whole_model(folder):
        return {"place": str(folder), "incomplete": False, "fetch": None}
    return {"place": None, "incomplete": folder is not None, "fetch": fetch_line(id_)}

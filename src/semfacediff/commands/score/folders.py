"""Photos and edits of any layout become the folders that ``data=folder`` and ``editor=precomputed`` read."""

import argparse
import os
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from semfacediff import config, tasks
from semfacediff.data.files import PHOTO_SUFFIXES, existing, is_file
from semfacediff.data.reading import Blob, photo_size
from semfacediff.data.sizes import same_aspect
from semfacediff.errors import UserError, printable
from semfacediff.hydra_app import composed_or_refused
from semfacediff.tasks.folder_digest import folder_digest

_SHOWN = 5
"""Names in a message."""


def score(asked: argparse.Namespace) -> int:
    """Score the edits of ``asked``, the arguments of ``semfacediff score``; returns 1 if one cannot be scored.

    Only photos with an edit (and a label map, where these are given) enter; the others are named on stderr.

    Raises:
        UserError: a folder is missing, nothing matches, a name occurs twice, or an argument that a run refuses.
    """
    found = _matched(asked)
    _tell_sizes(found["photos"], found["edits"], asked.resize)
    with tempfile.TemporaryDirectory(prefix="semfacediff-") as temporary:
        root = Path(temporary)
        edits = root / asked.edits.expanduser().resolve().name
        for folder, of in ((root / "images", "photos"), (edits / asked.attribute, "edits"), (root / "masks", "labels")):
            folder.mkdir(parents=True)
            for stem, file in found.get(of, {}).items():
                os.symlink(file, folder / f"{stem}{file.suffix if of == 'photos' else '.png'}")
        settings = _settings(asked, root, edits)
        out = asked.out or Path("outputs") / "score" / f"{edits.name}-{folder_digest(settings)}"
        return tasks.start(settings, out.expanduser())


def _matched(asked: argparse.Namespace) -> dict[str, dict[str, Path]]:
    """``photos``, ``edits`` and perhaps ``labels``: stem -> file, of the stems that all have."""
    folders = {name: getattr(asked, name) for name in ("photos", "edits", "labels")}
    given = {name: folder.expanduser() for name, folder in folders.items() if folder is not None}
    for name, folder in given.items():
        existing(folder, f"--{name}", "correct the path")
    if (given["edits"] / asked.attribute).is_dir():  # edits of several attributes, as a run of ours has them
        given["edits"] /= asked.attribute
    files = {}
    for name, folder in given.items():
        others = [one for other, one in given.items() if other != name and one != folder and folder in one.parents]
        files[name] = _by_stem(folder, name, others)
    both = set.intersection(*(set(of) for of in files.values()))
    if not both:
        counts = ", ".join(f"{len(of)} {name} in {given[name]}" for name, of in files.items())
        raise UserError(f"score: no edit has the name of a photo ({counts}); a/face1.jpg belongs to b/c/face1.png")
    for name, lacking in (("edits", "photo"), ("photos", "edit"), ("labels", "photo with an edit")):
        alone = sorted(set(files.get(name, {})) - (both if name == "labels" else set(files[f"{lacking}s"])))
        if alone:
            _tell(f"left out, there is no {lacking}: {len(alone)} of {len(files[name])} {name} ({_names(alone)})")
    paired = set(files["photos"]) & set(files["edits"])
    if unlabelled := sorted(paired - both):
        _tell(f"left out, there is no label map: {len(unlabelled)} of {len(paired)} edits ({_names(unlabelled)})")
    _tell(f"taken: {len(both)} of {len(files['edits'])} edits")
    return {name: {stem: of[stem] for stem in sorted(both)} for name, of in files.items()}


def _by_stem(folder: Path, name: str, others: list[Path]) -> dict[str, Path]:
    """Every picture below ``folder``, but for those below ``others`` and the masks that ``semfacediff edit`` writes."""
    found: dict[str, Path] = {}
    for file in sorted(folder.resolve().rglob("*")):
        if not is_file(file, (".png",) if name == "labels" else PHOTO_SUFFIXES) or file.is_dir():
            continue
        if any(file.is_relative_to(other.resolve()) for other in others) or (file.parent / "edit.json").exists():
            continue
        if twin := found.get(file.stem):
            raise UserError(
                f"--{name}: '{printable(file.stem)}' occurs twice, as {twin} and {file}; name a folder in which every "
                f"name is there once"
            )
        found[file.stem] = file
    return found


def _tell_sizes(photos: dict[str, Path], edits: dict[str, Path], resize: str | None) -> None:
    """Say which edits are of another size than their photo, and what becomes of them."""
    scaled: list[str] = []
    other: list[str] = []
    for stem, file in edits.items():
        try:
            sizes = [photo_size(Blob(path, path.name).read(), path.name) for path in (photos[stem], file)]
        except UserError:  # which the run will say
            continue
        (height, width), (h, w) = sizes
        if sizes[0] != sizes[1]:
            fits = same_aspect(*sizes)
            (scaled if fits else other).append(f"{printable(stem)}: {w}x{h} for {width}x{height} px")
    if scaled:
        _tell(f"resized, another size than the photo's: {len(scaled)} of {len(edits)} edits ({_names(scaled)})")
    if other:
        then = {"fit": "cut", "stretch": "stretched", None: "not scored without --resize fit or stretch"}[resize]
        _tell(f"{then}, another aspect ratio than the photo's: {len(other)} of {len(edits)} edits ({_names(other)})")


def _settings(asked: argparse.Namespace, root: Path, edits: Path) -> config.EditingEvaluation:
    """What ``evaluate.py data=folder editor=precomputed`` would run with."""
    parsers = {file.stem for file in (config.repository() / "conf" / "parser").glob("*.yaml")}
    parser = "ground_truth" if asked.labels else asked.parser or "checkpoint"
    words = [f"parser={parser if parser in parsers else 'checkpoint'}", f"protocol={asked.protocol}"]
    words += ["data=folder", "data.root=DIR", "editor=precomputed", "editor.root=DIR", "metrics.on_missing=skip"]
    composed = composed_or_refused("evaluate", words, config.repository())
    plain = config.typed(composed, config.EditingEvaluation).model_dump()
    changes = {
        "data": {"root": str(root)},
        "editor": {"root": str(edits), "resize": asked.resize},
        "prompts": {asked.attribute: asked.prompt},
        "parser": {} if parser in parsers else {"checkpoint": parser},
        "weights": {"root": asked.weights} if asked.weights else {},
        "runtime": {"device": asked.device},
    }
    plain |= {group: {**plain[group], **of_group} for group, of_group in changes.items()}
    return config.checked(config.EditingEvaluation, plain | {"name": "score", "attributes": [asked.attribute]})


def _names(names: Iterable[str]) -> str:
    shown = [printable(name) for name in names]
    return ", ".join(shown[:_SHOWN]) + (f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else "")


def _tell(sentence: str) -> None:
    print(f"score: {sentence}", file=sys.stderr)

"""``semfacediff edit``: edits one or several regions of a photo from text prompts."""

import hashlib
import json
import re
import shlex
import struct
import sys
import time
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from semfacediff import config
from semfacediff.commands.edit.one_photo import (
    EditOptions,
    Stage,
    Tools,
    cascade_of,
    edited,
    editor_of,
    masks_of,
    of_face,
    parser_of,
    settings_of,
)
from semfacediff.commands.photo_folder import each_photo, photos_of, report
from semfacediff.data.reading import Blob, colour_profile, decode_photo
from semfacediff.data.square import to_square
from semfacediff.editing.apply import EditSpec, mask_bytes
from semfacediff.errors import UserError, printable
from semfacediff.records.environment import code_version, hardware, package_versions
from semfacediff.records.folder import held
from semfacediff.records.samples import EMPTY_REGION, OK
from semfacediff.records.writing import write_bytes, write_errors, write_text
from semfacediff.regions.faces import Faces, find_faces
from semfacediff.regions.masks import MIN_COVERAGE
from semfacediff.regions.own_masks import drawn_region
from semfacediff.regions.portraits import parse_faces
from semfacediff.tables.figures import overlay, panel_figure
from semfacediff.tasks.editing.cascade import staged
from semfacediff.tasks.editing.prompts import PromptRules, ResolvedPrompt, show
from semfacediff.tasks.editing.sample_row import MASKS, encoded_png
from semfacediff.threads import use_threads

SCHEMA_VERSION = 1
REPORT = "edit_report.json"
_OURS = re.compile(r"(?:\d+_[a-z]+(?:_semantic|_generation|_blend)?|strip)\.png")
_PANEL_PX = 256
_TITLE_LETTERS = 50
"""Number of characters that fit above two panels of a strip."""


@dataclass(frozen=True)
class _Task:
    """What to do with every photo."""

    options: EditOptions
    tools: Tools
    specs: list[EditSpec]
    prompts: list[ResolvedPrompt]
    out: Path


def edit_photos(source: Path, out: Path, options: EditOptions) -> int:
    """Edit a photo, or every photo of a folder; returns 0, or 1 if photos of the folder could not be edited.

    Writes ``<out>/<stem>.png`` (the photo's own size), and into ``<out>/<stem>/`` the three masks of every edit, the
    photo after each of several edits, ``strip.png`` and ``edit.json``. Photos that already have this edit are skipped.

    Raises:
        UserError: no photo, parser or editor, an unusable prompt, or the single photo cannot be edited.
    """
    photos = photos_of(source)
    if out.resolve() == photos[0].parent.resolve():
        raise UserError(f"--out: {out} is the folder of the photos, edits could overwrite them; give another folder")
    if options.mask and (source.is_dir() or len(options.edits) > 1):
        raise UserError(
            f"--mask: expected one edit of one photo, got {len(options.edits)} edits of {len(photos)} photos; edit one "
            f"after the other, or give evaluate.py a folder of masks (masks=DIR)"
        )
    task = _task(out, options)
    show(task.prompts)
    kept: list[Path] = []

    def one(file: Path) -> None:
        if not _edit_file(file, task):
            kept.append(file)

    with held(out, "give another --out"):
        failed = each_photo(source, photos, "edit", one)
        if source.is_dir():
            report(out / REPORT, failed, len(photos), "edited")
    before = f", {len(kept)} of them by an earlier run" if kept else ""
    print(f"edited {len(photos) - len(failed)} of {len(photos)} photos into {out}{before}")
    return 1 if failed else 0


def _task(out: Path, options: EditOptions) -> _Task:
    settings = settings_of(options)
    use_threads(settings.runtime.threads)
    editor, editor_facts = editor_of(settings)
    negatives = {} if options.negative is None else {attribute: options.negative for attribute, _ in options.edits}
    specs, words = staged(cascade_of(settings).ordered(), negatives, PromptRules.of(settings), editor)
    parser, digest = parser_of(settings)
    return _Task(options, Tools(settings, parser, digest, editor, editor_facts), specs, words, out)


def _edit_file(file: Path, task: _Task) -> bool:
    """Edit one photo; ``False`` if it already has this edit."""
    data = Blob(file, file.name).read()
    photo = decode_photo(data, file.name)
    mask = task.options.mask
    drawn = drawn_region(Blob(mask, mask.name).read(), mask.name, photo.shape[:2]) if mask else None
    identity = _identity(file, data, task, drawn)
    folder, result = task.out / file.stem, task.out / f"{file.stem}.png"
    if result.exists() and _recorded(folder / "edit.json") == identity:
        return False
    start = time.perf_counter()
    labels = parse_faces(task.tools.parser, photo, file.name).labels
    faces = _faces(labels, file.name, task) if drawn is None else None
    stages = _edited(file, photo, labels, faces, task, drawn)
    _clear(folder)
    for stage in stages:
        _write_stage(stage, folder, several=len(stages) > 1)
    _strip(photo, of_face(labels, faces), stages, folder / "strip.png", task)
    final = stages[-1].photo
    write_bytes(result, _with_profile(encoded_png(final), data, file.name))
    facts = {
        "schema_version": SCHEMA_VERSION,
        "command": shlex.join(["semfacediff", *sys.argv[1:]]),
        "photo": file.name,
        "height": photo.shape[0],
        "width": photo.shape[1],
        "identity": identity,
        "faces": {"choice": task.options.face, "shares": list(faces.shares) if faces else None},
        "stages": [stage.facts for stage in stages],
        "edit_sha256": hashlib.sha256(final.tobytes()).hexdigest(),
        "seconds": round(time.perf_counter() - start, 3),
        "editor": task.tools.editor_facts,
        "runtime": task.tools.settings.runtime.model_dump(),
        "code": code_version(config.repository()),
        "packages": package_versions(),
        "hardware": hardware(),
    }
    # Written last, so that a photo counts as edited only when all its files exist.
    write_text(folder / "edit.json", json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
    return True


def _with_profile(png: bytes, photo: bytes, name: str) -> bytes:
    """``png`` with the colour profile of the photo's file; without it, viewers would show other colours."""
    profile = colour_profile(photo, name)
    if profile[16:20] != b"RGB ":  # no profile, or one of a colour space that was converted
        return png
    chunk = b"iCCPicc\0\0" + zlib.compress(profile)
    header = 33  # signature and IHDR; the profile follows them
    framed = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return png[:header] + framed + png[header:]


def _clear(folder: Path) -> None:
    """Remove an earlier edit's record first, then its pictures, which could be mistaken for this edit's."""
    with write_errors(folder):
        (folder / "edit.json").unlink(missing_ok=True)
        for file in folder.iterdir() if folder.is_dir() else []:
            if _OURS.fullmatch(file.name):
                file.unlink()


def _identity(file: Path, data: bytes, task: _Task, drawn: np.ndarray | None) -> dict:
    """Everything that determines the edit, after a JSON round trip."""
    words = [one.facts() for one in task.prompts]
    facts = {
        "photo_sha256": hashlib.sha256(data).hexdigest(),
        "sample_id": file.stem,
        "edits": [one | {"strength": spec.strength} for one, spec in zip(words, task.specs, strict=True)],
        "reparse": cascade_of(task.tools.settings).reparse,
        "face": task.options.face,
        **task.tools.identity(),
    }
    if drawn is not None:
        facts["mask_sha256"] = hashlib.sha256(np.packbits(drawn).tobytes()).hexdigest()
    return json.loads(json.dumps(facts))


def _recorded(file: Path) -> dict | None:
    try:
        return json.loads(file.read_text(encoding="utf-8"))["identity"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _faces(labels: np.ndarray, name: str, task: _Task) -> Faces | None:
    """Faces in the parse; ``None`` if the whole parse is edited.

    Raises:
        UserError: no face, or several without a choice.
    """
    if task.options.face == "all":
        return None
    faces = find_faces(labels, task.tools.parser.label_space)
    if not faces.shares:
        raise UserError(
            f"{name}: the parse shows no face (an area of skin with two of eyes, brows, nose and mouth); crop the "
            f"photo to a face, or edit the whole parse with --face all"
        )
    if task.options.face == "one" and faces.competing > 1:
        shares = ", ".join(f"{100 * share:.1f} %" for share in faces.shares[: faces.competing])
        raise UserError(
            f"{name}: the parse shows {faces.competing} faces ({shares} of the photo); edit the largest with --face "
            f"largest or all of them with --face all"
        )
    return faces


def _edited(
    file: Path, photo: np.ndarray, labels: np.ndarray, faces: Faces | None, task: _Task, drawn: np.ndarray | None
) -> list[Stage]:
    """Apply all edits in order, each to the result of the previous one.

    Args:
        drawn: bool ``[H, W]``, the region instead of the parse's.

    Raises:
        UserError: no edit found its region, or the editor failed.
    """
    space, region = task.tools.parser.label_space, task.tools.settings.region
    stages: list[Stage] = []
    now, touched = photo, np.zeros(photo.shape[:2], bool)
    for spec in task.specs:
        if stages and cascade_of(task.tools.settings).reparse and stages[-1].facts["status"] == OK:
            labels = parse_faces(task.tools.parser, now).labels
        masks = masks_of(labels, faces, spec.attribute, space, region, drawn)
        stages.append(edited(file.stem, now, labels, masks, spec, task.tools))
        if note := stages[-1].facts["note"]:
            print(printable(f"{file.name}: {spec.attribute}: {note}"), file=sys.stderr)
        now = stages[-1].photo
        touched |= masks.blend[0].numpy() > 0
    empty = [s.spec.attribute for s in stages if s.facts["status"] == EMPTY_REGION]
    if len(empty) == len(stages):
        found = f"{max(100 * s.masks.coverage for s in stages):.2f} % of the photo"
        expected = f"expected at least {100 * MIN_COVERAGE:g} %"
        if task.options.mask:
            raise UserError(f"{task.options.mask.name}: the mask covers {found}, {expected}; draw a larger region")
        raise UserError(
            f"{file.name}: the parse shows no {' or '.join(dict.fromkeys(empty))} ({found}, {expected}); choose "
            f"another region or photo"
        )
    for attribute in empty:
        print(printable(f"{file.name}: the parse shows no {attribute}, so this edit was skipped"), file=sys.stderr)
    if task.tools.settings.composite == "exact" and not np.array_equal(now[~touched], photo[~touched]):
        raise RuntimeError(f"{file.name}: a pixel outside every region has changed")
    return stages


def _write_stage(stage: Stage, folder: Path, several: bool) -> None:
    """Write the three masks and, for several edits, the photo after this one."""
    for kind in MASKS:
        write_bytes(folder / f"{stage.spec.name}_{kind}.png", encoded_png(mask_bytes(getattr(stage.masks, kind))))
    if several:
        write_bytes(folder / f"{stage.spec.name}.png", encoded_png(stage.photo))


def _strip(photo: np.ndarray, labels: np.ndarray, stages: list[Stage], file: Path, task: _Task) -> None:
    """Photo, parse, and the mask and result of every edit in one row, each with its aspect kept."""
    panels = [("photo", photo), ("parse", overlay(photo, labels, task.tools.parser.label_space))]
    for stage in stages:
        panels += [("mask", mask_bytes(stage.masks.blend)[..., None].repeat(3, 2)), (stage.spec.attribute, stage.photo)]
    row: list[tuple[str, np.ndarray | None]]
    row = [(caption, to_square(np.ascontiguousarray(picture), _PANEL_PX)[0]) for caption, picture in panels]
    panel_figure([row], _title(stages), file)


def _title(stages: list[Stage]) -> str:
    """The prompts on one line, truncated to the width of the strip."""
    words = " ".join(", then ".join(stage.spec.words.prompt for stage in stages).split())
    room = _TITLE_LETTERS * (1 + len(stages))
    return words if len(words) <= room else f"{words[: room - 3]}..."

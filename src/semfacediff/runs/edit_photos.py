"""``semfacediff edit``: one region of a photo, or several one after another, from words."""

import hashlib
import io
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
import torch
from PIL import Image
from tqdm import tqdm

from semfacediff import build, config
from semfacediff.data.reading import Blob, decode_photo
from semfacediff.data.square import to_square
from semfacediff.editing.base import Editor, EditRequest
from semfacediff.editing.composite import composite
from semfacediff.errors import UserError
from semfacediff.hydra_app import composed_or_refused
from semfacediff.parsing import ModelParser
from semfacediff.parsing.any_photo import parse_any
from semfacediff.parsing.default import default_parser
from semfacediff.records.environment import code_version, hardware, package_versions
from semfacediff.records.samples import EMPTY_REGION, OK
from semfacediff.records.writing import failing_loudly, write_bytes, write_text
from semfacediff.regions import RegionRule, region_masks
from semfacediff.regions.faces import Faces, find_faces
from semfacediff.regions.masks import MIN_COVERAGE
from semfacediff.runs.cascade import staged
from semfacediff.runs.editing_bench import MASKS, Cell, checked_edit, digest_of_mask, encoded_png, peak_memory_mib
from semfacediff.runs.parse_photos import name_clashes, photos_of
from semfacediff.runs.prompting import PromptRules, Told, show
from semfacediff.seeding import derive_seed
from semfacediff.tables.figures import overlay, panel_figure
from semfacediff.types import RegionMasks, to_tensor, to_uint8

FACE_CHOICES = ("one", "largest", "all")
SCHEMA_VERSION = 1
REPORT = "edit_report.json"
SETTABLE = (
    *("editor.*", "region.*", "composite", "seam", "seeds", "negatives", "negative_words", "prompt_expansion"),
    *("parser.backend", "weights.*", "runtime", "runtime.*"),
)
"""Keys of ``evaluate.py`` that say how a photo is edited; others belong to a benchmark, or have a flag of their own."""
_OURS = re.compile(r"(?:\d+_[a-z]+(?:_semantic|_generation|_blend)?|strip)\.png")
_PANEL_PX = 256
_TITLE_LETTERS = 50
"""That fit over two panels of a strip."""


@dataclass(frozen=True)
class Wish:
    """What the command line asks for.

    Attributes:
        edits: (attribute, prompt) pairs, applied in this order, or from the ground up with ``order="anatomical"``.
        strengths: one for all edits, one an edit, or none: the editor's own.
        negative: negative prompt for every edit; ``None`` = made as ``negatives`` says.
        parser: checkpoint folder or training run; ``None`` = the one that ships with the package.
        face: ``one`` refuses photos with no face or several, ``largest`` edits the largest, ``all`` whatever is parsed.
        weights: folder of weights. device: as ``runtime.device``.
        overrides: further settings in the words of ``evaluate.py``, e.g. ``editor.steps=30``.
    """

    edits: list[tuple[str, str]]
    editor: str
    seed: int
    strengths: list[float]
    negative: str | None
    parser: str | None
    face: str
    reparse: bool
    order: str
    weights: str | None
    device: str
    overrides: list[str]


class _NoEditorError(UserError):
    """The editor cannot be opened: no photo can be edited."""


@dataclass(frozen=True)
class _Task:
    """What is done with every photo."""

    wish: Wish
    settings: config.EditingEvaluation
    parser: ModelParser
    parser_digest: str
    editor: Editor
    editor_facts: dict
    cells: list[Cell]
    told: list[Told]
    out: Path


@dataclass(frozen=True)
class _Stage:
    """One edit as it was made; ``photo`` uint8 ``[H, W, 3]`` after it, ``facts`` for the record."""

    cell: Cell
    masks: RegionMasks
    photo: np.ndarray
    facts: dict


def edit_photos(source: Path, out: Path, wish: Wish) -> int:
    """Edit a photo, or every photo of a folder; returns 0, or 1 if photos of the folder could not be edited.

    Writes ``<out>/<stem>.png`` (the photo's own size), and into ``<out>/<stem>/`` the three masks of every edit, the
    photo after each of several edits, ``strip.png`` and ``edit.json``. A photo that was edited so before is left alone.

    Raises:
        UserError: no photo there, no parser or editor, a prompt that cannot be used, or the one photo cannot be edited.
    """
    photos, single = photos_of(source), source.is_file()
    if out.resolve() == photos[0].parent.resolve():
        raise UserError(f"--out: {out} is where the photos lie, edits could overwrite them; give another folder")
    task = _task(out, wish)
    show(task.told)
    failed, kept = name_clashes(photos, "edit"), 0
    for file in tqdm([p for p in photos if p.name not in failed], "edit", unit="photo", disable=single):
        try:
            kept += not _edit_file(file, task)
        except _NoEditorError:
            raise
        except UserError as e:
            if single:
                raise
            failed[file.name] = str(e)
        except Exception as e:  # one bad photo must not cost the others
            if single:
                raise
            failed[file.name] = f"{file.name}: {type(e).__name__}: {e}"
    if not single:
        report = {"photos": len(photos), "edited": len(photos) - len(failed), "failed": failed}
        write_text(out / REPORT, json.dumps(report, indent=1, ensure_ascii=False) + "\n")
        for reason in failed.values():
            print(f"error: {reason}", file=sys.stderr)
    before = f", {kept} of them by an earlier run" if kept else ""
    print(f"edited {len(photos) - len(failed)} of {len(photos)} photos into {out}{before}")
    return 1 if failed else 0


def _task(out: Path, wish: Wish) -> _Task:
    settings = _settings(wish)
    on = build.device(settings.runtime)
    try:
        editor, editor_facts = build.editor(settings.editor, on, settings.weights, settings.runtime)
    except UserError as e:
        if wish.editor in ("recolor", "identity"):
            raise
        why = str(e).removesuffix("; editor=recolor needs no weights")
        raise UserError(f"{why}; or take --editor recolor, which needs no weights") from e
    negatives = {} if wish.negative is None else {attribute: wish.negative for attribute, _ in wish.edits}
    cells, words = staged(settings.cascade.ordered(), negatives, PromptRules.of(settings), editor)
    model, card, digest = build.trained_parser(settings.parser)
    with failing_loudly(out):
        out.mkdir(parents=True, exist_ok=True)
    return _Task(wish, settings, ModelParser(model, card, on), digest, editor, editor_facts, cells, words, out)


def _settings(wish: Wish) -> config.EditingEvaluation:
    """Those of an evaluation with this editor and these edits as its cascade: the same rules and the same checks."""
    checkpoint = wish.parser or default_parser()
    if checkpoint is None:
        raise UserError("no parser ships with this version; give --parser FOLDER (a run of train_parser.py)")
    for word in wish.overrides:
        key = word.lstrip("+~").partition("=")[0]
        if key not in SETTABLE and not any(key.startswith(known[:-1]) for known in SETTABLE if known.endswith("*")):
            raise UserError(
                f"--set {key}=...: expected one of {', '.join(SETTABLE)}, such as editor.steps=30; the rest has flags "
                f"of its own (semfacediff edit --help) or belongs to evaluate.py"
            )
    choices = sorted(
        p.stem for p in (config.repository() / "conf" / "editor").glob("*.yaml") if p.stem != "precomputed"
    )
    if wish.editor not in choices:
        raise UserError(f"--editor: expected one of {', '.join(choices)}, got '{wish.editor}'")
    words = [f"editor={wish.editor}", "tracking=none", *wish.overrides]
    cfg = composed_or_refused("evaluate", words, config.repository())
    plain = config.typed(cfg, config.EditingEvaluation).model_dump()
    strengths = (
        wish.strengths * len(wish.edits) if len(wish.strengths) == 1 else wish.strengths or [None] * len(wish.edits)
    )
    if len(strengths) != len(wish.edits):
        raise UserError(f"--strength: expected 1 or {len(wish.edits)} numbers, one an edit, got {len(strengths)}")
    stages = [
        {"attribute": attribute, "prompt": prompt, "strength": strength}
        for (attribute, prompt), strength in zip(wish.edits, strengths, strict=True)
    ]
    plain |= {
        "seed": wish.seed,
        "cascade": {"stages": stages, "reparse": wish.reparse, "order": wish.order},
        "parser": {**plain["parser"], "name": None, "checkpoint": str(checkpoint)},
        "weights": plain["weights"] | ({"root": wish.weights} if wish.weights else {}),
        "runtime": plain["runtime"] | ({"device": wish.device} if wish.device != "auto" else {}),
    }
    return config.checked(config.EditingEvaluation, plain)


def _edit_file(file: Path, task: _Task) -> bool:
    """Edit one photo; ``False`` if it was edited like this before."""
    data = Blob(file, file.name).read()
    photo = decode_photo(data, file.name)
    identity = _identity(file, data, task)
    folder, result = task.out / file.stem, task.out / f"{file.stem}.png"
    if result.exists() and _recorded(folder / "edit.json") == identity:
        return False
    start = time.perf_counter()
    labels = parse_any(task.parser, photo).labels
    faces = _faces(labels, file.name, task)
    stages = _made(file, photo, labels, faces, task)
    _clear(folder)
    for stage in stages:
        _write_stage(stage, folder, several=len(stages) > 1)
    _strip(photo, _shown(labels, faces, task), stages, folder / "strip.png", task)
    final = stages[-1].photo
    write_bytes(result, _with_profile(encoded_png(final), data))
    facts = {
        "schema_version": SCHEMA_VERSION,
        "command": shlex.join(["semfacediff", *sys.argv[1:]]),
        "photo": file.name,
        "height": photo.shape[0],
        "width": photo.shape[1],
        "identity": identity,
        "faces": {"choice": task.wish.face, "shares": list(faces.shares) if faces else None},
        "stages": [stage.facts for stage in stages],
        "edit_sha256": hashlib.sha256(final.tobytes()).hexdigest(),
        "seconds": round(time.perf_counter() - start, 3),
        "editor": task.editor_facts,
        "runtime": task.settings.runtime.model_dump(),
        "code": code_version(config.repository()),
        "packages": package_versions(),
        "hardware": hardware(),
    }
    # Last, so that a photo counts as edited only when everything of it is there.
    write_text(folder / "edit.json", json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
    return True


def _with_profile(png: bytes, photo: bytes) -> bytes:
    """``png`` with the colour profile of the photo's file; without it, other colours would be shown."""
    with Image.open(io.BytesIO(photo)) as image:
        profile = image.info.get("icc_profile") or b""
    if profile[16:20] != b"RGB ":  # none, or one of a colour space that the photo was converted from
        return png
    chunk = b"iCCPicc\0\0" + zlib.compress(profile)
    header = 33  # signature and IHDR, behind which the profile has its place
    framed = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return png[:header] + framed + png[header:]


def _clear(folder: Path) -> None:
    """Remove an earlier edit's record, first of all, and its pictures: they would pass for this one's."""
    with failing_loudly(folder):
        (folder / "edit.json").unlink(missing_ok=True)
        for file in folder.iterdir() if folder.is_dir() else []:
            if _OURS.fullmatch(file.name):
                file.unlink()


def _identity(file: Path, data: bytes, task: _Task) -> dict:
    """Everything that determines the edit, as JSON gives it back."""
    settings, words = task.settings, [one.facts() for one in task.told]
    facts = {
        "photo_sha256": hashlib.sha256(data).hexdigest(),
        "sample_id": file.stem,
        "edits": [one | {"strength": cell.strength} for one, cell in zip(words, task.cells, strict=True)],
        "reparse": settings.cascade.reparse,
        "face": task.wish.face,
        "seed": settings.seed,
        "seeds": settings.seeds,
        "editor": settings.editor.model_dump(),
        "editor_digest": task.editor_facts.get("digest"),
        "editor_numerics": task.editor_facts.get("numerics"),
        "parser_digest": task.parser_digest,
        "region": settings.region.model_dump(),
        "composite": settings.composite,
        "seam": settings.seam,
    }
    return json.loads(json.dumps(facts))


def _recorded(file: Path) -> dict | None:
    try:
        return json.loads(file.read_text(encoding="utf-8"))["identity"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _faces(labels: np.ndarray, name: str, task: _Task) -> Faces | None:
    """The faces that the parse shows; ``None`` if everything that was parsed is to be edited.

    Raises:
        UserError: no face, or several and nothing says which.
    """
    if task.wish.face == "all":
        return None
    faces = find_faces(labels, task.parser.label_space)
    if not faces.shares:
        raise UserError(
            f"{name}: the parse shows no face (an area of skin with two of eyes, brows, nose and mouth); crop the "
            f"photo to a face, or edit whatever is parsed with --face all"
        )
    if task.wish.face == "one" and faces.competing > 1:
        shares = ", ".join(f"{100 * share:.1f} %" for share in faces.shares[: faces.competing])
        raise UserError(
            f"{name}: the parse shows {faces.competing} faces ({shares} of the photo); edit the largest with --face "
            f"largest or all of them with --face all"
        )
    return faces


def _shown(labels: np.ndarray, faces: Faces | None, task: _Task) -> np.ndarray:
    """``labels`` of the face that is edited."""
    return labels if faces is None else faces.only(labels)


def _made(file: Path, photo: np.ndarray, labels: np.ndarray, faces: Faces | None, task: _Task) -> list[_Stage]:
    """Every edit in order, each of what the one before it made.

    Raises:
        UserError: no edit found its region, or the editor failed.
    """
    rule, space = RegionRule(**task.settings.region.model_dump()), task.parser.label_space
    now, stages, touched = photo, [], np.zeros(photo.shape[:2], bool)
    for cell in task.cells:
        if stages and task.settings.cascade.reparse and stages[-1].facts["status"] == OK:
            labels = parse_any(task.parser, now).labels
        mine = torch.from_numpy(_shown(labels, faces, task).astype(np.int64))
        masks = region_masks(mine, cell.attribute, space, rule)
        stages.append(_stage(file, now, masks, cell, task))
        now = stages[-1].photo
        touched |= masks.blend[0].numpy() > 0
    empty = [s.cell.attribute for s in stages if s.facts["status"] == EMPTY_REGION]
    if len(empty) == len(stages):
        found = max(100 * s.masks.coverage for s in stages)
        raise UserError(
            f"{file.name}: the parse shows no {' or '.join(dict.fromkeys(empty))} ({found:.2f} % of the photo, at "
            f"least {100 * MIN_COVERAGE:g} % are needed); name another region or photo"
        )
    for attribute in empty:
        print(f"{file.name}: the parse shows no {attribute}, that edit was left out", file=sys.stderr)
    if task.settings.composite == "exact" and not np.array_equal(now[~touched], photo[~touched]):
        raise RuntimeError(f"{file.name}: a pixel outside every region has changed")
    return stages


def _stage(file: Path, photo: np.ndarray, masks: RegionMasks, cell: Cell, task: _Task) -> _Stage:
    settings = task.settings
    repeat = [cell.nth] if cell.nth else []
    seed = (
        derive_seed(settings.seed, file.stem, cell.attribute, *repeat) if settings.seeds == "sample" else settings.seed
    )
    words = {"prompt": cell.words.read, "negative_prompt": cell.words.negative_prompt}
    request = EditRequest(
        file.stem, cell.attribute, to_tensor(photo), masks, **words, seed=seed, strength=cell.strength
    )
    blend, start, edited, note = masks.blend[0].numpy(), time.perf_counter(), photo, None
    empty = masks.coverage < MIN_COVERAGE
    if not empty:
        _open(task.editor)
        raw = to_uint8(checked_edit(task.editor.edit([request])[0], request.photo))
        edited, note = composite(photo, raw, blend, settings.composite, settings.seam), task.editor.note(request)
    outside = np.abs(edited.astype(int) - photo)[blend == 0]
    if note:
        print(f"{file.name}: {cell.attribute}: {note}", file=sys.stderr)
    facts = {
        "stage": cell.stage,
        "attribute": cell.attribute,
        "status": EMPTY_REGION if empty else OK,
        "seed": seed,
        "strength": cell.strength,
        "coverage": masks.coverage,
        **{f"mask_{kind}": digest_of_mask(getattr(masks, kind)) for kind in MASKS},
        "max_abs_outside": int(outside.max(initial=0)),
        "note": note,
        "seconds": round(time.perf_counter() - start, 3),
        "peak_memory_mib": None if empty else round(peak_memory_mib(), 1),
    }
    return _Stage(cell, masks, edited, facts)


def _open(editor: Editor) -> None:
    try:
        editor.prepare()
    except UserError as e:
        raise _NoEditorError(str(e)) from e


def _write_stage(stage: _Stage, folder: Path, several: bool) -> None:
    """The three masks, and the photo after this edit where it is one of several."""
    for kind in MASKS:
        mask = getattr(stage.masks, kind)[0].mul(255).round().to(torch.uint8).numpy()
        write_bytes(folder / f"{stage.cell.name}_{kind}.png", encoded_png(mask))
    if several:
        write_bytes(folder / f"{stage.cell.name}.png", encoded_png(stage.photo))


def _strip(photo: np.ndarray, labels: np.ndarray, stages: list[_Stage], file: Path, task: _Task) -> None:
    """Photo, parse, and the mask and result of every edit in one row, each with its aspect kept."""
    panels = [("photo", photo), ("parse", overlay(photo, labels, task.parser.label_space))]
    for stage in stages:
        mask = np.rint(stage.masks.blend[0].numpy() * 255).astype(np.uint8)
        panels += [("mask", mask[..., None].repeat(3, 2)), (stage.cell.attribute, stage.photo)]
    row = [(caption, to_square(np.ascontiguousarray(picture), _PANEL_PX)[0]) for caption, picture in panels]
    panel_figure([row], _title(stages), file)


def _title(stages: list[_Stage]) -> str:
    """The prompts on one line, cut where the strip ends."""
    words = " ".join(", then ".join(stage.cell.words.prompt for stage in stages).split())
    room = _TITLE_LETTERS * (1 + len(stages))
    return words if len(words) <= room else f"{words[: room - 3]}..."

"""A photo and its edits. Portraits are immutable; every function returns a new one."""

import dataclasses
import hashlib
import json
import math
import shlex
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from semfacediff import config
from semfacediff.commands.edit.one_photo import Tools, cascade_of, edited, masks_of
from semfacediff.data.reading import decode_scaled
from semfacediff.editing.apply import EditSpec
from semfacediff.editing.prompts.audit import Reading, readings
from semfacediff.editing.recolor import NOTE_NO_COLOUR
from semfacediff.errors import UserError
from semfacediff.labels import ATTRIBUTES
from semfacediff.metrics.base import EditPair
from semfacediff.metrics.fidelity import PSNR
from semfacediff.records.environment import code_version, package_versions
from semfacediff.records.samples import EMPTY_REGION
from semfacediff.regions.faces import Faces, find_faces
from semfacediff.regions.masks import MIN_COVERAGE
from semfacediff.regions.own_masks import drawn_region
from semfacediff.regions.portraits import parse_faces
from semfacediff.tasks.editing.cascade import staged
from semfacediff.tasks.editing.prompts import PromptRules, ResolvedPrompt
from semfacediff.tasks.editing.sample_row import encoded_png
from semfacediff.types import RegionMasks
from semfacediff.web.jobs import Stop
from semfacediff.web.model_store import EditForm, ModelStore

SCHEMA_VERSION = 1
MAX_MEGAPIXELS = 120
"""Of an uploaded photo."""
WORKING_MEGAPIXELS = 16
"""Larger photos are scaled down to this."""
_MAX_STROKE = 200_000
"""Characters of a brush stroke: some ten thousand points."""
MAX_EDITS = 8
"""Maximum per photo; each can be undone."""


@dataclass(frozen=True, eq=False)
class Step:
    """One edit.

    Attributes:
        form: the request. facts: for the record.
        undo: changes of the portrait's ``now``, ``labels_now`` and ``touched`` (exclusive or, zlib). They are mostly
            zeros, so an edit takes little memory even for large photos.
        mask: PNG of the user's own region; ``None`` = the parse's.
    """

    form: EditForm
    facts: dict[str, Any]
    undo: tuple[bytes, ...]
    mask: bytes | None = None


@dataclass(frozen=True, eq=False)
class Portrait:
    """A photo and its current state.

    Attributes:
        name: of the file. sha256: of its bytes.
        own_size: (height, width) in the file. photo: uint8 ``[H, W, 3]`` as loaded. now: the same after all edits.
        labels_now: uint8 ``[H, W]``, the parse of ``now``. touched: bool ``[H, W]``: pixels that any edit may change.
        faces: in the first parse; ``None`` if it shows no face, and the whole parse is edited.
        undone: steps that can be redone, the next one first.
        drawn: attribute -> bool ``[H, W]``, the user's own region instead of the parse's.
    """

    name: str
    sha256: str
    own_size: tuple[int, int]
    photo: np.ndarray
    faces: Faces | None
    now: np.ndarray
    labels_now: np.ndarray
    touched: np.ndarray
    steps: tuple[Step, ...] = ()
    undone: tuple[Step, ...] = ()
    drawn: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def scaled(self) -> bool:
        """Whether the file holds a larger photo."""
        return self.own_size != self.photo.shape[:2]


def open_portrait(data: bytes, name: str, store: ModelStore, before_each: Callable[[], None] | None = None) -> Portrait:
    """Open and parse an uploaded file, scaled down to :data:`WORKING_MEGAPIXELS`.

    Raises:
        UserError: it is not a photo, or over :data:`MAX_MEGAPIXELS`.

    Args:
        before_each: called before each parse; may raise to stop.
    """
    photo, own_size = decode_scaled(data, name, MAX_MEGAPIXELS * 1_000_000, WORKING_MEGAPIXELS * 1_000_000)
    labels = parse_faces(store.parser, photo, name, before_each).labels
    faces = find_faces(labels, store.space)
    digest, touched = hashlib.sha256(data).hexdigest(), np.zeros(labels.shape, bool)
    return Portrait(name, digest, own_size, photo, faces if faces.shares else None, photo, labels, touched)


def class_at(portrait: Portrait, x: float, y: float, store: ModelStore) -> tuple[str, str | None]:
    """(class, its attribute or ``None``) at a place in the photo, ``x`` and ``y`` in 0..1 from the top left."""
    height, width = portrait.labels_now.shape
    row, column = (min(max(int(share * n), 0), n - 1) for share, n in ((y, height), (x, width)))
    name = store.space.classes[portrait.labels_now[row, column]]
    return name, attribute_of(name)


def attribute_of(class_name: str) -> str | None:
    """The attribute that contains a class; ``None`` if there is none."""
    return next((a for a, classes in ATTRIBUTES.items() if class_name in classes), None)


def masks(portrait: Portrait, attribute: str, store: ModelStore) -> RegionMasks:
    """Masks of the next edit of ``attribute``."""
    own = portrait.drawn.get(attribute)
    return masks_of(portrait.labels_now, portrait.faces, attribute, store.space, store.region, own)


def painted(portrait: Portrait, attribute: str, stroke: str, store: ModelStore) -> Portrait:
    """Add a brush stroke to the region of ``attribute``, or erase it there.

    Args:
        stroke: JSON with ``points`` ([x, y] in 0..1 of the photo, from the top left), ``radius`` (share of the longer
            side) and ``erase``.

    Raises:
        UserError: it is no stroke.
    """
    height, width = portrait.labels_now.shape
    try:
        told = json.loads(stroke if len(stroke) <= _MAX_STROKE else "")
        points, radius = np.array(told["points"], np.float64).reshape(-1, 2), float(told["radius"])
        if not (len(points) and np.isfinite(points).all() and 0 < radius <= 0.5):
            raise ValueError
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as e:
        raise UserError("The stroke cannot be read; draw it again") from e
    at = np.floor(points.clip(-1, 2) * (width, height)).astype(np.int32)
    region = masks(portrait, attribute, store).semantic[0].numpy().astype(np.uint8)
    value, px = 0 if told.get("erase") else 1, max(1, round(radius * max(height, width)))
    cv2.polylines(region, [at], False, value, 2 * px)
    for end in (at[0], at[-1]):
        cv2.circle(region, end.tolist(), px, value, -1)
    return _with_region(portrait, attribute, region > 0)


def with_mask(portrait: Portrait, attribute: str, data: bytes, name: str) -> Portrait:
    """Take the region of ``attribute`` from a mask file; raises :class:`UserError` if it is not one of this photo."""
    return _with_region(portrait, attribute, drawn_region(data, name, portrait.photo.shape[:2], portrait.own_size))


def without_mask(portrait: Portrait, attribute: str) -> Portrait:
    """Take the region of ``attribute`` from the parse again."""
    return dataclasses.replace(portrait, drawn={k: v for k, v in portrait.drawn.items() if k != attribute})


def _with_region(portrait: Portrait, attribute: str, region: np.ndarray) -> Portrait:
    return dataclasses.replace(portrait, drawn={**portrait.drawn, attribute: region})


@dataclass(frozen=True)
class Audit:
    """How an editor reads a prompt.

    Attributes:
        understood: words with an effect; ``None`` = all that the tokenizers read.
        unused: words without an effect. readings: of every tokenizer.
        expanded, negative: expanded and negative prompt; empty = none.
        problem: why the edit would be refused, or ``None``.
    """

    understood: list[str] | None = None
    unused: tuple[str, ...] = ()
    readings: tuple[Reading, ...] = ()
    expanded: str = ""
    negative: str = ""
    problem: str | None = None


def audit(form: EditForm, store: ModelStore) -> Audit:
    """How the editor would read the prompt; does not run the editor and raises no error."""
    try:
        tools = store.tools(form)
    except UserError as e:
        return Audit(problem=str(e))
    understood = tools.editor.understood(form.prompt, form.attribute)
    unused = () if understood is None else _unused_words(form.prompt, understood)
    found = Audit(understood, unused, tuple(readings(form.prompt, tools.editor.tokenizers())))
    try:
        specs, _ = _resolved(form, tools)
    except UserError as e:
        return dataclasses.replace(found, problem=str(e))
    words = specs[0].words
    return dataclasses.replace(found, expanded=words.expanded_prompt or "", negative=words.negative_prompt or "")


def _unused_words(prompt: str, understood: list[str]) -> tuple[str, ...]:
    """Words of the prompt, in order, that do not occur in ``understood``."""
    used = {word for name in understood for word in name.lower().split()}
    words = [word.strip(".,;:!?()\"'") for word in prompt.split()]
    return tuple(dict.fromkeys(word for word in words if word and word.lower() not in used))


def _resolved(form: EditForm, tools: Tools) -> tuple[list[EditSpec], list[ResolvedPrompt]]:
    if form.negative and not tools.editor.reads_negatives():
        raise UserError(f"The editor '{form.editor}' reads no negative prompt; leave it empty or choose another editor")
    negatives = {form.attribute: form.negative} if form.negative else {}
    return staged(cascade_of(tools.settings).ordered(), negatives, PromptRules.of(tools.settings), tools.editor)


def edit(
    portrait: Portrait,
    form: EditForm,
    store: ModelStore,
    stop: Stop | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> Portrait:
    """Apply one more edit to the current state, with the same result as ``semfacediff edit``.

    Args:
        on_step: called with (steps taken, total steps) by editors that work in steps.

    Raises:
        StoppedError: ``stop`` was requested.
        UserError: an empty region, an unusable prompt or weights, :data:`MAX_EDITS` edits, or no pixel has changed.
    """
    stop = stop or Stop()
    stop.check()
    if len(portrait.steps) == MAX_EDITS:
        raise UserError(
            f"Expected at most {MAX_EDITS} edits of a photo; undo one, or download the edit and load it as a new photo"
        )
    tools = store.tools(form)
    (spec,), (words,) = _resolved(form, tools)
    before = sum(step.form.attribute == form.attribute for step in portrait.steps)
    spec = dataclasses.replace(spec, stage=len(portrait.steps) + 1, nth=before)
    region = masks(portrait, form.attribute, store)
    made = edited(
        Path(portrait.name).stem, portrait.now, portrait.labels_now, region, spec, tools, stop.after_step(on_step)
    )
    own = portrait.drawn.get(form.attribute)
    if made.facts["status"] == EMPTY_REGION:
        said = f"The parse shows no {form.attribute}" if own is None else "Your mask is almost empty"
        raise UserError(
            f"{said} ({100 * region.coverage:.2f} % of the photo, expected at least {100 * MIN_COVERAGE:g} %); paint "
            f"the region, or choose another one"
        )
    stop.check()
    if np.array_equal(made.photo, portrait.now):
        raise UserError(_unchanged(made.facts["note"]))
    labels = parse_faces(store.parser, made.photo, before_each=stop.check).labels
    touched = portrait.touched | (region.blend[0].numpy() > 0)
    facts = json.loads(json.dumps(made.facts | words.facts() | tools.identity() | {"own_mask": own is not None}))
    after: dict[str, Any] = {"now": made.photo, "labels_now": labels, "touched": touched}
    undo = tuple(zlib.compress(getattr(portrait, name) ^ array, 1) for name, array in after.items())
    png = None if own is None else encoded_png(own.astype(np.uint8) * 255)
    steps = (*portrait.steps, Step(form, facts, undo, png))
    return dataclasses.replace(portrait, **after, steps=steps, undone=())


def _unchanged(note: str | None) -> str:
    """Why an edit left every pixel as it was; ``note``: the editor's own."""
    if note == NOTE_NO_COLOUR:
        return "Nothing changed: the prompt names no colour; name one, such as auburn, dusty rose or light blue"
    return f"Nothing changed: the editor returned the photo as it was{f' ({note})' if note else ''}"


def undo(portrait: Portrait) -> Portrait:
    """Undo the last edit; raises :class:`UserError` if there is none."""
    if not portrait.steps:
        raise UserError("Nothing to undo: the photo has no edits")
    *kept, last = portrait.steps
    return dataclasses.replace(_flipped(portrait, last), steps=tuple(kept), undone=(last, *portrait.undone))


def redo(portrait: Portrait) -> Portrait:
    """Make the last undone edit again; raises :class:`UserError` if there is none."""
    if not portrait.undone:
        raise UserError("Nothing to redo: no edit was undone")
    next_, *later = portrait.undone
    return dataclasses.replace(_flipped(portrait, next_), steps=(*portrait.steps, next_), undone=tuple(later))


def _flipped(portrait: Portrait, step: Step) -> Portrait:
    """Before ``step`` what was after it, and the other way round."""
    layers = {name: getattr(portrait, name) for name in ("now", "labels_now", "touched")}
    for (name, layer), change in zip(layers.items(), step.undo, strict=True):
        layers[name] = layer ^ np.frombuffer(zlib.decompress(change), layer.dtype).reshape(layer.shape)
    return dataclasses.replace(portrait, **layers)


def outside_scores(portrait: Portrait) -> dict[str, float | str | None]:
    """``psnr_outside`` and ``max_abs_outside`` over the pixels outside all edits."""
    touched = portrait.touched.astype(np.uint8) * 255
    pair = EditPair(photo=portrait.photo, edit=portrait.now, blend=touched, before=portrait.touched, after=None)
    scores = PSNR("strict").score(pair)
    return {k: "inf" if v is not None and math.isinf(v) else v for k, v in scores.items()}


def record(portrait: Portrait, store: ModelStore) -> dict[str, Any]:
    """Record that reproduces the edit, with the scores outside its regions."""
    height, width = portrait.photo.shape[:2]
    card = store.parser.card
    return {
        "schema_version": SCHEMA_VERSION,
        "photo": portrait.name,
        "photo_sha256": portrait.sha256,
        "height": height,
        "width": width,
        "scaled_from": list(portrait.own_size) if portrait.scaled else None,
        "faces": list(portrait.faces.shares) if portrait.faces else [],
        "parser": {"name": card.name, "digest": store.parser_digest, "label_space": card.label_space},
        "edits": [step.facts for step in portrait.steps],
        "outside_all_edits": outside_scores(portrait),
        "edit_sha256": hashlib.sha256(portrait.now.tobytes()).hexdigest(),
        "command": command(portrait),
        "code": code_version(config.repository()),
        "packages": package_versions(),
    }


def command(portrait: Portrait) -> str | None:
    """The ``semfacediff edit`` command with the same result.

    ``None`` if editor, seed or negative prompt differ, if one of several edits has an own mask, or if the photo was
    scaled down.
    """
    forms, masked = [step.form for step in portrait.steps], list(mask_files(portrait))
    if len({(a.editor, a.seed, a.negative or None) for a in forms}) != 1 or portrait.scaled:
        return None
    if masked and len(forms) > 1:
        return None
    first = forms[0]
    words = ["semfacediff", "edit", portrait.name, *(w for a in forms for w in (a.attribute, a.prompt))]
    words += ["--editor", first.editor, "--seed", str(first.seed), "--face", "largest" if portrait.faces else "all"]
    if all(step.facts["strength"] is not None for step in portrait.steps):
        words += ["--strength", ",".join(f"{a.strength:g}" for a in forms)]
    words += ["--mask", masked[0]] if masked else []
    return shlex.join(words + (["--negative", first.negative] if first.negative else []))


def mask_files(portrait: Portrait) -> dict[str, bytes]:
    """Name -> PNG of the own masks of all edits."""
    stem = Path(portrait.name).stem
    return {f"{stem}_mask_{i}.png": step.mask for i, step in enumerate(portrait.steps, 1) if step.mask}

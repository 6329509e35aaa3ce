"""A photo and the edits made of it. Every function gives a new portrait; none is ever changed."""

import dataclasses
import hashlib
import json
import math
import shlex
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from semfacediff import config
from semfacediff.commands.edit.one_photo import Tools, cascade_of, edited, masks_of
from semfacediff.data.reading import decode_photo
from semfacediff.editing.apply import EditSpec
from semfacediff.editing.prompts.audit import Reading, readings
from semfacediff.errors import UserError
from semfacediff.labels import ATTRIBUTES
from semfacediff.metrics.base import EditPair
from semfacediff.metrics.fidelity import PSNR
from semfacediff.records.environment import code_version, package_versions
from semfacediff.records.samples import EMPTY_REGION
from semfacediff.regions.faces import Faces, find_faces
from semfacediff.regions.masks import MIN_COVERAGE
from semfacediff.regions.portraits import parse_faces
from semfacediff.tasks.editing.cascade import staged
from semfacediff.tasks.editing.prompts import PromptRules, ResolvedPrompt
from semfacediff.types import RegionMasks
from semfacediff.web.jobs import Stop
from semfacediff.web.model_store import EditForm, ModelStore

SCHEMA_VERSION = 1
MAX_MEGAPIXELS = 16
MAX_EDITS = 8
"""Of one photo; each can be undone."""


@dataclass(frozen=True, eq=False)
class Step:
    """One edit.

    Attributes:
        form: as it was asked for. facts: for the record.
        undo: what it changed of the portrait's ``now``, ``labels_now`` and ``touched`` (exclusive or, zlib). Mostly
            zeros: an edit takes little memory, however many pixels the photo has.
    """

    form: EditForm
    facts: dict[str, Any]
    undo: tuple[bytes, ...]


@dataclass(frozen=True, eq=False)
class Portrait:
    """A photo and what became of it.

    Attributes:
        name: of the file. sha256: of its bytes.
        photo: uint8 ``[H, W, 3]`` as it was loaded. now: the same after all edits.
        labels_now: uint8 ``[H, W]``, the parse of ``now``. touched: bool ``[H, W]``: what some edit may have changed.
        faces: in the first parse; ``None`` where it shows no face, and whatever is parsed is edited.
    """

    name: str
    sha256: str
    photo: np.ndarray
    faces: Faces | None
    now: np.ndarray
    labels_now: np.ndarray
    touched: np.ndarray
    steps: tuple[Step, ...] = ()


def opened(data: bytes, name: str, store: ModelStore, before_each: Callable[[], None] | None = None) -> Portrait:
    """The portrait of an uploaded file; a :class:`UserError` if it is no photo, or too large.

    Args:
        before_each: called before each parse; what it raises ends the work.
    """
    photo = decode_photo(data, name, MAX_MEGAPIXELS * 1_000_000)
    labels = parse_faces(store.parser, photo, name, before_each).labels
    faces = find_faces(labels, store.space)
    digest, touched = hashlib.sha256(data).hexdigest(), np.zeros(labels.shape, bool)
    return Portrait(name, digest, photo, faces if faces.shares else None, photo, labels, touched)


def class_at(portrait: Portrait, x: float, y: float, store: ModelStore) -> tuple[str, str | None]:
    """(class, its attribute or ``None``) at a place in the photo, ``x`` and ``y`` in 0..1 from the top left."""
    height, width = portrait.labels_now.shape
    row, column = (min(max(int(share * n), 0), n - 1) for share, n in ((y, height), (x, width)))
    name = store.space.classes[portrait.labels_now[row, column]]
    return name, attribute_of(name)


def attribute_of(class_name: str) -> str | None:
    """The attribute that edits a class; ``None`` = none does."""
    return next((a for a, classes in ATTRIBUTES.items() if class_name in classes), None)


def masks(portrait: Portrait, attribute: str, store: ModelStore) -> RegionMasks:
    """What the next edit of ``attribute`` would change."""
    return masks_of(portrait.labels_now, portrait.faces, attribute, store.space, store.region)


@dataclass(frozen=True)
class Audit:
    """What an editor makes of the words.

    Attributes:
        understood: the words that have a say; ``None`` = all that the tokenizers read.
        unused: words that have none. readings: of every tokenizer.
        expanded, negative: what the editor is told beside or instead of the prompt; empty = nothing.
        problem: why the edit would be refused, or ``None``.
    """

    understood: list[str] | None = None
    unused: tuple[str, ...] = ()
    readings: tuple[Reading, ...] = ()
    expanded: str = ""
    negative: str = ""
    problem: str | None = None


def audit(form: EditForm, store: ModelStore) -> Audit:
    """What would be understood of the words, and what lost; computes nothing and refuses nothing."""
    try:
        tools = store.tools(form)
    except UserError as e:
        return Audit(problem=str(e))
    understood = tools.editor.understood(form.prompt, form.attribute)
    unused = () if understood is None else _without(form.prompt, understood)
    found = Audit(understood, unused, tuple(readings(form.prompt, tools.editor.tokenizers())))
    try:
        specs, _ = _resolved(form, tools)
    except UserError as e:
        return dataclasses.replace(found, problem=str(e))
    words = specs[0].words
    return dataclasses.replace(found, expanded=words.expanded_prompt or "", negative=words.negative_prompt or "")


def _without(prompt: str, understood: list[str]) -> tuple[str, ...]:
    """Words of the prompt, in order, that none of ``understood`` holds."""
    used = {word for name in understood for word in name.lower().split()}
    words = [word.strip(".,;:!?()\"'") for word in prompt.split()]
    return tuple(dict.fromkeys(word for word in words if word and word.lower() not in used))


def _resolved(form: EditForm, tools: Tools) -> tuple[list[EditSpec], list[ResolvedPrompt]]:
    negatives = {form.attribute: form.negative} if form.negative else {}
    return staged(cascade_of(tools.settings).ordered(), negatives, PromptRules.of(tools.settings), tools.editor)


def edit(
    portrait: Portrait,
    form: EditForm,
    store: ModelStore,
    stop: Stop | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> Portrait:
    """The portrait with one more edit, made of what the edits before it left; as ``semfacediff edit`` makes it.

    Args:
        on_step: called with (steps taken, of how many) by editors that work in steps.

    Raises:
        StoppedError: ``stop`` asked for it.
        UserError: an empty region, words or weights that cannot be used, or :data:`MAX_EDITS` edits.
    """
    stop = stop or Stop()
    stop.check()
    if len(portrait.steps) == MAX_EDITS:
        raise UserError(f"A photo takes {MAX_EDITS} edits here; undo one, or download the edit and go on with that")
    tools = store.tools(form)
    (spec,), (words,) = _resolved(form, tools)
    before = sum(step.form.attribute == form.attribute for step in portrait.steps)
    spec = dataclasses.replace(spec, stage=len(portrait.steps) + 1, nth=before)
    region = masks(portrait, form.attribute, store)
    made = edited(
        Path(portrait.name).stem, portrait.now, portrait.labels_now, region, spec, tools, stop.after_step(on_step)
    )
    if made.facts["status"] == EMPTY_REGION:
        raise UserError(
            f"The parse shows no {form.attribute} ({100 * region.coverage:.2f} % of the photo, at least "
            f"{100 * MIN_COVERAGE:g} % are needed); choose another region or photo"
        )
    stop.check()
    labels = parse_faces(store.parser, made.photo, before_each=stop.check).labels
    touched = portrait.touched | (region.blend[0].numpy() > 0)
    facts = json.loads(json.dumps(made.facts | words.facts() | tools.identity()))
    after = {"now": made.photo, "labels_now": labels, "touched": touched}
    undo = tuple(zlib.compress(getattr(portrait, name) ^ array, 1) for name, array in after.items())
    steps = (*portrait.steps, Step(form, facts, undo))
    return dataclasses.replace(portrait, now=made.photo, labels_now=labels, touched=touched, steps=steps)


def undone(portrait: Portrait) -> Portrait:
    """The portrait without its last edit; a :class:`UserError` if there is none."""
    if not portrait.steps:
        raise UserError("Nothing to undo: the photo is as it was loaded")
    layers = {name: getattr(portrait, name) for name in ("now", "labels_now", "touched")}
    for (name, layer), change in zip(layers.items(), portrait.steps[-1].undo, strict=True):
        layers[name] = layer ^ np.frombuffer(zlib.decompress(change), layer.dtype).reshape(layer.shape)
    return dataclasses.replace(portrait, **layers, steps=portrait.steps[:-1])


def kept_outside(portrait: Portrait) -> dict[str, float | str | None]:
    """What all edits together did to pixels that none of them should touch: ``psnr_outside``, ``max_abs_outside``."""
    touched = portrait.touched.astype(np.uint8) * 255
    pair = EditPair(photo=portrait.photo, edit=portrait.now, blend=touched, before=portrait.touched, after=None)
    scores = PSNR("strict").score(pair)
    return {k: "inf" if v is not None and math.isinf(v) else v for k, v in scores.items()}


def record(portrait: Portrait, store: ModelStore) -> dict[str, Any]:
    """Everything that is needed to make the edit again, and what it did outside its regions."""
    height, width = portrait.photo.shape[:2]
    card = store.parser.card
    return {
        "schema_version": SCHEMA_VERSION,
        "photo": portrait.name,
        "photo_sha256": portrait.sha256,
        "height": height,
        "width": width,
        "faces": list(portrait.faces.shares) if portrait.faces else [],
        "parser": {"name": card.name, "digest": store.parser_digest, "label_space": card.label_space},
        "edits": [step.facts for step in portrait.steps],
        "outside_all_edits": kept_outside(portrait),
        "edit_sha256": hashlib.sha256(portrait.now.tobytes()).hexdigest(),
        "command": command(portrait),
        "code": code_version(config.repository()),
        "packages": package_versions(),
    }


def command(portrait: Portrait) -> str | None:
    """``semfacediff edit`` with the same result; ``None`` where edits differ in what one command has once."""
    asks = [step.form for step in portrait.steps]
    if len({(a.editor, a.seed, a.negative or None) for a in asks}) != 1:
        return None
    first = asks[0]
    words = ["semfacediff", "edit", portrait.name, *(w for a in asks for w in (a.attribute, a.prompt))]
    words += ["--editor", first.editor, "--seed", str(first.seed), "--face", "largest" if portrait.faces else "all"]
    if all(step.facts["strength"] is not None for step in portrait.steps):
        words += ["--strength", ",".join(f"{a.strength:g}" for a in asks)]
    return shlex.join(words + (["--negative", first.negative] if first.negative else []))

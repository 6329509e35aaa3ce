"""A photo and its edits. Portraits are immutable; every function returns a new one."""

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
"""Maximum per photo; each can be undone."""


@dataclass(frozen=True, eq=False)
class Step:
    """One edit.

    Attributes:
        form: the request. facts: for the record.
        undo: changes of the portrait's ``now``, ``labels_now`` and ``touched`` (exclusive or, zlib). They are mostly
            zeros, so an edit takes little memory even for large photos.
    """

    form: EditForm
    facts: dict[str, Any]
    undo: tuple[bytes, ...]


@dataclass(frozen=True, eq=False)
class Portrait:
    """A photo and its current state.

    Attributes:
        name: of the file. sha256: of its bytes.
        photo: uint8 ``[H, W, 3]`` as loaded. now: the same after all edits.
        labels_now: uint8 ``[H, W]``, the parse of ``now``. touched: bool ``[H, W]``: pixels that any edit may change.
        faces: in the first parse; ``None`` if it shows no face, and the whole parse is edited.
    """

    name: str
    sha256: str
    photo: np.ndarray
    faces: Faces | None
    now: np.ndarray
    labels_now: np.ndarray
    touched: np.ndarray
    steps: tuple[Step, ...] = ()


def open_portrait(data: bytes, name: str, store: ModelStore, before_each: Callable[[], None] | None = None) -> Portrait:
    """Open and parse an uploaded file; raises :class:`UserError` if it is not a photo or too large.

    Args:
        before_each: called before each parse; may raise to stop.
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
    """The attribute that contains a class; ``None`` if there is none."""
    return next((a for a, classes in ATTRIBUTES.items() if class_name in classes), None)


def masks(portrait: Portrait, attribute: str, store: ModelStore) -> RegionMasks:
    """Masks of the next edit of ``attribute``."""
    return masks_of(portrait.labels_now, portrait.faces, attribute, store.space, store.region)


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
        UserError: an empty region, an unusable prompt or weights, or :data:`MAX_EDITS` edits.
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
    if made.facts["status"] == EMPTY_REGION:
        raise UserError(
            f"The parse shows no {form.attribute} ({100 * region.coverage:.2f} % of the photo, expected at least "
            f"{100 * MIN_COVERAGE:g} %); choose another region or photo"
        )
    stop.check()
    labels = parse_faces(store.parser, made.photo, before_each=stop.check).labels
    touched = portrait.touched | (region.blend[0].numpy() > 0)
    facts = json.loads(json.dumps(made.facts | words.facts() | tools.identity()))
    after = {"now": made.photo, "labels_now": labels, "touched": touched}
    undo = tuple(zlib.compress(getattr(portrait, name) ^ array, 1) for name, array in after.items())
    steps = (*portrait.steps, Step(form, facts, undo))
    return dataclasses.replace(portrait, now=made.photo, labels_now=labels, touched=touched, steps=steps)


def undo(portrait: Portrait) -> Portrait:
    """Undo the last edit; raises :class:`UserError` if there is none."""
    if not portrait.steps:
        raise UserError("Nothing to undo: the photo has no edits")
    layers = {name: getattr(portrait, name) for name in ("now", "labels_now", "touched")}
    for (name, layer), change in zip(layers.items(), portrait.steps[-1].undo, strict=True):
        layers[name] = layer ^ np.frombuffer(zlib.decompress(change), layer.dtype).reshape(layer.shape)
    return dataclasses.replace(portrait, **layers, steps=portrait.steps[:-1])


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
    """The ``semfacediff edit`` command with the same result; ``None`` if editor, seed or negative prompt differ."""
    forms = [step.form for step in portrait.steps]
    if len({(a.editor, a.seed, a.negative or None) for a in forms}) != 1:
        return None
    first = forms[0]
    words = ["semfacediff", "edit", portrait.name, *(w for a in forms for w in (a.attribute, a.prompt))]
    words += ["--editor", first.editor, "--seed", str(first.seed), "--face", "largest" if portrait.faces else "all"]
    if all(step.facts["strength"] is not None for step in portrait.steps):
        words += ["--strength", ",".join(f"{a.strength:g}" for a in forms)]
    return shlex.join(words + (["--negative", first.negative] if first.negative else []))

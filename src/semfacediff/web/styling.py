"""Two photos, and a face that a trained SCA-DM makes of them: the layout of one, the style of the other."""

import dataclasses
import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from semfacediff import config
from semfacediff.commands.edit.one_photo import of_face
from semfacediff.data.square import labels_to_square, to_square
from semfacediff.errors import UserError
from semfacediff.labels import ATTRIBUTES, LabelSpace, conversion, space
from semfacediff.records.environment import code_version, package_versions
from semfacediff.synthesis.latents import at_size
from semfacediff.synthesis.model_files import resolve_synthesis, trained_synthesis
from semfacediff.synthesis.sampling import SamplingOptions
from semfacediff.synthesis.tasks import Synthesis, Synthesizer
from semfacediff.types import FaceSample, to_uint8
from semfacediff.web import portrait
from semfacediff.web.jobs import Stop
from semfacediff.web.model_store import ModelStore
from semfacediff.web.pictures import SHOWN_PX

SCHEMA_VERSION = 1
STEPS = (10, 20, 50, 100, 200)
"""All divide the 1000 steps of training."""
BETWEEN = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Weights of an interpolation."""


@dataclass(frozen=True)
class Task:
    """A way of making a face.

    Attributes:
        label: for the page. second: whether the second photo gives style. parts: whether only the chosen parts do.
        run: from (synthesizer, first, second, parts) to what was made.
    """

    label: str
    second: bool
    parts: bool
    run: Callable[[Synthesizer, FaceSample, list[FaceSample], tuple[str, ...]], Synthesis]


TASKS = {
    "swap_parts": Task(
        "The first photo with parts of the second", True, True, lambda s, a, b, parts: s.swap_parts([a], b, parts)
    ),
    "swap_style": Task("All in the style of the second", True, False, lambda s, a, b, _: s.swap_style([a], b)),
    "mix": Task("Parts of the second, the rest out of noise", True, True, lambda s, a, b, parts: s.mix([a], b, parts)),
    "generate": Task("All out of noise", False, False, lambda s, a, b, _: s.generate([a])),
    "interpolate": Task(
        "Parts on the way to the second, five faces",
        True,
        True,
        lambda s, a, b, parts: s.interpolate(a, b[0], parts, BETWEEN),
    ),
}
"""Methods of :class:`Synthesizer`, given the first photo and the second, if it counts; the layout is the first's."""


@dataclass(frozen=True)
class StyleAsk:
    """A face as it is asked for: one of :data:`TASKS`, names of parts, and how to sample."""

    task: str
    parts: tuple[str, ...]
    options: SamplingOptions


@dataclass(frozen=True, eq=False)
class Face:
    """A photo as the model takes it.

    Attributes:
        name: of the file. sha256: of its bytes. height, width: of the photo, px.
        count: faces that its parse shows; of several the largest is kept, of none whatever is parsed.
        sample: photo and label map in a square of at most :data:`SHOWN_PX`, in the parser's label space.
        changed: what made it a square; empty = it was one.
    """

    name: str
    sha256: str
    height: int
    width: int
    count: int
    sample: FaceSample
    changed: str


@dataclass(frozen=True, eq=False)
class Made:
    """What the model made.

    Attributes:
        images: uint8 ``[n, S, S, 3]``: one, or one for each of :data:`BETWEEN`.
        notes: what was not as asked; empty as a rule.
        facts: for the record.
    """

    images: np.ndarray
    notes: tuple[str, ...]
    facts: dict[str, Any]


class StyleModel:
    """A trained SCA-DM, opened once for all pages.

    Args:
        path: a run of ``train_synthesis.py``, a folder of its checkpoint, or a released file.
        store: its parser makes the label maps, its device is the model's.

    Attributes:
        size: side of its photos, px. space: its label space. parts: names to choose from.
        training: what its card says of its training; empty = it was never trained.

    Raises:
        UserError: no model is there, or its label space lacks classes of the parser's.
    """

    def __init__(self, path: str, store: ModelStore):
        place = resolve_synthesis(path, "--synthesis")
        try:
            model, card, self.digest = trained_synthesis(place)
        except UserError as e:
            raise UserError(f"--synthesis: {e}") from e
        self.space, self.training, self.size = space(card.label_space), card.training, card.options.image_size
        conversion(store.space, self.space)
        self.parts = offered_parts(self.space)
        self._model, self._desk = model.to(store.parser.device), store

    def synthesizer(self, options: SamplingOptions, on_step: Callable[[int, int], None]) -> Synthesizer:
        return Synthesizer(self._model, options, self.space, self._desk.space, on_step=on_step)

    def facts(self) -> dict[str, Any]:
        """For the record."""
        own = {"digest": self.digest, "label_space": self.space.name, "size": self.size, "training": self.training}
        card = self._desk.parser.card
        parser = {"name": card.name, "digest": self._desk.parser_digest, "label_space": card.label_space}
        return {"model": own, "parser": parser}


def offered_parts(of: LabelSpace) -> list[str]:
    """The attributes that a label space has, and the classes that belong to none of them."""
    whole = {name: classes for name, classes in ATTRIBUTES.items() if set(classes) <= set(of.classes)}
    covered = {c for classes in whole.values() for c in classes}
    return [*whole, *(c for c in of.classes if c not in covered)]


def opened(data: bytes, name: str, store: ModelStore, before_each: Callable[[], None] | None = None) -> Face:
    """The face of an uploaded file, parsed and brought into a square.

    Raises:
        UserError: no photo, too large, or one whose parse shows no part of a face.
    """
    seen = portrait.opened(data, name, store, before_each)
    height, width = seen.photo.shape[:2]
    square, place = to_square(seen.photo, min(max(height, width), SHOWN_PX), enlarge=False)
    labels = labels_to_square(of_face(seen.labels_now, seen.faces), place)
    if not labels.any():
        raise UserError(f"{name}: the parse shows no part of a face; load another photo")
    done = ["padded with white to a square"] if height != width else []
    done += [f"scaled to {place.side} px a side"] if max(height, width) > place.side else []
    sample = FaceSample(Path(name).stem, square, labels)
    count = len(seen.faces.shares) if seen.faces else 0
    return Face(name, seen.sha256, height, width, count, sample, " and ".join(done))


def make(
    first: Face | None,
    second: Face | None,
    wanted: StyleAsk,
    model: StyleModel,
    stop: Stop | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> Made:
    """The face that ``wanted`` wants: the same photos, seed and steps give the same one.

    Args:
        on_step: called with (steps taken, of how many).

    Raises:
        StoppedError: ``stop`` asked for it.
        UserError: a photo or parts that the task needs are not there.
    """
    stop, task = stop or Stop(), TASKS[wanted.task]
    if first is None:
        raise UserError("Load a first photo: its layout is what the face is made from")
    reference = second if task.second else None
    if task.second and reference is None:
        raise UserError(f"Load a second photo, whose style is taken, or choose '{TASKS['generate'].label}'")
    if task.parts and not wanted.parts:
        raise UserError("Choose at least one part that the second photo gives its style to")
    stop.check()
    start = time.perf_counter()
    synthesizer = model.synthesizer(wanted.options, stop.after_step(on_step))
    found = task.run(synthesizer, first.sample, [reference.sample] if reference else [], wanted.parts)
    images = np.stack([to_uint8(image) for image in found.images])
    facts = {
        "task": wanted.task,
        "first": _facts(first),
        "second": _facts(reference) if reference else None,
        "parts": list(wanted.parts) if task.parts else None,
        "weights": list(BETWEEN) if len(images) > 1 else None,
        "sampling": dataclasses.asdict(wanted.options),
        "notes": list(found.notes),
        "seconds": round(time.perf_counter() - start, 3),
    }
    return Made(images, tuple(filter(None, dict.fromkeys(found.notes))), facts)


def _facts(face: Face) -> dict[str, Any]:
    plain = {name: getattr(face, name) for name in ("name", "sha256", "height", "width", "changed")}
    return plain | {"faces": face.count, "labels_sha256": hashlib.sha256(face.sample.label_map.tobytes()).hexdigest()}


def compared(made: Made, first: Face, second: Face | None, size: int) -> np.ndarray:
    """uint8 ``[n, size, size, 3]``: the photos as the model takes them, and what it made, in the order of reading."""
    before, *after = (at_size(face.sample, size)[0] for face in (first, second) if face is not None)
    if len(made.images) > 1:
        return np.stack([before, *made.images, *after])
    return np.stack([before, *after, *made.images])


def picture(made: Made) -> np.ndarray:
    """uint8 ``[S, n S, 3]``: what was made, from left to right, at the model's own size."""
    return np.concatenate(list(made.images), axis=1)


def record(made: Made, model: StyleModel) -> dict[str, Any]:
    """Everything that is needed to make the face again."""
    return {
        "schema_version": SCHEMA_VERSION,
        **made.facts,
        **model.facts(),
        "image_sha256": hashlib.sha256(picture(made).tobytes()).hexdigest(),
        "code": code_version(config.repository()),
        "packages": package_versions(),
    }


def record_text(made: Made, model: StyleModel) -> str:
    return json.dumps(record(made, model), indent=1, ensure_ascii=False) + "\n"

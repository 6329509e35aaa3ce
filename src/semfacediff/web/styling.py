"""Generates a face with a trained SCA-DM from the layout of one photo and the style of another."""

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
"""Divisors of the 1000 training steps."""
INTERPOLATION_WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Weights of the second photo's style."""


@dataclass(frozen=True)
class Task:
    """A way of generating a face.

    Attributes:
        label: on the page. second: whether it uses the second photo. parts: whether it uses the chosen parts.
        run: from (synthesizer, first, second, parts) to the result.
    """

    label: str
    second: bool
    parts: bool
    run: Callable[[Synthesizer, FaceSample, list[FaceSample], tuple[str, ...]], Synthesis]


TASKS = {
    "swap_parts": Task(
        "First photo with parts of the second", True, True, lambda s, a, b, parts: s.swap_parts([a], b, parts)
    ),
    "swap_style": Task("First photo in the style of the second", True, False, lambda s, a, b, _: s.swap_style([a], b)),
    "mix": Task("Parts of the second, the rest from noise", True, True, lambda s, a, b, parts: s.mix([a], b, parts)),
    "generate": Task("All parts from noise", False, False, lambda s, a, b, _: s.generate([a])),
    "interpolate": Task(
        "Interpolation of parts toward the second, five faces",
        True,
        True,
        lambda s, a, b, parts: s.interpolate(a, b[0], parts, INTERPOLATION_WEIGHTS),
    ),
}
"""Methods of :class:`Synthesizer`, given the first photo and the second, if it counts; the layout is the first's."""


@dataclass(frozen=True)
class StyleForm:
    """One requested face: a key of :data:`TASKS`, names of parts, and sampling options."""

    task: str
    parts: tuple[str, ...]
    options: SamplingOptions


@dataclass(frozen=True, eq=False)
class Face:
    """A photo prepared for the model.

    Attributes:
        name: of the file. sha256: of its bytes. height, width: of the photo, px.
        count: faces in its parse; of several the largest is kept, without a face the whole parse.
        sample: photo and label map in a square of at most :data:`SHOWN_PX`, in the parser's label space.
        changed: how it was made square; empty = it was square.
    """

    name: str
    sha256: str
    height: int
    width: int
    count: int
    sample: FaceSample
    changed: str


@dataclass(frozen=True, eq=False)
class StyleResult:
    """Generated faces.

    Attributes:
        images: uint8 ``[n, S, S, 3]``: one, or one for each of :data:`INTERPOLATION_WEIGHTS`.
        notes: deviations from the request; usually empty.
        facts: for the record.
    """

    images: np.ndarray
    notes: tuple[str, ...]
    facts: dict[str, Any]


class StyleModel:
    """A trained SCA-DM, opened once for all pages.

    Args:
        path: a run of ``train_synthesis.py``, a folder of its checkpoint, or a released file.
        store: provides the parser for the label maps, and the device.

    Attributes:
        size: side of its photos, px. space: its label space. parts: names to choose from.
        training: training facts of its card; empty = never trained.

    Raises:
        UserError: there is no model, or its label space lacks classes of the parser's.
    """

    def __init__(self, path: str, store: ModelStore):
        place = resolve_synthesis(path, "--synthesis")
        try:
            model, card, self.digest = trained_synthesis(place)
        except UserError as e:
            raise UserError(f"--synthesis: {e}") from e
        self.space, self.training, self.size = space(card.label_space), card.training, card.options.image_size
        conversion(store.space, self.space)
        self.parts = part_names(self.space)
        self._model, self._store = model.to(store.parser.device), store

    def synthesizer(self, options: SamplingOptions, on_step: Callable[[int, int], None]) -> Synthesizer:
        return Synthesizer(self._model, options, self.space, self._store.space, on_step=on_step)

    def facts(self) -> dict[str, Any]:
        """For the record."""
        own = {"digest": self.digest, "label_space": self.space.name, "size": self.size, "training": self.training}
        card = self._store.parser.card
        parser = {"name": card.name, "digest": self._store.parser_digest, "label_space": card.label_space}
        return {"model": own, "parser": parser}


def part_names(of: LabelSpace) -> list[str]:
    """The attributes of a label space, and its classes outside any attribute."""
    whole = {name: classes for name, classes in ATTRIBUTES.items() if set(classes) <= set(of.classes)}
    covered = {c for classes in whole.values() for c in classes}
    return [*whole, *(c for c in of.classes if c not in covered)]


def open_face(data: bytes, name: str, store: ModelStore, before_each: Callable[[], None] | None = None) -> Face:
    """Open an uploaded file, parse it and make it square.

    Raises:
        UserError: not a photo, too large, or its parse shows no part of a face.
    """
    seen = portrait.open_portrait(data, name, store, before_each)
    height, width = seen.photo.shape[:2]
    square, place = to_square(seen.photo, min(max(height, width), SHOWN_PX), enlarge=False)
    labels = labels_to_square(of_face(seen.labels_now, seen.faces), place)
    if not labels.any():
        raise UserError(f"{name}: the parse shows no part of a face; load another photo")
    done = ["scaled down from {1} x {0} px".format(*seen.own_size)] if seen.scaled else []
    done += ["padded with white to a square"] if height != width else []
    done += [f"scaled to {place.side} px a side"] if max(height, width) > place.side else []
    sample = FaceSample(Path(name).stem, square, labels)
    count = len(seen.faces.shares) if seen.faces else 0
    return Face(name, seen.sha256, height, width, count, sample, " and ".join(done))


def make(
    first: Face | None,
    second: Face | None,
    wanted: StyleForm,
    model: StyleModel,
    stop: Stop | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> StyleResult:
    """Generate a face; the same photos, seed and steps give the same result.

    Args:
        on_step: called with (steps taken, total steps).

    Raises:
        StoppedError: ``stop`` was requested.
        UserError: a photo or parts that the task needs are missing.
    """
    stop, task = stop or Stop(), TASKS[wanted.task]
    if first is None:
        raise UserError("Load a first photo, which provides the layout")
    reference = second if task.second else None
    if task.second and reference is None:
        raise UserError(f"Load a second photo, which provides the style, or choose '{TASKS['generate'].label}'")
    if task.parts and not wanted.parts:
        raise UserError("Choose at least one part that takes the style of the second photo")
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
        "weights": list(INTERPOLATION_WEIGHTS) if len(images) > 1 else None,
        "sampling": dataclasses.asdict(wanted.options),
        "notes": list(found.notes),
        "seconds": round(time.perf_counter() - start, 3),
    }
    return StyleResult(images, tuple(filter(None, dict.fromkeys(found.notes))), facts)


def _facts(face: Face) -> dict[str, Any]:
    plain = {name: getattr(face, name) for name in ("name", "sha256", "height", "width", "changed")}
    return plain | {"faces": face.count, "labels_sha256": hashlib.sha256(face.sample.label_map.tobytes()).hexdigest()}


def comparison(made: StyleResult, first: Face, second: Face | None, size: int) -> np.ndarray:
    """uint8 ``[n, size, size, 3]``: the photos at the model's size and the results, from left to right."""
    before, *after = (at_size(face.sample, size)[0] for face in (first, second) if face is not None)
    if len(made.images) > 1:
        return np.stack([before, *made.images, *after])
    return np.stack([before, *after, *made.images])


def picture(made: StyleResult) -> np.ndarray:
    """uint8 ``[S, n S, 3]``: the results from left to right, at the model's own size."""
    return np.concatenate(list(made.images), axis=1)


def record(made: StyleResult, model: StyleModel) -> dict[str, Any]:
    """Record that reproduces the face."""
    return {
        "schema_version": SCHEMA_VERSION,
        **made.facts,
        **model.facts(),
        "image_sha256": hashlib.sha256(picture(made).tobytes()).hexdigest(),
        "code": code_version(config.repository()),
        "packages": package_versions(),
    }


def record_text(made: StyleResult, model: StyleModel) -> str:
    return json.dumps(record(made, model), indent=1, ensure_ascii=False) + "\n"

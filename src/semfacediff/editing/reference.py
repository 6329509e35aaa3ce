"""``editor=sca_dm``: a region in the style of a reference photo, or out of noise, by a trained SCA-DM.

The photo is made anew from its own label map: every part in its own style but those of the attribute, which have the
style of the reference. What lies outside the region is the composite's matter, as with every editor. Prompts are not
read.
"""

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from semfacediff import config
from semfacediff.data.reading import Blob, decode_labels, decode_photo
from semfacediff.data.sizes import resized_photo, same_aspect
from semfacediff.editing.base import Editor, EditRequest, Place
from semfacediff.editing.diffusion.weights import WITHOUT_WEIGHTS
from semfacediff.errors import UserError
from semfacediff.labels import LabelSpace, attribute_classes, attribute_indices, conversion, space
from semfacediff.parsing import ModelParser
from semfacediff.parsing.checkpoint import load_parser
from semfacediff.parsing.default import default_parser
from semfacediff.regions.portraits import parse_faces
from semfacediff.synthesis.faces import layout, paired
from semfacediff.synthesis.model_files import resolve_synthesis, trained_synthesis
from semfacediff.synthesis.sampling import SamplingOptions, ddim_timesteps
from semfacediff.synthesis.tasks import Synthesizer
from semfacediff.types import FaceSample, to_tensor, to_uint8
from semfacediff.weight_files import file_digest


@dataclass(frozen=True)
class Reference:
    """A photo whose style is taken.

    Attributes:
        face: photo and label map, in the model's label space.
        facts: id, digests and what parsed it, for the record.
    """

    face: FaceSample
    facts: dict[str, str]


class ReferenceEditor(Editor):
    """Edits by style.

    Args:
        synthesizer: a trained model with a way of sampling; the seed is each request's own.
        reference: ``None`` = the region's style out of noise.
        inversion: start from the noise that the model makes the photo of, instead of fresh noise: nearer to the photo.
    """

    name = "sca_dm"
    batchable = False

    @classmethod
    def opened(cls, settings: config.SCADMEditor, place: Place) -> tuple[Editor, dict]:
        return reference_editor(settings, place.device, bool(place.runtime and place.runtime.diffusion.compile))

    def __init__(self, synthesizer: Synthesizer, reference: Reference | None, inversion: bool):
        self.synthesizer, self.reference, self.inversion = synthesizer, reference, inversion
        self.native_size = synthesizer.model.options.image_size

    def check(self, attributes: dict[str, str]) -> None:
        """The model's label space must have the attribute; prompts may say anything."""
        for attribute in attributes:
            attribute_indices(attribute, self.synthesizer.space)

    def note(self, request: EditRequest) -> str:
        if self.reference is None:
            return "style out of noise; the prompt is not read"
        found = f"style of reference {self.reference.face.id}; the prompt is not read"
        wanted = attribute_indices(request.attribute, self.synthesizer.space)
        if not np.isin(self.reference.face.label_map, wanted).any():
            found += f"; the reference has no {', '.join(attribute_classes(request.attribute))}"
        return found

    def edit(self, requests: list[EditRequest]) -> list[torch.Tensor]:
        """float32 ``[3, H, W]`` in [0,1] a request."""
        return [self._edited(request) for request in requests]

    def _edited(self, request: EditRequest) -> torch.Tensor:
        if request.labels is None or request.label_space is None:
            raise UserError("editor=sca_dm needs the label map of the whole photo, and here it gets a mask alone")
        labels = conversion(request.label_space, self.synthesizer.space)[request.labels.numpy()].astype(np.uint8)
        face = FaceSample(request.sample_id, to_uint8(request.photo), labels)
        # Without a reference the style is that of an empty photo under the same label map.
        style = self.reference.face if self.reference else layout(request.sample_id, labels)
        made = self._seeded(request)
        parts = attribute_classes(request.attribute)
        if self.inversion:
            images = made.edit([face], references=[style], parts=parts).images
        else:
            images = made.swap_parts([face], [style], parts).images
        height, width = request.photo.shape[-2:]
        return to_tensor(resized_photo(to_uint8(images[0]), (height, width), Image.Resampling.BICUBIC))

    def _seeded(self, request: EditRequest) -> Synthesizer:
        s = self.synthesizer
        options = replace(s.options, seed=request.seed)
        return Synthesizer(s.model, options, s.space, absent=s.absent, on_step=request.on_step)


def reference_editor(
    settings: config.SCADMEditor, on: torch.device, compiled: bool = False
) -> tuple[ReferenceEditor, dict]:
    """The editor and its facts for the record.

    Args:
        compiled: see :meth:`SCADM.for_sampling`.

    Raises:
        UserError: no model or no reference there, or a reference that does not fit.
    """
    ddim_timesteps(settings.steps, settings.spacing, "editor.steps", more="editor.spacing=compatible")
    try:
        place = resolve_synthesis(settings.checkpoint, "editor.checkpoint")
    except UserError as e:
        raise UserError(f"{e}; {WITHOUT_WEIGHTS}") from e
    model, card, digest = trained_synthesis(place)
    names = ("steps", "spacing", "guidance", "guidance_form")
    options = SamplingOptions(**{name: getattr(settings, name) for name in names})
    model = model.for_sampling(on, getattr(torch, settings.precision), compiled)
    synthesizer = Synthesizer(model, options, space(card.label_space), absent=settings.absent)
    reference = _reference(settings.reference, settings, card.label_space) if settings.reference else None
    about = reference.facts if reference else {"id": None}
    facts = {"name": "sca_dm", "digest": digest, "numerics": {"reference": about}, "trained": card.training}
    doubts = [] if card.training else ["editor: the model was never trained: its card names no training"]
    return ReferenceEditor(synthesizer, reference, settings.inversion), facts | {"doubts": doubts}


def _reference(photo_file: str, settings: config.SCADMEditor, label_space: str) -> Reference:
    file = Path(photo_file).expanduser()
    if not file.is_file():
        raise UserError(f"editor.reference: expected a photo at {file}, found none; set editor.reference=FILE")
    with _named("editor.reference", "a photo"):
        photo = decode_photo(Blob(file, file.name).read(), file.name)
    facts = {"id": file.stem, "photo": file_digest(file)}
    if settings.reference_labels:
        maps = Path(settings.reference_labels).expanduser()
        if not maps.is_file():
            raise UserError(
                f"editor.reference_labels: expected a label map at {maps}, found none; set editor.reference_labels=FILE"
            )
        own = space(settings.reference_space)
        with _named("editor.reference_labels", f"its label map in space {own.name}"):
            labels, name = decode_labels(Blob(maps, maps.name).read(), maps.name, own), maps.stem
        facts["labels"] = file_digest(maps)
    else:
        (labels, own), name = _parsed(photo), file.stem
        facts["labels"] = f"parsed by the shipped parser ({hashlib.sha256(labels.tobytes()).hexdigest()[:16]})"
    labels = conversion(own, space(label_space))[labels].astype(np.uint8)
    face = paired({file.stem: photo}, {name: labels})[0]
    if photo.shape[0] != photo.shape[1] or not same_aspect(photo.shape[:2], labels.shape):
        raise UserError(
            f"editor.reference: expected a square photo with a square label map, got {photo.shape[:2]} and "
            f"{labels.shape}; crop or resize them"
        )
    if not labels.any():
        raise UserError(f"editor.reference: the label map of {file.name} shows no part of a face; take another photo")
    return Reference(face, facts)


@contextlib.contextmanager
def _named(key: str, wanted: str) -> Iterator[None]:
    """A file that cannot be used is said under the key that names it."""
    try:
        yield
    except UserError as e:
        raise UserError(f"{key}: {e}; set {key}=FILE to {wanted}") from e


def _parsed(photo: np.ndarray) -> tuple[np.ndarray, LabelSpace]:
    """(labels, their space) by the parser that ships with the package."""
    folder = default_parser()
    if folder is None:
        raise UserError("editor.reference_labels is not set, and no parser ships with this version; set it to FILE")
    model, card = load_parser(folder)
    parser = ModelParser(model, card, torch.device("cpu"))
    return parse_faces(parser, photo).labels, parser.label_space

"""``editor=instruct``: models that are told what to change in words and get no mask."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from semfacediff.editing.base import EditRequest
from semfacediff.editing.diffusion.editor import InpaintEditor, InpaintOptions
from semfacediff.editing.diffusion.placing import Placed
from semfacediff.editing.diffusion.weights import PipelineFiles
from semfacediff.editing.prompts.audit import refuse_long
from semfacediff.errors import UserError
from semfacediff.labels import attribute_classes

DEFAULT = "default"
TEMPLATES: Mapping[str, str] = {
    DEFAULT: "make the {attribute} {look}, keep everything else",
    "lips": "give the lips {prompt}, keep everything else",
    "eyes": "give the eyes {prompt}, keep everything else",
    **dict.fromkeys(("glasses", "earrings", "necklace", "hat"), "put {prompt} on the person, keep everything else"),
}
"""Attribute -> what makes an instruction of a prompt; see :func:`instruction`."""
_PLACEHOLDER = re.compile(r"\{(\w*)\}")
PLACEHOLDERS = ("attribute", "prompt", "look")


def checked_templates(templates: Mapping[str, str]) -> dict[str, str]:
    """``templates`` over :data:`TEMPLATES`; a :class:`UserError` names what is no attribute or no placeholder."""
    for attribute, template in templates.items():
        if attribute != DEFAULT:
            attribute_classes(attribute)
        unknown = [name for name in _PLACEHOLDER.findall(template) if name not in PLACEHOLDERS]
        if unknown:
            known = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
            raise UserError(f"editor.instructions.{attribute}: unknown placeholder {{{unknown[0]}}}; known: {known}")
    return {**TEMPLATES, **templates}


def instruction(attribute: str, prompt: str, templates: Mapping[str, str] = TEMPLATES) -> str:
    """``make the hair copper red, keep everything else`` of ``hair`` and ``copper red hair``.

    Args:
        templates: attribute (or ``default``) -> text in which ``{attribute}``, ``{prompt}`` and ``{look}``, the prompt
            without the attribute's own word, are filled in.
    """
    look = re.sub(rf"\s*\b{re.escape(attribute)}\b(?=[,.;]|$)", "", prompt, count=1).strip(" ,") or prompt
    told = {"attribute": attribute, "prompt": prompt, "look": look}
    return _PLACEHOLDER.sub(lambda found: told[found[1]], templates.get(attribute, templates[DEFAULT]))


@dataclass(frozen=True)
class InstructOptions(InpaintOptions):
    """See :class:`InpaintOptions`; maskless models have no strength and no crop.

    Attributes:
        image_guidance: weight of the photo, of InstructPix2Pix.
        instructions: attribute -> template of its own, see :func:`instruction`.
    """

    scheduler: str = "own"
    steps: int | None = None
    guidance: float | None = None
    strength: float | None = None
    native_size: int | None = None
    image_guidance: float | None = None
    instructions: Mapping[str, str] = field(default_factory=dict)


class InstructEditor(InpaintEditor):
    """Edits whole photos by an instruction, which is made of attribute and prompt, or a task set's own."""

    masked = False
    of_options = InstructOptions
    options: InstructOptions

    def __init__(self, name: str, files: PipelineFiles, options: InstructOptions, *more: Any, **named: Any):
        self.templates = checked_templates(options.instructions)
        super().__init__(name, files, options, *more, **named)

    def check(self, attributes: dict[str, str]) -> None:
        """The tokenizers must read the whole instruction."""
        for attribute, prompt in attributes.items():
            told = instruction(attribute, prompt, self.templates)
            refuse_long(f"the instruction for '{attribute}'", told, self.tokenizers())

    def told(self, request: EditRequest) -> str:
        """What the model is told."""
        return request.instruction or instruction(request.attribute, request.prompt, self.templates)

    def note(self, request: EditRequest) -> str:
        return "; ".join(filter(None, (f"instruction: {self.told(request)}", super().note(request))))

    def edit(self, requests: list[EditRequest]) -> list[Tensor]:
        """Whole photos, changed anywhere."""
        return super().edit([replace(request, prompt=self.told(request)) for request in requests])

    def _told(self, batch: list[EditRequest], at: list[Placed], strength: float | None) -> dict[str, Any]:
        told, weight = super()._told(batch, at, strength), self.options.image_guidance
        return told | ({"image_guidance_scale": weight} if weight is not None else {})

"""``editor=``, ``region=`` and what an editing benchmark asks for."""

from typing import Annotated, Literal

from pydantic import (
    Discriminator,
    Field,
    Tag,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from semfacediff.config.closed import Closed, Fraction, Once
from semfacediff.config.evaluation import Evaluation
from semfacediff.config.plugged import Plugged, tag_of
from semfacediff.config.prompts import CascadeConfig, Negatives, PromptsConfig, without_words
from semfacediff.controls import PIXELS, SYSTEM
from semfacediff.labels import ATTRIBUTES, SpaceName, attribute_classes


class _Repeated(Closed):
    """``repeats``: edits of every photo and attribute, each with a seed of its own."""

    repeats: Annotated[int, Field(ge=1, le=100)] = 1

    @property
    def options(self) -> dict[str, object]:
        """What the editor is made of."""
        return self.model_dump(exclude={"name", "repeats"})


class IdentityEditor(_Repeated):
    name: Literal["identity"]


class RecolorEditor(_Repeated):
    name: Literal["recolor"]
    no_colour: Literal["keep", "error"]
    strength: Fraction


class PrecomputedEditor(_Repeated):
    """``resize``: of an edit with another aspect ratio than its photo's; ``None`` refuses it."""

    name: Literal["precomputed"]
    root: str
    resize: Literal["fit", "stretch"] | None


class _DiffusionEditor(_Repeated):
    """``None``: the pipeline's own.

    ``model``: folder or id of the pipeline, where ``weights`` does not name one. ``pipeline``: class of diffusers.
    ``lora``: file, folder or id of weights that are added to the pipeline's, times ``lora_weight``.
    ``safety_checker``: whether the pipeline's is opened, if it has one.
    """

    model: str | None
    pipeline: Annotated[str, Field(pattern=r"^[A-Za-z_]\w*$")] | None
    lora: str | None
    lora_weight: Annotated[float, Field(ge=-10, le=10)]
    scheduler: Literal["own", "dpmsolver++", "ddim", "euler", "unipc", "lcm", "lightning"]
    steps: Annotated[int, Field(ge=1, le=1000)] | None
    guidance: Annotated[float, Field(ge=0, le=100)] | None
    true_cfg_scale: Annotated[float, Field(ge=0, le=100)] | None
    native_size: Annotated[int, Field(ge=32, le=4096)] | None
    dtype: Literal["auto", "float32", "float16", "bfloat16"]
    vae_dtype: Literal["float32", "same"]
    safety_checker: bool

    @model_validator(mode="after")
    def _weighed(self):
        if self.lora is None and self.lora_weight != 1.0:
            raise ValueError("editor.lora_weight belongs to editor.lora; set both, or drop it")
        return self


OF_PIPELINE = {"model", "pipeline", "lora", "lora_weight", "safety_checker"}
"""Settings of a diffusion editor that say what is opened, not how it is called."""


class InpaintEditor(_DiffusionEditor):
    """See :class:`semfacediff.editing.diffusion.InpaintOptions`."""

    name: Literal["sdxl_inpaint", "sd_inpaint", "inpaint"]
    strength: Annotated[float, Field(gt=0, le=1)] | None
    zoom: bool
    zoom_context: Annotated[float, Field(ge=0, le=8)]

    @model_validator(mode="after")
    def _takes_a_step(self):
        if self.strength and self.steps and int(self.steps * self.strength) < 1:  # as diffusers counts them
            raise ValueError(
                f"editor.strength={self.strength} of editor.steps={self.steps} leaves no step to take; their product "
                f"must be at least 1"
            )
        return self


class InstructEditor(_DiffusionEditor):
    """See :class:`semfacediff.editing.diffusion.InstructOptions`."""

    name: Literal["instruct"]
    image_guidance: Annotated[float, Field(ge=0, le=100)] | None
    instructions: dict[str, str]


class SCADMEditor(_Repeated):
    """See :mod:`semfacediff.editing.reference`."""

    name: Literal["sca_dm"]
    checkpoint: str
    reference: str | None
    reference_labels: str | None
    reference_space: SpaceName
    inversion: bool
    absent: Literal["encoder", "zero_image", "refuse"]
    steps: Annotated[int, Field(ge=1, le=1000)]
    spacing: Literal["even", "compatible"]
    guidance: Annotated[float, Field(ge=0, le=100)] | None
    guidance_form: Literal["code", "paper"] | None
    precision: Literal["float32", "bfloat16", "float16"]

    @model_validator(mode="after")
    def _labels_of_a_photo(self):
        if self.reference_labels is not None and self.reference is None:
            raise ValueError("editor.reference_labels belongs to a photo; set editor.reference=FILE too, or drop it")
        return self


class ControlEditor(_Repeated):
    """``of``: the diffusion editor that the controls of a system are made of; those of pixels leave it alone."""

    name: Literal["control"]
    kind: Literal[(*PIXELS, *SYSTEM)]  # type: ignore[valid-type]  # the names have one place, in controls
    donors: str | None
    of: InpaintEditor


class OtherEditor(_Repeated, Plugged):  # the last base says what extra keys are
    """An editor of one's own, or one of ours whose class says its options."""

    kind = "editor"

    @property
    def options(self) -> dict[str, object]:
        return dict(self.model_extra or {})


_CLOSED = (IdentityEditor, RecolorEditor, PrecomputedEditor, InpaintEditor, InstructEditor, SCADMEditor, ControlEditor)

AnyEditor = Annotated[
    Annotated[IdentityEditor, Tag("identity")]
    | Annotated[RecolorEditor, Tag("recolor")]
    | Annotated[PrecomputedEditor, Tag("precomputed")]
    | Annotated[InpaintEditor, Tag("sdxl_inpaint")]
    | Annotated[InstructEditor, Tag("instruct")]
    | Annotated[SCADMEditor, Tag("sca_dm")]
    | Annotated[ControlEditor, Tag("control")]
    | Annotated[OtherEditor, Tag("other")],
    Discriminator(tag_of(_CLOSED)),
]


class RegionConfig(Closed):
    """Pixels at a long side of 1024; scaled by max(H, W) / 1024."""

    erode_px: Annotated[float, Field(ge=0, le=200)]
    dilate_px: Annotated[float, Field(ge=0, le=200)]
    feather_sigma_px: Annotated[float, Field(ge=0, le=100)]


class EditingEvaluation(Evaluation):
    """``evaluate.py task=editing``."""

    task: Literal["editing"]
    protocol: Literal["thesis", "strict", "pie"]
    attributes: Annotated[list[str], Field(min_length=1), Once]
    prompts: PromptsConfig
    negatives: Negatives
    negative_words: str
    negative_prompts: dict[str, str] | None
    prompt_expansion: bool
    cascade: CascadeConfig | None
    working_size: Annotated[int, Field(ge=32, le=4096)] | None
    region: RegionConfig
    masks: Annotated[str, Field(min_length=1)] | None
    judge: Annotated[str, Field(min_length=1)] | None
    editor: AnyEditor
    inpaint_mask: Literal["generation", "blend"]
    composite: Literal["off", "blend", "exact"]
    seam: Literal["none", "laplacian", "poisson"]
    seeds: Literal["run", "sample"]
    save_raw: bool
    strips: Annotated[int, Field(ge=0, le=64)]
    stratify: list[str]

    @model_validator(mode="before")
    @classmethod
    def _of_edits(cls, plain: dict) -> dict:
        if plain.get("protocol") in ("ce7454", "segface"):
            raise ValueError(
                f"protocol={plain['protocol']} scores label maps; drop task=editing, or use strict, thesis or pie"
            )
        return plain

    @model_validator(mode="before")
    @classmethod
    def _of_cascade(cls, plain: dict) -> dict:
        """A cascade brings its own attributes; its stages without a prompt take the attribute's."""
        cascade, prompts = plain.get("cascade"), plain.get("prompts")
        if not isinstance(cascade, dict):
            return plain
        stages = cascade.get("stages")
        if not isinstance(stages, list) or not stages:
            return plain
        if not all(isinstance(s, dict) and isinstance(s.get("attribute"), str) for s in stages):
            return plain
        if any(s["attribute"] not in ATTRIBUTES for s in stages):  # which the stage says, once
            return plain
        known = prompts if isinstance(prompts, dict) else {}
        stages = [s if s.get("prompt") is not None else {**s, "prompt": known.get(s["attribute"])} for s in stages]
        attributes = list(dict.fromkeys(s["attribute"] for s in stages))
        return {**plain, "cascade": {**cascade, "stages": stages}, "attributes": attributes}

    @field_validator("attributes")
    @classmethod
    def _known(cls, attributes: list[str]) -> list[str]:
        for a in attributes:
            attribute_classes(a)
        return attributes

    @model_validator(mode="after")
    def _joined(self):
        if self.seam != "none" and self.composite == "off":
            raise ValueError(f"seam={self.seam} joins edit and photo, and composite=off does not; set composite=exact")
        return self

    @model_validator(mode="after")
    def _prompted(self):
        for key in self.negative_prompts or {}:
            attribute_classes(key)
        if self.cascade is not None and self.prompts.of_tasks:
            raise ValueError("cascade: its stages have the prompts; drop the task set of prompts=, or the cascade")
        for a in [] if self.cascade or self.prompts.of_tasks else self.attributes:
            if why := without_words(self.prompts.texts.get(a, "")):
                raise ValueError(f"the prompt for '{a}' {why}; set prompts.{a}='...'")
        for a, text in (self.negative_prompts or {}).items():
            if why := without_words(text):
                raise ValueError(f"the negative prompt for '{a}' {why}; leave it out or set negatives=none")
        return self

    @model_validator(mode="after")
    def _staged(self):
        for i, stage in enumerate(self.cascade.stages if self.cascade else [], 1):
            if why := without_words(stage.prompt or ""):
                raise ValueError(f"cascade: the prompt of stage {i} ('{stage.attribute}') {why}; give it other words")
            if stage.strength is None:
                continue
            if "strength" not in self.editor.model_dump():
                raise ValueError(
                    f"cascade: stage {i} sets a strength, editor '{self.editor.name}' has none; leave it out"
                )
            try:
                TypeAdapter(type(self.editor)).validate_python({**self.editor.model_dump(), "strength": stage.strength})
            except ValidationError as e:
                why = e.errors()[0]["msg"].removeprefix("Value error, ")
                raise ValueError(f"cascade: stage {i} ('{stage.attribute}'): {why}") from e
        return self

    @model_validator(mode="after")
    def _judged(self):
        """A judge parses whatever edit it is shown."""
        if self.judge in ("ground_truth", "precomputed"):
            raise ValueError(
                f"judge={self.judge} parses no edits; name a trained parser, or leave it out: parser={self.judge} has "
                f"the say then"
            )
        return self

    @model_validator(mode="after")
    def _repeated(self):
        if self.editor.repeats == 1:
            return self
        asked = f"editor.repeats={self.editor.repeats}"
        if self.cascade is not None:
            raise ValueError(f"cascade: {asked} makes edits of one photo, a cascade one after another; drop one of two")
        if self.parser.name == "precomputed" and self.judge is None:
            raise ValueError(
                f"{asked}: parser=precomputed has one parse for all edits of an attribute; set judge=PARSER to score "
                f"each by its own"
            )
        return self

    @model_validator(mode="after")
    def _stages_are_made(self):
        """A stage edits what the one before it made, so that nothing can be read from files."""
        if self.cascade is None:
            return self
        if self.editor.name == "precomputed":
            raise ValueError("cascade: editor=precomputed has no edits of edits; take an editor that computes")
        if self.parser.name == "precomputed":
            raise ValueError("cascade: parser=precomputed cannot parse what a stage makes; take another parser")
        if self.cascade.reparse and self.parser.name == "ground_truth" and len(self.cascade.stages) > 1:
            raise ValueError(
                "cascade.reparse=true needs a parser that parses edits, parser=ground_truth does not; set "
                "parser.checkpoint=FOLDER or cascade.reparse=false"
            )
        return self

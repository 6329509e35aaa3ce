"""``editor=``, ``region=`` and what an editing benchmark asks for."""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from semfacediff.config.closed import Closed, Fraction
from semfacediff.config.evaluation import Evaluation
from semfacediff.labels import attribute_classes


class IdentityEditor(Closed):
    name: Literal["identity"]


class RecolorEditor(Closed):
    name: Literal["recolor"]
    no_colour: Literal["keep", "error"]
    strength: Fraction


class PrecomputedEditor(Closed):
    name: Literal["precomputed"]
    root: str


AnyEditor = Annotated[IdentityEditor | RecolorEditor | PrecomputedEditor, Field(discriminator="name")]


class RegionConfig(Closed):
    """Pixels at a long side of 1024; scaled by max(H, W) / 1024."""

    erode_px: Annotated[float, Field(ge=0, le=200)]
    dilate_px: Annotated[float, Field(ge=0, le=200)]
    feather_sigma_px: Annotated[float, Field(ge=0, le=100)]


class EditingEvaluation(Evaluation):
    """``evaluate.py task=editing``."""

    task: Literal["editing"]
    attributes: Annotated[list[str], Field(min_length=1)]
    prompts: dict[str, str]
    working_size: Annotated[int, Field(ge=32, le=4096)] | None
    region: RegionConfig
    editor: AnyEditor
    composite: Literal["off", "blend", "exact"]
    seeds: Literal["run", "sample"]
    strips: Annotated[int, Field(ge=0, le=64)]

    @field_validator("attributes")
    @classmethod
    def _known(cls, attributes: list[str]) -> list[str]:
        for a in attributes:
            attribute_classes(a)
        if len(set(attributes)) < len(attributes):
            raise ValueError("each attribute once")
        return attributes

    @model_validator(mode="after")
    def _prompted(self):
        for key in self.prompts:
            attribute_classes(key)
        for a in self.attributes:
            if not self.prompts.get(a, "").strip():
                raise ValueError(f"the prompt for '{a}' is empty; set prompts.{a}='...'")
        return self

"""Prompts, negative prompts and cascades of an editing run."""

import unicodedata
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from semfacediff.config.closed import Closed, Fraction, Seed
from semfacediff.labels import attribute_classes

Negatives = Literal["none", "empty", "generic", "attribute_aware"]

ANATOMICAL = (
    "skin nose eyes eyebrows lips hair clothing necklace earrings glasses hat".split()
)  # fmt: skip
"""From the ground of a face to what lies over it: an edit comes before those of regions that cover its own."""

KINDS = (RECOLOUR, RESTYLE, ADD, REMOVE, KEEP) = ("recolour", "restyle", "add", "remove", "keep")
"""What a task of a task set asks for; of ``keep`` the right answer is no change."""

MAX_PROMPT = 2000
"""Characters of a prompt: far more than the 77 tokens that text encoders read."""


def too_long(prompt: str) -> str | None:
    """Why ``prompt`` is not read; ``None`` if it is."""
    return f"has {len(prompt)} characters, over the limit of {MAX_PROMPT}" if len(prompt) > MAX_PROMPT else None


def without_words(prompt: str) -> str | None:
    """Why nothing can be painted after ``prompt``; ``None`` if it says something, in any script or in emoji."""
    if why := too_long(prompt):
        return why
    try:
        prompt.encode()
    except UnicodeEncodeError:
        return "is not valid Unicode"
    if not prompt.strip():
        return "is empty"
    if not any(c.isalnum() or unicodedata.category(c) == "So" for c in prompt):
        return f"has no words ({prompt!r})"
    return None


class PromptsConfig(Closed):
    """``prompts=``: a text an attribute (keys of ``labels.ATTRIBUTES``), or a task set, whose prompts differ by photo.

    Attributes:
        file: CSV file of a task set. generated: name of the rule that makes one.
        seed: of that rule.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, str]
    file: str | None = None
    generated: Literal["tasks_v1"] | None = None
    seed: Seed = 0

    @property
    def of_tasks(self) -> bool:
        """Whether a task set says the prompts."""
        return self.file is not None or self.generated is not None

    @property
    def texts(self) -> dict[str, str]:
        """Attribute -> prompt; empty where a task set says them."""
        return dict(self.__pydantic_extra__)

    @model_validator(mode="before")
    @classmethod
    def _without_defaults(cls, plain: object) -> object:
        """The texts of ``prompts=evaluation`` are there unasked; a task set says every prompt itself."""
        if not isinstance(plain, dict) or (plain.get("file") is None and plain.get("generated") is None):
            return plain
        return {k: v for k, v in plain.items() if k in cls.model_fields}

    @model_validator(mode="after")
    def _one_source(self):
        if self.file is not None and self.generated is not None:
            raise ValueError("prompts.file and prompts.generated are two task sets; set one of them to null")
        for attribute in self.texts:
            attribute_classes(attribute)
        return self


class StageConfig(Closed):
    """One edit of a cascade; what is ``None`` is the run's: ``prompts.<attribute>``, ``editor.strength``, ..."""

    attribute: str
    prompt: str | None = None
    negative_prompt: str | None = None
    strength: Fraction | None = None

    @field_validator("attribute")
    @classmethod
    def _known(cls, attribute: str) -> str:
        attribute_classes(attribute)
        return attribute


class CascadeConfig(Closed):
    """Edits applied one after another.

    Attributes:
        reparse: make every stage's mask from the parse of the photo it is given; ``False``: all from the first parse.
        order: ``given``, or ``anatomical`` (see :data:`ANATOMICAL`).
    """

    stages: Annotated[list[StageConfig], Field(min_length=1, max_length=64)]
    reparse: bool = True
    order: Literal["given", "anatomical"] = "given"

    def ordered(self) -> list[StageConfig]:
        """The stages as they are applied; edits of the same attribute keep their order."""
        if self.order == "given":
            return list(self.stages)
        return sorted(self.stages, key=lambda stage: ANATOMICAL.index(stage.attribute))

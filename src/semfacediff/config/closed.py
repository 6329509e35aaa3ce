"""What every part of the configuration is made of."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


class Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


Positive = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Fraction = Annotated[float, Field(ge=0, le=1)]


def _once(values: list) -> list:
    if len(set(values)) < len(values):
        raise ValueError("expected each once")
    return values


Once = AfterValidator(_once)
"""Of a list: nothing in it twice."""

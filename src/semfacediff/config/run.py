"""What every run has: parser, device, tracking."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from semfacediff.config.closed import Closed, Positive


class ParserConfig(Closed):
    """``name`` picks a kind, ``checkpoint`` a trained one; ``root`` is where precomputed label maps lie."""

    name: str | None
    checkpoint: str | None
    root: str | None

    @model_validator(mode="after")
    def _consistent(self):
        if (self.name == "precomputed") != (self.root is not None):
            raise ValueError("parser.root belongs to parser=precomputed, which needs it: parser.root=DIR")
        if self.name in ("precomputed", "ground_truth") and self.checkpoint is not None:
            raise ValueError(f"parser={self.name} reads no checkpoint; drop parser.checkpoint or parser={self.name}")
        return self


class RuntimeConfig(Closed):
    device: Literal["auto", "cpu", "cuda", "mps"]
    batch_size: Positive
    workers: Annotated[int, Field(ge=0)]


class NoTracking(Closed):
    name: Literal["none"]


class WandbTracking(Closed):
    name: Literal["wandb"]
    project: Annotated[str, Field(min_length=1)]
    entity: str | None
    mode: Literal["auto", "online", "offline"]
    group: str | None
    tags: list[Annotated[str, Field(min_length=1, max_length=64)]]
    images: bool


AnyTracking = Annotated[NoTracking | WandbTracking, Field(discriminator="name")]

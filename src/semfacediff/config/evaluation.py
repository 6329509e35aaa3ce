"""``metrics=``, ``weights=`` and what every evaluation has."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from semfacediff.config.closed import Closed, Positive, Seed
from semfacediff.config.data import AnyData
from semfacediff.config.run import AnyTracking, Objective, ParserConfig, RuntimeConfig
from semfacediff.plugins import class_name, completed, find, ours


class WeightsConfig(Closed):
    root: str | None
    lpips_alexnet: str | None
    lpips_squeeze: str | None
    inception: str | None
    clip: str | None
    arcface: str | None
    sdxl_inpaint: str | None
    sd_inpaint: str | None
    inpaint: str | None
    instruct: str | None
    download: bool


class ClipConfig(Closed):
    model: Annotated[str, Field(min_length=1)]


class IdentityConfig(Closed):
    """``values``: what the network of ``weights.arcface`` takes, see :mod:`semfacediff.metrics.face_embedding`."""

    backend: Literal["dlib", "arcface"]
    values: Literal["signed", "bytes"]


def _known(name: str) -> str:
    if name not in ours("metric") and find("metric", name) is None:
        raise ValueError(f"expected {', '.join(ours('metric'))} or a metric of your own")
    return name


class MetricsConfig(Closed):
    """``options``: name of a metric of one's own (of ``module:Class`` the class) -> its options. ``reference``: compute
    SSIM, LPIPS, the effect's colours and FID by the libraries that ours are held to."""

    columns: list[Annotated[str, AfterValidator(_known)]]
    options: dict[str, dict[str, Any]] = Field(default={})
    clip: ClipConfig
    identity: IdentityConfig
    on_missing: Literal["error", "skip"]
    reference: bool

    @model_validator(mode="before")
    @classmethod
    def _completed(cls, plain: object) -> object:
        if not isinstance(plain, dict):
            return plain
        columns, asked = map(str, plain.get("columns") or []), plain.get("options") or {}
        own = {class_name(name): name for name in columns if name not in ours("metric")}
        if strange := [name for name in asked if name not in own]:
            raise ValueError(f"metrics.options: '{strange[0]}' is no metric of one's own in metrics.columns")
        own = {short: name for short, name in own.items() if find("metric", name) is not None}  # others are refused
        options = {short: completed("metric", name, asked.get(short, {})) for short, name in own.items()}
        return {**plain, "options": {short: of for short, of in options.items() if of}}


class ShardConfig(Closed):
    """The part of the samples that a run takes: those at positions index, index + count, ... of all, sorted by name."""

    index: Annotated[int, Field(ge=0)]
    count: Positive

    @model_validator(mode="after")
    def _one_of_them(self):
        if self.index >= self.count:
            raise ValueError(f"shard.index: counted from 0, below shard.count={self.count}; got {self.index}")
        return self


class Evaluation(Closed):
    name: str
    seed: Seed
    limit: Positive | None
    optimise: Objective
    shard: ShardConfig
    data: AnyData
    parser: ParserConfig
    weights: WeightsConfig
    runtime: RuntimeConfig
    tracking: AnyTracking
    metrics: MetricsConfig
    protocol: str

    @model_validator(mode="before")
    @classmethod
    def _without_synthesis(cls, plain: dict) -> dict:
        """What only ``task=synthesis`` needs is accepted and left alone."""
        if "generation" in plain:
            raise ValueError("generation: this group is named synthesis now; write synthesis.<key>")
        return {k: v for k, v in plain.items() if k != "synthesis" or k in cls.model_fields}

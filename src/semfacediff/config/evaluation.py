"""``metrics=``, ``weights=`` and what every evaluation has."""

from typing import Annotated, Literal

from pydantic import Field

from semfacediff.config.closed import Closed, Positive, Seed
from semfacediff.config.data import AnyData
from semfacediff.config.run import AnyTracking, ParserConfig, RuntimeConfig


class WeightsConfig(Closed):
    root: str | None
    lpips_alexnet: str | None
    inception: str | None
    clip: str | None
    sdxl_inpaint: str | None
    sd_inpaint: str | None
    inpaint: str | None
    download: bool


class ClipConfig(Closed):
    model: Annotated[str, Field(min_length=1)]


class MetricsConfig(Closed):
    columns: list[Literal["ssim", "psnr", "seam", "lpips", "iou", "geometry", "leakage", "clip", "fid", "kid"]]
    clip: ClipConfig
    on_missing: Literal["error", "skip"]


class Evaluation(Closed):
    name: str
    seed: Seed
    limit: Positive | None
    data: AnyData
    parser: ParserConfig
    weights: WeightsConfig
    runtime: RuntimeConfig
    tracking: AnyTracking
    metrics: MetricsConfig
    protocol: str

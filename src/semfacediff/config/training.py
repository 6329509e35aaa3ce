"""``train_parser.py``: schedule, loss, optimiser."""

from typing import Annotated, Literal

from pydantic import Field

from semfacediff.config.closed import Closed, Positive, Seed
from semfacediff.config.data import AnyData
from semfacediff.config.run import AnyTracking, ParserConfig, RuntimeConfig


class TrainConfig(Closed):
    epochs: Positive
    batch_size: Annotated[int, Field(ge=2)]
    size: Annotated[int, Field(ge=32, le=2048)]
    checkpoint_every_steps: Annotated[int, Field(ge=0)]
    gradient_clip_norm: Annotated[float, Field(gt=0)] | None
    augment: Literal["none", "standard"]
    keep_in_memory: bool


class LossConfig(Closed):
    class_weights: Literal["none", "inverse", "inverse_sqrt"]
    class_weight_batches: Positive
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]


class OptimConfig(Closed):
    encoder_lr: Annotated[float, Field(gt=0)]
    decoder_lr: Annotated[float, Field(gt=0)]
    weight_decay: Annotated[float, Field(ge=0)]
    schedule: Literal["constant", "cosine"]
    warmup_steps: Annotated[int, Field(ge=0)]


class ParserTraining(Closed):
    """``train_parser.py``."""

    task: Literal["train_parser"]
    name: str
    seed: Seed
    limit: Positive | None
    data: AnyData
    parser: ParserConfig
    train: TrainConfig
    loss: LossConfig
    optim: OptimConfig
    runtime: RuntimeConfig
    tracking: AnyTracking

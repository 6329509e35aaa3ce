"""``train_parser.py``: schedule, loss, optimiser."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from semfacediff.config.closed import Closed, Fraction, Positive, Seed
from semfacediff.config.data import AnyData
from semfacediff.config.run import AnyTracking, Objective, ParserConfig, RuntimeConfig
from semfacediff.labels import SpaceName

NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Rate = Annotated[float, Field(gt=0)]


class TrainConfig(Closed):
    """How a training goes on; ``conf/train/default.yaml`` says what each key does."""

    epochs: Positive
    batch_size: Positive
    accumulate: Positive
    size: Annotated[int, Field(ge=32, le=2048)]
    label_space: SpaceName | None
    checkpoint_every_steps: Annotated[int, Field(ge=0)]
    keep_last: Positive
    validate_every: Positive
    best_by: Literal["miou", "loss", "long_tail"]
    early_stopping: Positive | None
    test: bool
    gradient_clip_norm: Annotated[float, Field(gt=0)] | None
    loss_stride: Annotated[int, Field(ge=1, le=8)]
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None
    precision: Literal["float32", "bfloat16", "float16"]
    channels_last: bool
    compile: bool
    gradient_checkpointing: bool
    deterministic: bool
    augment: Literal["none", "flip", "affine", "standard", "strong", "ce7454", "lapa"]
    augment_on: Literal["loader", "device"]
    sampling: Literal["shuffled", "repeat_factor"]
    repeat_threshold: Annotated[float, Field(gt=0, le=1)]
    paste_accessories: Fraction
    keep_in_memory: bool

    @model_validator(mode="after")
    def _at_their_own_size(self):
        if self.augment == "lapa" and (self.keep_in_memory or self.paste_accessories):
            raise ValueError(
                "train.augment=lapa works on photos at their own size; set train.keep_in_memory=false and "
                "train.paste_accessories=0, or another augmentation"
            )
        return self

    @model_validator(mode="after")
    def _known_to_the_device(self):
        if self.augment_on == "device" and self.augment != "ce7454":
            raise ValueError(
                f"train.augment_on=device works with train.augment=ce7454 (the others are quick on a processor), got "
                f"train.augment={self.augment}; set train.augment_on=loader"
            )
        return self


class LossConfig(Closed):
    """The terms' factors (0: not used), what shapes the terms, and the class weights."""

    cross_entropy: NotNegative
    dice: NotNegative
    focal: NotNegative
    lovasz: NotNegative
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    dice_form: Literal["pooled", "segface"]
    focal_gamma: NotNegative
    class_weights: Literal["none", "inverse", "inverse_sqrt", "inverse_log", "effective_number"]
    class_weight_batches: Positive
    effective_number_beta: Annotated[float, Field(gt=0, lt=1)]

    @model_validator(mode="after")
    def _something_to_minimise(self):
        factors = {name: getattr(self, name) for name in ("cross_entropy", "dice", "focal", "lovasz")}
        if not any(factors.values()):
            raise ValueError(
                f"loss: expected a positive factor for at least one of {', '.join(factors)}, got 0 for all; set "
                f"loss.cross_entropy=1, or choose a file, e.g. loss=cross_entropy_dice"
            )
        return self

    @model_validator(mode="after")
    def _nothing_without_effect(self):
        if self.label_smoothing and not self.cross_entropy:
            raise ValueError(
                f"loss.label_smoothing={self.label_smoothing} acts on loss.cross_entropy alone, which is 0; set "
                f"loss.label_smoothing=0, or give loss.cross_entropy a factor"
            )
        if self.class_weights != "none" and not self.cross_entropy and not self.focal:
            raise ValueError(
                f"loss.class_weights={self.class_weights} acts on loss.cross_entropy and loss.focal, which are 0; set "
                f"loss.class_weights=none, or give one of the two a factor"
            )
        return self


class AdamWConfig(Closed):
    """AdamW with one rate for the encoder and one for the rest, and a schedule that multiplies both."""

    name: Literal["adamw"]
    encoder_lr: NotNegative
    decoder_lr: Rate
    weight_decay: Annotated[float, Field(ge=0)]
    decay_norms_and_biases: bool
    schedule: Literal["constant", "cosine", "polynomial", "multistep"]
    warmup_steps: Annotated[int, Field(ge=0)] | None
    polynomial_power: Rate
    milestones: list[Positive]
    milestone_factor: Rate


class AdamThenSGDConfig(Closed):
    """Adam until the validation loss stands still, then SGD at falling rates (CE7454 report)."""

    name: Literal["adam_then_sgd"]
    adam_lr: Rate
    adam_eta_min: Rate
    adam_t_max: Positive
    sgd_lr: Rate
    min_sgd_lr: Rate
    sgd_t_max: Positive
    sgd_momentum: Annotated[float, Field(ge=0, lt=1)]
    weight_decay: Annotated[float, Field(ge=0)]
    patience: Positive


AnyOptim = Annotated[AdamWConfig | AdamThenSGDConfig, Field(discriminator="name")]


class ParserTraining(Closed):
    """``train_parser.py``."""

    task: Literal["train_parser"]
    name: str
    seed: Seed
    limit: Positive | None
    optimise: Objective
    data: AnyData
    parser: ParserConfig
    train: TrainConfig
    loss: LossConfig
    optim: AnyOptim
    runtime: RuntimeConfig
    tracking: AnyTracking

    @model_validator(mode="after")
    def _one_judge(self):
        t = self.train
        judged = t.best_by == "loss" and t.early_stopping is None and t.validate_every == 1
        if self.optim.name == "adam_then_sgd" and not judged:
            raise ValueError(
                "optim=adam_then_sgd switches and stops by the validation loss of every epoch; set train.best_by=loss "
                f"train.early_stopping=null train.validate_every=1, got {t.best_by}, {t.early_stopping}, "
                f"{t.validate_every}"
            )
        return self

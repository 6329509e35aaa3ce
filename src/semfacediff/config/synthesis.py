"""``train_synthesis.py`` and ``evaluate.py task=synthesis``: SCA-DM's networks, their training, what is measured."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from semfacediff.config.closed import Closed, Fraction, Once, Positive, Seed
from semfacediff.config.data import AnyData
from semfacediff.config.editing import EditingEvaluation
from semfacediff.config.evaluation import Evaluation
from semfacediff.config.run import AnyTracking, Objective, RuntimeConfig

NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Widths = Annotated[list[Positive], Field(min_length=1, max_length=6)]


class FirstStageConfig(Closed):
    """The autoencoder: a run of ``stage=first``, a folder of its checkpoint, or the public VQ-f4 file."""

    checkpoint: str | None


class SynthesisConfig(Closed):
    """Hyper-parameters of the networks; see :class:`semfacediff.synthesis.model.SCADMOptions`."""

    image_size: Annotated[int, Field(ge=16, le=1024)]
    vq_channels: Positive
    vq_multipliers: Widths
    vq_layers: Positive
    vq_codes: Positive
    style_features: Positive
    style_down: Annotated[int, Field(ge=2, le=8)]
    token_width: Positive
    unet_channels: Positive
    unet_multipliers: Widths
    unet_layers: Positive
    attention_factors: list[Positive]
    head_width: Positive
    mask_attention: bool
    interleave_skips: bool
    absent_token: bool
    prediction: Literal["epsilon", "v"]


class StepsConfig(Closed):
    """How a training goes on, counted in optimisation steps."""

    steps: Positive
    batch_size: Positive
    accumulate: Positive
    lr: Rate
    warmup_steps: Annotated[int, Field(ge=0)]
    weight_decay: NotNegative
    gradient_clip_norm: Rate | None
    precision: Literal["float32", "bfloat16", "float16"]
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None
    validate_every_steps: Positive
    validate_photos: Positive
    checkpoint_every_steps: Positive
    sample_every_steps: Annotated[int, Field(ge=0)]


class DiffusionConfig(StepsConfig):
    """Training of denoiser and style encoder."""

    image_dropout: Fraction
    null_dropout: Fraction
    part_dropout: Fraction
    ema_of: Literal["all", "unet"]
    gradient_checkpointing: bool
    sample_steps: Positive
    sample_photos: Annotated[int, Field(ge=1, le=16)]


class VQConfig(StepsConfig):
    """Training of the first stage."""

    commitment: NotNegative
    unquantised_steps: Annotated[int, Field(ge=0)]
    revive_every_steps: Positive


class SynthesisTraining(Closed):
    """``train_synthesis.py``."""

    task: Literal["train_synthesis"]
    stage: Literal["diffusion", "first"]
    name: str
    seed: Seed
    limit: Positive | None
    optimise: Objective
    data: AnyData
    synthesis: SynthesisConfig
    first_stage: FirstStageConfig
    diffusion: DiffusionConfig
    vq: VQConfig
    runtime: RuntimeConfig
    tracking: AnyTracking

    @property
    def steps(self) -> StepsConfig:
        """Of the stage that is trained."""
        return self.diffusion if self.stage == "diffusion" else self.vq

    @model_validator(mode="after")
    def _absent_parts_occur(self):
        if self.stage == "diffusion" and self.synthesis.absent_token != (self.diffusion.part_dropout > 0):
            raise ValueError(
                f"synthesis.absent_token is learned from parts that are left out, so it belongs with a "
                f"diffusion.part_dropout above 0, got {self.synthesis.absent_token} and {self.diffusion.part_dropout}"
            )
        return self


class SynthesisEvaluationConfig(Closed):
    """What is generated and measured; ``conf/sampling/default.yaml`` says what each key does."""

    checkpoint: str | None
    tasks: Annotated[list[Literal["reconstruction", "noise", "first_stage"]], Field(min_length=1), Once]
    sampler: Literal["ddim", "ddpm"]
    steps: Positive
    eta: Fraction
    spacing: Literal["even", "compatible"]
    guidance: NotNegative | None
    guidance_form: Literal["code", "paper"] | None
    precision: Literal["float32", "bfloat16", "float16"]
    diversity_samples: Annotated[int, Field(ge=0, le=64)]
    diversity_photos: Positive
    latency_steps: Annotated[list[Positive], Once]
    showcase: Annotated[int, Field(ge=0, le=16)]


class SynthesisEvaluation(Evaluation):
    """``evaluate.py task=synthesis``; what only edits need is accepted and left alone."""

    task: Literal["synthesis"]
    protocol: Literal["strict"]
    synthesis: SynthesisEvaluationConfig

    @model_validator(mode="before")
    @classmethod
    def _without_edits(cls, plain: dict) -> dict:
        if plain.get("protocol") not in (None, "strict"):
            raise ValueError(f"protocol={plain['protocol']} is not for task=synthesis; drop it")
        return {k: v for k, v in plain.items() if k in cls.model_fields or k not in EditingEvaluation.model_fields}

"""The typed, closed configuration, and the bridge from Hydra to it.

Hydra composes plain YAML from ``conf/`` and ``experiments/``; :func:`typed` turns the result into the frozen models
below before anything heavy is imported. An unknown key, a wrong type or a value out of range ends the run with one
sentence that names the key and the choices.
"""

import difflib
import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from semfacediff.errors import UserError
from semfacediff.labels import ATTRIBUTES, SPACES, attribute_classes

VOLATILE = ("runtime", "tracking")
"""Top-level keys that change how fast or where a run works, never what comes out."""
PATHS = (("data", "root"), ("parser", "checkpoint"), ("parser", "root"), ("editor", "root"), ("weights", None))
"""Keys that say where inputs lie; the record identifies the inputs by digest instead."""


WITHOUT_EFFECT = (
    ("strips", None),
    ("metrics", "on_missing"),
    ("train", "keep_in_memory"),
    ("train", "checkpoint_every_steps"),
)
"""Keys that change what is shown or how fast it goes; a run may be continued with others."""


class Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


Positive = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class SplitRuleConfig(Closed):
    by: Literal["id", "index", "shard", "file"] = "id"
    modulo: Positive = 10
    val: list[int] = [0]
    test: list[int] = []

    @model_validator(mode="after")
    def _parts(self):
        outside = [r for r in self.val + self.test if not 0 <= r < self.modulo]
        both = sorted(set(self.val) & set(self.test))
        if outside or both:
            raise ValueError(
                f"data.split_rule: val and test are disjoint lists of remainders 0..{self.modulo - 1}, "
                f"got val={self.val} test={self.test}"
            )
        return self


class DataConfig(Closed):
    """What every kind of data set shares."""

    split: Literal["train", "val", "test", "all"]
    n: Positive | None


class RuledData(DataConfig):
    """Data sets that are split by a rule."""

    split_rule: SplitRuleConfig


class ToyData(RuledData):
    name: Literal["toy"]
    count: Positive
    size: Annotated[int, Field(ge=32, le=2048)]
    seed: Seed


class PlacedData(DataConfig):
    root: str | None
    on_error: Literal["error", "skip"]
    allow_mask_resize: bool

    @model_validator(mode="after")
    def _placed(self):
        if self.root is None:
            raise ValueError("data.root is not set; set data.root=DIR or the environment variable SEMFACEDIFF_DATA")
        return self


class CelebAMaskHQData(PlacedData):
    """The official layout; split through its lists."""

    name: Literal["celebamask_hq"]
    paint_order: Literal["official", "segface"]


class FileData(PlacedData, RuledData):
    label_space: Literal[tuple(SPACES)]


class FolderData(FileData):
    name: Literal["folder"]
    images: str
    masks: str


class ShardsData(FileData):
    name: Literal["shards"]
    shards: str


AnyData = Annotated[ToyData | FolderData | ShardsData | CelebAMaskHQData, Field(discriminator="name")]


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


class WeightsConfig(Closed):
    root: str | None
    lpips_alexnet: str | None
    inception: str | None
    clip: str | None
    download: bool


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


class ClipConfig(Closed):
    model: Annotated[str, Field(min_length=1)]


class MetricsConfig(Closed):
    columns: list[Literal["ssim", "psnr", "lpips", "iou", "clip", "fid", "kid"]]
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
    protocol: Literal["thesis", "strict"]


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


class ParsingEvaluation(Evaluation):
    """``evaluate.py task=parsing``; what only edits need is accepted and left alone."""

    task: Literal["parsing"]

    @model_validator(mode="before")
    @classmethod
    def _without_edits(cls, plain: dict) -> dict:
        return {k: v for k, v in plain.items() if k in cls.model_fields or k not in EditingEvaluation.model_fields}


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


def typed(cfg: DictConfig, *models: type[Closed]) -> Closed:
    """The configuration as the one of ``models`` whose ``task`` it names.

    Raises:
        UserError: an unknown key, a missing or unresolvable value, a wrong type, or a value outside its range.
    """
    try:
        plain = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as e:
        raise UserError(f"configuration: {str(e).splitlines()[0]}; set {getattr(e, 'full_key', 'it')}=...") from e
    tasks = {get_args(m.model_fields["task"].annotation)[0]: m for m in models}
    if plain.get("task") not in tasks:
        raise UserError(f"task: expected one of {', '.join(tasks)}, got '{plain.get('task')}'")
    try:
        return tasks[plain["task"]].model_validate(plain)
    except ValidationError as e:
        raise UserError("; ".join(_sentence(error, tasks[plain["task"]]) for error in e.errors())) from e


def _sentence(error: dict[str, Any], model: type[Closed]) -> str:
    # A discriminated union puts the chosen kind into the location; the user never typed it.
    kinds = {"toy", "folder", "shards", "celebamask_hq", "identity", "recolor", "precomputed", "none", "wandb"}
    path = [str(p) for i, p in enumerate(error["loc"]) if not (i == 1 and p in kinds)]
    key = ".".join(path)
    if error["type"] == "extra_forbidden":
        known = _known_keys(model, error["loc"][:-1])
        close = difflib.get_close_matches(path[-1], known, n=1)
        hint = f"did you mean '{close[0]}'? " if close else ""
        return f"unknown key '{key}'; {hint}known here: {', '.join(known)}"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "value_error" and not isinstance(error["input"], str | int | float | list):
        return message
    return f"{key}: {message[0].lower() + message[1:]}, got {error['input']!r}"


def _known_keys(model: Any, location: tuple) -> list[str]:
    for part in location:
        if isinstance(model, type) and issubclass(model, BaseModel) and part in model.model_fields:
            model = model.model_fields[part].annotation
        else:  # a member of a discriminated union, named by its kind
            members = [m for m in get_args(model) if isinstance(m, type) and issubclass(m, BaseModel)]
            model = next((m for m in members if part in get_args(m.model_fields["name"].annotation)), model)
    return (
        sorted(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else sorted(ATTRIBUTES)
    )


def scientific(config: Closed) -> dict[str, Any]:
    """What determines the results: the configuration without volatile keys, names and input paths."""
    plain = config.model_dump(mode="json", exclude={*VOLATILE, "name"})
    for group, key in (*PATHS, *WITHOUT_EFFECT):
        if key is None:
            plain.pop(group, None)
        elif group in plain and key in plain[group]:
            plain[group][key] = None
    if config.task == "editing":
        plain["prompts"] = {a: config.prompts[a] for a in config.attributes}
    if config.task == "parsing":
        plain.pop("metrics", None)
    if plain["parser"]["name"] and config.parser.checkpoint:
        plain["parser"]["name"] = None  # the checkpoint's digest says it
    return plain


def digest(plain: Any) -> str:
    """SHA-256 of the canonical JSON of ``plain``, as hex."""
    return hashlib.sha256(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def repository() -> Path:
    """Folder that holds ``conf/`` and ``experiments/``: the checkout this package is installed from."""
    return Path(__file__).resolve().parents[2]

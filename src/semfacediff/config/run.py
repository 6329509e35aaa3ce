"""What every run has: parser, device, tracking."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from semfacediff.config.closed import Closed, Positive
from semfacediff.plugins import completed, named
from semfacediff.threads import core_share


class ParserConfig(Closed):
    """``name`` picks a kind, ``checkpoint`` a trained one; ``root`` is where precomputed label maps lie.

    ``pretrained``: a folder or a name on the model hub whose weights, except for the head, a new SegFormer starts from;
    for a SegFace or an fpn ``imagenet``, or a file of its encoder's weights.
    ``options``: of the architecture, where it has some. ``backend``: what computes a trained one: torch, or onnxruntime
    from the file that ``semfacediff export`` made. ``precision``: in which torch computes the layers that have many
    weights; training has its own.
    """

    name: str | None
    checkpoint: str | None
    root: str | None
    pretrained: str | None
    options: dict[str, str | int | float | bool | None]
    backend: Literal["torch", "onnx"]
    precision: Literal["float32", "bfloat16", "float16"]
    label_space: str | list[str | None] | None
    input_size: Annotated[int, Field(ge=32, le=4096)] | None

    @model_validator(mode="before")
    @classmethod
    def _found(cls, plain: object) -> object:
        """``parser=python parser.target=module:Class`` as a name, with the options that its class completes."""
        if not isinstance(plain, dict) or not ("target" in plain or ":" in (plain.get("name") or "")):
            return plain
        name, options = named("parser", {key: plain[key] for key in ("name", "target", "options") if key in plain})
        if plain.get("checkpoint") is None:
            options = completed("parser", name, options)
        return {key: plain[key] for key in plain if key != "target"} | {"name": name, "options": options}

    @classmethod
    def trained(
        cls, checkpoint: str | None, name: str | None = None, backend: Literal["torch", "onnx"] = "torch"
    ) -> "ParserConfig":
        """Settings that name a trained parser and nothing else; ``None``: the one that ships with the package."""
        return cls(
            name=name,
            checkpoint=checkpoint,
            root=None,
            pretrained=None,
            options={},
            backend=backend,
            precision="float32",
            label_space=None,
            input_size=None,
        )

    @model_validator(mode="after")
    def _consistent(self):
        if (self.name == "precomputed") != (self.root is not None):
            raise ValueError("parser.root belongs to parser=precomputed, which needs it: parser.root=DIR")
        if self.name in ("precomputed", "ground_truth") and self.checkpoint is not None:
            raise ValueError(f"parser={self.name} reads no checkpoint; drop parser.checkpoint or parser={self.name}")
        if self.pretrained is not None and self.checkpoint is not None:
            raise ValueError("parser.pretrained and parser.checkpoint are two starts; set one of them")
        if self.precision != "float32" and (self.backend == "onnx" or self.name in ("precomputed", "ground_truth")):
            raise ValueError(
                f"parser.precision={self.precision} is for a parser that torch computes, got parser={self.name} "
                f"parser.backend={self.backend}; drop it"
            )
        for key in ("label_space", "input_size"):
            if getattr(self, key) is not None and self.checkpoint is None:
                raise ValueError(f"parser.{key} is of a published parser; name it with parser.checkpoint, or drop it")
        return self


class DiffusionRuntime(Closed):
    """What a diffusion editor may use of the machine; see :class:`semfacediff.editing.diffusion.MemoryProfile`."""

    attention_slicing: bool
    vae_slicing: bool
    vae_tiling: bool
    offload: Literal["none", "model"]
    quantise: Literal["none", "int8"]
    channels_last: bool
    compile: bool


def _device_name(name: str) -> str:
    if re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", name) is None:
        raise ValueError(f"expected auto, cpu, mps, cuda or cuda:N (the N-th device, from 0), got {name!r}")
    return name


class DeviceConfig(Closed):
    device: Annotated[str, AfterValidator(_device_name)]


MOST_WORKERS = 8


def enough_workers(asked: object) -> object:
    """How many ``auto`` means; anything else as it is."""
    if asked != "auto":
        return asked
    return max(1, min(MOST_WORKERS, core_share() // 2))


class RuntimeConfig(DeviceConfig):
    """``batch_size``: edits that the editor gets at once. ``workers``: threads (in training processes) that decode;
    ``auto``: half of the cores that this process may use, shared between the processes of a launch, 8 at most.
    ``overlap``: whether an evaluation scores beside the next photos; no number but latencies depends on it.
    ``threads``: that torch, BLAS, OpenCV and workers keep busy, see :func:`semfacediff.threads.threads_of`.
    ``tf32``: whether CUDA may compute float32 products with a mantissa of 10 bits."""

    batch_size: Positive
    workers: Annotated[int, Field(ge=0), BeforeValidator(enough_workers)]
    threads: Positive | None
    overlap: bool
    tf32: bool
    diffusion: DiffusionRuntime

    @property
    def decoders(self) -> int:
        """``workers``, but no more than ``threads`` or, without it, this process's share of the cores."""
        return min(self.workers, self.threads or core_share())


class NoTracking(Closed):
    name: Literal["none"]


class WandbTracking(Closed):
    """``every_steps``: optimisation steps of a training between two rows. ``artifact``: whether the record's files
    are uploaded too. ``system``, ``git``, ``console``: what W&B collects by itself."""

    name: Literal["wandb"]
    project: Annotated[str, Field(min_length=1)]
    entity: str | None
    mode: Literal["auto", "online", "offline"]
    group: str | None
    tags: list[Annotated[str, Field(min_length=1, max_length=64)]]
    every_steps: Positive
    images: bool
    artifact: bool
    system: bool
    git: bool
    console: bool


Objective = Annotated[str, Field(min_length=1)] | None
"""What a sweep optimises; see :func:`semfacediff.records.objective.objective`."""

AnyTracking = Annotated[NoTracking | WandbTracking, Field(discriminator="name")]

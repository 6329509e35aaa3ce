"""A diffusion editor from its configuration; its pipeline is kept for the next job of a sweep."""

from dataclasses import replace
from typing import Any

import torch

from semfacediff import config
from semfacediff.editing.base import Place
from semfacediff.editing.diffusion.lora import find_lora
from semfacediff.editing.diffusion.memory import MemoryProfile
from semfacediff.editing.diffusion.pipeline import SharedPipeline
from semfacediff.editing.diffusion.weights import PipelineFiles, find_pipeline
from semfacediff.sweep_cache import SweepCache

_pipeline: SweepCache[SharedPipeline] = SweepCache()


def opened_with(settings: config.InpaintEditor | config.InstructEditor, place: Place) -> dict[str, Any]:
    """The keyword arguments of an editor, less its options.

    Raises:
        UserError: its weights are not there.
    """
    weights, runtime = place.weights, place.runtime
    explicit = getattr(weights, settings.name, None) or settings.model
    root, download = (weights.root, weights.download) if weights else (None, False)
    memory = MemoryProfile(**runtime.diffusion.model_dump()) if runtime else MemoryProfile()
    memory.check()
    files = find_pipeline(settings.name, explicit, root, download)
    files = files if settings.safety_checker else files.without("safety_checker")
    lora = find_lora(settings.lora, settings.lora_weight) if settings.lora else None
    files = replace(files, kind=settings.pipeline, lora=lora)
    return {"name": settings.name, "files": files, "device": place.device, "memory": memory, "share": _shared}


def _shared(files: PipelineFiles, kind: str, dtype: torch.dtype, *more: Any) -> SharedPipeline:
    opened_as = (files, kind, dtype, *more)
    unchanged = (opened_as, files.state(dtype != torch.float32))
    return _pipeline.get(unchanged, lambda: SharedPipeline(*opened_as))

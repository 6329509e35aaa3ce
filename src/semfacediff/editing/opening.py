"""The editor that the configuration names."""

import hashlib
from dataclasses import replace
from typing import Any

import torch

from semfacediff import config, plugins
from semfacediff.controls import SYSTEM
from semfacediff.editing.base import Editor
from semfacediff.editing.control import Control
from semfacediff.editing.diffusion import (
    InpaintEditor,
    InpaintOptions,
    InstructEditor,
    InstructOptions,
    MemoryProfile,
    PipelineFiles,
    find_pipeline,
)
from semfacediff.editing.diffusion.lora import find_lora
from semfacediff.editing.diffusion.pipeline import SharedPipeline
from semfacediff.editing.system_control import SystemControl
from semfacediff.errors import UserError
from semfacediff.sweep_cache import SweepCache

_pipeline: SweepCache[SharedPipeline] = SweepCache()


def open_editor(
    settings: config.AnyEditor,
    on: torch.device,
    weights: config.WeightsConfig | None = None,
    runtime: config.RuntimeConfig | None = None,
) -> tuple[Editor, dict]:
    """The editor that ``editor=`` names, and its facts for the record: its name; for a model also the digest of its
    weights, what beside the configuration determines its results, and why they are not comparable (``doubts``).

    Args:
        weights, runtime: for editors with a model; without them it is looked for in the hub's cache only.

    Raises:
        UserError: its weights or files are not there.
    """
    if isinstance(settings, config.SCADMEditor):
        from semfacediff.editing.reference import reference_editor

        return reference_editor(settings, on, bool(runtime and runtime.diffusion.compile))
    if isinstance(settings, config.InpaintEditor | config.InstructEditor):
        return _diffusion_editor(settings, on, weights, runtime)
    if isinstance(settings, config.ControlEditor):
        if settings.kind in SYSTEM:
            inner, facts = _diffusion_editor(settings.of, on, weights, runtime)
            return SystemControl(settings.kind, inner), facts | {"name": settings.name, "of": settings.of.name}
        control = Control(settings.kind, settings.donors)
        return control, {"name": settings.name, "numerics": None, **plugins.code_identity("editor", settings.name)}
    if isinstance(settings, config.OtherEditor):
        return _plugged(settings)
    options = settings.model_dump(exclude={"name", "repeats"})
    if isinstance(settings, config.PrecomputedEditor):
        options["repeats"] = settings.repeats
    return plugins.made("editor", settings.name, options), {"name": settings.name}


def _plugged(settings: config.OtherEditor) -> tuple[Editor, dict]:
    made = plugins.made("editor", settings.name, settings.options)
    if not isinstance(made, Editor):
        raise UserError(
            f"editor '{settings.name}': expected a subclass of semfacediff.editing.base.Editor, got "
            f"{type(made).__name__}; derive the class from it"
        )
    made.name = settings.name
    own, code = made.facts(), plugins.code_identity("editor", settings.name)
    facts: dict = {"name": settings.name, "numerics": None, **own, **code}
    if of_files := own.get("digest"):
        facts["digest"] = hashlib.sha256(f"{code['digest']} {of_files}".encode()).hexdigest()
    return made, facts


def _diffusion_editor(
    settings: config.InpaintEditor | config.InstructEditor,
    on: torch.device,
    weights: config.WeightsConfig | None,
    runtime: config.RuntimeConfig | None,
) -> tuple[InpaintEditor, dict]:
    explicit = getattr(weights, settings.name, None) or settings.model
    root, download = (weights.root, weights.download) if weights else (None, False)
    memory = MemoryProfile(**runtime.diffusion.model_dump()) if runtime else MemoryProfile()
    memory.check()
    files = find_pipeline(settings.name, explicit, root, download)
    files = files if settings.safety_checker else files.without("safety_checker")
    lora = find_lora(settings.lora, settings.lora_weight) if settings.lora else None
    files = replace(files, kind=settings.pipeline, lora=lora)
    told = settings.model_dump(exclude={"name", "repeats", *config.OF_PIPELINE})
    masked = isinstance(settings, config.InpaintEditor)

    def share(files: PipelineFiles, kind: str, dtype: torch.dtype, *more: Any) -> SharedPipeline:
        opened_as = (files, kind, dtype, *more)
        unchanged = (opened_as, files.state(dtype != torch.float32))
        return _pipeline.get(unchanged, lambda: SharedPipeline(*opened_as))

    made: InpaintEditor
    if masked:
        made = InpaintEditor(settings.name, files, InpaintOptions(**told), on, memory, share)
    else:
        made = InstructEditor(settings.name, files, InstructOptions(**told), on, memory, share)
    return made, {"name": settings.name, **made.facts()}

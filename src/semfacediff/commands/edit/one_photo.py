"""One edit of one photo: mask, edit, composite. Shared by ``semfacediff edit`` and ``semfacediff web``."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from semfacediff import config
from semfacediff.editing.apply import EditRules, EditSpec, apply_edit, is_empty
from semfacediff.editing.base import Editor
from semfacediff.editing.diffusion.weights import WITHOUT_WEIGHTS as NEEDS_NO_WEIGHTS
from semfacediff.editing.opening import open_editor
from semfacediff.engine.devices import choose_device
from semfacediff.engine.peak_memory import peak_memory_mib, reset_peak_memory
from semfacediff.errors import FatalError, UserError
from semfacediff.hydra_app import composed_or_refused
from semfacediff.labels import LabelSpace
from semfacediff.parsing import ModelParser
from semfacediff.parsing.default import default_parser
from semfacediff.parsing.opening import open_trained, precision
from semfacediff.records.samples import EMPTY_REGION, OK
from semfacediff.regions import RegionRule, region_masks
from semfacediff.regions import masks_of as drawn_masks
from semfacediff.regions.faces import Faces
from semfacediff.tasks.editing.sample_row import mask_digests
from semfacediff.types import RegionMasks, to_tensor

SETTABLE = (
    *("editor.*", "region.*", "inpaint_mask", "composite", "seam", "seeds", "negatives", "negative_words"),
    *("prompt_expansion", "parser.backend", "weights.*", "runtime", "runtime.*"),
)
"""Keys of ``evaluate.py`` that affect the edit of a photo; others belong to a benchmark or have their own flag."""
WITHOUT_WEIGHTS = ("recolor", "identity")
_OF_DATA_SETS = ("precomputed", "control")
"""Editors for benchmarks alone: they read edits of a data set, or make known damages."""
_OTHERWISE = "or take --editor recolor, which needs no weights"


@dataclass(frozen=True)
class EditOptions:
    """Options of ``semfacediff edit``.

    Attributes:
        edits: (attribute, prompt) pairs, applied in this order, or from back to front with ``order="anatomical"``.
        strengths: one for all edits, one per edit, or empty: the editor's default.
        negative: negative prompt for every edit; ``None`` = derived according to ``negatives``.
        parser: checkpoint folder or training run; ``None`` = the one that ships with the package.
        face: ``one`` refuses photos with no face or several, ``largest`` edits the largest, ``all`` the whole parse.
        weights: folder of weights. device: as ``runtime.device``.
        overrides: further settings as for ``evaluate.py``, e.g. ``editor.steps=30``.
        mask: file of the region of the only edit; ``None`` = from the parse.
    """

    edits: list[tuple[str, str]]
    editor: str
    seed: int
    strengths: list[float]
    negative: str | None
    parser: str | None
    face: str
    reparse: bool
    order: str
    weights: str | None
    device: str
    overrides: list[str]
    mask: Path | None = None


@dataclass(frozen=True)
class Tools:
    """Settings, parser and editor, opened once for any number of photos."""

    settings: config.EditingEvaluation
    parser: ModelParser
    parser_digest: str
    editor: Editor
    editor_facts: dict[str, Any]

    def identity(self) -> dict[str, Any]:
        """Everything except photo and prompts that determines an edit."""
        s = self.settings
        return {
            "seed": s.seed,
            "seeds": s.seeds,
            "editor": s.editor.model_dump(),
            "editor_digest": self.editor_facts.get("digest"),
            "editor_numerics": self.editor_facts.get("numerics"),
            "parser_digest": self.parser_digest,
            "region": s.region.model_dump(),
            "composite": s.composite,
            "seam": s.seam,
            "inpaint_mask": s.inpaint_mask,
        }


@dataclass(frozen=True)
class Stage:
    """One finished edit; ``photo`` uint8 ``[H, W, 3]`` after it, ``facts`` for the record."""

    spec: EditSpec
    masks: RegionMasks
    photo: np.ndarray
    facts: dict[str, Any]


class NoEditorError(FatalError):
    """The editor cannot be opened: no photo can be edited."""


def editors() -> list[str]:
    """Choices of ``--editor``: those of ``conf/editor`` that can edit any photo."""
    folder = config.repository() / "conf" / "editor"
    return sorted(p.stem for p in folder.glob("*.yaml") if p.stem not in _OF_DATA_SETS)


def base_settings(editor: str, overrides: list[str]) -> dict[str, Any]:
    """The plain configuration of an evaluation with this editor.

    Raises:
        UserError: unknown editor, invalid override or not one of :data:`SETTABLE`, or a missing model.
    """
    for word in overrides:
        key = word.lstrip("+~").partition("=")[0]
        if key not in SETTABLE and not any(key.startswith(known[:-1]) for known in SETTABLE if known.endswith("*")):
            raise UserError(
                f"--set {key}=...: expected one of {', '.join(SETTABLE)}, such as editor.steps=30; other settings have "
                f"flags (semfacediff edit --help) or belong to evaluate.py"
            )
    if editor not in editors():
        raise UserError(f"--editor: expected one of {', '.join(editors())}, got '{editor}'")
    if editor == "sca_dm" and not any(word.startswith("editor.checkpoint=") for word in overrides):
        raise UserError(
            f"--editor sca_dm needs a trained model: --set editor.checkpoint=RUN (a run of train_synthesis.py), "
            f"{_OTHERWISE}"
        )
    words = [f"editor={editor}", "tracking=none", *overrides]
    cfg = composed_or_refused("evaluate", words, config.repository())
    return config.typed(cfg, config.EditingEvaluation).model_dump()


def settings_of(options: EditOptions, base: dict[str, Any] | None = None) -> config.EditingEvaluation:
    """Settings of an evaluation with this editor and these edits as its cascade: same rules, same checks.

    Args:
        base: result of :func:`base_settings` for the same editor and overrides.

    Raises:
        UserError: no parser, a wrong number of strengths, or an invalid configuration.
    """
    checkpoint = options.parser or default_parser()
    if checkpoint is None:
        raise UserError("no parser ships with this version; give --parser FOLDER (a run of train_parser.py)")
    if why := config.too_long(options.negative or ""):
        raise UserError(f"--negative: the negative prompt {why}; shorten it")
    plain = base or base_settings(options.editor, options.overrides)
    n = len(options.edits)
    unset: list[float | None] = [None] * n
    strengths = [*options.strengths] * n if len(options.strengths) == 1 else [*options.strengths] or unset
    if len(strengths) != n:
        raise UserError(f"--strength: expected 1 or {n} numbers, one per edit, got {len(strengths)}")
    stages = [
        {"attribute": attribute, "prompt": prompt, "strength": strength}
        for (attribute, prompt), strength in zip(options.edits, strengths, strict=True)
    ]
    plain = plain | {
        "seed": options.seed,
        "cascade": {"stages": stages, "reparse": options.reparse, "order": options.order},
        "parser": {**plain["parser"], "name": None, "checkpoint": str(checkpoint)},
        "weights": plain["weights"] | ({"root": options.weights} if options.weights else {}),
        "runtime": plain["runtime"] | ({"device": options.device} if options.device != "auto" else {}),
    }
    return config.checked(config.EditingEvaluation, plain)


def cascade_of(settings: config.EditingEvaluation) -> config.CascadeConfig:
    """The edits of :func:`settings_of`, which always says them as a cascade."""
    if settings.cascade is None:
        raise ValueError("cascade: expected the edits, got none")
    return settings.cascade


def editor_of(settings: config.EditingEvaluation) -> tuple[Editor, dict[str, Any]]:
    """The editor and its facts; if weights are missing, the :class:`UserError` suggests an editor without weights."""
    on = choose_device(settings.runtime)
    try:
        return open_editor(settings.editor, on, settings.weights, settings.runtime)
    except UserError as e:
        why = str(e).removesuffix(f"; {NEEDS_NO_WEIGHTS}")
        if why == str(e):  # the error is not about missing weights
            raise
        raise UserError(f"{why}; {_OTHERWISE}") from e


def parser_of(settings: config.EditingEvaluation) -> tuple[ModelParser, str]:
    """(parser, digest of its weights)."""
    model, card, digest = open_trained(settings.parser)
    return ModelParser(model, card, choose_device(settings.runtime), precision(settings.parser)), digest


def masks_of(
    labels: np.ndarray,
    faces: Faces | None,
    attribute: str,
    space: LabelSpace,
    region: config.RegionConfig,
    drawn: np.ndarray | None = None,
) -> RegionMasks:
    """The masks of ``attribute``: of the largest of ``faces``, or of the whole parse.

    Args:
        labels: integers ``[H, W]`` in ``space``. drawn: bool ``[H, W]``, the region instead of the parse's.
    """
    rule = RegionRule(**region.model_dump())
    if drawn is not None:
        return drawn_masks(drawn, rule)
    return region_masks(torch.from_numpy(of_face(labels, faces).astype(np.int64)), attribute, space, rule)


def of_face(labels: np.ndarray, faces: Faces | None) -> np.ndarray:
    """``labels`` of the face that is edited."""
    return labels if faces is None else faces.only(labels)


def edited(
    sample_id: str,
    photo: np.ndarray,
    labels: np.ndarray,
    masks: RegionMasks,
    spec: EditSpec,
    tools: Tools,
    on_step: Callable[[int, int], None] | None = None,
) -> Stage:
    """One edit of a photo (uint8 ``[H, W, 3]``), composited; with an empty region the photo stays unchanged.

    Args:
        labels: integers ``[H, W]``: the photo's whole parse, in the parser's space.
        sample_id: of the photo; seeds of the same photo, attribute and ``spec.nth`` are the same.
        on_step: see :class:`semfacediff.editing.base.EditRequest`.

    Raises:
        NoEditorError: the editor's weights cannot be loaded.
    """
    start, device, rules = time.perf_counter(), choose_device(tools.settings.runtime), EditRules.of(tools.settings)
    parse = torch.from_numpy(labels.astype(np.int64))
    request = rules.request(sample_id, to_tensor(photo), spec, masks, parse, tools.parser.label_space, on_step)
    if not rules.skips(masks):
        _prepare(tools.editor)
        reset_peak_memory(device)
    applied = apply_edit(tools.editor, rules, photo, request)
    final = photo if applied is None else applied.photo
    outside = np.abs(final.astype(np.int16) - photo)[masks.blend[0].numpy() == 0]
    facts = {
        "stage": spec.stage,
        "attribute": spec.attribute,
        "status": EMPTY_REGION if is_empty(masks) else OK,
        "seed": request.seed,
        "strength": spec.strength,
        "coverage": masks.coverage,
        **mask_digests(masks),
        "max_abs_outside": int(outside.max(initial=0)),
        "note": tools.editor.note(request) if applied else None,
        "seconds": round(time.perf_counter() - start, 3),
        "peak_memory_mib": round(peak_memory_mib(device), 1) if applied else None,
    }
    return Stage(spec, masks, final, facts)


def _prepare(editor: Editor) -> None:
    try:
        editor.prepare()
    except UserError as e:
        raise NoEditorError(str(e)) from e

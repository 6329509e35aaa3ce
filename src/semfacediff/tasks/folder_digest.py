"""The names of runs' default folders: the same settings have the same folder, wherever their inputs lie."""

import os
from typing import Any

from semfacediff import config
from semfacediff.errors import UserError

_PLACES_OF_WEIGHTS = ("root", "download")
"""Keys of ``weights`` that say where to look, not what for."""


def folder_digest(settings: config.AnyTask) -> str:
    """First 8 hex digits over the scientific configuration and over which parser and weights it was given.

    Where the data lie has no part in it. A checkpoint counts by what it holds; a folder of edits or label maps, and
    weights that were named, by the last part of their path.
    """
    if settings.task == "train_synthesis":
        return config.digest([config.scientific(settings), _last(settings.first_stage.checkpoint)])[:8]
    parser, weights = settings.parser, getattr(settings, "weights", None)
    named = {key: _last(value) for key, value in _plain(weights).items() if key not in _PLACES_OF_WEIGHTS}
    editor = settings.editor if settings.task == "editing" else None
    inputs: dict[str, object] = {
        "checkpoint": _contents(parser.checkpoint) if parser.checkpoint else None,
        "roots": [_last(parser.pretrained), _last(parser.root), _last(getattr(editor, "root", None))],
        "weights": {key: value for key, value in named.items() if value is not None},
    }
    if settings.task == "editing" and settings.judge is not None:
        inputs["judge"] = _contents(settings.judge)
    if settings.task == "editing" and settings.masks is not None:
        inputs["masks"] = _last(settings.masks)
    if isinstance(editor, config.SCADMEditor):
        inputs["style"] = [_last(editor.checkpoint), _last(editor.reference)]
    if settings.task == "editing" and settings.prompts.file is not None:
        inputs["tasks"] = _last(settings.prompts.file)
    if settings.task == "synthesis":
        inputs["generation"] = _last(settings.synthesis.checkpoint)
    return config.digest([config.scientific(settings), inputs])[:8]


def _plain(weights: config.WeightsConfig | None) -> dict[str, Any]:
    return {} if weights is None else weights.model_dump()


def _last(path: str | None) -> str | None:
    return None if path is None else os.path.basename(os.path.normpath(os.path.expanduser(path)))


def _contents(checkpoint: str) -> str:
    """Digest of a checkpoint; its path where nothing can be read, which the run will say."""
    from semfacediff.parsing.checkpoint import checkpoint_digest, resolve
    from semfacediff.parsing.named_file import read_name
    from semfacediff.weight_files import file_digest

    try:
        place = resolve(checkpoint)
        if place.is_file():  # the name of a released file says how its weights are to be used
            return f"{read_name(place).text}:{file_digest(place)}"
        return checkpoint_digest(place)
    except (UserError, OSError):
        return checkpoint

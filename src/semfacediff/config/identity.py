"""Which part of a configuration determines the results, and its digest."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from semfacediff.config.data import OtherData
from semfacediff.config.editing import ControlEditor, EditingEvaluation, OtherEditor
from semfacediff.config.evaluation import Evaluation
from semfacediff.config.tasks import AnyTask
from semfacediff.controls import PIXELS
from semfacediff.errors import UserError
from semfacediff.plugins import find

VOLATILE = ("runtime", "tracking", "optimise")
"""Top-level keys that change how fast or where a run works, never what comes out."""
PATHS = (
    ("data", "root"),
    ("parser", "checkpoint"),
    ("parser", "pretrained"),
    ("parser", "root"),
    *(("editor", key) for key in ("root", "checkpoint", "reference", "reference_labels", "model", "lora")),
    ("first_stage", "checkpoint"),
    ("generation", "checkpoint"),
    ("prompts", "file"),
    ("weights", None),
)
"""Keys that say where inputs lie; the record identifies the inputs by digest instead."""

WITHOUT_EFFECT = (
    ("strips", None),
    ("save_raw", None),
    ("stratify", None),
    ("metrics", "on_missing"),
    ("generation", "showcase"),
    ("train", "keep_in_memory"),
    ("train", "checkpoint_every_steps"),
    *((group, key) for group in ("diffusion", "vq") for key in ("checkpoint_every_steps", "sample_every_steps")),
    *(("diffusion", key) for key in ("sample_steps", "sample_photos", "gradient_checkpointing")),
)
"""Keys that change what is shown or how fast it goes; a run may be continued with others."""


def scientific(config: AnyTask) -> dict[str, Any]:
    """What determines the results: the configuration without volatile keys, names and input paths."""
    plain = config.model_dump(mode="json", exclude={*VOLATILE, "name", "judge", "masks"})  # whose digests say it
    if config.task == "synthesis":
        plain["generation"] = plain.pop("synthesis")  # as records and folders name it since the first version
    for group, key in (*PATHS, *WITHOUT_EFFECT):
        if key is None:
            plain.pop(group, None)
        elif group in plain and key in plain[group]:
            plain[group][key] = None
    if isinstance(config, Evaluation) and "identity" not in config.metrics.columns:
        del plain["metrics"]["identity"]
    if not plain.get("metrics", {}).get("reference", True):
        del plain["metrics"]["reference"]  # as all was before it could be asked for
    if not plain.get("metrics", {}).get("options", True):
        del plain["metrics"]["options"]  # as all was before there were some
    if isinstance(config.data, OtherData):
        plain["data"] = without_folders(plain["data"])
    if plain.get("shard", {}).get("count") == 1:
        del plain["shard"]  # all of the samples
    if config.task == "editing":
        plain |= _prompts(config)
        _without_later_keys(plain["editor"])
        if isinstance(config.editor, ControlEditor) and config.editor.kind in PIXELS:
            del plain["editor"]["of"]
        if isinstance(config.editor, OtherEditor):
            plain["editor"] = without_folders(plain["editor"])
        if config.editor.name in _TEXTLESS:
            del plain["inpaint_mask"]  # nor does a mask for pipelines
    if config.task == "parsing":
        plain.pop("metrics", None)
    if config.task == "train_synthesis":
        return _of_stage(plain)
    del plain["parser"]["backend"]  # the digest of the file that it computes from says it
    for group in ("parser", "generation", "editor"):
        if plain.get(group, {}).get("precision") == "float32":
            del plain[group]["precision"]  # as all was before there was a choice
    for key in ("label_space", "input_size"):
        if plain["parser"][key] is None:
            del plain["parser"][key]  # the parser's files say it, and its digest
    if plain["parser"]["name"] and (config.parser.checkpoint or _shipped(config)):
        plain["parser"]["name"] = None  # the checkpoint's digest says it
    return plain


_LATER_KEYS = {
    **dict.fromkeys(("resize", "model", "pipeline", "lora", "true_cfg_scale", "image_guidance")),
    "repeats": 1,
    "lora_weight": 1.0,
}
"""Key of an editor -> the value that it had before there was a choice."""


def _without_later_keys(editor: dict[str, Any]) -> None:
    """Leave out of an editor, and of the one that a control is of, what says nothing new."""
    for key, before in _LATER_KEYS.items():
        if key in editor and editor[key] == before:
            del editor[key]
    if isinstance(editor.get("of"), dict):
        _without_later_keys(editor["of"])


def without_folders(value: Any) -> Any:
    """``value`` with names in the place of absolute paths, in lists and mappings too: options of plug-ins."""
    if isinstance(value, dict):
        return {key: without_folders(one) for key, one in value.items()}
    if isinstance(value, list):
        return [without_folders(one) for one in value]
    absolute = isinstance(value, str) and value.startswith(("/", "~/"))
    return value.rstrip("/").rpartition("/")[2] if absolute else value


_DENOISER = re.compile("style_|token_|unet_|attention_|head_|mask_|interleave_|absent_")
"""Hyper-parameters that a first stage has nothing of."""


def _of_stage(plain: dict[str, Any]) -> dict[str, Any]:
    """What the stage that is trained depends on; the other one's settings do not reach it."""
    if plain["stage"] == "diffusion":
        return {k: v for k, v in plain.items() if k != "vq"}
    of_networks = {k: v for k, v in plain["synthesis"].items() if not _DENOISER.match(k)}
    return {k: v for k, v in plain.items() if k != "diffusion"} | {"synthesis": of_networks}


_TEXTLESS = ("identity", "recolor", "precomputed", "sca_dm")
"""Editors that no negative prompt reaches, so that what makes one determines nothing."""


def _prompts(config: EditingEvaluation) -> dict[str, Any]:
    """The settings of prompts as far as they reach the editor; ``None`` stands for what has no effect."""
    names = ("negatives", "negative_words", "negative_prompts")
    kept = {key: None if config.editor.name in _TEXTLESS else getattr(config, key) for key in names}
    kept |= {"prompt_expansion": config.prompt_expansion or None}
    if config.prompts.of_tasks:  # the digest of the set says the rest
        return kept | {"prompts": config.prompts.model_dump(include={"generated", "seed"})}
    if config.cascade is None:
        return kept | {"prompts": {a: config.prompts.texts[a] for a in config.attributes}}
    return kept | {"prompts": None, "attributes": None}


def _shipped(config: AnyTask) -> bool:
    """Whether an evaluation names its parser by nothing but an architecture: only the shipped one has weights then."""
    if not isinstance(config, Evaluation) or config.parser.name in (None, "ground_truth", "precomputed"):
        return False
    return not isinstance(find("parser", config.parser.name), type)  # a class that parses by itself


def digest(plain: Any) -> str:
    """SHA-256 of the canonical JSON of ``plain``, as hex."""
    return hashlib.sha256(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


_LOCAL = (("data", "root"), ("parser", "root"), ("editor", "root"), ("editor", "reference"), ("prompts", "file"))
"""Those of :data:`PATHS` that can only be on this computer; others may be names on a hub."""


def refuse_missing_paths(config: AnyTask) -> None:
    """Refuse a path where nothing is, before libraries are loaded that take seconds.

    Raises:
        UserError: names the key.
    """
    plain = config.model_dump()
    for group, key in _LOCAL:
        place = (plain.get(group) or {}).get(key)
        if isinstance(place, str) and not Path(place).expanduser().exists():
            raise UserError(f"{group}.{key}: nothing is at {place}; correct the path")

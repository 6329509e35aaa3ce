"""Which part of a configuration determines the results, and its digest."""

import hashlib
import json
from typing import Any

from semfacediff.config.closed import Closed

VOLATILE = ("runtime", "tracking")
"""Top-level keys that change how fast or where a run works, never what comes out."""
PATHS = (
    ("data", "root"),
    ("parser", "checkpoint"),
    ("parser", "pretrained"),
    ("parser", "root"),
    ("editor", "root"),
    ("weights", None),
)
"""Keys that say where inputs lie; the record identifies the inputs by digest instead."""

WITHOUT_EFFECT = (
    ("strips", None),
    ("stratify", None),
    ("metrics", "on_missing"),
    ("train", "keep_in_memory"),
    ("train", "checkpoint_every_steps"),
)
"""Keys that change what is shown or how fast it goes; a run may be continued with others."""


def scientific(config: Closed) -> dict[str, Any]:
    """What determines the results: the configuration without volatile keys, names and input paths."""
    plain = config.model_dump(mode="json", exclude={*VOLATILE, "name"})
    for group, key in (*PATHS, *WITHOUT_EFFECT):
        if key is None:
            plain.pop(group, None)
        elif group in plain and key in plain[group]:
            plain[group][key] = None
    if plain.get("shard", {}).get("count") == 1:
        del plain["shard"]  # all of the samples
    if config.task == "editing":
        plain |= _prompts(config)
    if config.task == "parsing":
        plain.pop("metrics", None)
    del plain["parser"]["backend"]  # the digest of the file that it computes from says it
    if plain["parser"]["name"] and (config.parser.checkpoint or _shipped(config)):
        plain["parser"]["name"] = None  # the checkpoint's digest says it
    return plain


_TEXTLESS = ("identity", "recolor", "precomputed")
"""Editors that no negative prompt reaches, so that what makes one determines nothing."""


def _prompts(config: Closed) -> dict[str, Any]:
    """The settings of prompts as far as they reach the editor; ``None`` stands for what has no effect."""
    names = ("negatives", "negative_words", "negative_prompts")
    kept = {key: None if config.editor.name in _TEXTLESS else getattr(config, key) for key in names}
    kept |= {"prompt_expansion": config.prompt_expansion or None}
    if config.cascade is None:
        return kept | {"prompts": {a: config.prompts[a] for a in config.attributes}}
    return kept | {"prompts": None, "attributes": None}


def _shipped(config: Closed) -> bool:
    """Whether an evaluation names its parser by nothing but an architecture: only the shipped one has weights then."""
    return config.task != "train_parser" and config.parser.name not in ("ground_truth", "precomputed")


def digest(plain: Any) -> str:
    """SHA-256 of the canonical JSON of ``plain``, as hex."""
    return hashlib.sha256(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

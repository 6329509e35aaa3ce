"""The configuration of an editing run, from its record, with the places of its inputs on this machine."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from semfacediff import config
from semfacediff.errors import UserError
from semfacediff.hydra_app import composed_or_refused
from semfacediff.records.folder import read_config, read_run

_OF_THIS_MACHINE = ("weights", "runtime", "tracking", "optimise")
"""Groups of which the record has no part in the results, and whose paths it does not hold."""
_WHOLE = ("prompts", "cascade", "negative_prompts")


def recorded_settings(folder: Path, places: Mapping[str, str], words: Sequence[str]) -> config.EditingEvaluation:
    """What made the run in ``folder``; keys that its version did not have are as by default.

    Args:
        places: dotted key -> value. words: further ``KEY=VALUE``.

    Raises:
        UserError: no editing run, a key that there is not, or photos whose place is unknown.
    """
    run, plain = read_run(folder), read_config(folder)
    if run["task"] != "editing":
        raise UserError(f"{folder}: expected an editing run, got task={run['task']}; only edits are scored again")
    data: dict[str, Any] = plain.get("data") or {}
    if "root" in data:
        data["root"] = "DIR"
    settings = _over(_defaults(plain), plain)
    if "root" in data:
        settings["data"]["root"] = os.environ.get("SEMFACEDIFF_DATA")
    for key, value in [*places.items(), *map(_parted, words)]:
        *groups, last = key.split(".")
        within: Any = settings
        for group in groups:
            within = within.get(group) if isinstance(within, dict) else None
        if not isinstance(within, dict):
            raise UserError(f"--set {key}=...: the run has no such group; name a key of its config.yaml")
        within[last] = value
    if "root" in data and settings["data"]["root"] is None:
        raise UserError(f"{folder}: the photos of the run are needed; give --data DIR or set SEMFACEDIFF_DATA")
    return config.checked(config.EditingEvaluation, settings)


def _parted(word: str) -> tuple[str, Any]:
    key, equals, value = word.partition("=")
    if not equals:
        raise UserError(f"--set {word}: expected KEY=VALUE, such as weights.clip=FILE")
    return key, yaml.safe_load(value)


def _defaults(plain: Mapping[str, Any]) -> dict[str, Any]:
    """What ``evaluate.py`` composes for the run's data, editor and protocol."""
    root, words = config.repository(), []
    for group in ("data", "editor"):
        own = plain[group]
        if (root / "conf" / group / f"{own['name']}.yaml").is_file():
            places = [key for of, key in config.PATHS if of == group and own.get(key) is not None]
            words += [f"{group}={own['name']}", *(f"{group}.{key}=DIR" for key in places)]
    words.append(f"protocol={plain['protocol']}")
    return config.typed(composed_or_refused("evaluate", words, root), config.EditingEvaluation).model_dump()


def _over(base: dict[str, Any], plain: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with the values of the record over it, group by group."""
    made = dict(base)
    for key, value in plain.items():
        if key in _OF_THIS_MACHINE:
            continue
        own = base.get(key)
        if isinstance(value, dict) and isinstance(own, dict) and key not in _WHOLE and _name(own) == _name(value):
            made[key] = {**own, **value}
        else:
            made[key] = value
    return made


def _name(group: Mapping[str, Any]) -> Any:
    """Which choice a group is: options of another one do not fit it."""
    return group.get("name")

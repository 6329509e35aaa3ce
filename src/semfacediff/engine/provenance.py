"""What every run says of itself, made from its configuration."""

import os
import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

import yaml

from semfacediff import config
from semfacediff.records.environment import code_version, hardware, package_versions


def identity(settings: config.AnyTask, inputs: Mapping[str, object]) -> dict:
    """What determines the results: scientific configuration and digests of the inputs."""
    return {"config": config.scientific(settings), "inputs": inputs}


def protocol_deviations(settings: config.EditingEvaluation) -> list[str]:
    """Where a run differs from what ``conf/protocol/<protocol>.yaml`` says, as "key = value instead of value"."""
    file = config.repository() / "conf" / "protocol" / f"{settings.protocol}.yaml"
    if not file.exists():
        return []
    plain = settings.model_dump(mode="json")
    asked = yaml.safe_load(file.read_text())
    own = ["masks = one's own instead of the parse's"] if settings.masks else []
    return own + [f"{key} = {plain[key]} instead of {value}" for key, value in asked.items() if plain[key] != value]


def header(settings: config.AnyTask, facts: dict) -> dict:
    """Opening facts of ``run.json``."""
    reasons = ["limit: only part of the data was used"] if settings.limit else []
    if part := facts.get("part_of"):
        reasons.append(f"shard: part {part['index']} of {part['count']}; join all with semfacediff merge")
    return {
        "task": settings.task,
        "command": _command(),
        "config_digest": config.digest(config.scientific(settings)),
        "seed": settings.seed,
        "code": code_version(config.repository()),
        "packages": package_versions(),
        "hardware": hardware(),
        "not_comparable": reasons,
        **facts,
    }


def _command() -> str:
    """What repeats this run in a shell; one job's words where it is part of a sweep."""
    overrides = os.environ.get("SEMFACEDIFF_OVERRIDES")
    words = sys.argv[1:] if overrides is None else shlex.split(overrides)
    program = os.environ.get("SEMFACEDIFF_PROGRAM", f"python {Path(sys.argv[0]).name}").split()
    return shlex.join([*program, *(_without_machine_path(word) for word in words)])


def _without_machine_path(word: str) -> str:
    """``key=/some/where/name`` as ``key=DIR/name``, or relative to the working folder: records are published."""
    key, equals, value = ("", "", word) if word.startswith(("/", "~")) else word.partition("=")
    return key + equals + _ABSOLUTE.sub(lambda path: _shown(path[0]), value)


_ABSOLUTE = re.compile(r"""(?<=[\['",])/[^'",\[\]{}]+|^~?/[^,]+""")
"""A path that is the whole value, or stands in quotes or in a list."""


def _shown(text: str) -> str:
    path, here = Path(text).expanduser(), Path.cwd()
    if not path.is_absolute():
        return str(path)
    return str(path.relative_to(here) if path.is_relative_to(here) else Path("DIR") / path.name)


def config_text(settings: config.AnyTask) -> str:
    """The resolved configuration as YAML, without the places of inputs on this machine."""
    plain = settings.model_dump(mode="json")
    for group, key in config.PATHS:
        for name in plain.get(group, {}) if key is None else [key]:
            if isinstance(plain.get(group, {}).get(name), str):
                plain[group][name] = _shown(plain[group][name])
    for key in ("judge", "masks"):
        if isinstance(plain.get(key), str):
            plain[key] = _shown(plain[key])
    for group in ("editor", "data"):
        if isinstance(getattr(settings, group, None), config.OtherEditor | config.OtherData):
            plain[group] = config.without_folders(plain[group])
    if "root" in plain["data"]:
        plain["data"]["root"] = "${oc.env:SEMFACEDIFF_DATA,null}"
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)

"""What every run says of itself, made from its configuration."""

import os
import shlex
import sys
from pathlib import Path

import yaml

from semfacediff import config
from semfacediff.records.environment import code_version, hardware, package_versions


def identity(settings: config.Closed, inputs: dict[str, str | None]) -> dict:
    """What determines the results: scientific configuration and digests of the inputs."""
    return {"config": config.scientific(settings), "inputs": inputs}


def protocol_deviations(settings: config.EditingEvaluation) -> list[str]:
    """Where a run differs from what ``conf/protocol/<protocol>.yaml`` says, as "key = value instead of value"."""
    file = config.repository() / "conf" / "protocol" / f"{settings.protocol}.yaml"
    if not file.exists():
        return []
    plain = settings.model_dump(mode="json")
    asked = yaml.safe_load(file.read_text())
    return [f"{key} = {plain[key]} instead of {value}" for key, value in asked.items() if plain[key] != value]


def header(settings: config.Closed, facts: dict) -> dict:
    """Opening facts of ``run.json``."""
    reasons = ["limit: only part of the data was used"] if settings.limit else []
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
    words = os.environ.get("SEMFACEDIFF_OVERRIDES")
    return f"python {Path(sys.argv[0]).name} {shlex.join(sys.argv[1:]) if words is None else words}".rstrip()


def config_text(settings: config.Closed) -> str:
    """The resolved configuration as YAML; where the data lie on this machine is left to the environment again."""
    plain = settings.model_dump(mode="json")
    if "root" in plain["data"]:
        plain["data"]["root"] = "${oc.env:SEMFACEDIFF_DATA,null}"
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)

"""What every run says of itself, made from its configuration."""

import sys

import yaml

from semfacediff import config
from semfacediff.records.environment import code_version, hardware, package_versions


def identity(settings: config.Closed, inputs: dict[str, str | None]) -> dict:
    """What determines the results: scientific configuration and digests of the inputs."""
    return {"config": config.scientific(settings), "inputs": inputs}


def header(settings: config.Closed, facts: dict) -> dict:
    """Opening facts of ``run.json``."""
    reasons = ["limit: only part of the data was used"] if settings.limit else []
    return {
        "task": settings.task,
        "command": "python " + " ".join(sys.argv),
        "config_digest": config.digest(config.scientific(settings)),
        "seed": settings.seed,
        "code": code_version(config.repository()),
        "packages": package_versions(),
        "hardware": hardware(),
        "not_comparable": reasons,
        **facts,
    }


def config_text(settings: config.Closed) -> str:
    """The resolved configuration as YAML; where the data lie on this machine is left to the environment again."""
    plain = settings.model_dump(mode="json")
    if "root" in plain["data"]:
        plain["data"]["root"] = "${oc.env:SEMFACEDIFF_DATA,null}"
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)

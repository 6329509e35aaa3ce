"""Where Weights & Biases would take a run, found without importing the library: its login, its settings, its agent.

The order is the library's: environment variables, ``wandb/settings`` of the current folder (``wandb init``, ``wandb
offline``), ``~/.config/wandb/settings`` (``wandb login --host``), and the netrc file that ``wandb login`` writes.
"""

import configparser
import netrc
import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

OFFLINE, ONLINE = "offline", "online"
_SYNONYMS = {"dryrun": OFFLINE, "run": ONLINE}
_SERVER = "https://api.wandb.ai"


def mode(asked: str) -> str:
    """``asked``; ``auto`` is ``WANDB_MODE`` or the mode in W&B's settings, else online with a login, else offline."""
    if asked != "auto":
        return asked
    if stated := os.environ.get("WANDB_MODE"):
        return _SYNONYMS.get(stated, stated)
    stated = _settings().get("mode", ONLINE)
    return ONLINE if stated == ONLINE and logged_in() else OFFLINE if stated == ONLINE else stated


def logged_in() -> bool:
    """Whether there are credentials for the server; they may be wrong."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE") or "api_key" in _settings():
        return True
    usual = [Path("~/.netrc").expanduser(), Path("~/_netrc").expanduser()]
    named = os.environ.get("NETRC")
    file = Path(named).expanduser() if named else next(filter(Path.exists, usual), usual[0])
    try:
        return netrc.netrc(file).authenticators(urlsplit(server()).netloc) is not None
    except (OSError, UnicodeDecodeError, netrc.NetrcParseError):
        return False


def server() -> str:
    """URL of the W&B server."""
    return os.environ.get("WANDB_BASE_URL") or _settings().get("base_url", _SERVER)


def agent_run() -> str | None:
    """Id of the run that ``wandb agent`` began for this process: W&B takes no other one then."""
    return os.environ.get("WANDB_RUN_ID") if os.environ.get("WANDB_SWEEP_ID") else None


def destination(entity: str | None, project: str) -> str:
    """``ENTITY/PROJECT``, or ``PROJECT`` of the login's own entity; an agent's are its sweep's."""
    if agent_run():
        entity, project = os.environ.get("WANDB_ENTITY", entity), os.environ.get("WANDB_PROJECT", project)
    return f"{entity}/{project}" if entity else project


def _settings() -> Mapping[str, str]:
    """What W&B's commands wrote; empty where that cannot be read."""
    of_user = Path(os.environ.get("WANDB_CONFIG_DIR", "~/.config/wandb")).expanduser()
    here = Path(os.environ.get("WANDB_DIR", "."))
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read([of_user / "settings", here / "wandb" / "settings"])
        return dict(parser["default"]) if parser.has_section("default") else {}
    except (OSError, UnicodeDecodeError, configparser.Error):
        return {}

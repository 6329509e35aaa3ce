"""What Hydra says of a mistake on the command line, in one sentence with what is there instead."""

import difflib
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from hydra.errors import OverrideParseException
from omegaconf import DictConfig, OmegaConf

_RENAMED = {"generation": "synthesis"}
"""Group of the configuration as it was -> as it is."""
_LAUNCHERS = ("joblib", "submitit_local", "submitit_slurm")
_SHOWN = 12


def explained(error: Exception, words: Sequence[str], root: Path, compose: Callable[[list[str]], DictConfig]) -> str:
    """One sentence for what Hydra raised.

    Args:
        words: of the command line. root: holds ``conf/`` and ``experiments/``.
        compose: gives the configuration that some of the words make.
    """
    message = str(error)
    if isinstance(error, OverrideParseException):
        key = error.override.partition("=")[0]
        return (
            f"{error.override}: Hydra cannot read this value; quote it twice, for the shell and for Hydra: "
            f"'{key}=\"...\"'"
        )
    if found := re.match(r"Ambiguous value for argument '(.+?)'", message):
        key, _, value = found[1].partition("=")
        return (
            f"{found[1]}: one value expected; write {key}=[{value}] for a list, or add -m for a run with each of them"
        )
    if found := re.search(r"Could not (?:find|load) '([^']+)'", message):
        group, _, choice = found[1].rpartition("/")
        return _no_choice(group, choice, words, root)
    if found := re.match(r"Config group override must be a string or a list. Got (\w+)", message):
        groups = _groups(root)
        word = next((w for w in words if w.partition("=")[0] in groups and _plain(w.partition("=")[2])), "")
        group, _, choice = word.partition("=")
        return _no_choice(group, choice, words, root) if group else message
    if found := re.match(r"Could not override '([^']+)'", message):
        return _unknown_key(found[1], words, root, compose)
    return message.partition("\n")[0]


def _plain(value: str) -> bool:
    """Whether Hydra reads it as a number, a truth value or nothing."""
    return (
        re.fullmatch(r"true|false|null|[-+]?[\d.][\d._]*(e[-+]?\d+)?|[-+]?(inf|nan)", value, re.IGNORECASE) is not None
    )


def _groups(root: Path) -> dict[str, list[str]]:
    """Group -> its choices, the user's own in the current folder among them."""
    found: dict[str, list[str]] = {}
    for place in (root / "conf", root / "experiments", Path("conf"), Path("experiments")):
        for folder in sorted(p for p in place.glob("*") if p.is_dir()):
            names = (f.relative_to(folder).with_suffix("").as_posix() for f in folder.rglob("*.yaml"))
            found.setdefault(folder.name, []).extend(names)
    return {group: sorted(set(names)) for group, names in found.items()}


def _no_choice(group: str, choice: str, words: Sequence[str], root: Path) -> str:
    if group == "hydra/launcher":
        if choice in _LAUNCHERS:
            return f"hydra/launcher={choice} needs the extra 'launchers': pip install 'semfacediff[launchers]'"
        return f"hydra/launcher={choice} is unknown; choose basic, {', '.join(_LAUNCHERS[:-1])} or {_LAUNCHERS[-1]}"
    groups = _groups(root)
    outer, _, inner = group.partition("/")
    known, asked = groups.get(outer, []), f"{inner}/{choice}" if inner else choice
    shown = [name for name in known if name != "python"]
    close = difflib.get_close_matches(asked.lower(), shown, n=1)
    elsewhere = [other for other, names in groups.items() if asked in names and other not in (outer, "experiment")]
    hint = f"; did you mean {close[0]}?" if close else f"; {elsewhere[0]}={asked} exists" if elsewhere else ""
    expected = (
        f"one of {', '.join(shown)}"
        if len(shown) <= _SHOWN
        else f"one of {len(shown)} (semfacediff list {_listed(outer)})"
    )
    return f"{outer}={asked}: expected {expected or 'nothing'}{hint}"


def _listed(group: str) -> str:
    """What ``semfacediff list`` calls the choices of a group."""
    return group if group in ("data", "metrics") else f"{group}s"


def _unknown_key(key: str, words: Sequence[str], root: Path, compose: Callable[[list[str]], DictConfig]) -> str:
    """Hydra tells how to force an unknown key in; say what is there instead."""
    groups = {p.name for p in (root / "conf").iterdir() if p.is_dir()}
    node = compose([w for w in words if w.partition("=")[0] in groups and "," not in w])
    old, _, rest = key.partition(".")
    if new := _RENAMED.get(old):
        return f"unknown key '{key}'; '{old}' is named '{new}' now: {new}.{rest}"
    *parents, last = key.split(".")
    for parent in parents:
        node = node[parent] if OmegaConf.is_dict(node) and parent in node else {}
    close = difflib.get_close_matches(last, list(node), n=1)
    hint = f"did you mean '{close[0]}'? " if close else ""
    return f"unknown key '{key}'; {hint}known here: {', '.join(sorted(node)) or 'nothing'}"

"""What Hydra says of a mistake on the command line, in one sentence with what is there instead."""

import difflib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from semfacediff.errors import printable

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
    return printable(_sentence(error, words, root, compose))


def _sentence(error: Exception, words: Sequence[str], root: Path, compose: Callable[[list[str]], DictConfig]) -> str:
    message = str(error)
    if isinstance(error, OmegaConfBaseException):
        from semfacediff.config.reading import unresolved  # late: it is no part of --help

        return unresolved(error)
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
        return _no_choice(group, choice, root)
    if not isinstance(error, HydraException):  # Hydra's own code falls over a value that no group can have
        word = next(
            (w for w in words if w.partition("=")[0] in _groups(root) and not _is_name(w.partition("=")[2])), ""
        )
        group, _, choice = word.partition("=")
        return _no_choice(group, choice, root) if group else f"the command line cannot be read ({message})"
    if found := re.match(r"Could not override '([^']+)'", message):
        return _unknown_key(found[1], words, root, compose)
    return message.partition("\n")[0]


def _is_name(value: str) -> bool:
    """Whether a group may have such a choice; Hydra reads others as a number, a truth value, a list or a mapping."""
    plain = r"true|false|null|[-+]?[\d.][\d._]*(e[-+]?\d+)?|[-+]?(inf|nan)"
    return re.fullmatch(r"[\w./-]+", value) is not None and re.fullmatch(plain, value, re.IGNORECASE) is None


def _groups(root: Path) -> dict[str, list[str]]:
    """Group -> its choices, the user's own in the current folder among them."""
    found: dict[str, list[str]] = {}
    for place in (root / "conf", root / "experiments", Path("conf"), Path("experiments")):
        for folder in sorted(p for p in place.glob("*") if p.is_dir()):
            names = (f.relative_to(folder).with_suffix("").as_posix() for f in folder.rglob("*.yaml"))
            found.setdefault(folder.name, []).extend(names)
    return {group: sorted(set(names)) for group, names in found.items()}


def _no_choice(group: str, choice: str, root: Path) -> str:
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
    try:
        node = compose([w for w in words if w.partition("=")[0] in groups and "," not in w])
    except HydraException:  # the word itself names a group of another script
        node = compose([])
    old, _, rest = key.partition(".")
    if new := _RENAMED.get(old):
        return f"unknown key '{key}'; '{old}' is named '{new}' now: {new}.{rest}"
    *parents, last = key.split(".")
    inside: Any = node
    for parent in parents:
        inside = inside.get(parent) if OmegaConf.is_dict(inside) else None
    known = [str(name) for name in inside] if OmegaConf.is_dict(inside) else []
    if last in known:  # a group, given a mapping
        return _no_choice(key, next(w.partition("=")[2] for w in words if w.partition("=")[0] == key), root)
    close = difflib.get_close_matches(last, known, n=1)
    hint = f"did you mean '{close[0]}'? " if close else ""
    return f"unknown key '{key}'; {hint}known here: {', '.join(sorted(known)) or 'nothing'}"

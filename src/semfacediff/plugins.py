"""What is chosen by name without a list of names: the module that bears the name, or an entry point of a package.

A file ``editing/blur.py`` with ``EDITOR = Blur`` is ``editor=blur`` once there is a ``conf/editor/blur.yaml``; so are
``metrics/<name>.py`` with ``METRIC`` and ``parsing/<name>.py`` with ``PARSER``. An installed package registers the same
objects under the entry-point groups ``semfacediff.editors``, ``.metrics`` and ``.parsers``.
"""

import functools
import hashlib
import importlib
import importlib.util
import inspect
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from semfacediff.errors import UserError

KINDS = {
    "editor": ("semfacediff.editing", "EDITOR", "semfacediff.editors"),
    "metric": ("semfacediff.metrics", "METRIC", "semfacediff.metrics"),
    "parser": ("semfacediff.parsing", "PARSER", "semfacediff.parsers"),
}
"""Kind -> package, name of the object in its modules, and group of entry points."""


@functools.cache
def find(kind: str, name: str) -> Any:
    """The object called ``name``, or ``None``: an editor's or metric's class, or a parser's :class:`Kind`.

    Raises:
        UserError: two packages register the name, or the module cannot be imported.
    """
    package, attribute, group = KINDS[kind]
    registered = entry_points(group=group, name=name)
    if len(registered) > 1:
        raise UserError(f"{kind} '{name}' is registered by {', '.join(e.value for e in registered)}; uninstall one")
    try:
        for entry in registered:
            return entry.load()
        if name.isidentifier() and importlib.util.find_spec(f"{package}.{name}"):
            return getattr(importlib.import_module(f"{package}.{name}"), attribute, None)
    except Exception as e:  # whatever a foreign module raises
        raise UserError(f"{kind} '{name}' cannot be imported ({type(e).__name__}: {e}); fix its module") from e
    return None


def made(kind: str, name: str, options: dict[str, object]) -> Any:
    """An editor or metric of ``name`` with ``options`` as keyword arguments.

    Raises:
        UserError: there is none, or it does not take the options.
    """
    found = find(kind, name)
    if found is None:
        package, attribute, group = KINDS[kind]
        place = f"{package.replace('.', '/')}/{name}.py"
        raise UserError(f"{kind} '{name}': expected {attribute} in {place} or an entry point in '{group}', found none")
    try:
        return found(**options)
    except TypeError as e:
        raise UserError(f"{kind} '{name}': {e}; these are its options: {', '.join(options) or 'none'}") from e


def code_digest(cls: type) -> str:
    """SHA-256 of the file that defines ``cls``: with other code, other results."""
    return hashlib.sha256(Path(inspect.getfile(cls)).read_bytes()).hexdigest()

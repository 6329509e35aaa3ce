"""What is chosen by name without a list of names: a module of ours, an entry point of a package, or ``module:Class``.

A file ``editing/blur.py`` with ``EDITOR = Blur`` is ``editor=blur`` once there is a ``conf/editor/blur.yaml``; so are
``metrics/<name>.py`` with ``METRIC``, ``parsing/<name>.py`` with ``PARSER`` and ``data/<name>.py`` with ``DATA``. An
installed package registers the same objects under the entry-point groups in :data:`KINDS`. ``module:Class`` names an
object of any module that Python finds, or of the current folder.

A class may declare its options as a dataclass or a pydantic model ``Options``, inside the class or beside it: they are
checked and completed before the class is called with them.
"""

import difflib
import functools
import hashlib
import importlib
import importlib.util
import inspect
import json
import os
import re
import sys
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from semfacediff.errors import UserError

KINDS = {
    "editor": ("semfacediff.editing", "EDITOR", "semfacediff.editors"),
    "metric": ("semfacediff.metrics", "METRIC", "semfacediff.metrics"),
    "parser": ("semfacediff.parsing", "PARSER", "semfacediff.parsers"),
    "data": ("semfacediff.data", "DATA", "semfacediff.data"),
}
"""Kind -> package, name of the object in its modules, and group of entry points."""


@functools.cache
def find(kind: str, name: str) -> Any:
    """The object called ``name``, or ``None``: a class, or a parser's :class:`semfacediff.parsing.registry.Kind`.

    Args:
        name: of a module of ours or of an entry point, or ``module:Class``.

    Raises:
        UserError: two packages register the name, the module cannot be imported, or it has no such class.
    """
    package, attribute, group = KINDS[kind]
    module, _, path = name.partition(":")
    registered = [] if path else list(entry_points(group=group, name=name))
    try:
        if path:
            return _named(module, path)
        ours = name.isidentifier() and importlib.util.find_spec(f"{package}.{name}")
        own = getattr(importlib.import_module(f"{package}.{name}"), attribute, None) if ours else None
        if len(registered) + (own is not None) > 1:
            several = [*(["semfacediff itself"] if own else []), *(origin(entry) for entry in registered)]
            raise UserError(f"{kind} '{name}' is registered by {' and '.join(several)}; uninstall one")
        return registered[0].load() if registered else own
    except UserError:
        raise
    except (Exception, SystemExit) as e:  # whatever a foreign module raises
        raise UserError(f"{kind} '{name}' cannot be imported ({type(e).__name__}: {e}); fix its module") from e


@functools.cache
def ours(kind: str) -> tuple[str, ...]:
    """Names of our own modules that register one; they are read and not imported."""
    package, attribute, _ = KINDS[kind]
    spec = importlib.util.find_spec(package)
    folders = [Path(place) for place in (spec and spec.submodule_search_locations) or ()]
    registers = re.compile(rf"^{attribute}\b.* = ", re.MULTILINE)
    modules = {file.stem: file for folder in folders for file in folder.glob("*.py")}
    modules |= {file.parent.name: file for folder in folders for file in folder.glob("*/__init__.py")}
    return tuple(name for name in sorted(modules) if registers.search(modules[name].read_text(encoding="utf-8")))


def _named(module: str, path: str) -> Any:
    if os.getcwd() not in sys.path:  # which a program that was installed does not search
        sys.path.append(os.getcwd())
    return functools.reduce(getattr, path.split("."), importlib.import_module(module))


def installed(kind: str) -> list[EntryPoint]:
    """What packages register; nothing is imported."""
    return list(entry_points(group=KINDS[kind][2]))


def origin(entry: EntryPoint) -> str:
    """Package, version and object of an entry point."""
    return f"{entry.dist.name} {entry.dist.version} ({entry.value})" if entry.dist else entry.value


def class_name(name: str) -> str:
    """``Class`` of ``module:Class``, which Hydra takes as a key; another name as it is."""
    return name.rpartition(":")[2]


def named(kind: str, plain: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """(name, options) of a group of the configuration: ``{name: python, target: module:Class, options: {...}}``, or
    ``{name: ..., option: ...}``.

    Raises:
        UserError: a target without a class.
    """
    options = {key: value for key, value in plain.items() if key not in ("name", "target", "options")}
    options |= plain.get("options") or {}
    name = str(plain.get("name"))
    if name == "python":
        name = str(plain.get("target"))
        if not all(name.partition(":")):
            raise UserError(f"{kind}.target: expected module:Class, got '{name}'")
    return name, options


def completed(kind: str, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """``options`` with the defaults of the class's ``Options``, as plain values; as they are where it has none.

    Raises:
        UserError: it cannot be found, or an option is unknown, missing or of another type.
    """
    found = _found(kind, name)
    model = _options(found)
    if model is None:
        return dict(options)
    from pydantic import TypeAdapter  # late: this module is read for --help too

    return TypeAdapter(model).dump_python(_checked(kind, name, model, options), mode="json")


def made(kind: str, name: str, options: Mapping[str, Any]) -> Any:
    """An object of the class called ``name`` with ``options`` as keyword arguments.

    Raises:
        UserError: there is none, it does not take the options, or it raises.
    """
    found = _found(kind, name)
    if not callable(found):
        raise UserError(f"{kind} '{name}': expected a class, got {found!r}; name the class")
    if model := _options(found):
        checked = _checked(kind, name, model, options)
        options = {key: getattr(checked, key) for key in _fields(model)}
    try:
        inspect.signature(found).bind(**options)
    except TypeError as e:
        raise UserError(f"{kind} '{name}': {e}; these are its options: {', '.join(options) or 'none'}") from e
    try:
        return found(**options)
    except UserError:
        raise
    except Exception as e:  # whatever a foreign class raises
        raise UserError(f"{kind} '{name}' cannot be made ({type(e).__name__}: {e}); fix it or its options") from e


def _found(kind: str, name: str) -> Any:
    found = find(kind, name)
    if found is None:
        package, attribute, group = KINDS[kind]
        known = [*ours(kind), *(entry.name for entry in installed(kind))]
        if close := difflib.get_close_matches(name, known, n=1):
            raise UserError(f"{kind} '{name}': there is none of this name; did you mean '{close[0]}'?")
        place = f"{package.replace('.', '/')}/{name}.py"
        raise UserError(f"{kind} '{name}': expected {attribute} in {place} or an entry point in '{group}', found none")
    return found


def _options(found: Any) -> Any:
    """The dataclass or model that states the options of ``found``, or ``None``."""
    return getattr(found, "Options", None) or getattr(sys.modules.get(found.__module__), "Options", None)


def _fields(model: Any) -> list[str]:
    return list(model.model_fields if hasattr(model, "model_fields") else model.__dataclass_fields__)


def _checked(kind: str, name: str, model: Any, options: Mapping[str, Any]) -> Any:
    from pydantic import TypeAdapter, ValidationError

    known = _fields(model)
    for key in options:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean '{close[0]}'? " if close else ""
            raise UserError(f"{kind} '{name}': unknown option '{key}'; {hint}known: {', '.join(known) or 'none'}")
    try:  # as JSON, in which a list may become a tuple and a text a path, but "3" no number
        return TypeAdapter(model).validate_json(json.dumps(options), strict=True)
    except ValidationError as e:
        first = e.errors()[0]
        message = first["msg"].removeprefix("Value error, ")
        if not first["loc"]:  # of several options together
            raise UserError(f"{kind} '{name}': {message}") from e
        where = ".".join(map(str, first["loc"]))
        got = "" if first["type"] == "missing" else f", got {first['input']!r}"
        raise UserError(f"{kind} '{name}': option {where}: {message[0].lower() + message[1:]}{got}") from e


def code_identity(kind: str, name: str) -> dict[str, str]:
    """What tells the code of ``name`` from other code: ``digest``, SHA-256 of the file that defines it and, of an entry
    point, of the name and version of its ``package``."""
    module = _module_of(find(kind, name))
    digest = hashlib.sha256(Path(inspect.getfile(module)).read_bytes()).hexdigest()
    for entry in entry_points(group=KINDS[kind][2], name=name):
        if entry.dist:
            package = f"{entry.dist.name} {entry.dist.version}"
            return {"digest": hashlib.sha256(f"{digest} {package}".encode()).hexdigest(), "package": package}
    return {"digest": digest}


def foreign_code(cls: type) -> dict[str, str]:
    """``code``: SHA-256 of the file that defines a class from elsewhere; nothing for ours, whose version is known."""
    if cls.__module__.startswith("semfacediff."):
        return {}
    return {"code": hashlib.sha256(Path(inspect.getfile(cls)).read_bytes()).hexdigest()}


def _module_of(found: Any) -> ModuleType:
    return importlib.import_module(getattr(found, "module", None) or found.__module__)

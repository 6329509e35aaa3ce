"""From Hydra's composed configuration to the typed one; a user's mistake becomes one sentence."""

import difflib
from collections.abc import Mapping
from typing import Any, TypeVar, get_args

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from semfacediff.config.closed import Closed
from semfacediff.errors import UserError
from semfacediff.labels import ATTRIBUTES

Model = TypeVar("Model", bound=Closed)


def typed(cfg: DictConfig, *models: type[Model]) -> Model:
    """The configuration as the one of ``models`` whose ``task`` it names.

    Raises:
        UserError: an unknown key, a missing or unresolvable value, a wrong type, or a value outside its range.
    """
    try:
        plain = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as e:
        raise UserError(unresolved(e)) from e
    tasks = {get_args(m.model_fields["task"].annotation)[0]: m for m in models}
    task = plain.get("task") if isinstance(plain, dict) else None
    if not isinstance(plain, dict) or not isinstance(task, str) or task not in tasks:
        raise UserError(f"task: expected one of {', '.join(tasks)}, got '{task}'")
    return checked(tasks[task], plain)


def unresolved(error: OmegaConfBaseException) -> str:
    """Why a value could not be resolved, in a sentence; that of a resolver of ours as it is."""
    first = str(error).splitlines()[0]
    own = first.removeprefix(f"{UserError.__name__} raised while resolving interpolation: ")
    return own if own != first else f"configuration: {first}; set {getattr(error, 'full_key', None) or 'it'}=..."


def checked(model: type[Model], plain: Mapping[Any, Any]) -> Model:
    """``plain`` as ``model``; a :class:`UserError` says in one sentence what is wrong with it."""
    try:
        return model.model_validate(plain)
    except ValidationError as e:
        raise UserError("; ".join(_sentence(error, model) for error in e.errors())) from e


def _sentence(error: ErrorDetails, model: type[Closed]) -> str:
    path = _typed_path(error["loc"], model)
    key = ".".join(path)
    if error["type"] == "extra_forbidden":
        known = _known_keys(model, error["loc"][:-1])
        close = difflib.get_close_matches(path[-1], known, n=1)
        hint = f"did you mean '{close[0]}'? " if close else ""
        return f"unknown key '{key}'; {hint}known here: {', '.join(known)}"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "value_error" and not isinstance(error["input"], str | int | float | list):
        return message
    named = isinstance(error["input"], str) and repr(error["input"]) in message
    got = "" if named else f", got {error['input']!r}"
    return f"{key}: {message[0].lower() + message[1:]}{got}"


def _is_model(model: Any) -> bool:
    return isinstance(model, type) and issubclass(model, BaseModel)


def _member(model: Any, kind: str | int) -> Any:
    """The model of a discriminated union that ``kind`` names, searched through ``Annotated`` and ``|``."""
    for inner in get_args(model):
        if _is_model(inner) and "name" in inner.model_fields:
            if kind in get_args(inner.model_fields["name"].annotation):
                return inner
        elif (found := _member(inner, kind)) is not None:
            return found
    return None


def _typed_path(location: tuple, model: Any) -> list[str]:
    """An error's location as the user would type it: without the kind that chose a member of a union."""
    path = []
    for part in location:
        if _is_model(model):
            field = model.model_fields.get(part)
            model = field.annotation if field else None
        elif (member := _member(model, part)) is not None:
            model = member
            continue
        else:
            model = next(iter(get_args(model)), None)
        path.append(str(part))
    return path


def _known_keys(model: Any, location: tuple) -> list[str]:
    for part in location:
        if _is_model(model) and part in model.model_fields:
            model = model.model_fields[part].annotation
        elif isinstance(part, int):
            model = next(iter(get_args(model)), model)
        else:
            model = _member(model, part) or model
        alone = [inner for inner in get_args(model) if _is_model(inner)]
        model = alone[0] if len(alone) == 1 and type(None) in get_args(model) else model
    return sorted(model.model_fields) if _is_model(model) else sorted(ATTRIBUTES)

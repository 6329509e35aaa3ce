"""``run.json`` as its readers may rely on it: every field is checked once, where the file is read."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

from pydantic import BaseModel, Field, ValidationError

from semfacediff.errors import UserError

Count = Annotated[int, Field(ge=0, lt=2**53)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Open(BaseModel, strict=True):
    """Checks the fields that it names where they are there, and ignores others."""


class _Network(_Open):
    name: str | None = None
    digest: str | None = None
    label_space: str | None = None
    input_size: Count | None = None
    exported_from: str | None = None
    steps: Count = 0
    judged_photos: dict[str, int | str] | None = None


class _Editor(_Open):
    name: str = ""
    digest: str | None = None


class _Metric(_Open):
    metric: str
    higher_is_better: bool | dict[str, bool | None] | None = None
    unit: str | dict[str, str | None] | None = None
    level: float = 0
    tolerance: str = ""


class _Prompt(_Open):
    attribute: str
    prompt: str = ""
    prompt_source: str = ""


class _TaskSet(_Open):
    name: str
    digest: str
    n: Count
    kinds: dict[str, Count]


class _Code(_Open):
    commit: str | None = None
    dirty: bool | None = None


class _Hardware(_Open):
    accelerators: list[str] = []


class _Part(_Open):
    index: Count
    count: Annotated[int, Field(ge=1, lt=2**31)]
    samples: Annotated[int, Field(ge=1, lt=2**31)] = 1
    n_expected: Count = 0


class _Latency(_Open):
    steps: Count
    seconds: Seconds


class _Measured(_Open):
    resolution_px: Count | None = None
    split: str | None = None
    parser: str | None = None
    label_space: str | None = None
    averaging: str | None = None


class _Photos(_Open):
    n: Count = 0


class _Data(_Open):
    skipped: dict[str, Any] | list[Any] = {}
    val: _Photos | None = None


class _Names(_Open):
    columns: list[str] = []
    tasks: list[str] = []
    name: str | None = None
    label_space: str | None = None


class _Cascade(_Open):
    stages: list[dict[str, Any]]
    reparse: bool


class _Config(_Open):
    protocol: str | None = None
    attributes: list[str] | None = None
    metrics: _Names | None = None
    generation: _Names | None = None
    data: _Names | None = None
    parser: _Names | None = None
    editor: _Names | None = None
    cascade: _Cascade | None = None


class _Inputs(_Open):
    data: str | None = None
    parser: str | None = None
    judge: str | None = None
    val: str | None = None
    metrics: dict[str, _Metric] | None = None


class _Identity(_Open):
    config: _Config = _Config()
    inputs: _Inputs = _Inputs()


class _Run(_Open):
    status: Literal["running", "incomplete", "done"]
    identity: _Identity
    run_id: str = ""
    task: str = ""
    command: str = ""
    config_digest: str = ""
    seed: int = 0
    started: str = ""
    finished: str | None = None
    wall_time_s: Seconds = 0.0
    code: _Code = _Code()
    hardware: _Hardware = _Hardware()
    packages: dict[str, str | None] = {}
    not_comparable: list[str] = []
    parser: _Network | None = None
    judge: _Network | None = None
    repeats: dict[str, Count] | None = None
    editor: _Editor = _Editor()
    generation: _Network | None = None
    measured: _Measured | None = None
    prompts: list[_Prompt] = []
    task_set: _TaskSet | None = None
    metrics: list[_Metric] = []
    data: _Data = _Data()
    protocol_deviations: list[str] = []
    empty_columns: dict[str, str] = {}
    editor_notes: dict[str, dict[str, int]] = {}
    set_notes: list[str] = []
    latency: list[_Latency] = []
    photos_per_s: float | None = None
    n: Count = 0
    n_expected: Count | None = None
    n_failed: Count = 0
    first_failure: str | None = None
    epochs_done: Count = 0
    without_landmarks: Count | None = None
    part_of: _Part | None = None
    files: dict[str, str] = {}
    rescoring: dict[str, _Metric] = {}
    scored: dict[str, dict[str, str | None]] = {}
    migrations: list[dict[str, Any]] = []


class Facts(dict):
    """A mapping of ``run.json`` whose missing keys are a :class:`UserError`, as a damaged record's are."""

    def __init__(self, plain: Iterable, where: str):
        super().__init__({key: _wrapped(value, f"{where}{key}.") for key, value in dict(plain).items()})
        self._where = where

    def __missing__(self, key: str) -> NoReturn:
        raise UserError(f"{self._where}{key} is not there, so the record is damaged; restore it, or repeat its command")


def _wrapped(value: object, where: str) -> object:
    if isinstance(value, dict):
        return Facts(value, where)
    return [_wrapped(entry, where) for entry in value] if isinstance(value, list) else value


def checked(plain: dict, file: Path) -> Facts:
    """``plain`` of ``file``, if all of its fields can be what they are named.

    Raises:
        UserError: a field is of another type (named, with what was found); later, a field that is needed is absent.
        RecursionError: nested too deeply.
    """
    try:
        _Run.model_validate(plain)
    except ValidationError as e:
        first = e.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        found = repr(first["input"])
        raise UserError(
            f"{file}: {place} is damaged ({first['msg'].lower()}, found {found[:60]}{'...' * (len(found) > 60)}); "
            f"restore it, or repeat its command"
        ) from e
    return Facts(plain, f"{file}: ")

"""The record of a training: opened, and kept up with its progress."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from accelerate import PartialState

from semfacediff import config
from semfacediff.data.selection import Data
from semfacediff.engine.devices import choose_device
from semfacediff.engine.memory import keep_freed_memory
from semfacediff.engine.processes import processes
from semfacediff.engine.provenance import config_text, header, identity
from semfacediff.records.folder import RunFolder
from semfacediff.records.tracking import tracked
from semfacediff.tasks.training.launch import FOLLOWED

P = TypeVar("P")


def training_processes(settings: config.ParserTraining | config.SynthesisTraining) -> PartialState:
    """The processes of this launch, with memory kept for the next step."""
    state = processes(choose_device(settings.runtime), FOLLOWED)
    if state.device.type == "cpu":
        keep_freed_memory()
    return state


def training_record(
    settings: config.ParserTraining | config.SynthesisTraining,
    inputs: dict,
    parts: Mapping[str, Data],
    folder: Path,
    more: Mapping[str, object] = {},
) -> RunFolder:
    """Args: inputs: what determines the training beside ``settings``. parts: ``train`` and ``val``. more: facts."""
    facts = {
        "data": {part: {"n": len(data.faces), "skipped": data.skipped} for part, data in parts.items()},
        "n": len(parts["train"].faces),
        "n_expected": parts["train"].n_expected,
        **more,
    }
    return RunFolder(folder, identity(settings, inputs), header(settings, facts), config_text(settings))


def log_every(settings: config.ParserTraining | config.SynthesisTraining) -> int:
    """Optimisation steps between two rows for the mirror; 0 where there is none."""
    return settings.tracking.every_steps if isinstance(settings.tracking, config.WandbTracking) else 0


@contextlib.contextmanager
def keeping(
    record: RunFolder | None,
    settings: config.ParserTraining | config.SynthesisTraining,
    keep: Callable[[P, RunFolder], None],
) -> Iterator[Callable[[P], None]]:
    """``keep`` for ``record``, which is then mirrored; nothing in a process that has no record."""
    if record is None:
        yield lambda progress: None
        return
    with tracked(record, settings.tracking.model_dump(), settings.name) as grown:

        def keep_and_mirror(progress: P) -> None:
            keep(progress, record)
            grown()

        yield keep_and_mirror

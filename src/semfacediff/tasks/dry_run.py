"""``--dry-run``: what a command would run, what it lacks, and what it is expected to cost. Nothing is written."""

import math
from collections.abc import Callable
from pathlib import Path

from semfacediff import config
from semfacediff.data.opening import label_space_of, open_data
from semfacediff.editing.opening import open_editor
from semfacediff.engine.devices import choose_device
from semfacediff.engine.provenance import config_text
from semfacediff.errors import UserError
from semfacediff.metrics.opening import open_metrics
from semfacediff.parsing.opening import new_parser, open_parser
from semfacediff.records.columns import read_table
from semfacediff.records.folder import DONE, read_run
from semfacediff.tasks.training.progress_lines import duration
from semfacediff.types import Faces

_BYTES_PER_PIXEL = 3
"""Of an edit as PNG, at most; the edit before the composite takes as much again."""


def dry_run(settings: config.AnyTask, folder: Path) -> int:
    """Print configuration, counts, what is missing, time and disk; returns 1 if something is missing."""
    print(config_text(settings))
    print(f"run folder: {folder} ({_state(folder)})")
    missing = []

    def tried(said: Callable[[], str]) -> None:
        try:
            print(said())
        except UserError as e:
            missing.append(e)
            print(f"missing: {e}")

    if isinstance(settings, config.ParserTraining | config.SynthesisTraining):
        tried(lambda: _parts(settings))
        if isinstance(settings, config.ParserTraining):
            tried(lambda: _network(settings))
    else:
        _evaluation(settings, tried)
    print(f"{len(missing)} of what it needs is missing" if missing else "nothing is missing")
    return 1 if missing else 0


def _state(folder: Path) -> str:
    if not (folder / "run.json").is_file():
        return "new"
    return "finished: the command would change nothing" if read_run(folder)["status"] == DONE else "would be continued"


def _parts(settings: config.ParserTraining | config.SynthesisTraining) -> str:
    n = {part: len(open_data(settings.data, part, limit=settings.limit).faces) for part in ("train", "val")}
    said = f"data: {n['train']} photos to train, {n['val']} to validate"
    if isinstance(settings, config.ParserTraining):
        each = math.ceil(n["train"] / settings.train.batch_size)
        said += f"; {settings.train.epochs} epochs of {each} batches (time left is printed after the second epoch)"
    return said


def _network(settings: config.ParserTraining) -> str:
    space = label_space_of(settings.data)
    model, card = new_parser(settings.parser, space, settings.train.size)
    weights = sum(p.numel() for p in model.parameters())
    return f"parser: {card.name}, {weights / 1e6:.2f} million weights, {space.n} classes"


def _evaluation(
    settings: config.EditingEvaluation | config.ParsingEvaluation | config.SynthesisEvaluation,
    tried: Callable[[Callable[[], str]], None],
) -> None:
    on, found = choose_device(settings.runtime), []

    def data() -> str:
        found.append(open_data(settings.data, labels_needed=False, limit=settings.limit).faces)
        return f"data: {len(found[0])} photos"

    def columns() -> str:
        metrics = open_metrics(settings.model_copy(update={"metrics": _skipping(settings)}), on)
        if metrics.absent and settings.metrics.on_missing == "error":
            raise UserError("; ".join(dict.fromkeys(metrics.absent.values())))
        empty = f"; empty for want of weights: {', '.join(metrics.absent)}" if metrics.absent else ""
        return f"metrics: {', '.join(settings.metrics.columns)}{empty}"

    tried(data)
    tried(lambda: f"parser: {open_parser(settings.parser, label_space_of(settings.data), on)[1]['name']}")
    tried(columns)
    if isinstance(settings, config.EditingEvaluation):
        editing = settings
        tried(lambda: f"editor: {open_editor(editing.editor, on, editing.weights, editing.runtime)[1]['name']}")
        if found:
            tried(lambda: _cost(editing, found[0]))


def _skipping(settings: config.Evaluation) -> config.MetricsConfig:
    return settings.metrics.model_copy(update={"on_missing": "skip"})


def _cost(settings: config.EditingEvaluation, faces: Faces) -> str:
    """Time by the newest finished run of this editor on this computer, disk by the size of the first photo."""
    of_each = len(settings.cascade.stages) if settings.cascade else len(settings.attributes)
    n = len(faces) * of_each * settings.editor.repeats
    height, width = faces[0].photo.shape[:2]
    disk = n * height * width * _BYTES_PER_PIXEL * (2 if settings.save_raw else 1) / 2**30
    files = sorted(Path("outputs").glob("*/**/run.json"), key=lambda f: f.stat().st_mtime, reverse=True)
    known = (file.parent for file in files if _is_like(file.parent, settings))
    before = next(known, None)
    if before is None:
        time = "time unknown: no finished run of this editor is in outputs/ (limit=2 makes one)"
    else:
        median = float(read_table(before / "summary.csv")["latency_s_median"].median())
        time = f"editing alone about {duration(n * median)}, as in {before}"
    return f"edits: {n} of {width}x{height} px; at most {disk:.2f} GiB on disk; {time}"


def _is_like(folder: Path, settings: config.EditingEvaluation) -> bool:
    try:
        run = read_run(folder)
        own = run["identity"]["config"]
        return run["status"] == DONE and run["task"] == "editing" and own["editor"]["name"] == settings.editor.name
    except (UserError, KeyError):
        return False

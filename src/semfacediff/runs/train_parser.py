"""``train_parser.py``: read the data, train, keep the record."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accelerate import PartialState

from semfacediff import build, config
from semfacediff.labels import LabelSpace
from semfacediff.metrics.segmentation import class_scores
from semfacediff.parsing.checkpoint import load_parser
from semfacediff.parsing.predict import ModelParser
from semfacediff.records.folder import DONE, RunFolder, read_run
from semfacediff.records.samples import write_csv
from semfacediff.records.tracking import tracked
from semfacediff.runs.provenance import config_text, header, identity
from semfacediff.runs.training_loop import ParserTrainer, Progress
from semfacediff.runs.validation import Validation, validate
from semfacediff.seeding import derive_seed
from semfacediff.tables.figures import training_curves
from semfacediff.tables.text import training_report


def train_parser(settings: config.ParserTraining, folder: Path) -> int:
    """Train a parser and leave its best and last checkpoints in ``folder/checkpoints``.

    Under ``torchrun`` or ``accelerate launch`` every process trains and validates its share; the first one
    keeps the record.
    """
    device = build.device(settings.runtime)
    train = build.data(settings.data, "train", limit=settings.limit)
    val = build.data(settings.data, "val", limit=settings.limit)
    torch.manual_seed(derive_seed(settings.seed, "init"))
    model, card = build.new_parser(settings.parser, train.label_space, settings.train.size)
    start = build.trained_parser(settings.parser)[2] if settings.parser.checkpoint else None
    inputs = {"train": train.digest, "val": val.digest, "start_weights": start}
    state = PartialState(cpu=device.type == "cpu")
    with contextlib.ExitStack() as stack:
        with state.main_process_first():
            record = (
                stack.enter_context(_record(settings, inputs, train, val, folder)) if state.is_main_process else None
            )
            finished = read_run(folder)["status"] == DONE
        if not finished:
            keep = stack.enter_context(_keeping(record, settings)) if record else _nothing
            trainer = ParserTrainer(model, card, settings, train.faces, train.digest, val.faces, folder, device, keep)
            if record:
                record.update(batch_norm=trainer.batch_norm, processes=state.num_processes)
            progress = trainer.run()
            tested = _tested(trainer, settings) if settings.train.test else None
            if record:
                _close(record, progress, tested, val.label_space)
        if record:
            print(training_report(folder))
    return 0


def _nothing(_progress: Progress) -> None:
    """What the other processes keep of an epoch."""


def _record(
    settings: config.ParserTraining, inputs: dict, train: build.Data, val: build.Data, folder: Path
) -> RunFolder:
    parts = {"train": train, "val": val}
    facts = {
        "data": {part: {"n": len(data.faces), "skipped": data.skipped} for part, data in parts.items()},
        "n": len(train.faces),
        "n_expected": train.n_expected,
    }
    return RunFolder(folder, identity(settings, inputs), header(settings, facts), config_text(settings))


@contextlib.contextmanager
def _keeping(record: RunFolder, settings: config.ParserTraining) -> Iterator[Callable[[Progress], None]]:
    """Writes what an epoch added, the history, its curves, the best score, and mirrors it."""
    with tracked(record, settings.tracking.model_dump(), settings.name) as grown:

        def keep(progress: Progress) -> None:
            _keep(progress, record)
            grown()

        yield keep


def _keep(progress: Progress, record: RunFolder) -> None:
    history = record.path / "history.csv"
    write_csv(pd.DataFrame(progress.history), history)
    training_curves(history, record.path / "figures" / "curves.png")
    best = max((row["val_miou"] for row in progress.history if row.get("val_miou") is not None), default=None)
    record.update(epochs_done=progress.epoch, best_epoch=progress.best_epoch, best_val_miou=best)
    print(f"epoch {progress.epoch}: {progress.history[-1]}", file=sys.stderr)


def _tested(trainer: ParserTrainer, settings: config.ParserTraining) -> tuple[build.Data, Validation]:
    """The best checkpoint on the test part, which is read now for the first time."""
    test = build.data(settings.data, "test", limit=settings.limit)
    a = trainer.accelerator
    parser = ModelParser(*load_parser(trainer.files.path("best")), a.device)
    return test, validate(parser, test.faces, trainer.criterion, a)


def _close(
    record: RunFolder, progress: Progress, tested: tuple[build.Data, Validation] | None, space: LabelSpace
) -> None:
    confusion, images = np.array(progress.best_confusion), np.array(progress.best_images)
    write_csv(class_scores(confusion, space.classes, images), record.path / "summary.csv")
    facts = {}
    if tested:
        test, scores = tested
        write_csv(class_scores(scores.confusion, space.classes, scores.images), record.path / "test_summary.csv")
        data = {"n": len(test.faces), "skipped": test.skipped}
        facts["test"] = {"opened": "once, after training", "digest": test.digest, "miou": scores.miou, **data}
    record.close(DONE, **facts)

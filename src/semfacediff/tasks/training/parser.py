"""``train_parser.py``: read the data, train, keep the record."""

import functools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accelerate import PartialState

from semfacediff import config
from semfacediff.data.opening import in_space, open_data
from semfacediff.engine.prefetch import read_ahead
from semfacediff.engine.processes import in_turn, shared_record
from semfacediff.engine.provenance import identity
from semfacediff.labels import LabelSpace
from semfacediff.metrics.photo_counts import confusion_table
from semfacediff.metrics.segmentation import class_scores
from semfacediff.parsing.checkpoint import load_parser
from semfacediff.parsing.opening import new_parser, start_weights
from semfacediff.parsing.predict import ModelParser
from semfacediff.records.folder import DONE, RunFolder
from semfacediff.records.integrity import VALIDATION
from semfacediff.records.samples import write_csv, write_parquet
from semfacediff.seeding import derive_seed
from semfacediff.tables.figures import training_curves
from semfacediff.tables.parsing_figures import draw_scores
from semfacediff.tables.text import training_report
from semfacediff.tasks.parsing.scores import PhotoScorer, scores_identity, write_scores
from semfacediff.tasks.training.files import TrainingFiles
from semfacediff.tasks.training.launch import following_launcher
from semfacediff.tasks.training.parser_trainer import ParserTrainer, Progress
from semfacediff.tasks.training.progress_lines import ProgressLines
from semfacediff.tasks.training.record import keeping, log_every, training_processes, training_record
from semfacediff.tasks.training.step import new_accelerator

CURVES = Path("figures") / "curves.png"


def train_parser(settings: config.ParserTraining, folder: Path) -> int:
    """Train a parser and leave its best and last checkpoints in ``folder/checkpoints``.

    Under ``torchrun`` every process trains and validates its share; the first one
    keeps the record.
    """
    settings = following_launcher(settings)
    state = training_processes(settings)
    parts = {
        part: in_space(open_data(settings.data, part, limit=settings.limit), settings.train.label_space)
        for part in ("train", "val")
    }
    train, val = parts["train"], parts["val"]
    torch.manual_seed(derive_seed(settings.seed, "init"))
    model, card = new_parser(settings.parser, train.label_space, settings.train.size)
    start = start_weights(settings.parser)
    inputs = {"train": train.digest, "val": val.digest, "start_weights": start}

    def opened() -> RunFolder:
        return training_record(settings, inputs, parts, folder)

    with shared_record(state, folder, identity(settings, inputs), opened) as (record, finished):
        accelerator = new_accelerator(state.device, settings.train.precision)
        files = TrainingFiles(folder, settings.train.keep_last, accelerator, log_every(settings))
        lines = ProgressLines("epoch", settings.train.epochs, folder / CURVES)
        with keeping(record, settings, functools.partial(_keep, lines)) as keep:
            if not finished:
                if record:
                    print(_recipe(settings), file=sys.stderr)
                trainer = ParserTrainer(model, card, settings, train, val, files, keep)
                if record:
                    _note_processes(record, state.num_processes)
                    record.update(batch_norm=trainer.batch_norm)
                progress = trainer.run()
                tested = _tested(trainer, settings, state) if settings.train.test else {}
                if record:
                    _close(record, progress, tested, val.label_space)
        if record:
            if best := record.facts.get("best_epoch"):
                files.refuse_foreign("best", "epochs", best)
            print(training_report(folder))
    return 0


def _recipe(settings: config.ParserTraining) -> str:
    """What is active of the ingredients of the thesis's parser (its section 5.1), in one line."""
    optim, loss, clip = settings.optim, settings.loss, settings.train.gradient_clip_norm
    if isinstance(optim, config.AdamWConfig):
        rates = f"AdamW, encoder {optim.encoder_lr:g}, decoder {optim.decoder_lr:g}"
    else:
        rates = f"Adam {optim.adam_lr:g}, then SGD {optim.sgd_lr:g}"
    over = "" if loss.class_weights == "none" else f" over {loss.class_weight_batches} batches"
    return (
        f"recipe: {rates}; class weights {loss.class_weights}{over}; label smoothing {loss.label_smoothing:g}; "
        f"gradient clipping {'none' if clip is None else f'{clip:g}'}"
    )


def _note_processes(record: RunFolder, n: int) -> None:
    """Keep their number. A training may go on in another one, but then it repeats neither to the bit."""
    before = record.facts.get("processes", n)
    if before != n:
        record.update(earlier_processes=[*record.facts.get("earlier_processes", []), before])
        print(
            f"processes: this training began in {before} and goes on in {n}; dropout and rounding differ from a run in "
            f"either alone",
            file=sys.stderr,
        )
    record.update(processes=n)


def _keep(lines: ProgressLines, progress: Progress, record: RunFolder) -> None:
    history = record.path / "history.csv"
    write_csv(pd.DataFrame(progress.history), history)
    training_curves(history, record.path / CURVES)
    best = progress.history[progress.best_epoch - 1]["val_miou"] if progress.best_epoch else None
    record.update(epochs_done=progress.epoch, best_epoch=progress.best_epoch, best_val_miou=best)
    lines.show(progress.epoch, progress.history[-1])


def _tested(trainer: ParserTrainer, settings: config.ParserTraining, state: PartialState) -> dict:
    """Score the best checkpoint on the test part, which is read now for the first time; returns what the record says.

    ``test/`` in the run's folder gets what an evaluation of that part would.
    """
    test, seed = open_data(settings.data, "test", limit=settings.limit), settings.seed
    parser = ModelParser(*load_parser(trainer.files.path("best")), trainer.accelerator.device)
    scorer = PhotoScorer(parser, test.label_space)

    def rows(indices: Sequence[int]) -> Iterator[dict]:
        return (scorer.row(sample) for sample in read_ahead(test.faces, indices, settings.runtime.decoders))

    made = list(in_turn(state, range(len(test.faces)), rows))
    if state.is_main_process:
        folder, ours = trainer.files.folder / "test", f"{parser.card.name}, {len(made)} test photos"
        write_scores(made, test.label_space, "strict", seed, folder)
        draw_scores(folder, folder / "figures", config.repository(), ours, "strict")
    data = {"n": len(made), "digest": test.digest, "skipped": test.skipped}
    return {"test": {"opened": "once, after training", **data, "scores": scores_identity(scorer, seed, len(made))}}


def _close(record: RunFolder, progress: Progress, tested: dict, space: LabelSpace) -> None:
    confusion, images = np.array(progress.best_confusion), np.array(progress.best_images)
    write_csv(class_scores(confusion, space.classes, images), record.path / "summary.csv")
    write_csv(confusion_table(confusion, space.classes), record.path / "confusion.csv")
    if progress.best_photos:  # a training that an earlier version began has none
        write_parquet(pd.DataFrame(progress.best_photos), record.path / VALIDATION)
    record.close(DONE, **tested)

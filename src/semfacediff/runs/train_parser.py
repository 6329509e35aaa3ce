"""``train_parser.py``: read the data, train, keep the record."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from semfacediff import build, config
from semfacediff.metrics.segmentation import class_scores
from semfacediff.records.folder import DONE, RunFolder
from semfacediff.records.samples import write_csv
from semfacediff.records.tracking import tracked
from semfacediff.runs.provenance import config_text, header, identity
from semfacediff.runs.training_loop import ParserTrainer, Progress
from semfacediff.seeding import derive_seed
from semfacediff.tables.figures import training_curves
from semfacediff.tables.text import training_report


def train_parser(settings: config.ParserTraining, folder: Path) -> int:
    """Train a parser and leave its best and last checkpoints in ``folder/checkpoints``."""
    device = build.device(settings.runtime)
    train = build.data(settings.data, "train", limit=settings.limit)
    val = build.data(settings.data, "val", limit=settings.limit)
    torch.manual_seed(derive_seed(settings.seed, "init"))
    model, card = build.new_parser(settings.parser, train.label_space, settings.train.size)
    start = build.trained_parser(settings.parser)[2] if settings.parser.checkpoint else None
    inputs = {"train": train.digest, "val": val.digest, "start_weights": start}
    facts = {
        "data": {
            "train": {"n": len(train.faces), "skipped": train.skipped},
            "val": {"n": len(val.faces), "skipped": val.skipped},
        },
        "n": len(train.faces),
        "n_expected": train.n_expected,
    }
    with (
        RunFolder(folder, identity(settings, inputs), header(settings, facts), config_text(settings)) as record,
        tracked(record, settings.tracking.model_dump(), settings.name) as grown,
    ):
        if not record.finished:

            def on_epoch(progress: Progress) -> None:
                _keep(progress, folder, record)
                grown()

            trainer = ParserTrainer(model, card, settings, train.faces, val.faces, folder, device, on_epoch)
            progress = trainer.run()
            write_csv(_scores(progress, val.label_space), folder / "summary.csv")
            record.close(DONE)
        print(training_report(folder))
    return 0


def _keep(progress: Progress, folder: Path, record: RunFolder) -> None:
    """Write what an epoch added: the history, its curves, the best score."""
    write_csv(pd.DataFrame(progress.history), folder / "history.csv")
    training_curves(folder / "history.csv", folder / "figures" / "curves.png")
    record.update(epochs_done=progress.epoch, best_val_miou=progress.best_miou)
    print(f"epoch {progress.epoch}: {progress.history[-1]}", file=sys.stderr)


def _scores(progress: Progress, space) -> pd.DataFrame:
    return class_scores(np.array(progress.best_confusion), space.classes, np.array(progress.best_images))

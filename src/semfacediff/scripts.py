"""The three Hydra runs: ``python evaluate.py`` in a checkout, ``semfacediff evaluate`` everywhere."""

import functools
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from semfacediff import hydra_app
from semfacediff.places import repository

SCRIPTS = {
    "evaluate": ("EditingEvaluation", "ParsingEvaluation", "SynthesisEvaluation"),
    "train_parser": ("ParserTraining",),
    "train_synthesis": ("SynthesisTraining",),
}
"""Name -> the configurations that it takes, in :mod:`semfacediff.config`."""
COMMANDS = {name.replace("_", "-"): name for name in SCRIPTS}
"""Subcommand -> name."""
DRY_RUN = "--dry-run"


def start(name: str, words: Sequence[str], program: str) -> None:
    """Run a script with the words of a command line, and leave with its exit code.

    Args:
        program: how the record names this command: ``python evaluate.py`` or ``semfacediff evaluate``.
    """
    if "experiment=thesis/all" in words:  # several runs of two scripts, which no preset can be
        from semfacediff import cli

        sys.exit(cli.main(["thesis", "--run", *(w for w in words if w != "experiment=thesis/all")]))
    os.environ["SEMFACEDIFF_PROGRAM"] = program  # read by the record, in jobs of a launcher too
    sys.argv = [program, *(word for word in words if word != DRY_RUN)]
    hydra_app.run(name, functools.partial(_task, SCRIPTS[name], DRY_RUN in words), repository())


def _task(models: Sequence[str], dry: bool, cfg: hydra_app.DictConfig, folder: Path) -> int:
    from semfacediff import config

    settings = config.typed(cfg, *(getattr(config, model) for model in models))
    config.refuse_missing_paths(settings)
    if dry:
        from semfacediff.tasks.dry_run import dry_run

        return dry_run(settings, folder)
    from semfacediff import tasks

    return tasks.start(settings, folder)

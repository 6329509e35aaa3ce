"""Whole runs: the only place that joins the stages."""

from pathlib import Path

from semfacediff import config
from semfacediff.threads import use_threads


def start(settings: config.Closed, folder: Path) -> int:
    """Run the task that ``settings`` describe in ``folder``; returns the exit code (0 done, 1 incomplete)."""
    use_threads(settings.runtime.threads)
    if settings.task == "train_parser":
        from semfacediff.tasks.training.parser import train_parser as run
    elif settings.task == "train_synthesis":
        from semfacediff.tasks.training.synthesis import train_synthesis as run
    elif settings.task == "synthesis":
        from semfacediff.tasks.synthesis.evaluate import evaluate_synthesis as run
    elif settings.task == "parsing":
        from semfacediff.tasks.parsing.evaluate import evaluate_parsing as run
    else:
        from semfacediff.tasks.editing.evaluate import evaluate_editing as run
    return run(settings, folder)

"""Whole runs: the only place that joins the stages."""

from collections.abc import Callable
from pathlib import Path

from semfacediff import config
from semfacediff.threads import use_threads


def start(settings: config.AnyTask, folder: Path, heard: Callable[[dict], None] | None = None) -> int:
    """Run the task that ``settings`` describe in ``folder``; returns the exit code (0 done, 1 incomplete).

    Args:
        heard: of ``task=editing``, called with every row as soon as it is logged.
    """
    use_threads(settings.runtime.threads)
    if settings.task == "train_parser":
        from semfacediff.tasks.training.parser import train_parser

        return train_parser(settings, folder)
    if settings.task == "train_synthesis":
        from semfacediff.tasks.training.synthesis import train_synthesis

        return train_synthesis(settings, folder)
    if settings.task == "synthesis":
        from semfacediff.tasks.synthesis.evaluate import evaluate_synthesis

        return evaluate_synthesis(settings, folder)
    if settings.task == "parsing":
        from semfacediff.tasks.parsing.evaluate import evaluate_parsing

        return evaluate_parsing(settings, folder)
    from semfacediff.tasks.editing.evaluate import evaluate_editing

    return evaluate_editing(settings, folder, heard)

"""Every figure that a record gives, whatever it is a record of."""

from collections.abc import Sequence
from pathlib import Path

from semfacediff.errors import UserError
from semfacediff.records.folder import read_run
from semfacediff.tables.ablation_figures import draw_sweep
from semfacediff.tables.controls import draw_controls, of_controls
from semfacediff.tables.editing_figures import draw_editing_figures
from semfacediff.tables.parsing_figures import draw_run
from semfacediff.tables.presence_figures import draw_presence


def draw(folder: Path, out: Path, repository: Path, names: Sequence[str] = ()) -> None:
    """Draw a run's or a sweep's figures into ``out``, PNG and PDF.

    Args:
        repository: checkout whose ``results/published`` holds the papers' numbers.
        names: scores of a sweep's figure; the usual ones if empty.

    Raises:
        UserError: the folder holds neither, or a run that has not come to its end.
    """
    if not (folder / "run.json").exists() and any(folder.glob("*/run.json")):
        (draw_controls if of_controls(folder) else draw_sweep)(folder, out, names)
        return
    if read_run(folder)["task"] != "editing":
        draw_run(folder, out, repository)
        draw_presence(folder, out, repository)
        return
    if not (folder / "summary.csv").exists():
        raise UserError(f"{folder}: no summary.csv, so the run has not come to its end; repeat its command")
    draw_editing_figures(folder, out, repository)

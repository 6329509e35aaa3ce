"""The tables of ``semfacediff thesis --real``, from the records of its folder alone."""

from dataclasses import replace
from pathlib import Path

import pandas as pd

from semfacediff.config import repository
from semfacediff.errors import UserError
from semfacediff.records.folder import DONE, read_run
from semfacediff.records.writing import write_text
from semfacediff.tables.ablation import Setting, edit_rows, interval_values
from semfacediff.tables.definitions import definitions, table
from semfacediff.tables.formats import rendered, table_markdown
from semfacediff.tables.grid import Cell, Grid, Row, Value
from semfacediff.tables.scores import column
from semfacediff.tables.text import editing_report, published_editing, run_notes

TABLE, FLOORS, SEAM, PARSER = "thesis_real_6_1", "thesis_real_floors", "thesis_real_seam", "thesis_real_parser"
"""Folders of the runs; each has a table of its name, which ``semfacediff tables`` makes once they were imported."""
_SCORES = ("lpips", "ssim", "iou", "clip")
_FLOOR_ROWS = {"nothing": "the photo itself", "vae_round_trip": "VAE round trip", "empty_prompt": "empty prompt"}


def write_real_tables(runs: Path, file: Path) -> None:
    """Render what is finished below ``runs`` into one Markdown file, and print it."""
    known, parts = definitions(repository()), []
    for folder in (runs / TABLE, runs / SEAM / "none"):
        if _done(folder):
            parts.append(f"# {known[TABLE if folder.name == TABLE else 'thesis_real_strict'].title}\n")
            parts.append(f"{editing_report(folder, repository())}\n")
    if _done(runs / TABLE):
        parts.append(f"# Intervals and floors\n\n{table_markdown(floors_grid(runs))}\n{_stamp(runs / TABLE)}")
    for name in (FLOORS, SEAM, PARSER):
        if any(_done(cell) for cell in (runs / name).glob("*")):
            try:
                parts.append(
                    rendered(table(replace(known[name], sweep=str(runs.absolute() / name)), repository()), "md")
                )
            except UserError as e:  # not comparable: its numbers stand in the reports of its runs alone
                parts.append(f"# {known[name].title}\n\nnot made: {e}\n")
    text = "\n".join(parts)
    write_text(file, text)
    print(text)


def _done(folder: Path) -> bool:
    return (folder / "run.json").is_file() and read_run(folder)["status"] == DONE


def _stamp(folder: Path) -> str:
    return "".join(f"\n- {note}" for note in run_notes(read_run(folder))) + "\n"


def floors_grid(runs: Path) -> Grid:
    """Table 6.1 with 95 % intervals of ours, the floors and the published row of each attribute.

    Args:
        runs: folder with the finished run :data:`TABLE`; floors that are not finished are left out.
    """
    run, published = read_run(runs / TABLE), published_editing(repository())
    folders = {"ours": runs / TABLE} | {f"  {said}": runs / FLOORS / kind for kind, said in _FLOOR_ROWS.items()}
    means = {said: _means(folder) for said, folder in folders.items() if _done(folder)}
    rows = []
    for attribute in run["identity"]["config"]["attributes"]:
        for said, values in means.items():
            rows.append(Row((attribute, said), tuple(values.get((attribute, score)) for score in _SCORES)))
        if published is not None and attribute in published.index:
            rows.append(
                Row((attribute, "  published"), tuple(_published(published.loc[attribute], s) for s in _SCORES))
            )
    return Grid(("attribute", "of"), tuple(column(score, run) for score in _SCORES), rows)


def _means(folder: Path) -> dict[tuple[str, str], Value]:
    return interval_values(edit_rows(Setting({}, read_run(folder), folder), _SCORES), _SCORES)


def _published(row: pd.Series, score: str) -> Cell:
    factor = 100 if score == "clip" else 1  # printed as 100 x the cosine
    return Value(row[f"{score}_mean"] / factor, row[f"{score}_sd"] / factor)

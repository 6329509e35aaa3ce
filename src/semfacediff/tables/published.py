"""Tables that put what papers report beside records of ours."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from semfacediff.errors import UserError
from semfacediff.records.columns import read_table
from semfacediff.tables.grid import Cell, Column, Grid, Row, Value

PUBLISHED = Path("results") / "published"
_NAN = float("nan")


def published_rows(repository: Path, file: str) -> pd.DataFrame:
    """A file of ``results/published``, every cell as it was typed; empty cells are empty strings.

    Raises:
        UserError: it is not there.
    """
    path = repository / PUBLISHED / file
    if not path.exists():
        raise UserError(f"{path}: no such file of published numbers; restore it from the repository")
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def _summary(folder: Path) -> pd.DataFrame:
    return read_table(folder / "summary.csv").set_index("class")


def _number(table: pd.DataFrame, row: str, column: str) -> float:
    return float(table[column][row]) if row in table.index and column in table else _NAN


def per_class(ours: Mapping[str, Path], published: pd.DataFrame) -> Grid:
    """IoU of every class, ours with the record's 95 % interval, beside published parsers; the last row is the mean.

    Args:
        ours: name -> run with a parser's ``summary.csv``.
        published: a row a parser: ``model``, a column a class in per cent, ``miou``.
    """
    tables = {name: _summary(folder) for name, folder in ours.items()}
    classes = [c for c in published.columns if c not in ("model", "miou")]
    theirs = published.set_index("model")
    columns = [Column(name, f"{name}, ours", None, 2, 100) for name in tables]
    columns += [Column(name, name, None, 2) for name in theirs.index]
    rows = []
    for name in [*classes, "miou"]:
        cells: list[Cell] = [_iou(table, name) for table in tables.values()]
        cells += [Value(_parsed(theirs[name][model])) for model in theirs.index]
        rows.append(Row((name,), tuple(cells), name == "miou"))
    notes = [
        "IoU in per cent, counts pooled over the photos, mean with the background; intervals: 95 %, photos resampled"
    ]
    return Grid(("class",), tuple(columns), rows, notes=notes)


def _iou(table: pd.DataFrame, name: str) -> Value:
    low, high = (_number(table, name, f"iou_{end}") for end in ("low", "high"))
    return Value(_number(table, name, "iou"), low=low, high=high)


def _parsed(text: str) -> float:
    return float(text) if text else _NAN


def course_report(ours: Mapping[str, tuple[str, Path, dict]], published: pd.DataFrame) -> Grid:
    """Table 1 of the course report with a row of ours below each of its parsers; those it does not have come last.

    Args:
        ours: parser's name -> (the report's model that it rebuilds, or ``""``), its training run, ``run.json``.
    """
    columns = (
        Column("val_miou", "val mIoU %", True, 2),
        Column("val_f", "val F %", True, 2),
        Column("test_miou", "test mIoU %", True, 2),
        Column("parameters", "parameters", False, 0),
        Column("seconds_per_epoch", "s/epoch", False, 0),
    )
    rows = []
    for paper in published.to_dict("records"):
        cells = ("val_miou", "val_f_measure", "test_miou", "parameters", "seconds_per_epoch")
        rows.append(Row((paper["model"], "report"), tuple(Value(_parsed(paper[c])) for c in cells)))
        rows += [_trained(n, f, run) for n, (model, f, run) in ours.items() if model == paper["model"]]
    rows += [_trained(name, folder, run) for name, (model, folder, run) in ours.items() if not model]
    saved = ", ".join(f"{p['model']} {p['saved_val_miou']}" for p in _artefacts_differ(published))
    notes = [f"val mIoU of the report's own artefacts where they differ from its table: {saved}"] if saved else []
    notes.append("ours: F is the mean of the 19 classes' F1; the report does not define its own")
    notes.append("ours have no test mIoU: the report's test labels are not public")
    if not all(_parameters(run) for _, _, run in ours.values()):
        notes.append("parameters are empty where a record holds no count")
    return Grid(("parser", "by"), columns, rows, notes=notes)


def _artefacts_differ(published: pd.DataFrame) -> list[dict]:
    return [p for p in published.to_dict("records") if p["saved_val_miou"] != p["val_miou"]]


def _parameters(run: dict) -> int | None:
    return (run.get("parser") or {}).get("parameters")


def _trained(name: str, folder: Path, run: dict) -> Row:
    table = _summary(folder)
    classes = table.loc[:"miou"].iloc[:-1]
    seconds = run["wall_time_s"] / run["epochs_done"] if run.get("epochs_done") else _NAN
    values = (100 * _number(table, "miou", "iou"), 100 * classes["f1"].mean(), _NAN, _parameters(run) or _NAN, seconds)
    return Row((f"  {name}", "ours"), tuple(Value(v) for v in values))


_OURS_OF = {"mean_f1": ("mean_f1_no_background", "f1"), "mean_iou": ("miou", "iou")}
"""Published column -> row and column of a parser's ``summary.csv``; other columns are classes."""


def class_f1(ours: Mapping[str, Path], published: pd.DataFrame, labels: list[str]) -> Grid:
    """Published F1 of every class as printed, and rows of ours below.

    Args:
        ours: name -> run of ``task=parsing``.
        labels: the columns that name a row; the others are numbers in per cent.
    """
    names = [c for c in published.columns if c not in labels]
    columns = tuple(Column(c, c.replace("_f1", " F1").replace("_iou", " IoU"), True, 2) for c in names)
    rows = [Row(tuple(p[c] for c in labels), tuple(p[c] for c in names)) for p in published.to_dict("records")]
    for name, folder in ours.items():
        table = _summary(folder)
        values = (100 * _number(table, *_OURS_OF.get(c, (c, "f1"))) for c in names)
        rows.append(Row((f"{name}, ours", *("" for _ in labels[1:])), tuple(Value(v) for v in values), True))
    return Grid(tuple(labels), columns, rows)


_UP = {"ssim": True, "fid": False, "miou": True, "accuracy": True, "mean_f1": True}
_HEADINGS = {"ssim": "SSIM", "fid": "FID", "miou": "mIoU %", "accuracy": "accuracy %", "mean_f1": "mean F1 %"}


_OF_RECONSTRUCTION = {"ssim": "ssim_mean", "fid": "fid", "miou": "miou", "accuracy": "pixel_accuracy"}
"""Published column -> column of a synthesis run's ``summary.csv``."""
_RECONSTRUCTION_FILE = "sca_dm_table_1.csv"


def synthesis_rows(ours: Mapping[str, Path], published: pd.DataFrame, labels: list[str]) -> Grid:
    """Published reconstruction scores as printed, and a row of ours a run below; mIoU and accuracy in per cent.

    Args:
        ours: name -> run of ``task=synthesis``.
    """
    names = [c for c in published.columns if c not in labels]
    columns = tuple(Column(c, _HEADINGS[c], _UP[c], 2, 100 if c in ("miou", "accuracy") else 1) for c in names)
    rows = [Row(tuple(p[c] for c in labels), tuple(p[c] for c in names)) for p in published.to_dict("records")]
    for name, folder in ours.items():
        table = read_table(folder / "summary.csv").set_index("task")
        values = (_number(table, "reconstruction", _OF_RECONSTRUCTION[c]) for c in names)
        rows.append(Row((f"{name}, ours", *("" for _ in labels[1:])), tuple(Value(v) for v in values), True))
    return Grid(tuple(labels), columns, rows)


def published_reconstruction(repository: Path) -> dict[str, dict[str, str]] | None:
    """Method -> column of a synthesis run's ``summary.csv`` -> published number as printed.

    ``None`` where the checkout does not hold them.
    """
    if not (repository / PUBLISHED / _RECONSTRUCTION_FILE).exists():
        return None
    rows = published_rows(repository, _RECONSTRUCTION_FILE).to_dict("records")
    return {row["method"]: {ours: row[theirs] for theirs, ours in _OF_RECONSTRUCTION.items()} for row in rows}


def step_rows(ours: Mapping[str, tuple[dict, Path]], published: pd.DataFrame, labels: list[str]) -> Grid:
    """What is published of sampling, and of ours the time of each step count; diversity at the run's own count.

    Args:
        ours: name -> (``run.json``, run of ``task=synthesis``).
    """
    columns = (
        Column("steps", "steps"),
        Column("lpips_diversity", "LPIPS diversity", True, 2),
        Column("seconds", "s a photo", False, 2),
        Column("seconds_per_step", "s a step", False, 4),
        Column("relative_time_per_step", "time a step, relative", False, 1),
    )
    rows = [
        Row(tuple(p[c] for c in labels), tuple(p.get(c.name, "") for c in columns))
        for p in published.to_dict("records")
    ]
    for name, (run, folder) in ours.items():
        table = read_table(folder / "summary.csv").set_index("task")
        for timed in run.get("latency", []):
            own = timed["steps"] == run["generation"]["steps"]
            diversity = _number(table, "noise", "lpips_diversity_mean") if own else _NAN
            values = (timed["steps"], diversity, timed["seconds"], timed["seconds_per_step"], _NAN)
            rows.append(Row((f"{name}, ours",), tuple(Value(v) for v in values), True))
    return Grid(tuple(labels), columns, rows)


_PUBLISHED_SCORES = {
    "mean_f1": ("mean F1 %", True, 2),
    "mean_iou": ("mean IoU %", True, 2),
    "fps": ("photos/s", True, 2),
}


def beside(ours: Mapping[str, tuple[dict, Path]], published: pd.DataFrame, labels: list[str]) -> Grid:
    """A row a published model, its scores as printed, and ours beside them: mean F1, mean IoU, photos/s.

    Args:
        ours: a row's first label -> (``run.json``, run of ``task=parsing``) of that model.
        labels: the columns that name a row. ``resolution``, where it is one, is the parser's input size.

    Raises:
        UserError: a run of no row, or of a parser with another input size than its row.
    """
    if strange := [label for label in ours if label not in set(published[labels[0]])]:
        raise UserError(f"runs of no published row: {', '.join(strange)}; {labels[0]} is one of the file's")
    names = [c for c in published.columns if c not in labels]
    columns = [Column(c, f"{_PUBLISHED_SCORES[c][0]}, published", *_PUBLISHED_SCORES[c][1:]) for c in names]
    columns += [
        Column(f"{c}_ours", f"{heading}, ours", up, digits) for c, (heading, up, digits) in _PUBLISHED_SCORES.items()
    ]
    rows = []
    for p in published.to_dict("records"):
        cells: list[Cell] = [p[c] for c in names]
        run, folder = ours.get(p[labels[0]], (None, None))
        if run is not None and str(run["parser"]["input_size"]) != p.get("resolution", ""):
            raise UserError(
                f"{folder}: its parser was scored at {run['parser']['input_size']} px, its row is of {p['resolution']}"
            )
        table = _summary(folder) if folder else pd.DataFrame()
        scores = (100 * _number(table, *_OURS_OF[c]) for c in ("mean_f1", "mean_iou"))
        cells += [Value(v) for v in (*scores, _NAN if run is None else run.get("photos_per_s", _NAN))]
        rows.append(Row(tuple(p[c] for c in labels), tuple(cells)))
    return Grid(tuple(labels), tuple(columns), rows)

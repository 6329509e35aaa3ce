"""The table of one run, from its ``summary.csv``."""

from collections.abc import Sequence

import pandas as pd

from semfacediff.metrics.overall import OVERALL
from semfacediff.metrics.photo_counts import CHALLENGE_F, SUMMARY_ROWS
from semfacediff.metrics.segmentation import AGGREGATES
from semfacediff.records.summary import ALL, IOU_FLOOR, OF_ALIGNMENT
from semfacediff.tables.grid import Cell, Column, Grid, Row, Value
from semfacediff.tables.scores import OF_EDITS, OF_EFFECT, OF_SETS, column

_ALWAYS = ("lpips", "ssim", "iou", *IOU_FLOOR, "clip")
_WHERE_MEASURED = (
    "clip_photo",
    "clip_region",
    "clip_direction",
    "psnr_background",
    "mse_background",
    *OF_ALIGNMENT,
    "ssim_raw_registered",
    "identity",
    "identity_distance",
    "identity_outside",
    OVERALL,
    "seam",
    "geometry_shift_pct",
)
_LATENCY = Column("latency_s_median", "latency s", None, 3)
_N = Column("n", "n")
_PUBLISHED_N = 100
"""Photos behind each row of the thesis's table 6.1."""

# column of summary.csv, heading; shown where the record has it
_PARSING = (
    ("iou", "IoU %"),
    ("f1", "F1 %"),
    ("precision", "precision %"),
    ("recall", "recall %"),
    ("boundary_f1", "boundary F1 %"),
    ("iou_native", "native IoU %"),
    ("f1_native", "native F1 %"),
)


def _measured(summary: pd.DataFrame, name: str) -> bool:
    return name in summary and bool(summary[name].notna().any())


def editing_grid(summary: pd.DataFrame, published: pd.DataFrame | None, run: dict | None = None) -> Grid:
    """Mean and sd an attribute, the thesis's published row under ours where there is one; of a cascade a stage.

    Of an editor that gets no mask, the scores before the composite come first.

    A stage is scored against the photo that it was given; the row below it scores the same photo since the first.

    Args:
        published: table 6.1 by attribute, with its columns' own factors (CLIP is 100 x the cosine there).
        run: ``run.json``, which says the scores' directions and units.
    """
    effect, more = (
        [name for name in names if _measured(summary, f"{name}_mean")]
        for names in (OF_EFFECT, (*_WHERE_MEASURED, *_others(summary)))
    )
    each = [*effect, *(n for n in _ALWAYS if n not in IOU_FLOOR or _measured(summary, f"{n}_mean")), *more]
    if run and run["editor"].get("maskless"):  # it was not told where to stop: the composite hides what it changed
        raw = [f"{name}_raw" for name in each if _measured(summary, f"{name}_raw_mean")]
        each = [*raw, *(name for name in each if name not in raw)]
    of_sets = [name for name in OF_SETS if _measured(summary, name)]
    columns = {name: column(name, run) for name in (*each, *of_sets)}
    rows = []
    for row in summary.to_dict("records"):
        cells = [_mean_sd(row, name) for name in each]
        cells += [Value(row[name], _number(row.get(f"{name}_sd"))) for name in of_sets]
        latency = Value(_number(row.get("latency_s_median")))
        rows.append(Row((_row_name(row),), (Value(row["n"]), *cells, latency)))
        empty = (*(None for _ in of_sets), None)
        if row.get("stage", 1) > 1:
            totals = (_mean_sd(row, name, f"{name}_total") for name in each)
            rows.append(Row(("  since the photo",), (None, *totals, *empty)))
        if published is not None and row["attribute"] in published.index:
            paper = published.loc[row["attribute"]]
            values = (_mean_sd(paper, name, factor=columns[name].factor if name == "clip" else 1) for name in each)
            rows.append(Row(("  published",), (Value(_PUBLISHED_N), *values, *empty)))
    name = "stage" if "stage" in summary else "attribute"
    return Grid((name,), (_N, *columns.values(), _LATENCY), rows)


def kinds_grid(by_kind: pd.DataFrame, run: dict | None = None) -> Grid:
    """Of ``summary_by_kind.csv``, the rows over all attributes: by kind, then by distance from the colour asked."""
    own = by_kind[by_kind["attribute"] == ALL]
    names = [name for name in (*OF_EFFECT, *_ALWAYS, OVERALL) if _measured(own, f"{name}_mean")]
    counts = [c for c in (_N, Column("n_unchanged", "unchanged")) if c.name in own]
    rows = [
        Row((row["kind"], row["distance"]), (*(Value(row[c.name]) for c in counts), *(_mean_sd(row, n) for n in names)))
        for row in own.to_dict("records")
    ]
    return Grid(("kind", "distance"), (*counts, *(column(name, run) for name in names)), rows)


def _others(summary: pd.DataFrame) -> list[str]:
    """Scores of metrics that are not the framework's, in the order of the summary."""
    means = [str(c).removesuffix("_mean") for c in summary if str(c).endswith("_mean")]
    return [name for name in means if name not in OF_EDITS and not name.endswith(("_raw", "_total", "_registered"))]


def _row_name(row: dict) -> str:
    return f"{row['stage']} {row['attribute']}" if "stage" in row else row["attribute"]


def _number(value: float | None) -> float:
    return float("nan") if value is None or pd.isna(value) else float(value)


def _mean_sd(row: dict | pd.Series, name: str, source: str | None = None, factor: float = 1) -> Value:
    """Mean and sd of a summary's row; published values are divided by the ``factor`` that they hold already."""
    parts = [_number(row.get(f"{source or name}_{part}")) / factor for part in ("mean", "sd", "sd_within")]
    return Value(parts[0], parts[1], parts[2])


def parsing_grid(summary: pd.DataFrame) -> Grid:
    """Per-class and aggregate scores in per cent; the loss is no fraction and stands in the notes."""
    named = [(name, heading) for name, heading in _PARSING if name in summary]
    columns = [Column(name, heading, None, 2, 100) for name, heading in named]
    with_range = "iou_low" in summary
    rows = []
    for row in summary[summary["class"] != "loss"].to_dict("records"):
        cells: list[Cell] = [Value(_number(row[name])) for name, _ in named]
        cells += [_interval(row)] if with_range else []
        strong = row["class"] in (*AGGREGATES, *SUMMARY_ROWS, CHALLENGE_F)
        rows.append(Row((row["class"],), (*cells, Value(_number(row["images"]))), strong))
    interval = [Column("iou_interval", "IoU 95 %")] if with_range else []
    return Grid(("class",), (*columns, *interval, Column("images", "images")), rows)


def _interval(row: dict) -> str:
    if pd.isna(row["iou_low"]):
        return ""
    return f"{100 * row['iou_low']:.2f}..{100 * row['iou_high']:.2f}"


_SYNTHESIS = (
    Column("ssim_mean", "SSIM", True, 3),
    Column("fid", "FID", False, 2),
    Column("miou", "mIoU %", True, 2, 100),
    Column("pixel_accuracy", "accuracy %", True, 2, 100),
    Column("image_miou_mean", "mIoU of a photo %", True, 2, 100),
    Column("layout_r2_mean", "layout R2", True, 3),
    Column("layout_r2_other_mean", "another's R2", None, 3),
    Column("layout_better_share", "own above %", True, 1, 100),
    Column("lpips_diversity_mean", "diversity", True, 3),
)


def synthesis_grid(summary: pd.DataFrame) -> Grid:
    """A row a task; the row ``photo`` is what is measured of the photos themselves."""
    rows = [
        Row((row["task"],), (Value(row["n"]), *(Value(_number(row.get(c.name))) for c in _SYNTHESIS)))
        for row in summary.to_dict("records")
    ]
    return Grid(("task",), (_N, *_SYNTHESIS), rows)


def empty_columns(run: dict, names: Sequence[str]) -> list[str]:
    """Those of ``names`` that the run left empty for want of something, as its record says."""
    return [name for name in names if name in run.get("empty_columns", {})]

"""The tables at the end of a synthesis run, from its rows; those of a merged run are made by the same lines."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from semfacediff.labels import LabelSpace
from semfacediff.metrics.photo_counts import PhotoCounts
from semfacediff.metrics.segmentation import class_scores
from semfacediff.records.samples import OK, write_csv, write_parquet

KEY = ("task", "sample_id")
"""Of a row; tasks are what is generated, and ``photo``: what the judge says of the photo itself."""
_MEANS = ("ssim", "lpips_diversity", "layout_r2", "layout_r2_other")


def write_synthesis_tables(
    folder: Path, samples: pd.DataFrame, of_sets: Mapping[str, Mapping[str, float]], space: LabelSpace | None
) -> None:
    """Write ``samples.parquet`` and ``summary.csv``, which has a row a task.

    Args:
        samples: all rows, in order.
        of_sets: task -> what was measured of all its photos together.
        space: of the label maps; ``None`` where no parser judged.
    """
    write_parquet(samples, folder / "samples.parquet")
    write_csv(synthesis_summary(samples, of_sets, space), folder / "summary.csv")


def synthesis_summary(
    samples: pd.DataFrame, of_sets: Mapping[str, Mapping[str, float]], space: LabelSpace | None
) -> pd.DataFrame:
    """``summary.csv`` from rows; arguments as of :func:`write_synthesis_tables`."""
    tasks = {str(task): mine for task, mine in samples.groupby("task", sort=False)}
    return pd.DataFrame([_summary(task, mine, space) | dict(of_sets.get(task, {})) for task, mine in tasks.items()])


def _summary(task: str, rows: pd.DataFrame, space: LabelSpace | None) -> dict:
    """One row of ``summary.csv``; fractions 0..1, standard deviations with ddof 1."""
    good = rows[rows["status"] == OK]
    found: dict = {"task": task, "n": len(good)}
    values = {name: pd.Series(good.get(name), dtype=float) for name in _MEANS}
    for name, of_photos in values.items():
        there = of_photos.dropna()
        found |= {f"{name}_mean": there.mean(), f"{name}_sd": there.std(), f"{name}_n": len(there)}
    own, other = (values[name] for name in ("layout_r2", "layout_r2_other"))
    found["layout_better_share"] = (own > other)[own.notna() & other.notna()].mean()
    if space and len(good):
        counts = PhotoCounts.of(good[["sample_id", "miou", "confusion"]].to_dict("records"), space.n)
        table = class_scores(counts.confusion, space.classes, counts.images).set_index("class")
        found |= {"miou": table.at["miou", "iou"], "miou_no_background": table.at["miou_no_background", "iou"]}
        found |= {"pixel_accuracy": table.at["pixel_accuracy", "recall"], "image_miou_mean": counts.miou.mean()}
    return found

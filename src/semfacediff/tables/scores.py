"""How scores are shown. Direction and unit come from the identity of the metric in the record."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from semfacediff.errors import UserError
from semfacediff.metrics.overall import OVERALL
from semfacediff.records.pairing import directions
from semfacediff.tables.grid import Column


@dataclass(frozen=True)
class ScoreFormat:
    """How a score is printed.

    Attributes:
        label: for headings and axes.
        up: whether higher is better, where a record does not say it: its column is empty, or its version is older.
        digits: after the point, once multiplied by ``factor``.
    """

    label: str
    up: bool | None
    digits: int
    factor: float = 1.0


OF_EFFECT: Mapping[str, ScoreFormat] = {
    "change_de": ScoreFormat("change CIEDE2000", None, 1),
    "changed_pct": ScoreFormat("changed", None, 1),
    "toward_prompt": ScoreFormat("toward prompt", True, 2),
    "structure_change": ScoreFormat("structure change", None, 3),
}
"""Was the edit done? Stands first in every table."""
OF_EDITS: Mapping[str, ScoreFormat] = {
    **OF_EFFECT,
    "lpips": ScoreFormat("LPIPS", False, 4),
    "ssim": ScoreFormat("SSIM", True, 4),
    "iou": ScoreFormat("mask IoU", True, 4),
    "iou_floor_jpeg_95": ScoreFormat("IoU floor, JPEG 95", None, 4),
    "iou_floor_shift_1px": ScoreFormat("IoU floor, 1 px", None, 4),
    "clip": ScoreFormat("CLIP", True, 2, 100),  # the record holds the cosine
    "clip_photo": ScoreFormat("CLIP of the photo", None, 2, 100),
    "clip_region": ScoreFormat("CLIP of the region", True, 2, 100),
    "clip_direction": ScoreFormat("CLIP direction", True, 3),
    "psnr_outside": ScoreFormat("PSNR outside", True, 2),
    "max_abs_outside": ScoreFormat("largest change outside", False, 1),
    "identity": ScoreFormat("identity", True, 3),
    "identity_distance": ScoreFormat("identity distance", False, 3),
    "identity_outside": ScoreFormat("identity outside", True, 3),
    "identity_outside_distance": ScoreFormat("identity distance outside", False, 3),
    OVERALL: ScoreFormat("overall", True, 3),
    "psnr_background": ScoreFormat("PSNR background", True, 2),
    "mse_background": ScoreFormat("MSE background x1000", False, 2, 1000),
    "seam": ScoreFormat("seam", False, 3),
    "geometry_shift_pct": ScoreFormat("shape shift", False, 2),
    "parts_lost": ScoreFormat("parts lost", False, 2),
    "shift_px": ScoreFormat("shift", None, 2),
    "zoom_pct": ScoreFormat("zoom", None, 2),
    "rotation_deg": ScoreFormat("rotation", None, 2),
    "latency_s": ScoreFormat("latency", False, 3),
    "peak_memory_mib": ScoreFormat("peak memory", False, 0),
}
"""Scores with a value for each edit; all but :data:`_NO_RAW` have a ``*_raw`` twin, before the composite."""
OF_CASCADES = ("lpips", "ssim", "iou", "clip", "psnr_outside", "max_abs_outside")
"""Scores with a ``*_total`` twin: of the photo after a stage against the one before the first."""
OF_SETS: Mapping[str, ScoreFormat] = {
    "fid": ScoreFormat("FID", False, 2),
    "kid": ScoreFormat("KID x1000", False, 2, 1000),
}
"""Scores of all edits of an attribute together."""
OF_PARSERS: Mapping[str, ScoreFormat] = {
    "miou": ScoreFormat("mIoU %", True, 2, 100),
    "miou_no_background": ScoreFormat("mIoU without background %", True, 2, 100),
    "mean_f1_no_background": ScoreFormat("mean F1 without background %", True, 2, 100),
    "pixel_accuracy": ScoreFormat("pixel accuracy %", True, 2, 100),
    "mean_accuracy": ScoreFormat("mean accuracy %", True, 2, 100),
    "long_tail_miou": ScoreFormat("long-tail mIoU %", True, 2, 100),
    "boundary_f1": ScoreFormat("boundary F1 %", True, 2, 100),
}
"""Rows of a parser's ``summary.csv``."""
_NO_RAW = (OVERALL, "latency_s", "peak_memory_mib", "iou_floor_jpeg_95", "iou_floor_shift_1px")
_UNITS = {"latency_s": "s", "peak_memory_mib": "MiB"}
_SHORT_UNITS = {
    "CIEDE2000": "",
    "% of the distance between the eyes": "%",
    "CIELAB units per pixel": "",
    "8-bit levels": "/255",
}


def edit_scores() -> list[str]:
    """Names of every score that a table of edits may show."""
    raw = [f"{name}_raw" for name in OF_EDITS if name not in _NO_RAW]
    return [*OF_EDITS, *raw, *(f"{name}_total" for name in OF_CASCADES), *OF_SETS]


def refuse_unknown(names: Sequence[str], known: Sequence[str], where: str) -> None:
    """A :class:`UserError` that lists the known scores, if one of ``names`` is not among them."""
    unknown = [str(name) for name in names if name not in known]
    if unknown:
        raise UserError(f"{where}: unknown metric {', '.join(unknown)}; the known ones are {', '.join(known)}")


def column(name: str, run: dict | None = None) -> Column:
    """The column of a score, with the direction and unit that ``run`` (its ``run.json``) declares."""
    bare = name.removesuffix("_registered").removesuffix("_raw").removesuffix("_total")
    shown = {**OF_PARSERS, **OF_SETS, **OF_EDITS}.get(bare) or ScoreFormat(bare.replace("_", " "), None, 4)
    up = directions(run or {}).get(name)
    label = " ".join(filter(None, (shown.label, _unit(bare, run or {}), name[len(bare) + 1 :].replace("_", " "))))
    return Column(name, label, shown.up if up is None else up, shown.digits, shown.factor)


def _unit(name: str, run: dict) -> str:
    """What stands behind a label; empty for a score without a unit."""
    unit = _UNITS.get(name, "1")
    for metric in run.get("metrics", []):
        if name in metric["metric"].split(", "):
            declared = metric.get("unit", "1")
            unit = declared.get(name, "1") if isinstance(declared, dict) else declared
    return _SHORT_UNITS.get(unit, "" if unit == "1" else unit)

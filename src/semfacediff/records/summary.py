"""From sample rows to one row an attribute. Needs no model, no image."""

import itertools
import math
from collections.abc import Mapping

import pandas as pd

from semfacediff.config.prompts import KINDS
from semfacediff.metrics.overall import OVERALL
from semfacediff.records.idle import already_there, names_colour
from semfacediff.records.samples import EMPTY_REGION, ERROR, UNCHANGED

SCORES = ("lpips", "ssim", "iou", "clip")
RAW_SCORES = ("lpips_raw", "ssim_raw", "iou_raw")
SHAPE_SCORES = ("seam", "geometry_shift_pct", "seam_raw", "geometry_shift_pct_raw")
OF_ALIGNMENT = ("shift_px_raw", "zoom_pct_raw", "rotation_deg_raw")
"""Scores before the composite that say what the one after it no longer shows; so does the registered outside."""
IOU_FLOOR = ("iou_floor_jpeg_95", "iou_floor_shift_1px")
"""Of each photo's region, not of its edit."""
_NOT_SUMMARISED = ("psnr_outside", "max_abs_outside", "parts_lost", "leakage", "no_face")
EDITING_COLUMNS = (
    ["attribute", "n", "n_expected", "n_empty"]
    + [f"{s}_{part}" for s in SCORES for part in ("mean", "sd")]
    + ["fid", "fid_n", "latency_s_median", "n_error"]
    + [f"{s}_{part}" for s in RAW_SCORES for part in ("mean", "sd")]
    + ["kid", "kid_sd"]
    + [f"{s}_{part}" for s in SHAPE_SCORES for part in ("mean", "sd")]
)


def summarise_edits(
    samples: pd.DataFrame,
    attributes: list[str],
    n_expected: int | Mapping[str, int],
    of_sets: Mapping[str, Mapping[str, float]] | None = None,
) -> pd.DataFrame:
    """Means and standard deviations (ddof 1) over the scored rows of each attribute.

    Where there are several edits of each photo (``repeat``), ``*_sd`` is that between the photos' means,
    ``*_sd_within`` the one between the edits of a photo (root of the mean variance), and ``n_photos`` counts the photos
    behind ``n``.

    Args:
        samples: rows with ``attribute``, ``status``, ``latency_s`` and the score columns; missing values enter nothing.
            A row counts in ``n`` if it was edited and scored: under the strict protocol rows of an empty region were
            not, under the thesis's they were. So are edits that changed nothing, and ``n_unchanged`` counts them;
            ``n_no_colour`` counts the scored rows whose prompt names no colour of CSS4 or XKCD; ``n_already``
            those where the photo had the colour of the prompt before the edit; ``n_no_face`` those in which identity
            found no face in the photo or the edit; ``n_no_overall`` those without an overall score.
        attributes: order of the rows; one without samples keeps its row.
        n_expected: samples that should be there for each attribute, or attribute -> how many.
        of_sets: attribute -> what was measured of all its edits together (``fid``, ``fid_n``, ``kid``, ``kid_sd``).
    """
    rows, others = [], other_scores(samples)
    for attribute in attributes:
        group = samples[samples["attribute"] == attribute] if len(samples) else samples
        status = group["status"] if len(group) else pd.Series(dtype=object)
        scored = group[(status != ERROR) & group["latency_s"].notna()] if len(group) else group
        row = {
            "attribute": attribute,
            "n": len(scored),
            "n_expected": n_expected if isinstance(n_expected, int) else n_expected[attribute],
            "n_empty": int((status == EMPTY_REGION).sum()),
            "n_error": int((status == ERROR).sum()),
        }
        for score in (*SCORES, *RAW_SCORES, *SHAPE_SCORES, *others):
            values = pd.to_numeric(scored[score]) if score in scored else pd.Series(dtype=float)
            row |= {f"{score}_mean": values.mean(), f"{score}_sd": values.std(ddof=1)}
            row |= _spread(score, values, scored)
        if "repeat" in samples:
            row["n_photos"] = scored["sample_id"].nunique()
        if "changed_pct" in samples:
            row["n_unchanged"] = int((status == UNCHANGED).sum())
            row["n_no_colour"] = int((~names_colour(scored)).sum()) if len(scored) else 0
            row["n_already"] = int(already_there(scored).sum()) if len(scored) else 0
        if "no_face" in samples:
            row["n_no_face"] = int(scored["no_face"].notna().sum()) if len(scored) else 0
        if OVERALL in samples:
            row["n_no_overall"] = int(scored[OVERALL].isna().sum()) if len(scored) else 0
        row["latency_s_median"] = pd.to_numeric(scored["latency_s"]).median() if len(scored) else None
        rows.append(row | dict((of_sets or {}).get(attribute, {})))
    own = [f"{score}_{part}" for score in others for part in ("mean", "sd")]
    own += ["n_unchanged", "n_no_colour", "n_already"] if "changed_pct" in samples else []
    own += ["n_no_face"] if "no_face" in samples else []
    own += ["n_no_overall"] if OVERALL in samples else []
    if "repeat" in samples:
        own += ["n_photos", *(f"{score}_sd_within" for score in (*SCORES, *RAW_SCORES, *SHAPE_SCORES, *others))]
    return pd.DataFrame(rows, columns=EDITING_COLUMNS + own).astype({"fid_n": "Int64"})


def _spread(score: str, values: pd.Series, scored: pd.DataFrame) -> dict[str, float]:
    """Deviations between and within photos, where a photo has several edits; empty otherwise."""
    if "repeat" not in scored or score not in scored:
        return {}
    photos = values.groupby(scored["sample_id"])
    return {f"{score}_sd": photos.mean().std(ddof=1), f"{score}_sd_within": photos.var(ddof=1).mean() ** 0.5}


def repeat_facts(samples: pd.DataFrame) -> dict[str, int]:
    """``of_each``: edits of every photo and attribute; of the groups of several ``edited`` ones, how many are ``equal``
    to the bit, as those of an editor that draws nothing from its seed are."""
    digests = samples.dropna(subset="edit_sha256").groupby(["sample_id", "attribute"])["edit_sha256"]
    several = digests.size() > 1
    equal = int((digests.nunique()[several] == 1).sum())
    return {"of_each": int(samples["repeat"].max()), "edited": int(several.sum()), "equal": equal}


def other_scores(samples: pd.DataFrame) -> list[str]:
    """Columns of metrics that nothing above names: those with a ``*_raw`` twin, and what is known of it alone."""
    known = {*SCORES, *SHAPE_SCORES, *_NOT_SUMMARISED}
    of_raw = {
        *OF_ALIGNMENT,
        *IOU_FLOOR,
        OVERALL,
        *(c for c in map(str, samples) if c.endswith("_raw_registered") and not c.startswith(_NOT_SUMMARISED)),
    }
    return [str(c) for c in samples if c in of_raw or (c not in known and f"{c}_raw" in samples)]


ALL = "all"
"""In the columns ``attribute``, ``kind`` and ``distance``: of any."""
DISTANCES = (0, 10, 25, 50)
"""Lower ends of the bins of ``source_distance``; below 10 the photo has the colour of the prompt already."""


def summarise_kinds(samples: pd.DataFrame) -> pd.DataFrame:
    """The columns of :func:`summarise_edits` by kind of task, and by distance between the photo and the colour asked.

    Rows with ``attribute``, ``kind`` and ``distance``: each kind over all attributes, each kind of each attribute, and
    each of the :data:`DISTANCES` over all attributes and kinds whose prompt names a colour. Only those that occur. No
    scores of whole sets.

    Args:
        samples: rows with ``kind`` and ``source_distance`` too.
    """
    kinds = [kind for kind in KINDS if (samples["kind"] == kind).any()]
    groups = [((ALL, kind, ALL), samples["kind"] == kind) for kind in kinds]
    for attribute in samples["attribute"].unique():
        own = samples["attribute"] == attribute
        groups += [((attribute, kind, ALL), own & (samples["kind"] == kind)) for kind in kinds]
    distance = pd.to_numeric(samples["source_distance"])
    for low, high in itertools.pairwise((*DISTANCES, math.inf)):
        name = f"{low}-{high}" if math.isfinite(high) else f"{low}+"
        groups.append(((ALL, ALL, name), (distance >= low) & (distance < high)))
    tables = []
    for (attribute, kind, name), of_group in groups:
        if of_group.any():
            row = summarise_edits(samples[of_group].assign(attribute=attribute), [attribute], int(of_group.sum()))
            row.insert(1, "kind", kind)
            row.insert(2, "distance", name)
            tables.append(row.drop(columns=["fid", "fid_n", "kid", "kid_sd"]))
    return pd.concat(tables, ignore_index=True)


TOTAL_SCORES = ("lpips_total", "ssim_total", "iou_total", "clip_total")


def summarise_stages(
    samples: pd.DataFrame,
    stages: Mapping[int, str],
    n_expected: int,
    of_sets: Mapping[int, Mapping[str, float]] | None = None,
) -> pd.DataFrame:
    """:func:`summarise_edits` with one row a stage of a cascade, and the scores since the photo as it was given.

    Args:
        samples: rows with ``stage`` and the ``*_total`` columns too.
        stages: number -> attribute, in order.
        of_sets: number -> what was measured of all photos after that stage.
    """
    rows = []
    for stage, attribute in stages.items():
        group = samples[samples["stage"] == stage] if len(samples) else samples
        measured = {attribute: (of_sets or {}).get(stage, {})}
        row = summarise_edits(group, [attribute], n_expected, measured)
        row.insert(0, "stage", stage)
        scored = group[(group["status"] != ERROR) & group["latency_s"].notna()] if len(group) else group
        for score in TOTAL_SCORES:
            values = pd.to_numeric(scored[score]) if score in scored else pd.Series(dtype=float)
            row[f"{score}_mean"], row[f"{score}_sd"] = values.mean(), values.std(ddof=1)
        rows.append(row)
    return pd.concat(rows, ignore_index=True)

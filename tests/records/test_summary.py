"""From sample rows to the summary, against plain arithmetic."""

import math
import statistics

import pandas as pd
import pytest

from semfacediff.records.samples import EMPTY_REGION, ERROR, OK, UNCHANGED
from semfacediff.records.summary import summarise_edits

DOCUMENTED = (
    "attribute n n_expected n_empty lpips_mean lpips_sd ssim_mean ssim_sd iou_mean iou_sd clip_mean clip_sd fid fid_n "
    "latency_s_median"
).split()


def row(attribute="hair", status=OK, ssim=0.5, iou=None, latency_s=1.0, **more):
    return {"attribute": attribute, "status": status, "ssim": ssim, "iou": iou, "latency_s": latency_s} | more


def summary(rows, attributes=("hair",), n_expected=4):
    return summarise_edits(pd.DataFrame(rows), list(attributes), n_expected).set_index("attribute")


def test_documented_columns_stand_first_and_in_order():
    table = summarise_edits(pd.DataFrame([row()]), ["hair"], 1)
    assert list(table)[: len(DOCUMENTED)] == DOCUMENTED


def test_mean_sample_standard_deviation_and_median():
    values, seconds = [0.9, 0.7, 0.75], [3.0, 1.0, 2.0]
    table = summary([row(ssim=v, latency_s=s) for v, s in zip(values, seconds, strict=True)])
    assert table.loc["hair", "ssim_mean"] == pytest.approx(statistics.mean(values), abs=1e-12)
    assert table.loc["hair", "ssim_sd"] == pytest.approx(statistics.stdev(values), abs=1e-12)
    assert table.loc["hair", "latency_s_median"] == 2.0
    assert table.loc["hair", ["n", "n_expected"]].tolist() == [3, 4]


def test_attributes_keep_their_order_and_do_not_mix():
    table = summary([row("lips", ssim=0.1), row("hair", ssim=0.9)], ("lips", "skin", "hair"))
    assert list(table.index) == ["lips", "skin", "hair"]
    assert list(table["n"]) == [1, 0, 1]
    assert table.loc["lips", "ssim_mean"] == 0.1
    assert math.isnan(table.loc["skin", "ssim_mean"])


def test_missing_values_enter_nothing():
    table = summary([row(iou=None), row(iou=0.5), row(iou=float("nan"))])
    assert table.loc["hair", "iou_mean"] == 0.5
    assert table.loc["hair", "n"] == 3
    assert math.isnan(table.loc["hair", "iou_sd"]), "one value has no spread"


def test_a_column_nobody_measured_is_empty():
    table = summary([row(), row()])
    for column in ("lpips_mean", "clip_sd", "fid", "fid_n", "iou_mean"):
        assert pd.isna(table.loc["hair", column])


def test_failed_rows_are_counted_and_enter_nothing():
    table = summary([row(ssim=0.4), row(status=ERROR, ssim=None, latency_s=None)])
    assert table.loc["hair", ["n", "n_error", "n_empty"]].tolist() == [1, 1, 0]
    assert table.loc["hair", "ssim_mean"] == 0.4


def test_empty_regions_are_counted_apart_where_they_were_not_edited():
    table = summary([row(ssim=0.4), row(status=EMPTY_REGION, ssim=None, latency_s=None)])
    assert table.loc["hair", ["n", "n_empty"]].tolist() == [1, 1]
    assert table.loc["hair", "latency_s_median"] == 1.0


def test_empty_regions_that_were_edited_are_scored_and_counted():
    table = summary([row(ssim=0.4), row(status=EMPTY_REGION, ssim=1.0, iou=0.0)])
    assert table.loc["hair", ["n", "n_empty"]].tolist() == [2, 1]
    assert table.loc["hair", "ssim_mean"] == pytest.approx(0.7)
    assert table.loc["hair", "iou_mean"] == 0


def test_nothing_at_all_still_has_its_rows():
    table = summary([], ("hair", "lips"))
    assert list(table["n"]) == [0, 0]
    assert table["ssim_mean"].isna().all()


def test_order_of_rows_changes_nothing():
    rows = [row(ssim=0.1 * k, latency_s=k) for k in range(1, 8)]
    forward, backward = summary(rows), summary(rows[::-1])
    pd.testing.assert_frame_equal(forward, backward, rtol=0, atol=1e-12, check_dtype=False)


def test_unchanged_edits_are_counted_and_their_scores_enter_the_means():
    rows = [
        row(ssim=0.4, changed_pct=80.0, changed_pct_raw=80.0, prompt="red hair"),
        row(status=UNCHANGED, ssim=1.0, changed_pct=0.0, changed_pct_raw=0.0, prompt="blonde hair"),
        row(status=EMPTY_REGION, ssim=None, latency_s=None, changed_pct=None, changed_pct_raw=None, prompt="red hair"),
    ]
    table = summary(rows, ("hair", "lips"))
    counts = ["n", "n_unchanged", "n_empty", "n_no_colour"]
    assert table.loc["hair", counts].tolist() == [2, 1, 1, 1]
    assert table.loc["lips", counts].tolist() == [0, 0, 0, 0]
    assert table.loc["hair", "ssim_mean"] == pytest.approx(0.7)
    assert table.loc["hair", "changed_pct_mean"] == 40
    assert list(table)[-3:] == ["n_unchanged", "n_no_colour", "n_already"]


def test_a_record_without_effect_counts_no_unchanged_edit():
    assert not {"n_unchanged", "n_no_colour"} & set(summary([row()]))

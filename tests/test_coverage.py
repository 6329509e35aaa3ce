"""The simulation of intervals and tests, briefly; the record of the long one, and what the docs say of it."""

import json
import sys

import pytest

from semfacediff.records.strata import MIN_STRATUM


@pytest.fixture(scope="module")
def coverage(repository):
    sys.path.insert(0, str(repository / "benchmarks"))
    import coverage

    yield coverage
    sys.path.remove(str(repository / "benchmarks"))
    del sys.modules["coverage"]


@pytest.fixture(scope="module")
def record(repository):
    return json.loads((repository / "results" / "simulations" / "statistics.json").read_text())


def test_the_gap_test_keeps_its_level(coverage):
    """300 tables without a difference: above 0.09 lies 3.2 standard errors from 0.05."""
    assert coverage.gap_error((30, 30, 30, 30, 30), 300, 199) <= 0.09


def test_intervals_of_many_photos_cover_what_they_say(coverage):
    """400 intervals: below 0.90 lies 4.6 standard errors from 0.95."""
    draw, truth = coverage.SCORES["iou_like"]
    assert coverage.coverage(draw, truth, 100, 400) >= 0.90


def test_a_real_difference_is_found(coverage):
    assert coverage.paired_error(100, 200, shift=0.5) > 0.9


def test_pooled_intervals_of_common_classes_cover_more_than_those_of_rare_ones(coverage):
    assert coverage.pooled_coverage(10, 250, 60, 2_000) <= coverage.pooled_coverage(250, 250, 60, 2_000)


def test_the_record_supports_the_limits(record):
    assert record["repetitions"] >= 1000
    assert record["gap_type_1"]["5"] <= 0.06
    error = (0.05 * 0.95 / record["repetitions"]) ** 0.5  # the test is exact: only the simulation's own error remains
    assert max(record["sign_flip_type_1"].values()) <= 0.05 + 3 * error
    few = [record["bca_coverage"]["iou_like"][n] for n in record["bca_coverage"]["iou_like"] if int(n) < MIN_STRATUM]
    assert max(few) < 0.93
    rare = record["pooled_iou_coverage"]
    assert rare["10"] < 0.93 <= rare["80"] + 0.02


def test_the_docs_say_what_the_record_says(record, repository):
    text = (repository / "docs" / "statistics.md").read_text()
    for name, values in table_rows(record).items():
        assert f"| {name} | {' | '.join(values)} |" in text


def table_rows(record) -> dict[str, list[str]]:
    """Rows of the table in docs/statistics.md, in per cent."""
    bca, pooled = record["bca_coverage"], record["pooled_iou_coverage"]
    return {
        "BCa, scores like IoU, by photos": [f"{n}: {100 * v:.1f}" for n, v in bca["iou_like"].items()],
        "BCa, heavy-tailed differences, by photos": [f"{n}: {100 * v:.1f}" for n, v in bca["heavy_tailed"].items()],
        "pooled IoU of a class, by the photos of 250 that show it": [
            *(f"{n}: {100 * v:.1f}" for n, v in pooled.items()),
            "",
        ],
    }

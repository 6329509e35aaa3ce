"""Rendered tables: every number from a record, rounded once, with what a reader must know beside it."""

import json

import numpy as np
import pandas as pd
import pytest

from semfacediff.errors import UserError
from semfacediff.metrics.photo_counts import identities
from semfacediff.metrics.segmentation import class_scores
from semfacediff.records.samples import write_csv
from semfacediff.records.summary import summarise_edits
from semfacediff.tables.text import editing_report, editing_table, parsing_report, parsing_table, training_report

SCORES = {"lpips": 0.03, "ssim": 0.95, "iou": 0.85, "clip": 0.25}


def cells(table):
    """Cells of a Markdown table, without its rule: list of rows."""
    rows = [[c.strip() for c in line.strip("|").split("|")] for line in table.splitlines()]
    return [r for i, r in enumerate(rows) if i != 1]


def edited(n=3, status="ok", **scores):
    rows = [
        {"attribute": "hair", "status": status, "latency_s": 1.0 + k} | {s: v + 0.01 * k for s, v in scores.items()}
        for k in range(n)
    ]
    return summarise_edits(pd.DataFrame(rows), ["hair"], n)


@pytest.fixture
def run(tmp_path):
    """``run(**facts)``: a run's folder with an editing summary."""

    def make(summary=None, **facts):
        plain = {
            "schema_version": 1,
            "status": "done",
            "n": 3,
            "n_expected": 3,
            "not_comparable": [],
            "empty_columns": {},
            "data": {"skipped": {}},
            "editor": {"name": "recolor"},
            "parser": {"name": "fastscnn_lite"},
            "identity": {"config": {"protocol": "thesis"}},
        } | facts
        (tmp_path / "run.json").write_text(json.dumps(plain))
        write_csv(edited(**SCORES) if summary is None else summary, tmp_path / "summary.csv")
        return tmp_path

    return make


@pytest.fixture
def published(tmp_path):
    """A checkout with a published row for hair."""
    file = tmp_path / "results" / "published" / "semfacediff_table_6_1.csv"
    file.parent.mkdir(parents=True)
    columns = [f"{s}_{part}" for s in SCORES for part in ("mean", "sd")]
    values = [0.0279, 0.006, 0.9655, 0.0161, 0.852, 0.1453, 24.53, 2.53]
    pd.DataFrame([["hair", *values]], columns=["attribute", *columns]).to_csv(file, index=False)
    return tmp_path


def test_editing_row_has_mean_and_spread_and_a_hundred_times_the_cosine():
    head, hair = cells(editing_table(edited(**SCORES), None))
    assert head == [
        "attribute", "n", "LPIPS (down)", "SSIM (up)", "mask IoU (up)", "CLIP (up)", "latency s",
    ]  # fmt: skip
    expected = ["0.0400 ± 0.0100", "0.9600 ± 0.0100", "0.8600 ± 0.0100", "26.00 ± 1.00"]
    assert hair == ["hair", "3", *expected, "2.000"]


def test_missing_values_are_empty_cells():
    _, hair = cells(editing_table(edited(n=1, ssim=0.5), None))
    assert hair == ["hair", "1", "", "0.5000", "", "", "1.000"]


def test_published_row_stands_under_ours_as_printed(run, published):
    rows = cells(editing_report(run(), published).split("\n\n")[0])
    assert rows[2] == [
        "published", "100", "0.0279 ± 0.0060", "0.9655 ± 0.0161", "0.8520 ± 0.1453", "24.53 ± 2.53", "",
    ]  # fmt: skip


def test_columns_are_aligned_in_a_terminal():
    lines = editing_table(edited(**SCORES), None).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert all(line.startswith("| ") and line.endswith(" |") for line in lines)
    assert lines[1].startswith("| :-")
    assert lines[1].endswith("-: |")


def test_report_says_what_was_measured(run, published):
    report = editing_report(run(), published)
    assert "editor recolor, parser fastscnn_lite, protocol thesis" in report
    assert "another measurement" not in report


def test_report_warns_where_the_published_row_is_another_measurement(run, published):
    report = editing_report(run(identity={"config": {"protocol": "strict"}}), published)
    assert "protocol thesis; ours is protocol strict, another measurement" in report


def test_without_published_numbers_there_is_only_ours(run, tmp_path):
    report = editing_report(run(), tmp_path / "nowhere")
    assert len(cells(report.split("\n\n")[0])) == 2


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"not_comparable": ["lpips: weights random are not public"]}, "not comparable: lpips: weights random"),
        ({"empty_columns": {"lpips": "no weights found"}}, "column lpips is empty: no weights found"),
        ({"status": "incomplete", "n_failed": 2}, "status incomplete: 2 samples failed; repeat the command"),
        (
            {"status": "incomplete", "n_failed": 2, "first_failure": "hair/7: OSError: no"},
            "2 samples failed (first hair/7: OSError: no); repeat the command",
        ),
        ({"editor_notes": {"hair": {"kept the photo": 3}}}, "hair: kept the photo (3 edits)"),
        ({"data": {"skipped": {"a": "broken", "b": "broken"}}}, "2 samples were left out"),
    ],
)
def test_report_says_what_a_reader_must_know(run, tmp_path, facts, said):
    assert said in editing_report(run(**facts), tmp_path)


def test_report_counts_empty_regions(run, tmp_path):
    folder = run(edited(status="empty_region", **SCORES))
    assert "empty regions: hair 3" in editing_report(folder, tmp_path)


def parsed():
    confusion = np.array([[6, 2, 0], [1, 7, 0], [0, 0, 0]])
    return class_scores(confusion, ("background", "skin", "hat"), np.array([2, 1, 0]))


def test_parsing_table_is_in_per_cent_with_empty_cells_for_absent_classes(tmp_path):
    write_csv(parsed(), tmp_path / "s.csv")
    rows = cells(parsing_table(pd.read_csv(tmp_path / "s.csv")))
    assert rows[0] == ["class", "IoU %", "F1 %", "precision %", "recall %", "images"]
    assert rows[1] == ["background", "66.67", "80.00", "85.71", "75.00", "2"]
    assert rows[2] == ["skin", "70.00", "82.35", "77.78", "87.50", "1"]
    assert rows[3] == ["hat", "", "", "", "", "0"]
    assert rows[4] == ["**miou**", "68.33", "", "", "", ""]
    assert rows[5] == ["**miou_no_background**", "70.00", "", "", "", ""]
    assert rows[6] == ["**mean_f1_no_background**", "", "82.35", "", "", ""]
    assert rows[7] == ["**pixel_accuracy**", "", "81.25", "81.25", "81.25", ""]
    assert rows[8] == ["**mean_accuracy**", "", "", "", "81.25", ""]


def test_parsing_table_shows_boundaries_and_intervals_where_the_record_has_them():
    table = parsed().assign(boundary_f1=[0.5, np.nan] + [np.nan] * 7, iou_low=np.nan, iou_high=np.nan, loss=np.nan)
    table.loc[0, ["iou_low", "iou_high"]] = 0.4, 0.8
    table.loc[len(table)] = {"class": "loss", "loss": 1.25}
    rows = cells(parsing_table(table))
    assert rows[0][5:] == ["boundary F1 %", "IoU 95 %", "images"]
    assert rows[1][5:] == ["50.00", "40.00..80.00", "2"]
    assert rows[2][5:] == ["", "", "1"]
    assert "loss" not in {row[0] for row in rows}


def test_parsing_report_says_what_the_scores_depend_on(run):
    table = parsed().assign(loss=np.nan)
    table.loc[len(table)] = {"class": "loss", "loss": 1.25}
    config = {"config": {"protocol": "segface"}}
    report = parsing_report(run(table, n=3, metrics=identities(seed=7, n=3, loss="cross-entropy"), identity=config))
    assert "loss 1.2500: cross-entropy" in report
    assert "1000 resamples of 3 photos, seed 7" in report
    assert "matched within 0.75 % of the map's diagonal" in report
    assert "protocol segface: photo and labels at the parser's input size" in report


def test_parsing_report_names_parser_and_counts(run):
    report = parsing_report(run(parsed(), n=2))
    assert "parser fastscnn_lite, n = 2 of 3" in report


def test_training_report_says_where_the_checkpoint_is(run):
    folder = run(parsed())
    assert training_report(folder).endswith(f"best checkpoint: {folder}/checkpoints/best")


@pytest.mark.parametrize("report", [parsing_report, lambda folder: editing_report(folder, folder)])
def test_a_folder_without_a_run_is_refused(tmp_path, report):
    with pytest.raises(UserError, match=r"run\.json: not a run's record"):
        report(tmp_path)


def test_report_counts_unchanged_edits_and_prompts_without_a_colour(run, tmp_path):
    effect = {"changed_pct": 0.0, "changed_pct_raw": 0.0, "toward_prompt": 0.0, "toward_prompt_raw": 0.0}
    rows = [{"attribute": "hair", "status": "unchanged", "latency_s": 1.0, "prompt": "wavy"} | SCORES | effect] * 3
    report = editing_report(run(summarise_edits(pd.DataFrame(rows), ["hair"], 3)), tmp_path)
    assert "edits that changed nothing: hair 3" in report
    assert "prompts that name no colour of CSS4 or XKCD: hair 3" in report
    assert cells(report.split("\n\n")[0])[0][:4] == ["attribute", "n", "changed", "toward prompt (up)"]

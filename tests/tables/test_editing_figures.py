"""Figures of an editing run: the record's numbers, beside the published ones."""

import numpy as np
import pandas as pd
import pytest

from semfacediff.errors import UserError
from semfacediff.tables.draw_all import draw
from semfacediff.tables.editing_figures import draw_editing_figures, score_bars
from semfacediff.tables.text import published_editing

from .conftest import edits

RUN = {"editor": {"name": "recolor"}, "identity": {"config": {"protocol": "thesis"}}}


def summary(**columns):
    return pd.DataFrame({"attribute": ["hair", "lips"]} | columns)


def bars(figure):
    return {
        c.get_label(): [p.get_height() for p in c.patches] for c in figure.axes[0].containers if hasattr(c, "patches")
    }


def test_bars_are_ours_and_the_published_ones(repository):
    table = summary(ssim_mean=[0.9, 0.8], ssim_sd=[0.01, 0.02])
    figure = score_bars(RUN, table, published_editing(repository), "ssim")
    assert bars(figure) == {"recolor, protocol thesis": [0.9, 0.8], "thesis, table 6.1": [0.9655, 0.921]}
    whiskers = [c for c in figure.axes[0].containers if not hasattr(c, "patches")]
    ends = whiskers[0].lines[2][0].get_segments()[0][:, 1]
    assert ends.tolist() == pytest.approx([0.89, 0.91])
    assert figure.axes[0].get_ylabel().startswith("SSIM, higher is better")
    assert {p.get_hatch() for c in figure.axes[0].containers if hasattr(c, "patches") for p in c.patches} == {
        None,
        "////",
    }


def test_clip_is_shown_a_hundredfold_on_both_sides(repository):
    figure = score_bars(
        RUN, summary(clip_mean=[0.25, 0.2], clip_sd=[0.01, 0.01]), published_editing(repository), "clip"
    )
    assert bars(figure)["recolor, protocol thesis"] == [25, 20]
    assert bars(figure)["thesis, table 6.1"] == pytest.approx([24.53, 22.78])


def test_what_was_not_measured_is_said(repository):
    table = summary(lpips_mean=[np.nan, np.nan], lpips_sd=[np.nan, np.nan])
    figure = score_bars(RUN, table, published_editing(repository), "lpips")
    assert list(bars(figure)) == ["thesis, table 6.1; recolor, protocol thesis: not measured"]
    assert score_bars(RUN, table, None, "lpips") is None
    assert score_bars(RUN, table, published_editing(repository), "fid") is None, "5.6 has no published numbers"


def test_every_figure_of_a_record_is_drawn(tmp_path, edited_run, repository, monkeypatch):
    monkeypatch.setattr("semfacediff.tables.editing_figures.save_figure", lambda _, file: saved.append(file.name))
    saved = []
    run = edited_run(tmp_path / "run", edits(6))
    pd.DataFrame([("hair", "skin", "nose", 5)], columns="attribute before after pixels".split()).to_csv(
        run / "leakage.csv", index=False
    )
    drawn = draw_editing_figures(run, tmp_path / "out", repository)
    assert drawn == ["lpips", "ssim", "iou", "clip", "seam", "region_coverage", "leakage"]
    assert saved == drawn[:-1]
    assert {f.name for f in (tmp_path / "out").iterdir()} == {"leakage.png", "leakage.pdf"}


def test_a_folder_without_a_record_is_refused(tmp_path):
    with pytest.raises(UserError, match="not a run's record"):
        draw(tmp_path, tmp_path / "out", tmp_path)

"""Metrics x controls: means from the records, the orders that they contradict, and what was not run."""

import numpy as np
import pytest

from semfacediff.errors import UserError
from semfacediff.tables.controls import controls_figure, controls_grid
from semfacediff.tables.definitions import definitions
from semfacediff.tables.draw_all import draw

from .conftest import ATTRIBUTES, edits

NAMES = ["ssim_raw", "psnr_outside_raw", "seam_raw"]
SHARED = {"attributes": ATTRIBUTES, "metrics": {"columns": ["ssim", "psnr", "seam"]}}


@pytest.fixture
def controls(tmp_path, edited_run):
    """``controls(kind={column: value})``: a sweep of four photos whose rows all hold these values."""

    def make(**kinds):
        for kind, values in kinds.items():
            rows = edits(4).assign(**values)
            edited_run(tmp_path / "sweep" / kind, rows, editor={"name": "control", "kind": kind}, **SHARED)
        return tmp_path / "sweep"

    return make


def scores(ssim, psnr, seam) -> dict[str, float]:
    return dict(zip(NAMES, (ssim, psnr, seam), strict=True))


def test_means_stand_in_the_order_of_the_controls_with_what_they_contradict(controls):
    sweep = controls(
        region_noise=scores(1.0, np.inf, -0.5),
        nothing=scores(1.0, np.inf, 0.0),
        jpeg_50=scores(0.8, [30.0] * 4 + [np.inf] * 3 + [40.0], -0.2),
    )
    grid = controls_grid(sweep, NAMES, "the command")
    assert [row.labels for row in grid.rows] == [("nothing",), ("jpeg_50",), ("region_noise",)]
    assert [[cell.mean for cell in row.cells] for row in grid.rows] == [
        [1.0, np.inf, 0.0],
        [pytest.approx(0.8), 32.0, pytest.approx(-0.2)],
        [1.0, np.inf, -0.5],
    ]
    assert "means over 8 edits of hair, lips, protocol strict, parser fastscnn_lite" in grid.notes[0]
    # ssim and psnr: jpeg_50 < nothing; seam: nothing < region_noise; of the chain of equals no two neighbours were run
    assert grid.notes[1] == "orders that the metrics declare: 2 of 3 hold; seam: nothing < region_noise (0 and -0.5)"
    assert grid.notes[2].startswith("not run: shift_1px, shift_3px, ")
    assert grid.notes[2].endswith("half_outside, vae_round_trip, empty_prompt, other_prompt, true_mask")


def test_what_is_no_sweep_of_controls_is_refused(controls, edited_run, tmp_path):
    sweep = controls(nothing=scores(1.0, 50.0, 0.0), jpeg_50=scores(0.8, 30.0, 0.1))
    with pytest.raises(UserError, match=r"unknown metric beauty; the known ones are"):
        controls_grid(sweep, ["beauty"], "")
    more = {**SHARED, "composite": "off"}
    edited_run(sweep / "more", edits(4), editor={"name": "control", "kind": "resampled"}, **more)
    with pytest.raises(UserError, match=r"expected runs of editor=control that differ in editor.kind, .* composite$"):
        controls_grid(sweep, NAMES, "")
    edited_run(tmp_path / "others" / "a", edits(4), **SHARED)
    with pytest.raises(UserError, match=r"expected runs of editor=control .*, got runs of another editor$"):
        controls_grid(tmp_path / "others", NAMES, "")
    with pytest.raises(UserError, match=r"no finished run; make the sweep with: the command$"):
        controls_grid(tmp_path / "nowhere", NAMES, "the command")


def test_the_figure_shades_by_the_distance_from_nothing(controls, tmp_path):
    sweep = controls(
        nothing=scores(1.0, np.inf, 0.0), jpeg_50=scores(0.9, 40.0, 0.2), photo_noise=scores(0.5, 20.0, -0.4)
    )
    draw(sweep, tmp_path / "out", tmp_path)
    assert sorted(f.name for f in (tmp_path / "out").iterdir()) == ["controls.pdf", "controls.png"]
    grid = controls_grid(sweep, NAMES, "")
    means = {row.labels[0]: dict(zip(NAMES, row.cells, strict=True)) for row in grid.rows}
    ax = controls_figure(means, NAMES, {}).axes[0]
    shade = np.asarray(ax.images[0].get_array())
    assert shade == pytest.approx(np.array([[0, 0.2, 1], [0, 0, 1], [0, 0.5, 1]]))
    assert [t.get_text() for t in ax.texts] == "1.0000 0.9000 0.5000 inf 40.00 20.00 0.000 0.200 -0.400".split()
    assert [t.get_text() for t in ax.get_xticklabels()] == ["nothing", "jpeg 50", "photo noise"]


def test_a_figure_needs_the_control_that_does_nothing(controls, tmp_path):
    with pytest.raises(UserError, match=r"expected a finished run of editor.kind=nothing and a measured score"):
        draw(controls(jpeg_50=scores(0.9, 40.0, 0.2)), tmp_path / "out", tmp_path)


def test_the_definition_and_the_preset_name_the_same_sweep(repository):
    definition = definitions(repository)["controls"]
    assert definition.kind == "controls"
    assert definition.command == "python evaluate.py -m experiment=controls hydra.sweep.dir=results/runs/controls"
    opening = (repository / "experiments/experiment/controls.yaml").read_text().split("defaults:")[0]
    assert "table controls (add hydra.sweep.dir=results/runs/controls)" in opening


def test_controls_of_a_system_stand_behind_those_of_pixels(controls, edited_run, tmp_path):
    sweep = controls(nothing=scores(1.0, 50.0, 0.0))
    rows = edits(4).assign(**scores(0.7, 20.0, 0.3))
    of = {"name": "sdxl_inpaint", "steps": 50}
    edited_run(sweep / "vae", rows, editor={"name": "control", "kind": "vae_round_trip", "of": of}, **SHARED)
    grid = controls_grid(sweep, NAMES, "")
    assert [row.labels[0] for row in grid.rows] == ["nothing", "vae_round_trip"]
    assert grid.notes[-1].endswith("half_outside, empty_prompt, other_prompt, true_mask")

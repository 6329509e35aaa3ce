"""The table and the curves of a sweep: who is in it, what it is called, and what may be bold."""

import json
import shutil
import warnings

import numpy as np
import pandas as pd
import pytest

from semfacediff.errors import UserError
from semfacediff.metrics.photo_counts import sparse
from semfacediff.metrics.segmentation import class_scores
from semfacediff.records.samples import write_csv, write_parquet
from semfacediff.records.statistics import blocks_of, bootstrap_intervals
from semfacediff.tables.ablation import ablation_grid, read_sweep
from semfacediff.tables.ablation_figures import ablation_figure, curves, draw_sweep
from semfacediff.tables.formats import as_csv, as_latex, as_markdown

from .conftest import edits


@pytest.fixture(scope="module")
def grid(sweep):
    return ablation_grid(sweep, ["ssim", "seam", "lpips"], "make it")


def values(grid, column):
    place = [c.name for c in grid.columns].index(column)
    return {row.labels: row.cells[place] for row in grid.rows}


def test_rows_are_named_by_what_differs_and_sorted_by_size(grid):
    assert grid.labels == ("attribute", "feather sigma (px)")
    groups = ("all", "hair", "lips")
    assert [row.labels for row in grid.rows] == [(g, s) for g in groups for s in ("3.0", "7.0", "15.0")]
    assert set(values(grid, "n").values()) == {values(grid, "n")["all", "3.0"]}
    assert values(grid, "n")["all", "3.0"].mean == 30


def test_means_and_intervals_are_those_of_the_rows(grid):
    rows = edits(30, 0.2, seed=0)
    cell = values(grid, "ssim")["hair", "15.0"]
    hair = rows[rows["attribute"] == "hair"]
    assert cell.mean == pytest.approx(hair["ssim"].mean())
    assert values(grid, "ssim")["all", "15.0"].mean == pytest.approx(rows["ssim"].mean())
    low, high = bootstrap_intervals(blocks_of(hair, ["ssim"]))
    assert (cell.low, cell.high) == pytest.approx((low[0], high[0]), abs=1e-3)  # of the same draws of other cells


@pytest.fixture
def composites(tmp_path, edited_run):
    """Two composites: the second has the better SSIM outside, seams are noise."""
    for k, (value, better) in enumerate((("off", 0.0), ("exact", 0.2))):
        edited_run(tmp_path / str(k), edits(30, better, seed=k), composite=value)
    return ablation_grid(tmp_path, ["ssim", "seam"], "make it")


def test_only_the_significantly_best_is_bold(composites):
    best = {labels for labels, v in values(composites, "ssim").items() if v.best}
    assert best == {(g, "exact") for g in ("all", "hair", "lips")}
    assert not any(v.best for v in values(composites, "seam").values()), "noise is not better than noise"


@pytest.mark.parametrize("score", ["seam", "ssim"])
@pytest.mark.parametrize(
    ("key", "settings", "bold"),
    [("region", [{"feather_sigma_px": s} for s in (0.0, 7.0)], False), ("composite", ["off", "exact"], True)],
)
def test_scores_of_other_masks_are_not_ranked(tmp_path, edited_run, key, settings, bold, score):
    for k, value in enumerate(settings):
        rows = edits(30, seed=k)
        edited_run(tmp_path / str(k), rows.assign(**{score: rows[score] - k}), **{key: value})
    assert any(v.best for v in values(ablation_grid(tmp_path, [score], "x"), score).values()) == bold


def test_a_score_that_nobody_measured_is_an_empty_column(grid):
    assert all(v is None or v.missing for v in values(grid, "lpips").values())


def test_directions_come_from_the_records(grid):
    assert [(c.name, c.up) for c in grid.columns] == [("n", None), ("ssim", True), ("seam", False), ("lpips", False)]


def test_order_of_cells_and_rows_changes_nothing(sweep, grid, tmp_path):
    for k, cell in enumerate(sorted(sweep.iterdir(), reverse=True)):
        shutil.copytree(cell, tmp_path / f"other-{k}")
        facts = json.loads((cell / "run.json").read_text())
        facts.pop("files")  # its rows are written in another order
        (tmp_path / f"other-{k}" / "run.json").write_text(json.dumps(facts))
        rows = pd.read_parquet(cell / "samples.parquet").sample(frac=1, random_state=k)
        rows.to_parquet(tmp_path / f"other-{k}" / "samples.parquet", index=False)
    again = ablation_grid(tmp_path, ["ssim", "seam", "lpips"], "make it")
    assert as_markdown(again) == as_markdown(grid)
    assert as_csv(again) == as_csv(grid)


def test_prompts_are_rows_too(tmp_path, edited_run):
    nasty = r"$5 & <b>100 %</b> | _x_ {y}"
    for k, prompt in enumerate([nasty, "plain"]):
        edited_run(tmp_path / str(k), edits(8, seed=k), prompts={"hair": prompt})
    grid = ablation_grid(tmp_path, ["ssim"], "x")
    assert ("all", nasty) in {row.labels for row in grid.rows}
    assert r"\$5 \& \textless{}b\textgreater{}100 \%" in as_latex(grid)
    assert r"$5 &amp; &lt;b&gt;100 %&lt;/b&gt; \| \_x\_ {y}" in as_markdown(grid)
    assert nasty in as_csv(grid)


def test_several_keys_and_words(tmp_path, edited_run):
    for k, (composite, strength) in enumerate([("off", 0.9), ("exact", None), ("exact", 0.5)]):
        edited_run(tmp_path / str(k), edits(6, seed=k), composite=composite, editor={"name": "recolor", "s": strength})
    labels = [row.labels for row in ablation_grid(tmp_path, ["ssim"], "x").rows]
    assert labels[:3] == [("all", "exact", "null"), ("all", "exact", "0.5"), ("all", "off", "0.9")]


def staged_edits(order, seed):
    rows = edits(8, seed=seed)
    return rows.assign(stage=rows["attribute"].map(order.index) + 1, iou_total=np.linspace(0.5, 0.9, len(rows)))


def cascade_of(applied, given=("hair", "lips"), **settings):
    """What the record of a cascade says of it: (facts, configuration)."""
    stages = [{"attribute": a, "prompt": f"red {a}"} for a in given]
    facts = {"prompts": [{"attribute": a, "prompt_source": "user"} for a in applied]}
    return facts, {"cascade": {"stages": stages, "reparse": True, "order": "given", **settings}}


def test_cascades_are_named_by_the_order_of_their_edits(tmp_path, edited_run):
    cells = [
        cascade_of(["hair", "lips"]),
        cascade_of(["lips", "hair"], order="anatomical", reparse=False),
        cascade_of(["lips", "hair"], given=("lips", "hair")),
    ]
    for k, (facts, config) in enumerate(cells):
        rows = staged_edits([p["attribute"] for p in facts["prompts"]], seed=k)
        edited_run(tmp_path / str(k), rows, facts, **config)
    grid = ablation_grid(tmp_path, ["ssim", "iou_total"], "x")
    assert grid.labels == ("attribute", "order of edits", "re-parse")
    settings = [("hair, lips", "on"), ("lips, hair", "off"), ("lips, hair", "on")]
    assert [row.labels for row in grid.rows] == [(g, *s) for g in ("all", "hair", "lips") for s in settings]
    assert all(v.mean == 8 for v in values(grid, "n").values()), "edits of one attribute stand together"
    assert all(v.mean > 0.5 for v in values(grid, "iou_total").values())
    assert grid.columns[2].heading == "mask IoU total"


def test_an_attribute_that_a_cascade_edits_twice_keeps_its_stages(tmp_path, edited_run):
    for k, reparse in enumerate((True, False)):
        facts, config = cascade_of(["hair", "lips", "hair"], given=("hair", "lips", "hair"), reparse=reparse)
        first = staged_edits(["hair", "lips"], seed=k)
        again = first[first["attribute"] == "hair"].assign(stage=3)
        edited_run(tmp_path / str(k), pd.concat([first, again], ignore_index=True), facts, **config)
    grid = ablation_grid(tmp_path, ["ssim"], "x")
    assert grid.labels == ("attribute", "re-parse")
    assert [row.labels[0] for row in grid.rows[::2]] == ["all", "1_hair", "2_lips", "3_hair"]


def test_unfinished_cells_are_left_out_and_named(tmp_path, sweep, edited_run):
    shutil.copytree(sweep, tmp_path / "s")
    edited_run(tmp_path / "s" / "late", edits(4), status="incomplete", region={"feather_sigma_px": 99.0})
    grid = ablation_grid(tmp_path / "s", ["ssim"], "make it")
    assert "99.0" not in {row.labels[1] for row in grid.rows}
    assert "unfinished and left out: late; the command continues them" in grid.notes


@pytest.mark.parametrize(
    ("facts", "config", "said"),
    [
        ({"not_comparable": ["limit: only part of the data was used"]}, {}, r"not comparable \(limit: only part"),
        ({}, {"protocol": "thesis"}, "protocol is 'strict' and 'thesis'"),
        ({"task": "parsing"}, {}, "task=parsing, .* is of task=editing"),
    ],
)
def test_what_may_not_stand_in_one_table_is_refused(tmp_path, sweep, edited_run, facts, config, said):
    shutil.copytree(sweep, tmp_path / "s")
    edited_run(tmp_path / "s" / "odd", edits(4), facts, **config)
    with pytest.raises(UserError, match=said):
        ablation_grid(tmp_path / "s", ["ssim"], "x")


def test_a_cell_that_was_changed_by_hand_is_refused(tmp_path, sweep):
    shutil.copytree(sweep, tmp_path / "s")
    rows = pd.read_parquet(tmp_path / "s" / "cell-0" / "samples.parquet")
    rows.assign(ssim=0.99).to_parquet(tmp_path / "s" / "cell-0" / "samples.parquet")
    with pytest.raises(
        UserError, match=r"cell-0: changed after the run ended \(samples\.parquet has digest \w{16}, the run"
    ):
        ablation_grid(tmp_path / "s", ["ssim"], "x")


def test_an_empty_sweep_says_what_makes_it(tmp_path):
    with pytest.raises(UserError, match="no finished run; make the sweep with: python it"):
        ablation_grid(tmp_path, ["ssim"], "python it")


def trainings(folder):
    for k, name in enumerate(["dice", "focal"]):
        (folder / name).mkdir()
        config = {"task": "train_parser", "loss": {"name": name}}
        run = {"schema_version": 1, "run_id": name, "status": "done", "task": "train_parser", "not_comparable": []}
        run |= {"identity": {"config": config, "inputs": {"val": "v"}}}
        (folder / name / "run.json").write_text(json.dumps(run))
        table = pd.DataFrame({"class": ["skin", "miou", "mean_f1_no_background"], "iou": [0.9, 0.7 + k / 10, np.nan]})
        table = table.assign(f1=[0.95, np.nan, 0.8], iou_low=[0.8, 0.6, np.nan], iou_high=[0.95, 0.9, np.nan])
        write_csv(table, folder / name / "summary.csv")


def test_trainings_have_scores_and_nothing_bold(tmp_path):
    trainings(tmp_path)
    grid = ablation_grid(tmp_path, ["miou", "mean_f1_no_background"], "x")
    assert [row.labels for row in grid.rows] == [("dice",), ("focal",)]
    assert [row.cells[0].mean for row in grid.rows] == pytest.approx([0.7, 0.8])
    assert grid.rows[0].cells[0].low == 0.6
    assert grid.rows[0].cells[1].mean == 0.8
    assert "nothing is bold" in " ".join(grid.notes)
    with pytest.raises(UserError, match="unknown metric ssim; the known ones are miou,"):
        ablation_grid(tmp_path, ["ssim"], "x")


def seeds(folder, settings, photos=30, **changed):
    """Trainings of three classes, three seeds each: setting -> share of the pixels of class 1 that it finds."""
    random = np.random.default_rng(0)
    for name, share in settings.items():
        for seed in range(3):
            run_id = f"{name}-{seed}"
            (folder / run_id).mkdir(parents=True)
            config = {"task": "train_parser", "loss": {"name": name}, "seed": seed}
            run = {"schema_version": 1, "run_id": run_id, "status": "done", "task": "train_parser"}
            run |= {"not_comparable": [], "identity": {"config": config, "inputs": {"val": "v"}}}
            (folder / run_id / "run.json").write_text(json.dumps(run))
            rows, pooled = [], np.zeros((3, 3), np.int64)
            for i in range(changed.get(run_id, photos)):
                found = int(random.binomial(100, share))
                counts = np.array([[500, 0, 0], [100 - found, found, 0], [0, 0, 50]])
                rows.append({"sample_id": f"{i:05d}", "miou": 0.5, "confusion": sparse(counts)})
                pooled += counts
            write_csv(
                class_scores(pooled, ("background", "skin", "hat"), np.full(3, photos)), folder / run_id / "summary.csv"
            )
            write_parquet(pd.DataFrame(rows), folder / run_id / "validation.parquet")


def test_seeds_of_a_setting_stand_in_one_row_and_photos_are_compared(tmp_path):
    seeds(tmp_path, {"dice": 0.8, "focal": 0.5, "lovasz": 0.795})
    grid = ablation_grid(tmp_path, ["miou", "pixel_accuracy"], "x")
    assert [row.labels for row in grid.rows] == [("dice",), ("focal",), ("lovasz",)]
    assert [c.name for c in grid.columns] == ["seeds", "miou", "pixel_accuracy", "p_miou"]
    dice, focal, lovasz = (row.cells for row in grid.rows)
    own = [pd.read_csv(tmp_path / f"dice-{s}" / "summary.csv").set_index("class").at["miou", "iou"] for s in range(3)]
    assert (dice[0].mean, dice[1].mean) == (3, pytest.approx(np.mean(own)))
    assert dice[1].sd == pytest.approx(np.std(own, ddof=1))
    assert dice[3].missing
    assert focal[3].mean == pytest.approx(4 / 10_000), "two scores of two settings, corrected by Holm"
    assert lovasz[3].mean > 0.05
    assert not dice[1].best, "it is not significantly better than every other one"
    assert "mean ± sd over the seeds" in " ".join(grid.notes)


def test_the_best_setting_is_bold_where_every_other_one_is_worse(tmp_path):
    seeds(tmp_path, {"dice": 0.8, "focal": 0.5})
    grid = ablation_grid(tmp_path, ["miou"], "x")
    assert [row.cells[1].best for row in grid.rows] == [True, False]


def test_trainings_without_the_counts_of_photos_are_not_tested(tmp_path):
    seeds(tmp_path, {"dice": 0.8, "focal": 0.5})
    (tmp_path / "focal-1" / "validation.parquet").unlink()
    grid = ablation_grid(tmp_path, ["miou"], "x")
    assert [c.name for c in grid.columns] == ["seeds", "miou"]
    assert not any(row.cells[1].best for row in grid.rows)
    assert "nothing is tested and nothing is bold" in " ".join(grid.notes)


def test_trainings_validated_on_other_photos_are_refused(tmp_path):
    seeds(tmp_path, {"dice": 0.8, "focal": 0.5}, **{"dice-1": 29})
    with pytest.raises(UserError, match=r"dice-1 was validated on other photos than .*dice-0; validate all"):
        ablation_grid(tmp_path, ["miou"], "x")


# --- curves ----------------------------------------------------------------------------------------------------------


def test_curves_show_every_setting_to_scale(sweep):
    settings = read_sweep(sweep)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = ablation_figure(settings, curves(settings, ["ssim", "seam", "lpips"]))
    panels = [ax for ax in figure.axes if ax.get_ylabel()]
    assert [ax.get_ylabel() for ax in panels] == ["SSIM (up)", "seam (down)"], "no panel of what nobody measured"
    lines = {c.get_label(): c.lines[0] for c in panels[0].containers}
    assert list(lines) == ["all", "hair", "lips"]
    assert lines["hair"].get_xdata().tolist() == [3, 7, 15]
    rows = edits(30, 0.2, seed=0)
    assert lines["hair"].get_ydata()[2] == pytest.approx(rows[rows["attribute"] == "hair"]["ssim"].mean())
    assert len({(line.get_marker(), line.get_linestyle()) for line in lines.values()}) == 3, "told apart without colour"


def test_words_stand_on_the_axis_in_order(tmp_path, edited_run):
    for k, composite in enumerate(["off", "exact"]):
        edited_run(tmp_path / str(k), edits(6, seed=k), composite=composite)
    settings = read_sweep(tmp_path)
    ax = ablation_figure(settings, curves(settings, ["ssim"])).axes[0]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["exact", "off"]
    assert ax.get_xlabel() == "composite"


def test_a_sweep_is_drawn_as_png_and_pdf(sweep, tmp_path):
    draw_sweep(sweep, tmp_path, ["ssim"])
    assert (tmp_path / "curves.pdf").read_bytes().startswith(b"%PDF")
    assert (tmp_path / "curves.png").stat().st_size > 5_000
    with pytest.raises(UserError, match=r"unknown metric beauty; the known ones are change_de, .* lpips"):
        draw_sweep(sweep, tmp_path, ["beauty"])
    with pytest.raises(UserError, match="none of its runs has a value of clip"):
        draw_sweep(sweep, tmp_path, ["clip"])

"""Tables by name: made from records alone, refused where the records do not allow it, stale when they changed."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from semfacediff import cli
from semfacediff.errors import UserError
from semfacediff.records.standing import SHIPPED
from semfacediff.tables.committed import stale_tables, tables_to_renew, write_tables
from semfacediff.tables.definitions import definitions, table
from semfacediff.tasks.strata_report import strata as strata_report_of

from .conftest import edits


@pytest.fixture
def checkout(tmp_path, repository, edited_run):
    """A repository with one editing run and its definition; results/published as committed."""
    (tmp_path / "experiments" / "tables").mkdir(parents=True)
    shutil.copytree(repository / "results" / "published", tmp_path / "results" / "published")
    edited_run(tmp_path / "results" / "runs" / "strict", edits(5))
    return tmp_path


def define(checkout, name="mine", **keys):
    plain = {"title": "A title", "kind": "editing", "run": "strict", "command": "python evaluate.py it"} | keys
    text = "\n".join(f"{k}: {json.dumps(v)}" for k, v in plain.items() if v is not None)
    (checkout / "experiments" / "tables" / f"{name}.yaml").write_text(text)
    return name


def made(checkout, name="mine"):
    return table(definitions(checkout)[name], checkout)


def test_committed_tables_are_what_the_committed_records_give(repository):
    """`semfacediff tables --check`."""
    assert stale_tables([], repository) == []


def test_every_committed_definition_is_one_and_says_its_command(repository):
    found = definitions(repository)
    assert {"thesis_6_1", "parser_per_class", "ce7454_table_1", "segface_celebamask_hq", "sca_dm_table_1"} <= set(found)
    assert all(d.command for d in found.values() if d.run or d.runs or d.sweep)


def test_published_files_are_the_repositorys_own(repository):
    listed = (repository / "results" / "published" / "README.md").read_text()
    assert all(f.name in listed for f in (repository / "results" / "published").glob("*.csv"))


@pytest.mark.parametrize("form", ["md", "tex", "csv"])
def test_written_tables_are_fresh_until_their_record_changes(checkout, capsys, form):
    define(checkout)
    assert write_tables(["mine"], checkout, form) == {}
    file = checkout / "results" / "tables" / f"mine.{form}"
    assert file.read_text() + "\n" == capsys.readouterr().out
    assert stale_tables([], checkout) == []
    shutil.rmtree(checkout / "results" / "runs" / "strict")
    with pytest.raises(UserError, match=r"needs the run strict; make it with: python evaluate\.py it"):
        stale_tables([], checkout)
    define(checkout, kind="class_f1", run=None, command=None, published="sca_dm_table_1.csv", labels=["method"])
    assert stale_tables([], checkout) == [f"results/tables/mine.{form}"]


def test_a_table_without_a_definition_is_stale(checkout):
    (checkout / "results" / "tables").mkdir()
    (checkout / "results" / "tables" / "gone.md").write_text("# old")
    assert stale_tables([], checkout) == ["results/tables/gone.md"]


def test_a_table_that_was_never_written_is_stale_if_named(checkout):
    define(checkout)
    assert stale_tables(["mine"], checkout) == ["results/tables/mine.md"]
    assert stale_tables([], checkout) == []


def test_tables_that_want_runs_are_listed_and_the_others_made(checkout, monkeypatch, capsys):
    define(checkout)
    define(checkout, "later", run="absent")
    define(checkout, "swept", kind="ablation", run=None, sweep="nothing", columns=["ssim"])
    monkeypatch.setattr("semfacediff.config.repository", lambda: checkout)
    assert cli.main(["tables"]) == 0
    said = capsys.readouterr()
    assert "# A title" in said.out
    assert "not made: later needs absent; make with: python evaluate.py it" in said.err
    assert "not made: swept needs nothing; make with: python evaluate.py it" in said.err
    assert cli.main(["tables", "later"]) == 2
    assert "error: table 'later' needs the run absent; make it with" in capsys.readouterr().err
    assert cli.main(["tables", "--check"]) == 0
    (checkout / "results" / "tables" / "mine.md").write_text("edited")
    assert cli.main(["tables", "--check"]) == 1
    assert "results/tables/mine.md is stale; run: semfacediff tables mine" in capsys.readouterr().err
    assert cli.main(["tables", "nosuch"]) == 2


def test_the_first_words_of_several_tables_name_them_all(checkout, monkeypatch, capsys):
    for name, run in (("mine_a", "strict"), ("mine_b", "strict"), ("mine_c", "absent"), ("mines", "strict")):
        define(checkout, name, run=run)
    monkeypatch.setattr("semfacediff.config.repository", lambda: checkout)
    assert cli.main(["tables", "mine"]) == 0
    said = capsys.readouterr()
    assert sorted(f.stem for f in (checkout / "results" / "tables").iterdir()) == ["mine_a", "mine_b"]
    assert "not made: mine_c needs absent; make with: python evaluate.py it" in said.err
    assert stale_tables(["mine"], checkout) == []
    assert cli.main(["tables", "min"]) == 2
    assert "unknown table min; did you mean mines? expected the folder of a run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (
            {"kind": "ablation", "run": None, "sweep": "s", "columns": ["beauty"]},
            "unknown metric beauty; the known ones are change_de, changed_pct,",
        ),
        ({"kind": "pie"}, "kind 'pie' is not one of editing, parsing,"),
        ({"run": None}, "a table of kind 'editing' needs run"),
        ({"sweep": "s"}, "a table of kind 'editing' has no sweep"),
        ({"rum": "s"}, "not a table's definition .*rum"),
    ],
)
def test_a_wrong_definition_is_one_sentence(checkout, keys, said):
    define(checkout, **keys)
    with pytest.raises(UserError, match=said) as e:
        definitions(checkout)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    ("facts", "config", "keys", "said"),
    [
        (
            {"not_comparable": ["limit: only part of the data was used"]},
            {},
            {},
            "cannot enter a table: limit: only part",
        ),
        (
            {},
            {"protocol": "strict"},
            {"protocol": "thesis"},
            "follows protocol strict, the table is of protocol thesis",
        ),
        ({"task": "parsing"}, {}, {}, "is of task=parsing, expected task=editing"),
    ],
)
def test_records_that_do_not_belong_are_refused(checkout, edited_run, facts, config, keys, said):
    shutil.rmtree(checkout / "results" / "runs" / "strict")
    edited_run(checkout / "results" / "runs" / "strict", edits(4), facts, **config)
    define(checkout, **keys)
    with pytest.raises(UserError, match=said):
        made(checkout)


@pytest.mark.parametrize("file", ["summary.csv", "samples.parquet"])
def test_a_record_that_was_edited_by_hand_is_refused(checkout, file):
    path = checkout / "results" / "runs" / "strict" / file
    path.write_bytes(path.read_bytes() + b"\n")
    define(checkout)
    with pytest.raises(
        UserError, match=rf"strict: changed after the run ended \({file} has digest \w+, the run recorded \w+"
    ):
        made(checkout)


def test_an_edited_configuration_is_refused(checkout):
    path = checkout / "results" / "runs" / "strict" / "run.json"
    run = json.loads(path.read_text())
    run["config_digest"] = "0" * 64
    path.write_text(json.dumps(run))
    define(checkout)
    with pytest.raises(UserError, match=r"identity\.config has digest"):
        made(checkout)


def test_an_unfinished_record_is_refused(checkout, edited_run):
    edited_run(checkout / "results" / "runs" / "half", edits(4), status="incomplete")
    define(checkout, run="half")
    with pytest.raises(UserError, match="its status is incomplete"):
        made(checkout)


def test_empty_columns_say_how_they_are_filled(checkout, edited_run):
    edited_run(checkout / "results" / "runs" / "bare", edits(4), {"empty_columns": {"lpips": "no weights"}})
    define(checkout, run="bare")
    notes = made(checkout).notes
    assert "column lpips is empty: no weights" in notes
    assert any(n.startswith("to fill lpips: place those weights") for n in notes)


def test_scores_by_group_of_faces_are_a_table_with_its_gaps(checkout, edited_run):
    rows = edits(50)
    light = rows["sample_id"] < "025"
    rows["ita_deg"] = np.where(light, 60.0, np.where(rows["sample_id"] < "045", 20.0, -40.0))
    rows.loc[light, "ssim"] += 0.2
    folder = edited_run(checkout / "results" / "runs" / "faces", rows)
    define(checkout, kind="strata", run="faces", by="skin_tone", columns=["ssim", "seam"])
    grid = made(checkout)
    assert grid.labels == ("attribute", "skin_tone")
    found = {row.labels: row.cells for row in grid.rows}
    assert [found["hair", tone][0].mean for tone in ("very light", "tan", "dark (few)")] == [25, 20, 5]
    hair = rows[(rows["attribute"] == "hair") & light]
    assert found["hair", "very light"][1].mean == pytest.approx(hair["ssim"].mean())
    assert any(note.startswith("gap: hair, SSIM: tan is worse than very light by 0.2") for note in grid.notes)
    assert not any("dark" in note for note in grid.notes if note.startswith("gap"))
    said = strata_report_of(folder, "skin_tone", ["ssim"])
    assert f"{found['hair', 'tan'][1].mean:.4f}" in said, "as semfacediff strata prints it"
    define(checkout, kind="strata", run="faces", by="skin_tone", columns=["clip"])
    with pytest.raises(UserError, match="unknown metric clip; the known ones are"):
        made(checkout)


def test_an_ablation_says_what_it_deviates_in_and_how_its_columns_are_filled(checkout, edited_run):
    runs = checkout / "results" / "runs" / "s"
    facts = {"empty_columns": {"lpips": "no weights"}}
    facts["protocol_deviations"] = ["working_size = 64 instead of None", "composite = off instead of exact"]
    for k, form in enumerate(("off", "blend")):
        edited_run(runs / str(k), edits(5, seed=k), facts, composite=form)
    define(checkout, kind="ablation", run=None, sweep="s", columns=["ssim", "lpips", "psnr_outside"])
    notes = made(checkout).notes
    assert "deviates from protocol strict: working_size = 64 instead of None" in notes, "without what is varied"
    assert any(
        n.startswith("to fill lpips: place those weights") and "rescore results/runs/s --add lpips, or" in n
        for n in notes
    )


def test_seam_stands_in_the_table_where_the_record_has_it(checkout):
    define(checkout)
    grid = made(checkout)
    assert [c.name for c in grid.columns] == ["n", "lpips", "ssim", "iou", "clip", "seam", "latency_s_median"]
    assert grid.rows[0].labels == ("hair",)


def test_published_rows_stand_below_ours_as_printed(checkout):
    define(checkout)
    rows = {row.labels[0]: row.cells for row in made(checkout).rows[2:]}
    assert rows["  published"][4].mean == pytest.approx(0.2278)  # of lips; the table multiplies by 100


# --- papers ----------------------------------------------------------------------------------------------------------


def parsed(checkout, name, protocol="strict", task="parsing", **facts):
    """A parser's record: IoU 0.5 for skin, mean 0.6."""
    folder = checkout / "results" / "runs" / name
    folder.mkdir(parents=True)
    config = {"task": task, "protocol": protocol, "train": {"epochs": 2, "batch_size": 8, "size": 128}, "limit": None}
    run = {"schema_version": 1, "run_id": name, "status": "done", "task": task, "not_comparable": [], "n": 9}
    run |= {"n_expected": 9, "identity": {"config": config, "inputs": {"train": "t", "val": "v"}}, "data": {}}
    (folder / "run.json").write_text(json.dumps(run | {"parser": {"name": "x"}, "wall_time_s": 60.0} | facts))
    rows = [("background", 0.9, 0.95), ("skin", 0.5, 0.75), ("miou", 0.6, None), ("mean_f1_no_background", None, 0.7)]
    pd.DataFrame(rows, columns=["class", "iou", "f1"]).to_csv(folder / "summary.csv", index=False)


def test_ours_stand_beside_the_report_class_by_class(checkout):
    parsed(checkout, "p")
    keys = {"kind": "per_class", "run": None, "runs": {"x_lite": "p"}, "published": "ce7454_per_class.csv"}
    define(checkout, **keys)
    grid = made(checkout)
    assert [c.heading for c in grid.columns] == ["x_lite, ours", "SegFormer", "U-Net", "DeepLabV3Plus", "FastSCNN"]
    rows = {row.labels[0]: row for row in grid.rows}
    assert [100 * rows["skin"].cells[0].mean, *(v.mean for v in rows["skin"].cells[1:])] == [
        50,
        91.4,
        90.55,
        89.87,
        91.15,
    ]
    assert rows["miou"].cells[0].mean == 0.6
    assert rows["hat"].cells[0].missing
    parsed(checkout, "q", "segface")
    define(checkout, **keys | {"runs": {"a": "p", "b": "q"}})
    with pytest.raises(UserError, match=r"follow several protocols \(a strict, b segface\)"):
        made(checkout)


def test_the_reports_table_has_a_row_of_ours_below_each(checkout):
    parsed(checkout, "u", task="train_parser", epochs_done=2)
    keys = {
        "kind": "course_report",
        "run": None,
        "runs": {"unet_lite": "u", "b0": "u"},
        "models": {"unet_lite": "U-Net"},
    }
    define(checkout, **keys, published="ce7454_table_1.csv")
    grid = made(checkout)
    assert [row.labels[0] for row in grid.rows] == [
        "U-Net",
        "  unet_lite",
        "DeepLabV3Plus",
        "FastSCNN",
        "SegFormer",
        "  b0",
    ]
    assert grid.rows[0].cells[0].mean == 66.68
    ours = [v.mean for v in grid.rows[1].cells]
    assert ours[:2] == pytest.approx([60, 85])  # mean F1 of the two classes
    assert ours[4] == 30
    assert "U-Net 68.51" in " ".join(grid.notes)
    assert grid.notes[0].startswith("unet_lite: from scratch, 2 epochs of 9 photos at 128 px, batches of 8; ")


def test_published_classes_are_printed_as_typed_with_ours_once_there(checkout):
    keys = {"kind": "class_f1", "run": None, "runs": {"mine": "s"}, "published": "segface_celebamask_hq.csv"}
    define(checkout, **keys, labels=["method", "venue", "resolution"], protocol="segface")
    grid = made(checkout)
    assert grid.rows[0].cells[:3] == ("96.4", "91.9", "89.5")
    assert "no record of ours yet (mine); the command makes it" in grid.notes
    parsed(checkout, "s", "segface")
    last = made(checkout).rows[-1]
    assert last.labels[0] == "mine, ours"
    assert [last.cells[0].mean, last.cells[-2].mean, last.cells[-1].mean] == pytest.approx([75, 70, 60])


BESIDE = {
    "kind": "beside",
    "run": None,
    "runs": {"224": "a", "512": "b"},
    "published": "segface_table_2b.csv",
    "labels": ["resolution"],
    "protocol": "segface",
}


class TestBeside:
    """Published models, a row each, and ours of the same weights beside them."""

    def record(self, checkout, name, size, **facts):
        hardware = {"torch_threads": 2, "accelerators": []}
        parser = {"parser": {"name": "x", "input_size": size}}
        parsed(checkout, name, "segface", hardware=hardware, **parser, **facts)

    def test_rows_without_a_record_are_empty_and_said(self, checkout):
        define(checkout, **BESIDE)
        self.record(checkout, "b", 512, photos_per_s=12.5)
        grid = made(checkout)
        assert [c.heading for c in grid.columns] == [
            *("mean F1 %, published", "mean IoU %, published", "photos/s, published"),
            *("mean F1 %, ours", "mean IoU %, ours", "photos/s, ours"),
        ]
        rows = {row.labels[0]: row.cells for row in grid.rows}
        assert rows["512"][:3] == ("88.96", "81.55", "")
        assert [v.mean for v in rows["512"][3:]] == pytest.approx([70, 60, 12.5])
        assert rows["224"][:2] == ("87.47", "79.65")
        assert rows["64"][:3] == ("", "", "")
        assert all(v.missing for name in ("64", "224") for v in rows[name][3:])
        assert "no record of ours yet (224); the command makes it" in grid.notes
        assert "ours: photos/s from photo to label map, one by one, on 2 CPU threads" in grid.notes

    def test_a_record_without_a_speed(self, checkout):
        define(checkout, **BESIDE)
        self.record(checkout, "a", 224)
        grid = made(checkout)
        row = next(row for row in grid.rows if row.labels == ("224",))
        assert row.cells[-1].missing
        assert not [note for note in grid.notes if "photos/s" in note]

    def test_a_record_of_another_input_size_is_refused(self, checkout):
        define(checkout, **BESIDE)
        self.record(checkout, "a", 512)
        with pytest.raises(UserError, match=r"a: its parser was scored at 512 px, its row is of 224"):
            made(checkout)

    def test_a_record_of_no_row_is_refused(self, checkout):
        define(checkout, **BESIDE | {"runs": {"swin": "a"}})
        self.record(checkout, "a", 512)
        with pytest.raises(UserError, match=r"runs of no published row: swin; resolution is one of the file's"):
            made(checkout)

    def test_every_released_file_has_a_row_and_a_run(self, repository):
        from semfacediff.parsing.public import PUBLIC_PARSERS

        known = definitions(repository)
        files = [p.id.rpartition("/")[2] for p in PUBLIC_PARSERS.values() if "SegFace" in p.id]
        assert known["segface_released"].runs == {file: f"segface_{file}" for file in files}
        runs = {run for name, d in known.items() if name.startswith("segface_") for run in d.runs.values()}
        assert {f"segface_{file}" for file in files} <= runs


# --- how scores are shown --------------------------------------------------------------------------------------------


def test_fallback_directions_are_the_metrics_own():
    from semfacediff.metrics.clip import CLIP
    from semfacediff.metrics.fidelity import PSNR, SSIM
    from semfacediff.metrics.geometry import GeometryShift
    from semfacediff.metrics.mask_iou import MaskIoU
    from semfacediff.metrics.perceptual import LPIPS
    from semfacediff.metrics.seam import Seam
    from semfacediff.metrics.set_scores import SetScores
    from semfacediff.tables.scores import OF_EDITS, OF_SETS

    declared = {}
    for metric in (CLIP, PSNR, SSIM, GeometryShift, MaskIoU, LPIPS, Seam, SetScores):
        declared |= metric.higher_is_better
    shown = {**OF_EDITS, **OF_SETS}
    assert {name: shown[name].up for name in declared} == declared


def test_a_table_on_a_superseded_or_dirty_run_says_so_first(checkout, edited_run, monkeypatch, capsys):
    earlier = next(iter(json.loads(SHIPPED.read_text())["earlier"]))
    facts = {"parser": {"name": "face_lite", "digest": earlier}, "code": {"dirty": True}}
    edited_run(checkout / "results" / "runs" / "old", edits(5), facts)
    define(checkout, run="old")
    monkeypatch.setattr("semfacediff.config.repository", lambda: checkout)
    write_tables(["mine"], checkout)
    lines = (checkout / "results" / "tables" / "mine.md").read_text().splitlines()
    assert lines[0] == "# Superseded: A title"
    assert "- superseded: run old used parser face_lite 289769bd" in "\n".join(lines)
    assert "- made from a tree with uncommitted changes: run old" in lines
    capsys.readouterr()
    assert cli.main(["tables", "--check"]) == 0
    assert cli.main(["tables", "--check", "--fresh"]) == 1
    assert "error: mine is not fresh: superseded run old (parser face_lite 289769bd" in capsys.readouterr().err
    file = checkout / "results" / "tables" / "mine.md"
    file.write_text(file.read_text().replace("Superseded: ", ""))
    assert cli.main(["tables", "--check"]) == 1
    assert cli.main(["tables", "--fresh"]) == 2
    assert tables_to_renew(["mine"], checkout).keys() == {"mine"}

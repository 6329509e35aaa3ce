"""Cascades: every stage edits what the one before made, is recorded, and can be interrupted."""

import functools
import json
import shutil

import cv2
import numpy as np
import pandas as pd
import pytest

from semfacediff import config, tasks
from semfacediff.editing.identity import Identity
from semfacediff.errors import UserError
from semfacediff.hydra_app import composed
from semfacediff.seeding import derive_seed
from semfacediff.tasks.editing import bench as editing_bench
from semfacediff.tasks.editing import evaluate

SMALL = (
    "data=folder editor=recolor metrics=no_weights weights.download=false strips=0 runtime.device=cpu "
    "runtime.workers=0 region.dilate_px=32 region.feather_sigma_px=32"
).split()
THREE = [
    {"attribute": "hair", "prompt": "purple hair", "strength": 0.8},
    {"attribute": "skin", "prompt": "green skin"},
    {"attribute": "hair", "prompt": "red hair", "strength": 0.6},
]
VARYING = ["latency_s", "peak_memory_mib"]


@functools.cache
def _plain(overrides):
    return config.typed(composed("evaluate", [*SMALL, *overrides], config.repository()), config.EditingEvaluation)


def settings(root, parser, stages=THREE, *overrides, **options):
    plain = _plain((f"data.root={root}", *parser, *overrides)).model_dump()
    return config.checked(config.EditingEvaluation, plain | {"cascade": {"stages": stages, **options}})


def rows(folder):
    return pd.read_parquet(folder / "samples.parquet").set_index(["sample_id", "stage"])


def lines(folder):
    return [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]


def edit(folder, cell, id_):
    return cv2.imread(str(folder / "edits" / cell / f"{id_}.png"))[..., ::-1]


def assert_same(a, b):
    assert {p.relative_to(a): p.read_bytes() for p in a.glob("edits/*/*.png")} == {
        p.relative_to(b): p.read_bytes() for p in b.glob("edits/*/*.png")
    }
    pd.testing.assert_frame_equal(*(rows(f).drop(columns=VARYING) for f in (a, b)), check_exact=True)
    pd.testing.assert_frame_equal(*(pd.read_csv(f / "summary.csv").drop(columns="latency_s_median") for f in (a, b)))


@pytest.fixture(scope="module")
def files(tmp_path_factory, write_files):
    return write_files(tmp_path_factory.mktemp("files"), [(64, 64)] * 3)


@pytest.fixture(scope="module")
def net(checkpoint):
    return (f"parser.checkpoint={checkpoint}",)


@pytest.fixture(scope="module")
def finished(files, net, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "run"
    assert tasks.start(settings(files, net, THREE, "strips=2"), folder) == 0
    return folder


def test_one_row_a_stage(finished):
    table = pd.read_parquet(finished / "samples.parquet")
    assert list(table)[:5] == ["sample_id", "stage", "attribute", "prompt", "negative_prompt"]
    assert list(zip(table["sample_id"], table["stage"], strict=True)) == [(i, s) for s in (1, 2, 3) for i in "abc"]
    assert list(table["attribute"]) == ["hair"] * 3 + ["skin"] * 3 + ["hair"] * 3
    assert table["strength"].tolist()[::3][::2] == [0.8, 0.6]
    assert (table["status"] == "ok").all()
    summary = pd.read_csv(finished / "summary.csv")
    assert list(zip(summary["stage"], summary["attribute"], strict=True)) == [(1, "hair"), (2, "skin"), (3, "hair")]
    assert summary[["n", "n_expected"]].to_numpy().tolist() == [[3, 3]] * 3
    assert json.loads((finished / "run.json").read_text())["n_expected"] == 9
    assert sorted(p.name for p in (finished / "figures").iterdir()) == ["cascade.png"]


def test_a_stage_edits_what_the_one_before_made(finished, files, net, tmp_path):
    """The second and third stage alone, on a data set of the first stage's edits, give the same pixels."""
    shutil.copytree(finished / "edits" / "1_hair", tmp_path / "faces" / "images")
    stages = THREE[1:]
    assert tasks.start(settings(tmp_path / "faces", net, stages), tmp_path / "run") == 0
    for id_ in "abc":
        assert np.array_equal(edit(tmp_path / "run", "1_skin", id_), edit(finished, "2_skin", id_))
        for column in ("ssim", "psnr_outside", "iou", "coverage", "mask_blend"):
            alone, in_cascade = rows(tmp_path / "run").loc[(id_, 1), column], rows(finished).loc[(id_, 2), column]
            assert alone == in_cascade or (pd.isna(alone) and pd.isna(in_cascade)), column


def test_totals_are_since_the_photo(files, tmp_path):
    assert tasks.start(settings(files, ("parser=ground_truth",), reparse=False), tmp_path) == 0
    table = rows(tmp_path)
    first = table.xs(1, level="stage")
    for name in ("ssim", "max_abs_outside", "psnr_outside"):
        assert (first[f"{name}_total"] == first[name]).all()
    last = table.xs(3, level="stage")
    assert (last["max_abs_outside_total"] == 0).all(), "outside all regions together nothing has changed"
    assert (last["max_abs_outside"] == 0).all()
    photo = cv2.imread(str(files / "images" / "a.png"))[..., ::-1].astype(int)
    assert np.abs(edit(tmp_path, "3_hair", "a") - photo).max() > 20


def test_the_summary_has_the_totals(finished):
    summary = pd.read_csv(finished / "summary.csv").set_index("stage")
    for stage, group in rows(finished).groupby(level="stage"):
        assert summary.loc[stage, "iou_total_mean"] == pytest.approx(group["iou_total"].mean(), abs=1e-9)
    first, third = (rows(finished).xs(s, level="stage") for s in (1, 3))
    assert (first["iou_total"] == first["iou"]).all()
    assert (third["iou_total"] != third["iou"]).any(), "the last parse against the first, not the one before it"


def test_seeds_do_not_depend_on_the_order_and_differ_for_repeats(finished):
    seeds = rows(finished)["seed"]
    assert seeds[("a", 1)] == derive_seed(42, "a", "hair")
    assert seeds[("a", 2)] == derive_seed(42, "a", "skin")
    assert seeds[("a", 3)] == derive_seed(42, "a", "hair", 1)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_batches_do_not_matter(finished, files, net, tmp_path, batch_size):
    assert tasks.start(settings(files, net, THREE, f"runtime.batch_size={batch_size}"), tmp_path) == 0
    assert_same(finished, tmp_path)


@pytest.mark.parametrize("kept", [1, 5, 8])
def test_an_interrupted_cascade_continues_between_its_stages(finished, files, net, tmp_path, kept, monkeypatch):
    one_by_one = settings(files, net, THREE, "runtime.batch_size=1")
    appended = editing_bench.SampleLog.append

    def killed(log, row):
        appended(log, row)
        if len(log.rows) == kept:
            raise KeyboardInterrupt

    monkeypatch.setattr(editing_bench.SampleLog, "append", killed)
    with pytest.raises(KeyboardInterrupt):
        tasks.start(one_by_one, tmp_path)
    assert len(lines(tmp_path)) == kept
    monkeypatch.undo()
    assert tasks.start(one_by_one, tmp_path) == 0
    assert_same(finished, tmp_path)


def test_reparsing_makes_a_difference(finished, files, net, tmp_path):
    assert tasks.start(settings(files, net, THREE, reparse=False), tmp_path) == 0
    with_parse, without = rows(finished), rows(tmp_path)
    assert (with_parse.xs(1, level="stage")["edit_sha256"] == without.xs(1, level="stage")["edit_sha256"]).all()
    assert (with_parse.xs(3, level="stage")["mask_semantic"] != without.xs(3, level="stage")["mask_semantic"]).any()
    first, third = (without.xs(s, level="stage")["mask_semantic"] for s in (1, 3))
    assert (first == third).all(), "masks of the first parse"


def test_anatomical_order(files, net, tmp_path):
    assert tasks.start(settings(files, net, THREE, order="anatomical"), tmp_path) == 0
    table = rows(tmp_path).xs("a", level="sample_id")
    assert table["prompt"].tolist() == ["green skin", "purple hair", "red hair"]


def test_the_first_parse_may_be_the_ground_truth(files, tmp_path):
    stages = [{"attribute": "hair", "prompt": "red hair"}, {"attribute": "glasses", "prompt": "blue glasses"}, THREE[1]]
    truth = settings(files, ("parser=ground_truth",), stages, reparse=False)
    assert tasks.start(truth, tmp_path) == 0
    table = rows(tmp_path)
    assert (table.xs(2, level="stage")["status"] == "empty_region").all()
    assert table.xs(2, level="stage")["latency_s"].isna().all()
    assert not (tmp_path / "edits" / "2_glasses").exists()
    assert (table.xs(3, level="stage")["status"] == "ok").all()
    assert pd.read_csv(tmp_path / "summary.csv")["n_empty"].tolist() == [0, 3, 0]


def test_an_empty_stage_is_passed_over_after_a_kill_too(files, tmp_path):
    stages = [{"attribute": "glasses", "prompt": "blue glasses"}, THREE[0], THREE[1]]
    truth = settings(files, ("parser=ground_truth",), stages, "runtime.batch_size=1", reparse=False)
    assert tasks.start(truth, tmp_path / "whole") == 0
    shutil.copytree(tmp_path / "whole", tmp_path / "run")
    log = (tmp_path / "run" / "samples.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "run" / "samples.jsonl").write_bytes(b"".join(log[:6]))  # stages 1 and 2 of every photo
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    (tmp_path / "run" / "run.json").write_text(json.dumps(facts | {"status": "running"}))
    assert tasks.start(truth, tmp_path / "run") == 0
    assert_same(tmp_path / "whole", tmp_path / "run")


def test_a_failed_stage_ends_its_photo_alone_and_is_tried_again(finished, files, net, tmp_path, monkeypatch):
    made = evaluate.open_editor

    def failing(*arguments):
        editor, facts = made(*arguments)
        whole = editor.edit

        def edit(requests):
            if any(r.sample_id == "b" and r.attribute == "skin" for r in requests):
                raise RuntimeError("out of paint")
            return whole(requests)

        editor.edit = edit
        return editor, facts

    monkeypatch.setattr(evaluate, "open_editor", failing)
    assert tasks.start(settings(files, net), tmp_path) == 1
    errors = rows(tmp_path)["error"].dropna().to_dict()
    assert errors == {("b", 2): "RuntimeError: out of paint", ("b", 3): "RuntimeError: stage 2 (skin) failed"}
    monkeypatch.undo()
    assert tasks.start(settings(files, net), tmp_path) == 0
    assert_same(finished, tmp_path)


def test_an_edit_that_is_gone_cannot_be_continued_from(finished, files, net, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    log = (finished / "samples.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "run" / "samples.jsonl").write_bytes(b"".join(log[:3]))
    facts = json.loads((finished / "run.json").read_text())
    (tmp_path / "run" / "run.json").write_text(json.dumps(facts | {"status": "running"}))
    (tmp_path / "run" / "edits" / "1_hair" / "b.png").unlink()
    with pytest.raises(UserError, match=r"b\.png: what stage 1 made of b is gone; start in a new folder"):
        tasks.start(settings(files, net), tmp_path / "run")


def test_another_cascade_in_the_folder_is_refused(finished, files, net):
    with pytest.raises(
        UserError, match=r"belongs to another configuration: config\.cascade\.reparse was True, now False"
    ):
        tasks.start(settings(files, net, reparse=False), finished)


def test_a_finished_cascade_is_printed(finished, files, net, capsys):
    capsys.readouterr()
    assert tasks.start(settings(files, net), finished) == 0
    said = capsys.readouterr().out
    assert [
        line.split("|")[1].strip() for line in said.splitlines() if line.startswith("| ") and "---" not in line
    ] == [*("stage", "1 hair", "2 skin", "since the photo", "3 hair", "since the photo")]
    assert "published" not in said


@pytest.mark.parametrize(
    ("stages", "overrides", "options", "said"),
    [
        ([], (), {}, "cascade.stages: list should have at least 1 item"),
        ([{"attribute": "beard", "prompt": "x"}], (), {}, "unknown attribute 'beard'"),
        ([{"attribute": "hair", "prompt": " "}], (), {}, r"cascade: the prompt of stage 1 \('hair'\) is empty"),
        ([{"attribute": "hair", "prompt": "?!"}], (), {}, r"cascade: the prompt of stage 1 \('hair'\) has no words"),
        ([{"attribute": "hair", "promt": "x"}], (), {}, r"unknown key 'cascade.stages.0.promt'; did you mean 'prompt'"),
        ([{"prompt": "x"}], (), {}, "cascade.stages.0.attribute: field required"),
        ([{"attribute": "hair", "strength": 1.5}], (), {}, r"cascade.stages.0.strength: .*less than or equal to 1"),
        (
            [{"attribute": "hair", "strength": 0.5}],
            ("editor=identity",),
            {},
            "stage 1 sets a strength, editor 'identity'",
        ),
        (
            [{"attribute": "hair", "strength": 0.01}],
            ("editor=sdxl_inpaint",),
            {},
            r"cascade: stage 1 \('hair'\): .*leaves no step to take",
        ),
        (THREE, (), {"order": "random"}, "cascade.order: input should be 'given' or 'anatomical'"),
        (THREE, ("parser=ground_truth",), {}, "cascade.reparse=true needs a parser that parses edits"),
        (THREE, ("parser=precomputed", "parser.root=x"), {}, "cascade: parser=precomputed cannot parse"),
        (THREE[1:2], ("editor=precomputed", "editor.root=x"), {}, "cascade: editor=precomputed has no edits of edits"),
    ],
)
def test_mistakes_are_one_sentence(files, stages, overrides, options, said):
    with pytest.raises(UserError, match=said) as caught:
        settings(files, overrides, stages, **options)
    assert "\n" not in str(caught.value)


def test_a_stage_without_a_prompt_takes_the_attributes(files, net):
    made = settings(files, net, [{"attribute": "hair"}], "prompts.hair=blue hair")
    assert made.cascade.stages[0].prompt == "blue hair"
    assert made.attributes == ["hair"]


def test_the_editor_is_told_the_stages_strength(files, net, tmp_path, monkeypatch):
    seen, editor = [], Identity()
    monkeypatch.setattr(evaluate, "open_editor", lambda *_: (editor, {"name": "identity"}))

    def edit(requests):
        seen.extend((r.attribute, r.strength) for r in requests)
        return [r.photo.clone() for r in requests]

    editor.edit = edit
    assert tasks.start(settings(files, net, THREE, "data.n=1"), tmp_path) == 0
    assert seen == [("hair", 0.8), ("skin", None), ("hair", 0.6)]

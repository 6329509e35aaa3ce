"""Columns that are filled later equal those of a run that had the weights from the start."""

import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from semfacediff import cli, config, tasks
from semfacediff.errors import UserError
from semfacediff.hydra_app import composed
from semfacediff.metrics.perceptual import LPIPS
from semfacediff.tasks.editing import rescore

REPOSITORY = Path(__file__).resolve().parents[2]
COLUMNS = "metrics.columns=[ssim,psnr,lpips,iou,clip]"
SMALL = (
    "data=folder parser=precomputed editor=precomputed attributes=[hair,lips] strips=0 runtime.device=cpu "
    "runtime.workers=0 weights.download=false metrics.clip.model=ViT-S-32-alt metrics.on_missing=skip "
    "region.dilate_px=32 region.feather_sigma_px=32"
).split()
VARYING = ["latency_s", "peak_memory_mib"]


@pytest.fixture(scope="module")
def files(tmp_path_factory, write_files) -> Path:
    return write_files(tmp_path_factory.mktemp("files"), [(64, 64)] * 4)


@pytest.fixture(scope="module")
def places(files, alexnet_file) -> list[str]:
    """Words of a run and of ``rescore --set`` that say where inputs and weights are."""
    inputs = [f"data.root={files}", f"editor.root={files}/edits", f"parser.root={files}/parses"]
    return [*inputs, f"weights.lpips_alexnet={alexnet_file}", "weights.clip=random", "weights.inception=random"]


def evaluated(folder: Path, words: list[str], *more: str) -> int:
    cfg = composed("evaluate", [*SMALL, COLUMNS, *words, *more], REPOSITORY)
    return tasks.start(config.typed(cfg, config.EditingEvaluation), folder)


@pytest.fixture(scope="module")
def whole(places, tmp_path_factory) -> Path:
    """A run that had the weights from the start; read it, never write into it."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert evaluated(folder, places) == 0
    return folder


@pytest.fixture(scope="module")
def without_weights(places, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bare") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.hub, "get_dir", lambda: str(folder / "hub"))
        assert evaluated(folder, places[:3], "weights.root=/nowhere") == 0
    return folder


@pytest.fixture
def bare(without_weights, tmp_path) -> Path:
    """A run that had none, to be filled."""
    return Path(shutil.copytree(without_weights, tmp_path / "run"))


def rescored(folder: Path, places: list[str], names: str, *more: str) -> int:
    words = [word for place in [*places, "runtime.workers=0"] for word in ("--set", place)]
    return cli.main(["rescore", str(folder), "--add", names, "--device", "cpu", *words, *more])


def record(folder: Path) -> dict:
    return json.loads((folder / "run.json").read_text())


def samples(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder / "samples.parquet")


def assert_same(a: Path, b: Path) -> None:
    """The same rows, summary and identity; times excepted."""
    pd.testing.assert_frame_equal(*(samples(f).drop(columns=VARYING) for f in (a, b)), check_exact=True)
    summaries = [pd.read_csv(f / "summary.csv", dtype=str).drop(columns="latency_s_median") for f in (a, b)]
    pd.testing.assert_frame_equal(*summaries)
    for key in ("identity", "config_digest", "not_comparable", "empty_columns", "set_notes", "n", "status"):
        assert record(a)[key] == record(b)[key], key


def contents(folder: Path) -> dict[Path, bytes]:
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_edits_before_the_composite_are_kept_where_they_differ(whole, files):
    rows = samples(whole).set_index(["attribute", "sample_id"])
    for (attribute, id_), row in rows.iterrows():
        kept = cv2.imread(str(whole / "edits_raw" / attribute / f"{id_}.png"))
        assert np.array_equal(kept, cv2.imread(str(files / "edits" / attribute / f"{id_}.png")))
        assert row["raw_sha256"] != row["edit_sha256"]


def test_columns_filled_later_equal_those_of_a_run_with_the_weights(bare, whole, places, capsys):
    before = contents(bare / "edits")
    assert rescored(bare, places, "lpips,clip") == 0
    assert "scored lpips, clip, clip_photo, clip_direction, clip_region of 8 edits" in capsys.readouterr().out
    assert samples(bare)[["lpips", "clip", "lpips_raw"]].notna().all(axis=None)
    assert (samples(bare)["lpips"] != samples(bare)["lpips_raw"]).all()
    assert_same(bare, whole)
    assert contents(bare / "edits") == before
    made = record(bare)["scored"]
    assert made["lpips"]["weights"].startswith("sha256:")
    assert made["lpips"]["when"] >= made["iou"]["when"] == record(bare)["finished"]
    assert record(bare)["rescored"][0]["columns"][0] == "lpips"
    assert evaluated(bare, places) == 0, "the command that has the weights finds its run finished"


def test_a_stopped_rescoring_continues(bare, whole, places, monkeypatch):
    score, scored = LPIPS.scores, []

    def stopping(self, pairs):
        scored.append(len(pairs))
        if len(scored) == 4:
            raise KeyboardInterrupt
        return score(self, pairs)

    monkeypatch.setattr(LPIPS, "scores", stopping)
    old = samples(bare)
    assert rescored(bare, places, "lpips,clip") == 130
    kept = (bare / rescore.LOG).read_text().splitlines()
    assert 0 < len(kept) < 8
    pd.testing.assert_frame_equal(samples(bare), old)
    assert record(bare)["status"] == "done", "the old columns stay readable"
    assert rescored(bare, places, "lpips,clip") == 0
    assert sum(scored[4:]) == 8 - len(kept) if max(scored) == 1 else True
    assert_same(bare, whole)
    assert not (bare / rescore.LOG).exists()


@pytest.mark.parametrize(
    "write",
    [*(pytest.param(name, marks=pytest.mark.slow) for name in ("write_rows", "config_text")), "write_editing_tables"],
)
def test_a_stop_while_the_record_is_written_is_seen_and_repaired(bare, whole, places, monkeypatch, capsys, write):
    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(rescore, write, stop)
        assert rescored(bare, places, "lpips,clip") == 130
    with pytest.raises(UserError, match="'semfacediff rescore' was stopped while it wrote; repeat that command"):
        evaluated(bare, places)
    assert rescored(bare, places, "lpips,clip") == 0
    assert_same(bare, whole)


def test_a_column_asked_twice_is_not_scored_again(bare, places, capsys):
    assert rescored(bare, places, "lpips,lpips") == 0
    then = contents(bare)
    capsys.readouterr()
    assert rescored(bare, places, "ssim,lpips") == 0
    assert "ssim, lpips: scored already with these weights; nothing to do" in capsys.readouterr().out
    assert contents(bare) == then


def test_other_weights_than_the_first_are_refused(bare, places, alexnet_file, tmp_path, capsys):
    assert rescored(bare, places, "lpips") == 0
    other = tmp_path / "other.pth"
    torch.save({key: 2 * value for key, value in torch.load(alexnet_file).items()}, other)
    then = contents(bare)
    for names in ("lpips", "clip,lpips"):
        assert rescored(bare, [*places, f"weights.lpips_alexnet={other}"], names) == 2
        assert re.search(
            r"lpips was scored otherwise .*'sha256:\w+'\); a column has one set of weights",
            capsys.readouterr().err,
        )
    assert contents(bare) == then
    with pytest.raises(UserError, match=r"was scored with other weights or versions \(lpips\)"):
        evaluated(bare, places, f"weights.lpips_alexnet={other}")


def test_a_run_that_lacks_only_metrics_is_told_of_the_command(bare, places):
    with pytest.raises(UserError, match=rf"semfacediff rescore {re.escape(str(bare))} --add lpips,clip --weights DIR"):
        evaluated(bare, places)
    with pytest.raises(UserError, match=r"rescore .* --add effect --weights DIR"):
        evaluated(bare, places[:3], "metrics.columns=[ssim,psnr,iou,effect]", "weights.root=/nowhere")
    with pytest.raises(UserError, match="belongs to another configuration"):
        evaluated(bare, places, "seed=7")
    assert rescored(bare, places, "effect") == 0
    with pytest.raises(UserError, match=r"scored by more metrics \(effect\)"):
        evaluated(bare, places[:3], "weights.root=/nowhere")


@pytest.mark.parametrize("how", ["switched off", "of an earlier version"])
def test_without_edits_before_the_composite_their_columns_stay_empty(bare, whole, places, capsys, how):
    if how == "switched off":
        shutil.rmtree(bare / "edits_raw")
    else:
        rows = [json.loads(line) for line in (bare / "samples.jsonl").read_text().splitlines()]
        rows = [{key: value for key, value in row.items() if key != "raw_sha256"} for row in rows]
        (bare / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        plain = yaml.safe_load((bare / "config.yaml").read_text())
        (bare / "config.yaml").write_text(yaml.safe_dump({k: v for k, v in plain.items() if k != "save_raw"}))
        (bare / "run.json").write_text(json.dumps(record(bare) | {"files": {}}))
    assert rescored(bare, places, "lpips,clip") == 0
    assert "kept no edits before the composite" in capsys.readouterr().err
    assert samples(bare)[["lpips_raw", "clip_raw"]].isna().all(axis=None)
    final = ["lpips", "clip", "clip_direction", "ssim_raw", "iou_raw"]
    pd.testing.assert_frame_equal(samples(bare)[final], samples(whole)[final], check_exact=True)
    assert record(bare)["empty_columns"].keys() >= {"lpips_raw", "clip_raw"}


def test_a_run_may_leave_them_out(places, tmp_path):
    assert evaluated(tmp_path / "run", places[:3], "metrics.columns=[ssim]", "save_raw=false", "data.n=1") == 0
    assert not (tmp_path / "run" / "edits_raw").exists()
    assert (tmp_path / "run" / "edits").exists()


def test_an_edit_that_was_changed_or_lost_leaves_the_record_alone(bare, places, capsys):
    then = {name: file for name, file in contents(bare).items() if name.suffix in (".csv", ".parquet", ".jsonl")}
    file = bare / "edits_raw" / "lips" / "b.png"
    cv2.imwrite(str(file), 255 - cv2.imread(str(file)))
    (bare / "edits_raw" / "hair" / "a.png").unlink()
    (bare / "edits_raw" / "hair" / "a.png").symlink_to(tmp := bare / "edits_raw" / "gone.png")
    tmp.write_bytes(b"no photo")
    assert rescored(bare, places, "lpips") == 1
    said = capsys.readouterr().err
    assert "2 of 8 edits cannot be scored (first a/hair: UserError: " in said
    assert "a.png: cannot be read); the record is as it was" in said
    assert {name: (bare / name).read_bytes() for name in then} == then


def test_mistakes_are_one_sentence(bare, places, files, tmp_path, capsys):
    def said(*arguments):
        assert rescored(*arguments) == 2
        return capsys.readouterr().err

    assert "metric 'lpisp': there is none of this name; did you mean 'lpips'?" in said(bare, places, "lpisp")
    assert "weights.lpips_alexnet" in said(
        bare, [*places, "weights.lpips_alexnet=null", "weights.root=/nowhere"], "lpips"
    )
    other = tmp_path / "other"
    shutil.copytree(files, other)
    cv2.imwrite(str(other / "images" / "a.png"), np.zeros((64, 64, 3), np.uint8))
    assert "expected the data of the run (digest " in said(bare, [*places, f"data.root={other}"], "lpips")
    assert "expected the configuration of the run, got region.dilate_px was 32.0, now 3" in said(
        bare, [*places, "region.dilate_px=3"], "lpips"
    )
    assert "the run has no such group" in said(bare, [*places, "wights.clip=random"], "lpips")
    assert "give --data DIR" in said(bare, places[1:], "lpips")
    (bare / "run.json").write_text(json.dumps(record(bare) | {"status": "running"}))
    assert "is not finished; repeat its command first" in said(bare, places, "lpips")


TOY = (
    "data=toy data.count=4 data.size=64 parser=ground_truth editor=recolor attributes=[hair,skin] strips=0 "
    "runtime.device=cpu runtime.workers=0 weights.download=false weights.inception=random metrics.on_missing=skip"
).split()
CASCADE = (
    "cascade={reparse:false,order:given,stages:[{attribute:hair,prompt:red hair},{attribute:skin,prompt:green skin}]}"
)
KINDS = {
    "plain": ([], "ssim", "iou,effect,alignment"),
    "alignment first": ([], "ssim,psnr,iou,alignment", "effect"),
    "sets": ([], "ssim", "fid,kid"),
    "leakage": (["parser=face_lite"], "ssim,iou", "leakage"),
    "cascade": ([CASCADE], "ssim", "iou,effect"),
    "repeats": (["editor.repeats=2"], "ssim", "iou,effect"),
    "tasks": (["prompts=tasks_v1"], "ssim,iou", "effect,alignment"),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_run(kind, tmp_path):
    words, first, then = KINDS[kind]
    for name, columns in (("whole", f"{first},{then}"), ("run", first)):
        cfg = composed("evaluate", [*TOY, *words, f"metrics.columns=[{columns}]"], REPOSITORY)
        assert tasks.start(config.typed(cfg, config.EditingEvaluation), tmp_path / name) == 0
    assert rescored(tmp_path / "run", ["weights.inception=random"], then) == 0
    assert_same(tmp_path / "run", tmp_path / "whole")

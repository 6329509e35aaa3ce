"""The parser that scores edits: which it is, what its scores rest on, and how steady it is."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from semfacediff import config, tasks
from semfacediff.data.toy import ToyFaces
from semfacediff.errors import UserError
from semfacediff.labels import CELEBAMASK
from semfacediff.parsing import ParserCard, build_parser, default, save_parser
from semfacediff.parsing.checkpoint import checkpoint_digest
from semfacediff.parsing.opening import open_judge, open_parser
from semfacediff.types import to_tensor

CPU = torch.device("cpu")
SIZE = 64
TOY = (
    f"data=toy data.count=2 data.size={SIZE} attributes=[hair] metrics=no_weights strips=0 runtime.device=cpu "
    "runtime.workers=0 prompts.hair=blue_hair editor=recolor parser=ground_truth metrics.columns=[effect,iou,iou_floor]"
).split()


@pytest.fixture(scope="module")
def shipped(tmp_path_factory) -> Path:
    """A folder with two parsers with random weights, as if both came with the package."""
    folder = tmp_path_factory.mktemp("package") / "shipped"
    for seed, name in enumerate(("face_base", "face_lite")):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = build_parser("fastscnn_lite", classes=19)
        save_parser(model, ParserCard.of_kind("fastscnn_lite", "celebamask", 64), folder / name)
    return folder


@pytest.fixture
def two_ship(shipped, monkeypatch) -> Path:
    monkeypatch.setattr(default, "FOLDER", shipped / "face_lite")
    return shipped


def opened(checkpoint=None, name=None):
    return open_parser(config.ParserConfig.trained(checkpoint and str(checkpoint), name), CELEBAMASK, CPU)


def digest_of(asked, protocol, mask):
    return open_judge(asked, protocol, mask, CPU)[1].get("digest")


def test_masks_of_a_shipped_parser_are_judged_by_the_other(two_ship):
    lite, base = (checkpoint_digest(two_ship / name) for name in ("face_lite", "face_base"))
    assert digest_of(None, "strict", opened()) == base
    assert digest_of(None, "strict", opened(two_ship / "face_base")) == lite
    export = opened()[0], {"name": "face_lite", "digest": "0" * 64, "exported_from": lite}
    assert digest_of(None, "strict", export) == base
    assert digest_of("mask", "strict", opened()) == lite
    assert digest_of("face_lite", "strict", opened()) == lite
    assert open_judge("face_lite", "strict", mask := opened(), CPU)[0] is mask[0], "which is not opened twice"
    assert digest_of(None, "thesis", opened()) == lite
    assert digest_of("face_base", "thesis", opened()) == base


def test_other_masks_are_judged_by_their_own_parser_unless_one_is_named(two_ship, tiny_checkpoint):
    own = checkpoint_digest(tiny_checkpoint)
    for mask in (opened(tiny_checkpoint), opened(name="ground_truth")):
        if mask[1].get("digest") != checkpoint_digest(two_ship / "face_base"):
            assert open_judge(None, "strict", mask, CPU) == mask
        assert digest_of("face_base", "strict", mask) == checkpoint_digest(two_ship / "face_base")
    assert digest_of(str(tiny_checkpoint), "strict", opened()) == own


def test_where_one_parser_ships_it_judges_its_own_masks(shipped, tmp_path, monkeypatch):
    alone = tmp_path / "shipped" / "face_lite"
    alone.parent.mkdir()
    alone.symlink_to(shipped / "face_lite")
    monkeypatch.setattr(default, "FOLDER", alone)
    assert open_judge(None, "strict", mask := opened(), CPU) == mask


def test_an_unknown_judge_is_refused(run, two_ship):
    with pytest.raises(UserError, match=r"^judge=nobody: expected mask, face_base, face_lite or a parser as p"):
        open_judge("nobody", "strict", opened(), CPU)
    with pytest.raises(UserError, match=r"judge=ground_truth parses no edits; name a trained parser, or leave it out"):
        run("judge=ground_truth")


@pytest.fixture(scope="module")
def run(compose) -> Callable[..., config.EditingEvaluation]:
    return lambda *overrides: config.typed(compose("evaluate", *TOY, *overrides), config.EditingEvaluation)


def rows_of(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder / "samples.parquet").set_index("sample_id")


def regions(parser, sample, photo: np.ndarray) -> np.ndarray:
    """bool ``[H, W]``: hair in the parse of a photo."""
    return parser.before(sample, to_tensor(np.ascontiguousarray(photo))).numpy() == CELEBAMASK.index("hair")


def iou(before: np.ndarray, after: np.ndarray) -> float:
    return int((before & after).sum()) / int((before | after).sum())


@pytest.fixture(scope="module")
def judged(tmp_path_factory, run) -> Path:
    """A run with the masks of the labels, judged by the shipped parser."""
    folder = tmp_path_factory.mktemp("judged") / "run"
    assert tasks.start(run(f"judge={default.FOLDER}"), folder) == 0
    return folder


def test_scores_of_label_maps_are_the_judges_and_all_else_is_of_the_mask(run, judged, tmp_path, capsys):
    assert tasks.start(run(f"judge={default.FOLDER}"), judged) == 0
    record, digest = json.loads((judged / "run.json").read_text()), checkpoint_digest(default.FOLDER)
    said = f"parser ground_truth, judged by face_lite {digest[:8]}, protocol strict"
    assert said in capsys.readouterr().out
    assert (record["identity"]["inputs"]["judge"], record["judge"]["digest"]) == (digest, digest)
    assert str(default.FOLDER) not in (judged / "config.yaml").read_text()
    parser, rows = opened()[0], rows_of(judged)
    for sample in (ToyFaces(2, SIZE)[i] for i in range(2)):
        edit = cv2.imread(str(judged / "edits" / "hair" / f"{sample.id}.png"))[..., ::-1]
        assert rows.loc[sample.id, "iou"] == iou(*(regions(parser, sample, x) for x in (sample.photo, edit)))
    assert tasks.start(run(), tmp_path / "own") == 0
    assert "parser ground_truth, judged by the same, protocol strict" in capsys.readouterr().out
    own = rows_of(tmp_path / "own")
    assert own[["iou", "iou_floor_jpeg_95"]].isna().all(axis=None), "the labels have no opinion"
    same = ["change_de", "toward_prompt", "mask_semantic", "coverage", "ita_deg", "edit_sha256"]
    pd.testing.assert_frame_equal(own[same], rows[same])
    assert "judge" not in json.loads((tmp_path / "own" / "run.json").read_text())["identity"]["inputs"]


def test_the_floor_is_the_judge_on_the_photo_after_jpeg_and_a_shift(judged):
    parser, rows = opened()[0], rows_of(judged)
    for sample in (ToyFaces(2, SIZE)[i] for i in range(2)):
        photo = sample.photo
        _, file = cv2.imencode(".jpg", cv2.cvtColor(photo, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 95])
        jpeg = cv2.cvtColor(cv2.imdecode(file, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        moved = cv2.copyMakeBorder(photo, 0, 0, 1, 0, cv2.BORDER_REPLICATE)[:, :SIZE]
        before, a, b = (regions(parser, sample, x) for x in (photo, jpeg, moved))
        assert rows.loc[sample.id, "iou_floor_jpeg_95"] == iou(before, a)
        assert rows.loc[sample.id, "iou_floor_shift_1px"] == iou(before, np.column_stack([b[:, 1:], before[:, -1]]))
    assert (rows[["iou_floor_jpeg_95", "iou_floor_shift_1px"]] < 1).any(axis=None)
    summary = pd.read_csv(judged / "summary.csv").loc[0]
    assert summary["iou_floor_jpeg_95_mean"] == pytest.approx(rows["iou_floor_jpeg_95"].mean())
    assert "iou_floor_jpeg_95_raw" not in rows


@pytest.mark.slow
def test_a_cascade_takes_its_masks_from_the_parser_and_its_scores_from_the_judge(run, shipped, tmp_path):
    stages = "cascade={stages:[{attribute:hair,prompt:'blue hair'},{attribute:skin,prompt:'pale skin'}]}"
    words = stages, "parser=face_lite", "data.count=2"
    for name, judge in (("own", "mask"), ("other", shipped / "face_base")):
        assert tasks.start(run(*words, f"judge={judge}"), tmp_path / name) == 0
    own, other = (pd.read_parquet(tmp_path / name / "samples.parquet") for name in ("own", "other"))
    same = ["sample_id", "stage", "mask_semantic", "edit_sha256", "change_de"]
    pd.testing.assert_frame_equal(own[same], other[same])
    assert own["iou"].notna().all()
    assert not (own["iou"] == other["iou"]).any()

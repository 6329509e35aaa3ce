"""``evaluate.py masks=DIR``: regions from files, and what becomes of a run whose files are missing or change."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from semfacediff import config, tasks
from semfacediff.data.toy import ToyFaces
from semfacediff.errors import UserError
from semfacediff.labels import CELEBAMASK
from semfacediff.records.folder import read_run

TOY = (
    "data=toy data.count=3 data.size=48 parser=ground_truth attributes=[hair] metrics=no_weights strips=1 "
    "metrics.columns=[effect,psnr,iou] prompts.hair=blue_hair runtime.device=cpu runtime.workers=0 "
    "protocol=strict region.dilate_px=0 region.feather_sigma_px=0 data.split=all"
).split()


@pytest.fixture
def settings(compose):
    return lambda *overrides: config.typed(compose("evaluate", *TOY, *overrides), config.EditingEvaluation)


def draw(folder: Path, id_: str, region: np.ndarray) -> None:
    (folder / "hair").mkdir(parents=True, exist_ok=True)
    Image.fromarray(region.astype(np.uint8) * 255).save(folder / "hair" / f"{id_}.png")


@pytest.fixture
def masks(tmp_path):
    """Of every toy face the hair as it was drawn."""
    for sample in ToyFaces(3, 48):
        draw(tmp_path / "masks", sample.id, sample.labels == CELEBAMASK.index("hair"))
    return tmp_path / "masks"


def rows(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder / "samples.parquet").set_index("sample_id")


def test_the_masks_of_the_parse_give_the_run_of_the_parse(settings, masks, tmp_path):
    assert tasks.start(settings(), tmp_path / "parse") == 0
    assert tasks.start(settings(f"masks={masks}"), tmp_path / "own") == 0
    differing = ["latency_s", "peak_memory_mib", "inputs_sha256"]
    found = [rows(tmp_path / name).drop(columns=differing) for name in ("parse", "own")]
    pd.testing.assert_frame_equal(*found, check_exact=True)
    parse, own = (read_run(tmp_path / name) for name in ("parse", "own"))
    assert own["identity"]["inputs"] == parse["identity"]["inputs"] | {"masks": "own"}
    assert own["identity"]["config"] == parse["identity"]["config"]
    assert "masks = one's own instead of the parse's" in own["protocol_deviations"]
    assert rows(tmp_path / "own")["inputs_sha256"].str.len().eq(16).all()


@pytest.fixture
def square(masks):
    """Drawn at twice the photo's size, for all of them."""
    region = np.zeros((96, 96), bool)
    region[20:60, 30:80] = True
    for sample in ToyFaces(3, 48):
        draw(masks, sample.id, region)
    return region


def test_another_region_is_edited(settings, masks, square, tmp_path):
    assert tasks.start(settings(f"masks={masks}"), tmp_path / "run") == 0
    found, first = rows(tmp_path / "run"), ToyFaces(3, 48)[0]
    assert found["coverage"].tolist() == pytest.approx([square.mean()] * 3)
    edit = np.asarray(Image.open(tmp_path / "run" / "edits" / "hair" / f"{first.id}.png"))
    changed = (edit != first.photo).any(2)
    assert changed.any()
    assert not changed[~square[::2, ::2]].any()


def test_the_mask_iou_compares_two_parses_whatever_was_drawn(settings, masks, square, checkpoint, tmp_path):
    own = ("parser=checkpoint", f"parser.checkpoint={checkpoint}", "editor=identity", f"masks={masks}")
    assert tasks.start(settings(*own), tmp_path / "run") == 0
    assert rows(tmp_path / "run")["iou"].dropna().tolist() == [1, 1], "one has no hair in the parse"


def test_a_missing_mask_fails_its_sample_and_is_tried_again(settings, masks, tmp_path):
    ids = [sample.id for sample in ToyFaces(3, 48)]
    file = masks / "hair" / f"{ids[1]}.png"
    kept = file.read_bytes()
    file.unlink()
    assert tasks.start(settings(f"masks={masks}"), tmp_path / "run") == 1
    found = rows(tmp_path / "run")
    assert found["status"].tolist().count("error") == 1
    said = f"UserError: hair/{ids[1]}.png: no such file in the folder of masks=; draw it and repeat the command"
    assert found["error"][ids[1]] == said
    file.write_bytes(kept)
    assert tasks.start(settings(f"masks={masks}"), tmp_path / "run") == 0
    assert (rows(tmp_path / "run")["status"] != "error").all()


def test_other_masks_under_the_same_names_are_refused(settings, masks, tmp_path):
    assert tasks.start(settings(f"masks={masks}"), tmp_path / "run") == 0
    shutil.copytree(masks, tmp_path / "moved")
    assert tasks.start(settings(f"masks={tmp_path / 'moved'}"), tmp_path / "run") == 0
    draw(tmp_path / "moved", ToyFaces(3, 48)[0].id, np.eye(48) > 0)
    with pytest.raises(UserError, match=r"is finished, but the precomputed files of 1 of its rows"):
        tasks.start(settings(f"masks={tmp_path / 'moved'}"), tmp_path / "run")
    with pytest.raises(UserError, match=r"belongs to another configuration: .*inputs\.masks"):
        tasks.start(settings(), tmp_path / "run")


@pytest.mark.parametrize(
    ("folder", "said"),
    [("nowhere", "masks: expected a folder of masks at "), (".", "masks: no folder hair in ")],
)
def test_a_folder_without_masks_is_refused_before_any_work(settings, tmp_path, folder, said):
    with pytest.raises(UserError, match=said):
        tasks.start(settings(f"masks={tmp_path / folder}"), tmp_path / "run")

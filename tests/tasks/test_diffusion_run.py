"""The editing benchmark with a tiny diffusion pipeline, from configuration to table."""

import functools
import json
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from semfacediff import config, tasks
from semfacediff.editing.diffusion import opening, pipeline
from semfacediff.editing.diffusion.editor import InpaintEditor
from semfacediff.editing.opening import open_editor
from semfacediff.errors import UserError
from semfacediff.hydra_app import composed
from semfacediff.sweep_cache import SweepCache

REPOSITORY = Path(__file__).resolve().parents[2]
WORDS = (
    "data=folder parser=ground_truth editor=sdxl_inpaint metrics=no_weights weights.download=false strips=0 "
    "attributes=[hair,lips] runtime.device=cpu runtime.workers=0 editor.native_size=32 editor.steps=3 editor.zoom=true"
).split()
VARYING = ["latency_s", "peak_memory_mib"]


@functools.cache
def settings(*overrides: str) -> config.EditingEvaluation:
    return config.typed(composed("evaluate", [*WORDS, *overrides], REPOSITORY), config.EditingEvaluation)


@pytest.fixture(scope="module")
def places(tmp_path_factory, write_files, tiny_sdxl) -> tuple[str, str]:
    """Three photos of two shapes, and the twins."""
    root = write_files(tmp_path_factory.mktemp("files"), [(64, 64), (48, 72), (64, 64)])
    return f"data.root={root}", f"weights.root={tiny_sdxl}"


@pytest.fixture(scope="module")
def finished(places, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "run"
    assert tasks.start(settings(*places), folder) == 0
    return folder


def samples(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder / "samples.parquet").set_index(["sample_id", "attribute"])


def record(folder: Path) -> dict:
    return json.loads((folder / "run.json").read_text())


def read(file: Path) -> np.ndarray:
    return cv2.imread(str(file), cv2.IMREAD_COLOR)


def test_every_pixel_outside_is_the_photos_and_the_raw_columns_say_what_was_there(finished, places):
    rows = samples(finished)
    assert (rows["status"] == "ok").all()
    assert (rows["max_abs_outside"] == 0).all()
    assert np.isinf(rows["psnr_outside"]).all()
    assert (rows["max_abs_outside_raw"] > 0).all()
    photos = Path(places[0].partition("=")[2]) / "images"
    for id_, attribute in rows.index:
        photo, edit = read(photos / f"{id_}.png"), read(finished / "edits" / attribute / f"{id_}.png")
        assert photo.shape == edit.shape
        changed = (photo != edit).any(-1)
        assert 0 < changed.mean() < 0.9


def test_random_weights_stamp_the_run(finished, capsys):
    facts = record(finished)
    assert facts["not_comparable"] == ["editor: random weights, for tests"]
    assert facts["editor"]["name"] == "sdxl_inpaint"
    numerics = {"dtype": "float32", "vae_tiling": False, "quantise": "none"}
    assert facts["identity"]["inputs"]["editor"] == {"digest": facts["editor"]["digest"], "numerics": numerics}


@pytest.mark.parametrize("words", [["runtime.batch_size=1"], ["runtime=fast"], ["runtime=low_memory"]])
def test_batches_and_profiles_change_no_number(finished, places, tmp_path, words):
    assert tasks.start(settings(*places, *words, "runtime.device=cpu", "runtime.workers=0"), tmp_path) == 0
    a, b = (samples(f).drop(columns=VARYING) for f in (finished, tmp_path))
    pd.testing.assert_frame_equal(a, b, check_exact=True)


def test_an_interrupted_run_ends_like_an_unbroken_one(finished, places, tmp_path, monkeypatch):
    inner, left = InpaintEditor.edit, [1]

    def interrupted(self, requests):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return inner(self, requests)

    monkeypatch.setattr(InpaintEditor, "edit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tasks.start(settings(*places), tmp_path)
    assert 0 < len((tmp_path / "samples.jsonl").read_text().splitlines()) < 6
    monkeypatch.setattr(InpaintEditor, "edit", inner)
    assert tasks.start(settings(*places), tmp_path) == 0
    a, b = (samples(f).drop(columns=VARYING) for f in (finished, tmp_path))
    pd.testing.assert_frame_equal(a, b, check_exact=True)


def test_other_weights_or_precision_do_not_continue_a_run(finished, places, tiny_sdxl):
    with pytest.raises(UserError, match=r"digest"):
        tasks.start(settings(*places, f"weights.sdxl_inpaint={tiny_sdxl}/inpaint"), finished)
    with pytest.raises(UserError, match=r"vae_tiling"):
        tasks.start(settings(*places, "runtime.diffusion.vae_tiling=true"), finished)


def test_a_finished_run_opens_no_pipeline(finished, places, monkeypatch, capsys):
    monkeypatch.setattr(InpaintEditor, "prepare", lambda self: pytest.fail("opened"))
    assert tasks.start(settings(*places), finished) == 0
    assert "not comparable: editor: random weights" in capsys.readouterr().out


@pytest.fixture
def opened(monkeypatch) -> list[str]:
    """Precisions of the pipelines that a sweep opened; this process goes through its cells."""
    monkeypatch.setenv("SEMFACEDIFF_SWEEP", "sweep")
    monkeypatch.setattr(opening, "_pipeline", SweepCache())
    inner, seen = pipeline.open_pipeline, []
    monkeypatch.setattr(
        pipeline, "open_pipeline", lambda files, kind, dtype: seen.append(str(dtype)) or inner(files, kind, dtype)
    )
    return seen


@pytest.mark.slow
def test_cells_of_a_sweep_share_a_pipeline_and_get_what_they_get_alone(places, tmp_path, opened, monkeypatch):
    changed = ["editor.strength=0.7", "editor.guidance=1.0", "editor.steps=4", "editor.scheduler=own"]
    cells = [["editor.scheduler=ddim"], changed, ["editor.native_size=48", "editor.zoom=false"]]
    asked = [settings(*places, "data.n=1", "attributes=[hair]", *words) for words in cells]

    def rows(i, place):
        assert tasks.start(asked[i], tmp_path / place / str(i)) == 0
        return samples(tmp_path / place / str(i)).drop(columns=VARYING)

    in_sweep = [rows(i, "sweep") for i in range(len(cells))]
    assert opened == ["torch.float32"], "opened once"
    monkeypatch.delenv("SEMFACEDIFF_SWEEP")
    for i in (1, 2):
        pd.testing.assert_frame_equal(rows(i, "alone"), in_sweep[i], check_exact=True)
    assert len(opened) == 3


@pytest.mark.slow
def test_what_a_pipeline_is_opened_as_decides_whether_it_is_opened_again(places, opened, tiny_sdxl, tmp_path):
    def shared(*words):
        asked = settings(*places, *words)
        return open_editor(asked.editor, torch.device("cpu"), asked.weights, asked.runtime)[0].shared

    twin = tmp_path / "twin"
    shutil.copytree(tiny_sdxl / "sdxl_inpaint", twin, copy_function=os.symlink)
    named = f"weights.sdxl_inpaint={twin}"
    scientific = "editor.strength=0.5 editor.guidance=3 editor.steps=9 editor.scheduler=euler".split()
    assert shared() is shared(*scientific)
    others = ["runtime.diffusion.vae_slicing=true", "editor.dtype=bfloat16", "editor.vae_dtype=same", named]
    kept = [shared(), *(shared(word) for word in others)]
    assert len({id(one) for one in kept}) == len(kept)
    assert shared(named) is kept[-1]
    index = (twin / "model_index.json").read_bytes()
    (twin / "model_index.json").unlink()
    (twin / "model_index.json").write_bytes(index)
    assert shared(named) is not kept[-1], "changed files"


def test_a_pipeline_that_cannot_be_opened_ends_the_run_at_once(places, tmp_path):
    with pytest.raises(UserError, match=r"editor\.native_size=35 is no multiple of 2"):
        tasks.start(settings(*places, "editor.native_size=35"), tmp_path / "run")
    assert not (tmp_path / "run" / "samples.jsonl").exists() or not (tmp_path / "run" / "samples.jsonl").read_text()


@pytest.mark.parametrize("seam", ["laplacian", "poisson"])
def test_seams_keep_the_outside(finished, places, tmp_path, seam):
    assert tasks.start(settings(*places, f"seam={seam}"), tmp_path) == 0
    rows, plain = samples(tmp_path), samples(finished)
    assert (rows["max_abs_outside"] == 0).all()
    assert (rows["edit_sha256"] != plain["edit_sha256"]).all()
    assert rows["ssim_raw"].equals(plain["ssim_raw"])


def test_thesis_protocol_edits_empty_regions_and_composites_nothing(places, tmp_path):
    words = ("protocol=thesis", "working_size=64", "region.feather_sigma_px=3", "attributes=[hat]", "data.n=1")
    assert tasks.start(settings(*places, *words, "editor.zoom=false"), tmp_path) == 0
    row = samples(tmp_path).iloc[0]
    assert row["status"] == "empty_region"
    assert row["max_abs_outside"] > 0


def test_a_full_device_is_noted_and_the_run_goes_on(finished, places, tmp_path, monkeypatch):
    inner = InpaintEditor._repainted

    def full(self, batch, strength):
        if len(batch) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return [edit for request in batch for edit in inner(self, [request], strength)]

    monkeypatch.setattr(InpaintEditor, "_repainted", full)
    start = InpaintEditor.__init__

    def unlimited(self, *arguments, **named):
        start(self, *arguments, **named)
        self.at_once = None

    monkeypatch.setattr(InpaintEditor, "__init__", unlimited)
    assert tasks.start(settings(*places), tmp_path) == 0
    rows, plain = samples(tmp_path), samples(finished)
    assert rows["edit_sha256"].equals(plain["edit_sha256"])
    assert set(rows["note"]) == {"out of memory with 4 at once, made with up to 2"}
    said = record(tmp_path)["editor_notes"]
    assert said["hair"] == {"out of memory with 4 at once, made with up to 2": 3}

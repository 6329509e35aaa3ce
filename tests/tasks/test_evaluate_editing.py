"""The editing benchmark from configuration to table: the numbers, and everything that can stop it."""

import errno
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import cv2
import lpips
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from semfacediff import config, tasks
from semfacediff.editing.identity import Identity
from semfacediff.editing.precomputed import Precomputed
from semfacediff.errors import UserError
from semfacediff.hydra_app import composed
from semfacediff.seeding import derive_seed
from semfacediff.tasks.editing import evaluate

REPOSITORY = Path(__file__).resolve().parents[2]
SMALL = (
    "data=folder parser=ground_truth editor=identity metrics=no_weights weights.download=false strips=0 "
    "attributes=[hair,lips] runtime.device=cpu runtime.workers=0"
).split()
SOFT = ("region.dilate_px=32", "region.feather_sigma_px=32")  # at 64 px: dilated by 2, feathered with sigma 2
LPIPS_TOO = "metrics.columns=[ssim,psnr,lpips,iou]"
FAST_THESIS = ("protocol=thesis", "working_size=64", "region.feather_sigma_px=3")
CLASSES = {"hair": (13,), "lips": (11, 12)}
VARYING = ["latency_s", "peak_memory_mib"]


@functools.cache
def _settings(overrides: tuple[str, ...]) -> config.EditingEvaluation:
    return config.typed(composed("evaluate", [*SMALL, *overrides], REPOSITORY), config.EditingEvaluation)


def settings(root: Path, *overrides: str) -> config.EditingEvaluation:
    return _settings((f"data.root={root}", *overrides))


def from_files(root: Path, *overrides: str) -> config.EditingEvaluation:
    """Both the edits and the label maps were made elsewhere."""
    edits, parses = f"editor.root={root}/edits", f"parser.root={root}/parses"
    return settings(root, "editor=precomputed", edits, "parser=precomputed", parses, *overrides)


def samples(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder / "samples.parquet").set_index(["sample_id", "attribute"])


def summary(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "summary.csv").set_index("attribute")


def record(folder: Path) -> dict:
    return json.loads((folder / "run.json").read_text())


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]


def assert_same_numbers(a: Path, b: Path) -> None:
    """Byte-equal tables, the latency and memory columns excepted."""
    tables = [pd.read_csv(f / "summary.csv", dtype=str).drop(columns="latency_s_median") for f in (a, b)]
    pd.testing.assert_frame_equal(*tables)
    pd.testing.assert_frame_equal(*(samples(f).drop(columns=VARYING) for f in (a, b)), check_exact=True)


def contents(folder: Path) -> dict:
    return {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.rglob("*") if p.is_file()}


def use_editor(monkeypatch, edit):
    """Let ``edit(requests)`` make the edits of ``editor=identity``."""
    editor = Identity()
    editor.edit = edit
    monkeypatch.setattr(evaluate, "open_editor", lambda *_: (editor, {"name": "identity"}))


@pytest.fixture(scope="module")
def files(tmp_path_factory, write_files) -> Path:
    """Four photos of 64 px; read it, never write into it."""
    return write_files(tmp_path_factory.mktemp("files"), [(64, 64)] * 4)


@pytest.fixture(scope="module")
def finished(files, tmp_path_factory) -> Path:
    """A finished strict run over ``files``."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    assert tasks.start(from_files(files, *SOFT), folder) == 0
    return folder


# What a run leaves.


SAMPLE_COLUMNS = (
    "sample_id attribute prompt negative_prompt seed status coverage lpips ssim iou clip psnr_outside max_abs_outside "
    "latency_s peak_memory_mib"
).split()
SUMMARY_COLUMNS = (
    "attribute n n_expected n_empty lpips_mean lpips_sd ssim_mean ssim_sd iou_mean iou_sd clip_mean clip_sd fid fid_n "
    "latency_s_median"
).split()


def test_leaves_the_documented_columns_and_rows(finished):
    table = pd.read_parquet(finished / "samples.parquet")
    assert list(table)[:15] == SAMPLE_COLUMNS
    assert [(r.sample_id, r.attribute) for r in table.itertuples()] == [(i, a) for a in CLASSES for i in "abcd"]
    assert (table["status"] == "ok").all()
    assert table[["coverage", "ssim", "iou", "psnr_outside", "latency_s", "peak_memory_mib"]].notna().all(axis=None)
    assert table[["lpips", "clip"]].isna().all(axis=None)
    rows = pd.read_csv(finished / "summary.csv")
    assert list(rows)[:15] == SUMMARY_COLUMNS
    assert list(rows["attribute"]) == ["hair", "lips"]
    assert rows[["n", "n_expected", "n_empty"]].to_numpy().tolist() == [[4, 4, 0]] * 2


def test_the_log_holds_the_same_rows_as_the_table(finished):
    logged = {(r["sample_id"], r["attribute"]): r for r in lines(finished)}
    assert len(logged) == len(lines(finished)) == 8
    for key, row in samples(finished).iterrows():
        assert row["ssim"] == logged[key]["ssim"]
        assert row["seed"] == logged[key]["seed"]


def test_summary_is_the_mean_and_sample_deviation_of_the_rows(finished):
    for attribute, group in pd.read_parquet(finished / "samples.parquet").groupby("attribute"):
        for score in ("ssim", "iou"):
            values = group[score].to_numpy()
            row = summary(finished).loc[attribute]
            assert row[f"{score}_mean"] == pytest.approx(values.sum() / 4, abs=1e-9)
            spread = (((values - values.mean()) ** 2).sum() / 3) ** 0.5
            assert row[f"{score}_sd"] == pytest.approx(spread, abs=1e-9)


def test_the_record_says_where_the_numbers_come_from(finished):
    run = record(finished)
    assert (run["status"], run["task"], run["n"], run["n_expected"], run["n_failed"]) == ("done", "editing", 8, 8, 0)
    assert run["seed"] == 42
    assert run["wall_time_s"] > 0
    for key in ("schema_version", "command", "config_digest", "code", "packages", "hardware", "started", "finished"):
        assert run[key]
    assert all(len(run["identity"]["inputs"][k]) == 64 for k in ("data",))
    assert run["identity"]["inputs"]["parser"] is None  # precomputed: each row has the digest of its own files
    assert {m["metric"] for m in run["metrics"]} >= {"ssim", "iou"}
    assert "protocol: strict" in (finished / "config.yaml").read_text()


def test_the_saved_edit_is_the_composited_one(finished, files):
    for id_, attribute in (("a", "hair"), ("d", "lips")):
        with Image.open(finished / "edits" / attribute / f"{id_}.png") as image:
            made = np.asarray(image)
        assert samples(finished).loc[(id_, attribute), "edit_sha256"]
        with Image.open(files / "images" / f"{id_}.png") as image:
            photo = np.asarray(image)
        assert not np.array_equal(made, photo)
        assert np.array_equal(made[-4:], photo[-4:]), "far from the region the composite keeps the photo"


def test_strips_show_the_first_samples_of_every_attribute(files, tmp_path):
    assert tasks.start(from_files(files, "strips=2", "data.n=3"), tmp_path) == 0
    assert sorted(p.name for p in (tmp_path / "figures").iterdir()) == ["hair.png", "lips.png", "overview.png"]


# The numbers, computed again from the files.


def read(file, size=None, resample=Image.Resampling.LANCZOS):
    with Image.open(file) as image:
        return np.asarray(image.resize(size, resample) if size else image)


def lpips_by_hand(state, spatial):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = lpips.LPIPS(net="alex", spatial=spatial, pnet_rand=True, verbose=False).eval()
    convolutions = [m for m in net.net.modules() if isinstance(m, torch.nn.Conv2d)]
    for layer, index in zip(convolutions, (0, 3, 6, 8, 10), strict=True):
        layer.weight.data = state[f"features.{index}.weight"]
        layer.bias.data = state[f"features.{index}.bias"]
    return net


def signed(photo):
    return torch.tensor(photo / 127.5 - 1, dtype=torch.float32).permute(2, 0, 1)[None]


def luma(photo):
    return np.asarray(Image.fromarray(photo).convert("L"))


@torch.no_grad()
def thesis_scores(root, id_, attribute, net):
    """One row as the thesis's listing computes it."""
    size = (1024, 1024)
    photo, edit = read(root / f"images/{id_}.png", size), read(root / f"edits/{attribute}/{id_}.png", size)
    labels = [
        read(root / f"parses/{f}/{id_}.png", size, Image.Resampling.NEAREST) for f in ("before", f"after/{attribute}")
    ]
    before, after = (np.isin(x, CLASSES[attribute]) for x in labels)
    mask = cv2.GaussianBlur(before.astype(np.uint8) * 255, (15, 15), 7)
    outside = mask < 128
    x, y = (luma(p) * outside for p in (photo, edit))
    keep = torch.tensor(outside.astype(np.float32))
    return {
        "lpips": net(signed(photo) * keep, signed(edit) * keep).item(),
        "ssim": structural_similarity(x, y, data_range=255),
        "iou": (before & after).sum() / (before | after).sum(),
        "psnr_outside": peak_signal_noise_ratio(photo[outside], edit[outside], data_range=255),
        "max_abs_outside": np.abs(photo[outside].astype(int) - edit[outside]).max(),
        "coverage": (mask > 128).mean(),
    }


@torch.no_grad()
def strict_scores(root, id_, attribute, net):
    """One row at the photo's own size: dilated, feathered, composited, scored outside only."""
    photo, made = read(root / f"images/{id_}.png"), read(root / f"edits/{attribute}/{id_}.png")
    before = np.isin(read(root / f"parses/before/{id_}.png"), CLASSES[attribute])
    after = np.isin(read(root / f"parses/after/{attribute}/{id_}.png"), CLASSES[attribute])
    scale = max(photo.shape[:2]) / 1024
    radius, sigma = round(32 * scale), 32 * scale
    grown = cv2.dilate(before.astype(np.uint8) * 255, np.ones((2 * radius + 1,) * 2))
    mask = cv2.GaussianBlur(grown, (2 * round(sigma) + 1,) * 2, sigma)
    weight = mask[..., None] / 255
    edit = np.rint(photo * (1 - weight) + made * weight).astype(np.uint8)
    edit[mask == 0] = photo[mask == 0]
    scores = {}
    for suffix, result in (("", edit), ("_raw", made)):
        outside = mask == 0
        _, ssim_map = structural_similarity(luma(photo), luma(result), data_range=255, win_size=7, full=True)
        inner = cv2.erode(outside.astype(np.uint8), np.ones((7, 7))) > 0
        distance = net(signed(photo), signed(result)).numpy()[0, 0]
        largest = np.abs(photo[outside].astype(int) - result[outside]).max()
        scores[f"lpips{suffix}"] = distance[outside].mean(dtype=np.float64)
        scores[f"ssim{suffix}"] = ssim_map[inner].mean()
        scores[f"max_abs_outside{suffix}"] = largest
        scores[f"psnr_outside{suffix}"] = (
            peak_signal_noise_ratio(photo[outside], result[outside], data_range=255) if largest else np.inf
        )
    return scores | {"iou": (before & after).sum() / (before | after).sum(), "coverage": (mask > 128).mean()}


@pytest.mark.parametrize(
    ("protocol", "sizes", "direct"),
    [
        (("protocol=thesis", "attributes=[lips]"), [(128, 64)], thesis_scores),
        (SOFT, [(64, 64), (96, 80), (70, 101)], strict_scores),
    ],
    ids=["thesis", "strict"],
)
def test_numbers_equal_a_direct_computation_from_the_files(
    tmp_path, write_files, alexnet_file, protocol, sizes, direct
):
    root = write_files(tmp_path / "files", sizes)
    lpips_too = (LPIPS_TOO, f"weights.lpips_alexnet={alexnet_file}")
    assert tasks.start(from_files(root, *protocol, *lpips_too), tmp_path / "run") == 0
    net = lpips_by_hand(torch.load(alexnet_file), spatial=direct is strict_scores)
    rows = {k: direct(root, *k, net) for k in samples(tmp_path / "run").index}
    attributes = {attribute for _, attribute in rows}
    assert len(rows) == len(attributes) * len(sizes)
    for key, expected in rows.items():
        row = samples(tmp_path / "run").loc[key]
        for column, value in expected.items():
            assert row[column] == pytest.approx(value, abs=1e-5), (key, column)
        if direct is thesis_scores:
            assert row["ssim_raw"] == row["ssim"], "nothing is composited"
        else:
            assert row["lpips"] < row["lpips_raw"]
    for attribute in attributes:
        expected = [v["lpips"] for k, v in rows.items() if k[1] == attribute]
        assert summary(tmp_path / "run").loc[attribute, "lpips_mean"] == pytest.approx(np.mean(expected), abs=1e-5)
        if len(expected) > 1:
            spread = summary(tmp_path / "run").loc[attribute, "lpips_sd"]
            assert spread == pytest.approx(np.std(expected, ddof=1), abs=1e-5)


def test_photo_and_edit_are_resized_alike_to_the_working_size(tmp_path, write_files):
    root = write_files(tmp_path / "files", [(90, 70)])
    small = read(root / "images/a.png")
    save = root / "edits/hair/a.png"
    Image.fromarray(small).resize((140, 180), Image.Resampling.BICUBIC).save(save)
    assert tasks.start(from_files(root, *FAST_THESIS, "attributes=[hair]"), tmp_path / "run") == 0
    row = samples(tmp_path / "run").loc[("a", "hair")]
    assert (row["width"], row["height"]) == (64, 64)
    assert 0.8 < row["ssim"] < 1


# What must not change the numbers.


@pytest.mark.parametrize(
    "how", [("runtime.batch_size=1",), ("runtime.batch_size=3", "runtime.workers=2"), ("runtime.batch_size=64",)]
)
def test_batch_size_and_workers_change_nothing(finished, files, tmp_path, how):
    assert tasks.start(from_files(files, *SOFT, *how), tmp_path) == 0
    assert_same_numbers(finished, tmp_path)


@pytest.mark.parametrize("editor", ["editor=precomputed", "editor=recolor"])
def test_batch_size_changes_nothing_for_a_network_either(files, checkpoint, tmp_path, editor):
    root = (f"editor.root={files}/edits",) if editor == "editor=precomputed" else ()
    network = ("parser=checkpoint", f"parser.checkpoint={checkpoint}", editor, *root, "data.n=3", "attributes=[hair]")
    for batch in (1, 3):
        run = settings(files, *network, f"runtime.batch_size={batch}", *FAST_THESIS)
        assert tasks.start(run, tmp_path / str(batch)) == 0
    assert (samples(tmp_path / "1")["status"] == "ok").all()
    assert samples(tmp_path / "1")["iou"].between(0.01, 0.999999).all(), "the network saw the edit"
    assert_same_numbers(tmp_path / "1", tmp_path / "3")


def test_order_of_attributes_and_company_of_samples_change_no_row(finished, files, tmp_path):
    assert tasks.start(from_files(files, *SOFT, "attributes=[lips,hair]", "data.n=2"), tmp_path) == 0
    here = samples(tmp_path)
    there = samples(finished).loc[here.index]
    pd.testing.assert_frame_equal(here.drop(columns=VARYING), there.drop(columns=VARYING), check_exact=True)


def test_order_in_which_rows_were_made_changes_nothing(finished, files, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    rows = (finished / "samples.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "run" / "samples.jsonl").write_text("".join(rows[::-1][:5]))
    unfinish(tmp_path / "run")
    assert tasks.start(from_files(files, *SOFT), tmp_path / "run") == 0
    assert_same_numbers(finished, tmp_path / "run")


def test_seeds_are_the_runs_under_the_thesis_and_each_samples_own_under_strict(finished, files, tmp_path):
    strict = samples(finished)["seed"]
    assert all(seed == derive_seed(42, *key) for key, seed in strict.items())
    assert strict.nunique() == 8
    assert tasks.start(settings(files, *FAST_THESIS), tmp_path) == 0
    assert set(samples(tmp_path)["seed"]) == {42}


# Stopped and continued.


def unfinish(folder: Path) -> None:
    """As a kill leaves it: running, without the tables of the end."""
    run = record(folder) | {"status": "running", "finished": None}
    (folder / "run.json").write_text(json.dumps(run))
    for name in ("summary.csv", "samples.parquet"):
        (folder / name).unlink(missing_ok=True)


@pytest.mark.parametrize("stop_at", [0, 1, 3, 7])
def test_interrupted_at_any_edit_it_ends_with_the_same_numbers(finished, files, tmp_path, monkeypatch, stop_at):
    made, original = [], Precomputed.edit

    def stopping(self, requests):
        if len(made) == stop_at:
            raise KeyboardInterrupt
        made.append(None)
        return original(self, requests)

    monkeypatch.setattr(Precomputed, "edit", stopping)
    one_by_one = from_files(files, *SOFT, "runtime.batch_size=1")
    with pytest.raises(KeyboardInterrupt):
        tasks.start(one_by_one, tmp_path)
    assert record(tmp_path)["status"] == "running"
    assert len(lines(tmp_path)) == stop_at
    monkeypatch.undo()
    assert tasks.start(one_by_one, tmp_path) == 0
    assert_same_numbers(finished, tmp_path)


@pytest.mark.parametrize("kept", [0.0, 0.2, 0.55, 0.999])
def test_a_log_cut_in_the_middle_of_a_line_is_continued(finished, files, tmp_path, kept):
    shutil.copytree(finished, tmp_path / "run")
    whole = (finished / "samples.jsonl").read_bytes()
    (tmp_path / "run" / "samples.jsonl").write_bytes(whole[: int(kept * len(whole))])
    unfinish(tmp_path / "run")
    assert tasks.start(from_files(files, *SOFT), tmp_path / "run") == 0
    assert_same_numbers(finished, tmp_path / "run")
    assert len(lines(tmp_path / "run")) == 8


@pytest.mark.slow
def test_a_killed_process_is_continued(finished, files, tmp_path):
    folder = tmp_path / "run"
    overrides = [*SMALL, *SOFT, f"data.root={files}", "editor=precomputed", f"editor.root={files}/edits"]
    overrides += ["parser=precomputed", f"parser.root={files}/parses", "runtime.batch_size=1"]
    command = [sys.executable, str(REPOSITORY / "evaluate.py"), *overrides, f"hydra.run.dir={folder}"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    log, deadline = folder / "samples.jsonl", time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline and not (log.exists() and log.stat().st_size):
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert tasks.start(from_files(files, *SOFT), folder) == 0
    assert_same_numbers(finished, folder)


def test_a_finished_run_is_left_alone_and_printed(finished, files, capsys):
    before = contents(finished)
    capsys.readouterr()
    assert tasks.start(from_files(files, *SOFT, "runtime.batch_size=2"), finished) == 0
    assert contents(finished) == before
    assert "| hair " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ("seed=7", "config.seed was 42, now 7"),
        ("region.dilate_px=8", r"config.region.dilate_px was 32.0, now 8.0"),
        ("attributes=[hair]", r"config.attributes was \['hair', 'lips'\], now \['hair'\]"),
        ("prompts.hair='red hair'", "config.prompts.hair was '.*', now 'red hair'"),
        ("data.n=3", "config.data.n was None, now 3"),
    ],
)
def test_another_configuration_in_the_folder_is_refused(finished, files, change, difference):
    before = contents(finished)
    with pytest.raises(UserError, match=rf"belongs to another configuration: .*{difference}"):
        tasks.start(from_files(files, *SOFT, change), finished)
    assert contents(finished) == before


CHANGED = r"is finished, but the precomputed files of \d+ of its rows \(first a/hair\) have changed"


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ("images", r"belongs to another configuration: .*inputs\.data was"),
        ("edits/hair", CHANGED),
        ("parses/before", CHANGED),
    ],
)
def test_other_inputs_under_the_same_names_are_refused(finished, files, tmp_path, part, said):
    shutil.copytree(files, tmp_path / "files")
    Image.fromarray(read(files / part / "a.png")[::-1].copy()).save(tmp_path / "files" / part / "a.png")
    with pytest.raises(UserError, match=said):
        tasks.start(from_files(tmp_path / "files", *SOFT), finished)


def test_where_the_inputs_lie_does_not_matter(finished, files, tmp_path):
    shutil.copytree(files, tmp_path / "moved")
    assert tasks.start(from_files(tmp_path / "moved", *SOFT), finished) == 0


# What may fail.


def test_a_failing_sample_is_recorded_and_tried_again(files, tmp_path, monkeypatch, capsys):
    broken = [True]

    def edit(requests):
        if broken[0] and any(r.sample_id == "b" and r.attribute == "lips" for r in requests):
            raise RuntimeError("out of luck")
        return [r.photo.clone() for r in requests]

    use_editor(monkeypatch, edit)
    assert tasks.start(settings(files), tmp_path) == 1
    run, table = record(tmp_path), samples(tmp_path)
    assert (run["status"], run["n"], run["n_expected"], run["n_failed"]) == ("incomplete", 7, 8, 1)
    assert table.loc[("b", "lips"), ["status", "error"]].tolist() == ["error", "RuntimeError: out of luck"]
    assert (table["status"] == "error").sum() == 1, "the others of its batch are not lost with it"
    assert summary(tmp_path)["n"].tolist() == [4, 3]
    assert "repeat the command to try them again" in capsys.readouterr().out
    broken[0] = False
    assert tasks.start(settings(files), tmp_path) == 0
    run = record(tmp_path)
    assert (run["status"], run["n"], run["n_failed"]) == ("done", 8, 0)
    assert (samples(tmp_path)["status"] == "unchanged").all(), "the editor returns the photo"
    assert len(lines(tmp_path)) == 8


def test_a_sample_without_a_parse_fails_for_every_attribute(files, tmp_path):
    shutil.copytree(files, tmp_path / "files")
    (tmp_path / "files/parses/before/b.png").unlink()
    assert tasks.start(from_files(tmp_path / "files"), tmp_path / "run") == 1
    failed = samples(tmp_path / "run").query("status == 'error'")
    assert list(failed.index) == [("b", "hair"), ("b", "lips")]
    assert all("before/b.png: cannot be read" in e for e in failed["error"])


def test_a_missing_edit_or_later_parse_fails_alone(files, tmp_path):
    shutil.copytree(files, tmp_path / "files")
    (tmp_path / "files/edits/hair/a.png").unlink()
    (tmp_path / "files/parses/after/lips/c.png").write_bytes(b"")
    assert tasks.start(from_files(tmp_path / "files"), tmp_path / "run") == 1
    failed = samples(tmp_path / "run").query("status == 'error'")["error"]
    assert set(failed.index) == {("a", "hair"), ("c", "lips")}
    assert "hair/a.png: cannot be read" in failed["a", "hair"]
    assert "after/lips/c.png: the file is empty" in failed["c", "lips"]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda photo: photo[:, ::2, ::2], r"the edit is \[3, 32, 32\], its photo \[3, 64, 64\]"),
        (lambda photo: photo * 2 - 1, r"the edit has values -.*; editors return photos in \[0,1\]"),
        (lambda photo: photo * float("nan"), "the edit has values nan"),
        (lambda photo: photo * 255, "editors return photos in"),
    ],
)
def test_what_no_editor_may_return_is_an_error_and_not_a_number(files, tmp_path, monkeypatch, spoil, said):
    use_editor(monkeypatch, lambda requests: [spoil(r.photo) for r in requests])
    assert tasks.start(settings(files, "data.n=1", "attributes=[hair]"), tmp_path) == 1
    row = samples(tmp_path).iloc[0]
    assert row["status"] == "error"
    assert pd.Series([row["error"]]).str.contains(said).all()
    assert pd.isna(row["ssim"])


def test_rounding_beyond_the_range_is_no_error(files, tmp_path, monkeypatch):
    use_editor(monkeypatch, lambda requests: [r.photo * 1.0002 - 0.0001 for r in requests])
    assert tasks.start(settings(files, "data.n=1"), tmp_path) == 0
    assert (samples(tmp_path)["ssim"] == 1).all()


def test_when_everything_fails_there_is_still_a_record(files, tmp_path, monkeypatch):
    def edit(requests):
        raise ValueError("never")

    use_editor(monkeypatch, edit)
    assert tasks.start(settings(files), tmp_path) == 1
    assert record(tmp_path)["n_failed"] == 8
    assert summary(tmp_path)["n"].tolist() == [0, 0]


# Where regions end.


@pytest.fixture
def odd_regions(tmp_path, drawn) -> Path:
    """Photo a as drawn, b without lips, c all hair, d with hair along the border."""
    root = tmp_path / "odd"
    for id_, i in zip("abcd", range(4), strict=True):
        photo, labels = drawn(i, 64, 64)
        if id_ == "b":
            labels[np.isin(labels, CLASSES["lips"])] = 1
        if id_ == "c":
            labels[:] = 13
        if id_ == "d":
            labels[:] = 1
            labels[:9] = labels[:, :5] = 13
        for folder, pixels in (("images", photo), ("masks", labels)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(root / folder / f"{id_}.png")
    return root


def garbage(requests):
    """Random pixels everywhere, whatever the mask says."""
    return [torch.rand(r.photo.shape, generator=torch.Generator().manual_seed(1)) for r in requests]


def test_empty_region_is_not_edited_under_strict(odd_regions, tmp_path, capsys):
    assert tasks.start(settings(odd_regions, "strips=4"), tmp_path / "run") == 0
    row = samples(tmp_path / "run").loc[("b", "lips")]
    assert row["status"] == "empty_region"
    assert row["coverage"] == 0
    assert row[["ssim", "psnr_outside", "latency_s", "edit_sha256"]].isna().all()
    assert not (tmp_path / "run/edits/lips/b.png").exists()
    # c is all hair, d has no lips either
    assert summary(tmp_path / "run").loc["lips", ["n", "n_expected", "n_empty"]].tolist() == [1, 4, 3]
    assert record(tmp_path / "run")["status"] == "done"
    assert "empty regions: lips 3" in capsys.readouterr().out


def test_empty_region_is_edited_and_scored_under_the_thesis(odd_regions, tmp_path, monkeypatch):
    use_editor(monkeypatch, garbage)
    assert tasks.start(settings(odd_regions, *FAST_THESIS), tmp_path / "run") == 0
    row = samples(tmp_path / "run").loc[("b", "lips")]
    assert row["status"] == "empty_region"
    assert row["ssim"] < 0.2
    assert row["latency_s"] > 0
    assert (tmp_path / "run/edits/lips/b.png").exists()
    assert summary(tmp_path / "run").loc["lips", ["n", "n_expected", "n_empty"]].tolist() == [4, 4, 3]


@pytest.mark.parametrize(("protocol", "iou"), [(FAST_THESIS, 0.0), ((), None)], ids=["thesis", "strict"])
def test_iou_of_two_empty_regions(write_files, tmp_path, protocol, iou):
    root = write_files(tmp_path / "files", [(64, 64)], ["lips"])
    for file in (root / "parses").rglob("*.png"):
        Image.new("L", (64, 64), 1).save(file)
    assert tasks.start(from_files(root, *protocol, "attributes=[lips]"), tmp_path / "run") == 0
    found = samples(tmp_path / "run").loc[("a", "lips"), "iou"]
    assert found == iou if iou is not None else pd.isna(found)


def test_a_region_over_the_whole_frame(odd_regions, tmp_path, monkeypatch):
    use_editor(monkeypatch, garbage)
    assert tasks.start(settings(odd_regions, *SOFT), tmp_path / "strict") == 0
    row = samples(tmp_path / "strict").loc[("c", "hair")]
    assert (row["status"], row["coverage"]) == ("ok", 1)
    assert row[["ssim", "psnr_outside", "max_abs_outside"]].isna().all(), "there is no outside"
    assert tasks.start(settings(odd_regions, *FAST_THESIS), tmp_path / "thesis") == 0
    row = samples(tmp_path / "thesis").loc[("c", "hair")]
    assert row["ssim"] == 1, "the thesis counts what is blacked out as equal"


def test_exact_composite_keeps_the_photos_bytes_outside(odd_regions, tmp_path, monkeypatch):
    use_editor(monkeypatch, garbage)
    assert tasks.start(settings(odd_regions, *SOFT), tmp_path / "run") == 0
    for id_ in "ad":
        photo = read(odd_regions / f"images/{id_}.png")
        labels = read(odd_regions / f"masks/{id_}.png")
        grown = cv2.dilate((labels == 13).astype(np.uint8) * 255, np.ones((5, 5)))
        outside = cv2.GaussianBlur(grown, (5, 5), 2) == 0
        edit = read(tmp_path / f"run/edits/hair/{id_}.png")
        assert np.array_equal(edit[outside], photo[outside])
        assert (edit[labels == 13] != photo[labels == 13]).mean() > 0.9
        row = samples(tmp_path / "run").loc[(id_, "hair")]
        assert (row["max_abs_outside"], row["psnr_outside"]) == (0, np.inf)
        assert row["max_abs_outside_raw"] > 100


@pytest.mark.parametrize("form", ["off", "blend"])
def test_the_other_composites(files, tmp_path, monkeypatch, form):
    use_editor(monkeypatch, garbage)
    assert tasks.start(settings(files, *SOFT, f"composite={form}", "data.n=1"), tmp_path) == 0
    row = samples(tmp_path).loc[("a", "hair")]
    assert row["max_abs_outside"] == (row["max_abs_outside_raw"] if form == "off" else 0)


@pytest.mark.parametrize("protocol", [FAST_THESIS, SOFT], ids=["thesis", "strict"])
def test_an_editor_that_changes_nothing_is_perfect(files, checkpoint, tmp_path, protocol):
    network = ("parser=checkpoint", f"parser.checkpoint={checkpoint}", "attributes=[hair,skin]", "data.n=2")
    perceptual = (LPIPS_TOO, "weights.lpips_alexnet=random")
    assert tasks.start(settings(files, *network, *perceptual, *protocol), tmp_path) == 0
    table = samples(tmp_path)
    assert (table["status"] == "ok").all()
    assert table["ssim"].dropna().to_numpy() == pytest.approx(1, abs=1e-12)
    assert (table["lpips"] == 0).all()
    assert (table["iou"] == 1).all()
    assert (table["max_abs_outside"] == 0).all()
    assert np.isinf(table["psnr_outside"]).all()


def test_iou_is_missing_where_the_parser_has_no_opinion(files, tmp_path):
    assert tasks.start(settings(files), tmp_path) == 0
    assert samples(tmp_path)["iou"].isna().all()
    assert summary(tmp_path)["iou_mean"].isna().all()
    assert (summary(tmp_path)["n"] == 4).all()


# Weights.


def test_missing_weights_are_an_error_before_any_work(files, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    with pytest.raises(UserError) as e:
        tasks.start(settings(files, "metrics=full"), tmp_path / "run")
    for part in ("alexnet-owt-7be5be79.pth", "244 MB", "7be5be79", "hub/checkpoints", "metrics.on_missing=skip"):
        assert part in str(e.value)
    assert not (tmp_path / "run").exists()


def test_missing_weights_may_leave_the_column_empty(files, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    assert tasks.start(settings(files, "metrics=full", "metrics.on_missing=skip"), tmp_path / "run") == 0
    assert samples(tmp_path / "run")["lpips"].isna().all()
    assert samples(tmp_path / "run")["ssim"].notna().all()
    assert summary(tmp_path / "run")["lpips_mean"].isna().all()
    assert "column lpips is empty: weights.lpips_alexnet: alexnet-owt-7be5be79.pth" in capsys.readouterr().out
    assert record(tmp_path / "run")["not_comparable"] == []


def test_random_and_unknown_weights_stamp_the_run(files, tmp_path, alexnet_file, capsys):
    for name, said in (("random", "weights random are not"), (alexnet_file, "weights sha256:")):
        run = settings(files, LPIPS_TOO, f"weights.lpips_alexnet={name}", "data.n=1", "attributes=[hair]")
        assert tasks.start(run, tmp_path / Path(name).stem) == 0
        assert said in record(tmp_path / Path(name).stem)["not_comparable"][0]
        assert f"not comparable: lpips: {said}" in capsys.readouterr().out


def test_a_limited_run_is_stamped(files, tmp_path):
    assert tasks.start(settings(files, "limit=2"), tmp_path) == 0
    assert record(tmp_path)["not_comparable"] == ["limit: only part of the data was used"]
    assert summary(tmp_path)["n"].tolist() == [2, 2]


# Folders that misbehave.


def test_a_disk_that_fills_at_any_write_loses_nothing(files, finished, tmp_path, monkeypatch):
    fsync, run = os.fsync, from_files(files, *SOFT, "runtime.batch_size=1")
    for allowed in (0, 1, 2, 3, 4, 5, 9, 19):
        folder, left = tmp_path / str(allowed), [allowed]

        def filling(descriptor, left=left):
            left[0] -= 1
            if left[0] < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            fsync(descriptor)

        monkeypatch.setattr(os, "fsync", filling)
        with pytest.raises(UserError, match=r"cannot write .*No space left on device.*repeat the command"):
            tasks.start(run, folder)
        monkeypatch.setattr(os, "fsync", fsync)
        assert tasks.start(run, folder) == 0
        assert_same_numbers(finished, folder)


def test_a_file_in_the_way(files, tmp_path):
    (tmp_path / "run").write_text("precious")
    with pytest.raises(UserError, match=r"cannot write .*run \(File exists\)"):
        tasks.start(settings(files), tmp_path / "run")
    assert (tmp_path / "run").read_text() == "precious"


def test_a_folder_that_cannot_be_written(files, tmp_path, monkeypatch):
    def refused(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refused)
    with pytest.raises(UserError, match=r"cannot write .*Permission denied"):
        tasks.start(settings(files), tmp_path / "run")


def test_a_folder_that_another_process_holds(files, finished):
    from semfacediff.records.folder import RunFolder

    with RunFolder(finished, record(finished)["identity"], {}, ""), pytest.raises(UserError, match="is working in"):
        tasks.start(from_files(files, *SOFT), finished)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda text: text.replace('"status": "ok"', '"status": ok', 1), "line 1 is no row"),
        (lambda text: text + text.splitlines()[0] + "\n", "a sample has two rows"),
    ],
)
def test_a_log_changed_by_hand_is_refused(files, finished, tmp_path, damage, said):
    shutil.copytree(finished, tmp_path / "run")
    log = tmp_path / "run/samples.jsonl"
    log.write_text(damage(log.read_text()))
    unfinish(tmp_path / "run")
    with pytest.raises(UserError, match=rf"samples\.jsonl: .*{said}"):
        tasks.start(from_files(files, *SOFT), tmp_path / "run")
    assert log.exists()


def test_skipped_photos_are_recorded(files, tmp_path, capsys):
    shutil.copytree(files, tmp_path / "files")
    (tmp_path / "files/images/b.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"(?s)1 of the samples .*images/b\.png: not a readable image"):
        tasks.start(from_files(tmp_path / "files"), tmp_path / "run")
    assert tasks.start(from_files(tmp_path / "files", "data.on_error=skip"), tmp_path / "run") == 0
    assert list(record(tmp_path / "run")["data"]["skipped"]) == ["b"]
    assert "1 samples were left out" in capsys.readouterr().out


def test_photos_alone_are_enough_where_nothing_else_is_needed(files, tmp_path):
    shutil.copytree(files, tmp_path / "files")
    shutil.rmtree(tmp_path / "files/masks")
    assert tasks.start(from_files(tmp_path / "files"), tmp_path / "run") == 0


def test_the_folder_and_the_shards_of_the_same_photos_give_the_same_rows(toy_folder, toy_shards, tmp_path):
    for kind, root in (("folder", toy_folder(4)), ("shards", toy_shards(4, per_shard=3))):
        assert tasks.start(settings(root, f"data={kind}", "editor=recolor"), tmp_path / f"run-{kind}") == 0
    assert_same_numbers(tmp_path / "run-folder", tmp_path / "run-shards")

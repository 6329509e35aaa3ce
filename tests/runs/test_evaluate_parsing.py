"""Scoring a parser from configuration to table, against a plain count over the files."""

import functools
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from semfacediff import config, runs
from semfacediff.errors import UserError
from semfacediff.hydra_app import composed
from semfacediff.labels import CELEBAMASK
from semfacediff.parsing import load_parser
from semfacediff.parsing.predict import ModelParser, PrecomputedParser

REPOSITORY = Path(__file__).resolve().parents[2]
SMALL = "task=parsing data=folder weights.download=false runtime.device=cpu runtime.workers=0".split()
AGGREGATES = ["miou", "miou_no_background", "mean_f1_no_background", "pixel_accuracy"]


@functools.cache
def _settings(overrides: tuple[str, ...]) -> config.ParsingEvaluation:
    return config.typed(composed("evaluate", [*SMALL, *overrides], REPOSITORY), config.ParsingEvaluation)


def settings(root: Path, *overrides: str) -> config.ParsingEvaluation:
    return _settings((f"data.root={root}", *overrides))


def from_files(root: Path, *overrides: str) -> config.ParsingEvaluation:
    return settings(root, "parser=precomputed", f"parser.root={root}/parses", *overrides)


def record(folder: Path) -> dict:
    return json.loads((folder / "run.json").read_text())


def tables(folder: Path) -> tuple[bytes, bytes]:
    return (folder / "summary.csv").read_bytes(), (folder / "samples.parquet").read_bytes()


def contents(folder: Path) -> dict:
    return {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.rglob("*") if p.is_file()}


def read(file):
    with Image.open(file) as image:
        return np.asarray(image)


@pytest.fixture(scope="module")
def files(tmp_path_factory, write_files) -> Path:
    """Four photos of three sizes with labels, and label maps that are off by some pixels and name classes wrongly."""
    root = write_files(tmp_path_factory.mktemp("files"), [(64, 64), (96, 80), (64, 64), (70, 101)])
    for i, file in enumerate(sorted((root / "parses/before").iterdir())):
        wrong = np.roll(read(file), 2 + i, axis=1)
        wrong[wrong == 11] = 18  # upper lips are never found, clothes only imagined
        Image.fromarray(wrong).save(file)
    return root


@pytest.fixture(scope="module")
def finished(files, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "run"
    assert runs.start(from_files(files), folder) == 0
    return folder


def counted(pairs):
    """class -> (iou, f1, precision, recall, pixels, images) over (truth, predicted) pairs, ``None`` where absent."""
    rows = {}
    for c, name in enumerate(CELEBAMASK.classes):
        hit = sum(int(((t == c) & (p == c)).sum()) for t, p in pairs)
        true, found = (sum(int((x[k] == c).sum()) for x in pairs) for k in (0, 1))
        if true + found == 0:
            rows[name] = None
            continue
        precision, recall = hit / found if found else 0, hit / true if true else 0
        f1 = 2 * hit / (true + found)
        images = sum(bool((t == c).any()) for t, _ in pairs)
        rows[name] = (hit / (true + found - hit), f1, precision, recall, true, images)
    return rows


def assert_equals_a_plain_count(folder, pairs):
    table = pd.read_csv(folder / "summary.csv").set_index("class")
    rows = counted(pairs)
    for name, row in rows.items():
        cells = table.loc[name, ["iou", "f1", "precision", "recall", "pixels", "images"]].astype(float)
        if row is None:
            assert cells.iloc[:4].isna().all()
            assert (cells.iloc[4:] == 0).all()
        else:
            assert cells.tolist() == pytest.approx(row, abs=1e-9)
    present = [r for r in rows.values() if r]
    faces = [r for name, r in rows.items() if r and name != "background"]
    assert table.loc["miou", "iou"] == pytest.approx(np.mean([r[0] for r in present]), abs=1e-9)
    assert table.loc["miou_no_background", "iou"] == pytest.approx(np.mean([r[0] for r in faces]), abs=1e-9)
    assert table.loc["mean_f1_no_background", "f1"] == pytest.approx(np.mean([r[1] for r in faces]), abs=1e-9)
    right, total = sum(int((t == p).sum()) for t, p in pairs), sum(t.size for t, _ in pairs)
    assert table.loc["pixel_accuracy", "recall"] == pytest.approx(right / total, abs=1e-9)


def test_documented_rows_and_columns(finished):
    table = pd.read_csv(finished / "summary.csv")
    assert list(table) == ["class", "iou", "f1", "precision", "recall", "pixels", "images"]
    assert list(table["class"]) == [*CELEBAMASK.classes, *AGGREGATES]
    run = record(finished)
    assert (run["status"], run["task"], run["n"], run["n_expected"]) == ("done", "parsing", 4, 4)
    assert run["not_comparable"] == []


def test_numbers_equal_a_plain_count_over_the_files(finished, files):
    pairs = [(read(files / f"masks/{i}.png"), read(files / f"parses/before/{i}.png")) for i in "abcd"]
    assert_equals_a_plain_count(finished, pairs)
    table = pd.read_csv(finished / "summary.csv").set_index("class")
    assert table.loc["u_lip", "iou"] == table.loc["cloth", "iou"] == 0
    assert np.isnan(table.loc["hat", "iou"])


def test_a_networks_numbers_equal_a_plain_count_over_its_own_maps(files, checkpoint, tmp_path):
    assert runs.start(settings(files, f"parser.checkpoint={checkpoint}"), tmp_path) == 0
    parser, pairs = ModelParser(*load_parser(checkpoint), torch.device("cpu")), []
    for id_ in "abcd":
        truth = read(files / f"masks/{id_}.png")
        photo = torch.from_numpy(read(files / f"images/{id_}.png") / np.float32(255)).permute(2, 0, 1)
        pairs.append((truth, parser.predict(photo[None], truth.shape)[0].numpy()))
    assert {len(np.unique(p)) for _, p in pairs} == {2}
    assert_equals_a_plain_count(tmp_path, pairs)


def test_sample_rows_carry_their_own_scores_and_counts(finished, files):
    rows = pd.read_parquet(finished / "samples.parquet").set_index("sample_id")
    assert list(rows.index) == list("abcd")
    truth, predicted = read(files / "masks/b.png"), read(files / "parses/before/b.png")
    assert rows.loc["b", "pixel_accuracy"] == pytest.approx((truth == predicted).mean(), abs=1e-12)
    assert sum(n for _, _, n in rows.loc["b", "confusion"]) == truth.size


def test_workers_and_batch_size_change_nothing(finished, files, tmp_path):
    assert runs.start(from_files(files, "runtime.workers=2", "runtime.batch_size=1"), tmp_path) == 0
    assert tables(tmp_path) == tables(finished)


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.6, 0.999])
def test_a_log_cut_in_the_middle_of_a_line_is_continued(finished, files, tmp_path, kept):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    whole = (finished / "samples.jsonl").read_bytes()
    (folder / "samples.jsonl").write_bytes(whole[: int(kept * len(whole))])
    (folder / "run.json").write_text(json.dumps(record(folder) | {"status": "running"}))
    assert runs.start(from_files(files), folder) == 0
    assert tables(folder) == tables(finished)
    assert (folder / "samples.jsonl").read_bytes() == whole


@pytest.mark.parametrize("stop_at", [0, 2])
def test_interrupted_it_ends_with_the_same_table(finished, files, tmp_path, monkeypatch, stop_at):
    read_, made = PrecomputedParser.before, []

    def stopping(self, sample, photo):
        if len(made) == stop_at:
            raise KeyboardInterrupt
        made.append(None)
        return read_(self, sample, photo)

    monkeypatch.setattr(PrecomputedParser, "before", stopping)
    with pytest.raises(KeyboardInterrupt):
        runs.start(from_files(files), tmp_path)
    assert record(tmp_path)["status"] == "running"
    monkeypatch.undo()
    assert runs.start(from_files(files), tmp_path) == 0
    assert tables(tmp_path) == tables(finished)


def test_a_finished_run_is_left_alone_and_printed(finished, files, capsys):
    before = contents(finished)
    assert runs.start(from_files(files), finished) == 0
    assert contents(finished) == before
    out = capsys.readouterr().out
    assert "**miou**" in out
    assert "parser precomputed, n = 4 of 4" in out


def test_another_configuration_is_refused(finished, files):
    with pytest.raises(UserError, match=r"belongs to another configuration: config\.data\.n was None, now 2"):
        runs.start(from_files(files, "data.n=2"), finished)


def test_a_failing_sample_is_recorded_and_tried_again(finished, files, tmp_path, monkeypatch):
    read_ = PrecomputedParser.before

    def failing(self, sample, photo):
        if sample.id == "c":
            raise RuntimeError("out of luck")
        return read_(self, sample, photo)

    monkeypatch.setattr(PrecomputedParser, "before", failing)
    assert runs.start(from_files(files), tmp_path) == 1
    run = record(tmp_path)
    assert (run["status"], run["n"], run["n_expected"], run["n_failed"]) == ("incomplete", 3, 4, 1)
    rows = pd.read_parquet(tmp_path / "samples.parquet").set_index("sample_id")
    assert rows.loc["c", "error"] == "RuntimeError: out of luck"
    monkeypatch.undo()
    assert runs.start(from_files(files), tmp_path) == 0
    assert tables(tmp_path) == tables(finished)


def test_when_everything_fails_there_is_still_a_record(files, tmp_path, monkeypatch):
    def failing(self, sample, photo):
        raise RuntimeError("never")

    monkeypatch.setattr(PrecomputedParser, "before", failing)
    assert runs.start(from_files(files), tmp_path) == 1
    assert record(tmp_path)["n_failed"] == 4
    table = pd.read_csv(tmp_path / "summary.csv").set_index("class")
    assert table[["iou", "f1"]].isna().all(axis=None), "nothing was scored, so there is no score"


def test_scoring_the_labels_against_themselves_is_refused(files, tmp_path):
    with pytest.raises(UserError, match="ground_truth would be scored against itself; set parser"):
        runs.start(settings(files, "parser=ground_truth"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_thesiss_protocol_scores_edits_only(files, tmp_path):
    with pytest.raises(UserError, match="protocol=thesis scores edits; use protocol=strict"):
        runs.start(from_files(files, "protocol=thesis"), tmp_path)


def test_no_parser_is_refused_with_the_ways_out(files, tmp_path):
    with pytest.raises(UserError, match=r"no trained parser: set parser\.checkpoint=FOLDER"):
        runs.start(settings(files), tmp_path / "run")


def test_label_maps_in_another_order_are_refused(files, tmp_path):
    shutil.copytree(files, tmp_path / "files")
    Image.fromarray(np.full((64, 64), 19, np.uint8)).save(tmp_path / "files/parses/before/a.png")
    assert runs.start(from_files(tmp_path / "files"), tmp_path / "run") == 1
    error = pd.read_parquet(tmp_path / "run/samples.parquet").set_index("sample_id").loc["a", "error"]
    assert "before/a.png: label values 19 lie outside space 'celebamask' (0..18)" in error


def test_a_network_of_another_label_space_is_converted_by_class_name(files, checkpoint, tmp_path):
    shutil.copytree(checkpoint, tmp_path / "other")
    card = json.loads((checkpoint / "parser.json").read_text())
    (tmp_path / "other/parser.json").write_text(json.dumps(card | {"label_space": "zllrunning"}))
    assert runs.start(settings(files, f"parser.checkpoint={tmp_path}/other"), tmp_path / "run") == 0
    table = pd.read_csv(tmp_path / "run/summary.csv").set_index("class")
    assert table.loc["skin", "recall"] > 0, "index 1 is skin in both"
    # index 13 is hair here and the lower lip there
    assert table.loc["hair", "precision"] == 0
    assert table.loc["l_lip", "recall"] > 0


def test_a_space_that_would_lose_classes_is_refused(toy_folder, checkpoint, tmp_path):
    root = toy_folder(2)
    for file in (root / "masks").iterdir():
        Image.fromarray(np.minimum(read(file), 10)).save(file)
    with pytest.raises(UserError, match="labels of space 'celebamask' cannot be converted to 'lapa', which lacks"):
        runs.start(settings(root, "data.label_space=lapa", f"parser.checkpoint={checkpoint}"), tmp_path / "run")

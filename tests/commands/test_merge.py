"""Parts of a run, merged: the numbers of the run in one piece, whatever the order, the division and the kills."""

import functools
import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies

from semfacediff import config, tasks
from semfacediff.cli import main
from semfacediff.commands.merge import parts as merging
from semfacediff.commands.merge.parts import merge
from semfacediff.errors import UserError
from semfacediff.hydra_app import composed
from semfacediff.metrics import set_scores
from semfacediff.metrics.inception import FEATURES
from semfacediff.records.samples import SampleLog
from semfacediff.tasks.parsing import evaluate as evaluate_parsing
from semfacediff.tasks.synthesis import showcase as synthesis_showcase

REPOSITORY = Path(__file__).resolve().parents[2]
SMALL = (
    "data=folder editor=precomputed parser=precomputed metrics=no_weights weights.download=false strips=0 "
    "attributes=[hair,lips] runtime.device=cpu runtime.workers=0 weights.inception=random name=small"
).split()
SIZES = [(64, 64), (48, 64), (64, 56), (64, 64), (52, 52)]
VARYING = ["latency_s", "peak_memory_mib"]


class PixelFeatures:
    """In the place of Inception: features that depend on the photo alone."""

    weights = "random"

    def __init__(self, *_):
        pass

    def features(self, photos):
        for photo in photos:
            means = photo.reshape(-1, 3)[: (photo.shape[0] * photo.shape[1]) // 8 * 8].reshape(8, -1).mean(1)
            yield np.resize(means, FEATURES).astype(np.float32) * np.linspace(0.5, 1.5, FEATURES, dtype=np.float32)


def cheap_distance(photos, edits) -> float:
    """In the place of FID, whose roots of matrices take seconds: from the same moments."""
    return float(np.square(photos.mean - edits.mean).sum() + np.trace(photos.covariance + edits.covariance))


def with_sets(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(set_scores, "Inception", PixelFeatures)
    patch.setattr(set_scores, "frechet_distance", cheap_distance)


@pytest.fixture(scope="module")
def files(write_files, tmp_path_factory):
    return write_files(tmp_path_factory.mktemp("faces"), SIZES)


@functools.cache
def _typed(words: tuple[str, ...]) -> config.Closed:
    cfg = composed("evaluate", list(words), REPOSITORY)
    return config.typed(cfg, config.EditingEvaluation, config.ParsingEvaluation, config.SynthesisEvaluation)


def editing(root: Path, *overrides: str) -> config.Closed:
    places = (f"data.root={root}", f"editor.root={root}/edits", f"parser.root={root}/parses")
    return _typed((*SMALL, *places, *overrides))


def parsing(root: Path, *overrides: str) -> config.Closed:
    words = "task=parsing data=folder parser=precomputed runtime.device=cpu runtime.workers=0 name=small".split()
    return _typed((*words, f"data.root={root}", f"parser.root={root}/parses", *overrides))


SYNTHESIS = (
    "task=synthesis data=toy data.count=5 data.size=32 runtime.device=cpu runtime.workers=0 name=small "
    "synthesis.steps=1 synthesis.diversity_samples=2 synthesis.diversity_photos=3 synthesis.latency_steps=[1] "
    "synthesis.showcase=2 metrics.columns=[ssim,lpips,iou,fid] weights.inception=random "
    "weights.lpips_alexnet=random weights.download=false"
).split()


def synthesis(networks: tuple[Path, Path], *overrides: str) -> config.Closed:
    places = f"synthesis.checkpoint={networks[0]}", f"parser.checkpoint={networks[1]}"
    return _typed((*SYNTHESIS, *places, *overrides))


def in_parts(made, root, out: Path, count: int, *overrides: str) -> list[Path]:
    folders = [out / f"part{k}" for k in range(count)]
    for k, folder in enumerate(folders):
        assert tasks.start(made(root, *overrides, f"shard.index={k}", f"shard.count={count}"), folder) == 0
    return folders


def record(folder: Path) -> dict:
    return json.loads((folder / "run.json").read_text())


def numbers(folder: Path) -> dict[str, bytes]:
    """Bytes of everything that tables are made from, the columns of time and memory excepted."""
    summary = pd.read_csv(folder / "summary.csv", dtype=str).drop(columns="latency_s_median", errors="ignore")
    found = {"summary": summary.to_csv().encode()}
    samples = pd.read_parquet(folder / "samples.parquet").drop(columns=VARYING, errors="ignore")
    found["samples"] = samples.to_parquet()
    rows = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    found["log"] = json.dumps([{k: v for k, v in row.items() if k not in VARYING} for row in rows]).encode()
    more = [folder.glob(f"{name}/**/*") for name in ("features", "edits", "samples", "showcase", "figures")]
    for file in sorted(itertools.chain(folder.glob("*.csv"), *more)):
        if file.is_file() and file.name != "summary.csv":
            found[str(file.relative_to(folder))] = file.read_bytes()
    return found


@pytest.fixture(scope="module")
def whole_editing(files, tmp_path_factory):
    folder = tmp_path_factory.mktemp("editing") / "whole"
    with pytest.MonkeyPatch.context() as patch:
        with_sets(patch)
        assert tasks.start(editing(files, "metrics.columns=[ssim,psnr,iou,leakage,fid]"), folder) == 0
    return folder


def test_an_editing_run_merged_has_the_numbers_of_one_in_one_piece(files, whole_editing, tmp_path, monkeypatch):
    with_sets(monkeypatch)
    parts = in_parts(editing, files, tmp_path, 3, "metrics.columns=[ssim,psnr,iou,leakage,fid]")
    assert [record(part)["n_expected"] for part in parts] == [4, 4, 2]
    assert merge([parts[2], parts[0], parts[1]], tmp_path / "merged") == 0
    merged, whole = numbers(tmp_path / "merged"), numbers(whole_editing)
    assert merged.keys() == whole.keys()
    assert {"leakage.csv", "features/photos.npz", "features/hair.npz", "edits/lips/d.png"} <= merged.keys()
    assert [name for name in whole if whole[name] != merged[name]] == []
    said, asked = record(tmp_path / "merged"), record(whole_editing)
    for key in ("identity", "config_digest", "n", "n_expected", "n_failed", "metrics", "not_comparable", "set_notes"):
        assert said[key] == asked[key], key
    assert said["merged_from"] == ["part0", "part1", "part2"]
    assert (tmp_path / "merged" / "config.yaml").read_bytes() == (whole_editing / "config.yaml").read_bytes()
    again = (tmp_path / "merged" / "run.json").read_bytes()
    assert main(["merge", *map(str, parts), "--out", str(tmp_path / "merged")]) == 0
    assert (tmp_path / "merged" / "run.json").read_bytes() == again, "a finished merge changes nothing"


def test_a_parsing_run_merged_has_the_numbers_of_one_in_one_piece(files, tmp_path, monkeypatch):
    for drawing in ("draw_scores", "_draw_strips"):  # seconds a run; merge() draws its own
        monkeypatch.setattr(evaluate_parsing, drawing, lambda *_: None)
    assert tasks.start(parsing(files), tmp_path / "whole") == 0
    parts = in_parts(parsing, files, tmp_path, 2)
    drawn = []
    monkeypatch.setattr(merging, "draw_scores", lambda *told: drawn.append(told))
    assert merge(parts[::-1], tmp_path / "merged") == 0
    merged, whole = numbers(tmp_path / "merged"), numbers(tmp_path / "whole")
    assert {"summary", "samples", "log", "confusion.csv"} == merged.keys()
    assert merged == whole
    assert record(tmp_path / "merged")["metrics"] == record(tmp_path / "whole")["metrics"]
    assert drawn == [
        (tmp_path / "merged", tmp_path / "merged" / "figures", REPOSITORY, "precomputed, 5 photos", "strict")
    ]


def test_a_cascade_merged_has_the_numbers_of_one_in_one_piece(files, tmp_path):
    stages = "cascade={stages: [{attribute: lips}, {attribute: hair}], reparse: false}"

    def cascade(root, *overrides):
        kept = [word for word in SMALL if not word.startswith(("editor=", "parser="))]
        return _typed((*kept, "editor=recolor", "parser=ground_truth", f"data.root={root}", stages, *overrides))

    assert tasks.start(cascade(files), tmp_path / "whole") == 0
    assert merge(in_parts(cascade, files, tmp_path, 2), tmp_path / "merged") == 0
    assert numbers(tmp_path / "merged") == numbers(tmp_path / "whole")


@pytest.fixture(scope="module")
def networks(tiny_synthesis, tiny_checkpoint, tmp_path_factory) -> tuple[Path, Path]:
    """A generator whose training is on record, and a judge."""
    run = tmp_path_factory.mktemp("training")
    shutil.copytree(tiny_synthesis, run / "checkpoints" / "average")
    rule = {"by": "id", "modulo": 5, "val": [1], "test": [3]}
    trained = {"config": {"data": {"name": "toy", "seed": 0, "split_rule": rule}}, "inputs": {}}
    (run / "run.json").write_text(json.dumps({"schema_version": 1, "status": "done", "identity": trained}))
    return run / "checkpoints" / "average", tiny_checkpoint


@pytest.fixture(scope="module")
def generated(networks, tmp_path_factory) -> tuple[Path, list[Path]]:
    """A synthesis run in one piece, and in three parts."""
    out = tmp_path_factory.mktemp("synthesis")
    with pytest.MonkeyPatch.context() as patch:
        with_sets(patch)
        patch.setattr(synthesis_showcase, "panel_figure", drawn_cheaply)
        assert tasks.start(synthesis(networks), out / "whole") == 0
        return out / "whole", in_parts(synthesis, networks, out, 3)


def drawn_cheaply(rows, title: str, file: Path) -> None:
    """In the place of a figure, which takes a second."""
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(title.encode() + b"".join(picture.tobytes() for row in rows for _, picture in row))


@pytest.mark.slow
def test_a_synthesis_run_merged_is_the_one_in_one_piece_whatever_the_order(generated, tmp_path, monkeypatch):
    monkeypatch.setattr(set_scores, "frechet_distance", cheap_distance)
    folder, parts = generated
    whole, said = numbers(folder), record(folder)
    assert {"features/photos.npz", "features/noise.npz", "samples/reconstruction/00004.png"} <= whole.keys()
    assert {"showcase/showcase.json", "showcase/00001_reconstruction.png", "figures/showcase.png"} <= whole.keys()
    assert pd.read_csv(folder / "summary.csv").set_index("task").loc["noise", "lpips_diversity_n"] == 3
    assert said["generation"]["judged_photos"] == {"in_training": 3, "in_selection": 1, "of": 5}
    assert any(note.startswith("FID over n = 5") for note in said["set_notes"])
    varying = {"run_id", "started", "finished", "wall_time_s", "latency", "merged_from", "command", "files"}
    for i, order in enumerate((parts[::-1], [*parts[1:], parts[0]])):
        out = tmp_path / str(i)
        assert merge(order, out) == 0
        merged, now = numbers(out), record(out)
        assert merged.keys() == whole.keys()
        assert [name for name in whole if whole[name] != merged[name]] == []
        assert {k: v for k, v in now.items() if k not in varying} == {k: v for k, v in said.items() if k not in varying}
        assert now["merged_from"] == ["part0", "part1", "part2"]
        assert now["latency"] == record(parts[0])["latency"] != []
        assert (out / "config.yaml").read_bytes() == (folder / "config.yaml").read_bytes()


def test_the_first_part_of_a_synthesis_run_times_and_shows_for_all(generated):
    _, parts = generated
    assert [len(record(part)["latency"]) for part in parts] == [1, 0, 0]
    assert [(part / "showcase").exists() for part in parts] == [True, False, False]
    assert [record(part)["n"] for part in parts] == [record(part)["n_expected"] for part in parts] == [2, 2, 1]
    assert {file.stem for file in (parts[0] / "samples" / "noise").iterdir()} == {"00000", "00003"}


@pytest.mark.slow
def test_parts_that_do_not_make_a_synthesis_run_are_refused(generated, networks, three, tmp_path):
    whole, parts = generated
    out = tmp_path / "merged"
    assert refused([parts[0], parts[2]], out).endswith("shard.index=1")
    assert "is not a shard of a run" in refused([whole], out)
    assert refused([parts[0], three[1], parts[2]], out) == (
        f"merge: {parts[0]} is a shard of task=synthesis, {three[1]} of task=editing; name shards of one run"
    )
    few = "synthesis.latency_steps=[] synthesis.showcase=0 metrics.columns=[ssim] synthesis.tasks=[noise]".split()
    asked = synthesis(networks, *few, "shard.index=1", "shard.count=3")
    assert tasks.start(asked, tmp_path / "other") == 0
    said = refused([parts[0], tmp_path / "other", parts[2]], out)
    assert f"{parts[0]} and {tmp_path / 'other'} are of different configurations: config.generation." in said
    assert "\n" not in said


def test_a_part_is_stamped_and_says_how_to_go_on(files, tmp_path):
    (part, _) = in_parts(editing, files, tmp_path, 2)
    run = record(part)
    assert run["part_of"] == {"index": 0, "count": 2, "samples": 5, "n_expected": 5}
    assert run["not_comparable"] == ["shard: part 0 of 2; join all with semfacediff merge"]
    assert list(pd.read_parquet(part / "samples.parquet")["sample_id"].unique()) == ["a", "c", "e"]


@pytest.fixture(scope="module")
def three(files, tmp_path_factory):
    out = tmp_path_factory.mktemp("three")
    return in_parts(editing, files, out, 3)


def refused(folders, out) -> str:
    with pytest.raises(UserError) as caught:
        merge(folders, out)
    assert not out.exists()
    return str(caught.value)


def test_parts_that_do_not_make_a_whole_are_refused_by_name(files, three, whole_editing, tmp_path):
    out = tmp_path / "merged"
    assert "shard 1 of 3 missing (counted from 0); make it with: python" in refused([three[0], three[2]], out)
    assert refused([three[0], three[2]], out).endswith("shard.index=1")
    twice = shutil.copytree(three[1], tmp_path / "copy")
    assert f"{twice} are both shard 1 of 3" in refused([*three, twice], out)
    assert "is not a shard of a run" in refused([whole_editing], out)
    other = tmp_path / "other"
    tasks.start(editing(files, "shard.index=1", "shard.count=3", "composite=blend"), other)
    said = refused([three[0], other, three[2]], out)
    assert f"{three[0]} and {other} are of different configurations: config.composite was 'exact'" in said
    tasks.start(editing(files, "shard.index=1", "shard.count=2"), tmp_path / "half")
    assert f"is one of 3 shards, {tmp_path / 'half'} one of 2" in refused([three[0], tmp_path / "half"], out)


def test_parts_of_other_data_are_refused(files, three, write_files, tmp_path):
    root = write_files(tmp_path / "faces", SIZES[::-1])
    tasks.start(editing(root, "shard.index=1", "shard.count=3"), tmp_path / "other")
    assert "inputs.data was" in refused([three[0], tmp_path / "other", three[2]], tmp_path / "merged")


def test_a_part_that_was_changed_or_is_unfinished_is_refused(three, tmp_path):
    changed = shutil.copytree(three[1], tmp_path / "changed")
    log = changed / "samples.jsonl"
    log.write_text(log.read_text().replace('"status": "ok"', '"status": "OK"', 1))
    assert "samples.jsonl has digest" in refused([three[0], changed, three[2]], tmp_path / "merged")
    unfinished = shutil.copytree(three[1], tmp_path / "unfinished")
    (unfinished / "run.json").write_text(json.dumps(record(unfinished) | {"status": "running"}))
    assert "is running; repeat its command" in refused([three[0], unfinished, three[2]], tmp_path / "merged")


def test_more_parts_than_samples_and_a_part_that_is_none_are_refused(files, tmp_path):
    with pytest.raises(UserError, match=r"shard.count=6 is more than the 5 samples"):
        tasks.start(editing(files, "shard.count=6"), tmp_path / "run")
    with pytest.raises(UserError, match=r"shard.index: counted from 0, below shard.count=2; got 2"):
        editing(files, "shard.index=2", "shard.count=2")


CELLS = ("composite=exact", "composite=blend")


@pytest.fixture(scope="module")
def tables(files, tmp_path_factory):
    """The tables of a sweep of two cells, made in order, in one piece, without interruption."""
    out = tmp_path_factory.mktemp("sweep")
    for cell in CELLS:
        assert tasks.start(editing(files, cell), out / cell) == 0
    return {cell: numbers(out / cell) for cell in CELLS}


class Killed(BaseException):
    """As a signal would: nothing in a run catches it."""


def run_with_kills(asked: config.Closed, folder: Path, kills: list[int]) -> None:
    """Every sitting but the last is killed after so many rows."""
    for rows in kills:
        left = itertools.count(rows, -1)

        def append(log, row, left=left, original=SampleLog.append):
            if next(left) <= 0:
                raise Killed
            original(log, row)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(SampleLog, "append", append)
            try:
                tasks.start(asked, folder)
            except Killed:
                continue
            return
    assert tasks.start(asked, folder) == 0


@pytest.mark.slow
@settings(max_examples=5)
@given(
    order=strategies.permutations(CELLS),
    counts=strategies.tuples(*[strategies.integers(1, 5)] * 2),
    kills=strategies.lists(strategies.integers(0, 4), max_size=2),
    seed=strategies.randoms(use_true_random=False),
)
def test_any_order_division_and_interruption_of_a_sweep_gives_the_same_tables(
    files, tables, tmp_path_factory, order, counts, kills, seed
):
    out = tmp_path_factory.mktemp("sweep")
    todo = [(cell, k, count) for cell, count in zip(order, counts, strict=True) for k in range(count)]
    seed.shuffle(todo)
    for cell, k, count in todo:
        run_with_kills(editing(files, cell, f"shard.index={k}", f"shard.count={count}"), out / f"{cell}{k}", kills)
    for cell, count in zip(order, counts, strict=True):
        parts = [out / f"{cell}{k}" for k in range(count)]
        seed.shuffle(parts)
        if count > 1:
            merge(parts, out / cell)
        assert numbers(out / cell if count > 1 else parts[0]) == tables[cell]

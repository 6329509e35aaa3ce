"""``--dry-run``: it says what would run and writes nothing."""

from pathlib import Path

import pytest

from semfacediff import cli

TOY = "data=toy data.count=4 data.size=64 runtime.device=cpu hydra.run.dir=run".split()


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def told(capsys, *words: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as left:
        cli.main([*words, "--dry-run"])
    return int(str(left.value.code)), capsys.readouterr().out


def test_an_evaluation(here, capsys):
    words = ["evaluate", *TOY, "data.split=all", "parser=ground_truth", "attributes=[hair,lips]", "metrics=no_weights"]
    code, out = told(capsys, *words, "editor.repeats=3")
    assert code == 0
    assert out.startswith("name: toy\n")
    assert "\ntask: editing\n" in out
    assert "run folder: " in out
    assert "run (new)" in out
    assert "data: 4 photos\nparser: ground_truth\nmetrics: effect," in out
    assert "edits: 24 of 64x64 px; at most 0.00 GiB on disk; time unknown: no finished run of this editor" in out
    assert out.endswith("nothing is missing\n")
    assert not any(here.iterdir())


def test_what_is_missing_is_named_and_the_rest_goes_on(here, capsys):
    words = ["evaluate", *TOY, "parser=ground_truth", "attributes=[hair]", "weights.root=/nowhere", "data.n=9"]
    code, out = told(capsys, *words)
    assert code == 1
    assert "missing: data.n=9, but split 'all' has 4 samples" in out
    assert "missing: weights.lpips_alexnet: " in out
    assert "editor: recolor\n" in out
    assert out.endswith("2 of what it needs is missing\n")
    code, out = told(capsys, *words[:-1], "metrics.on_missing=skip")
    assert code == 0
    assert "; empty for want of weights: lpips, clip" in out


def test_a_training(here, capsys):
    code, out = told(capsys, "train-parser", *TOY, "data.count=20", "train.batch_size=4", "train.epochs=3")
    assert code == 0
    assert "data: 18 photos to train, 2 to validate; 3 epochs of 5 batches" in out
    assert "parser: fastscnn_lite, 1." in out
    assert not any(here.iterdir())

"""An editor, a metric and a parser of one's own: one source file and one in ``conf/`` each, found by their names."""

import json
import shutil
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.ndimage import gaussian_filter

import semfacediff.editing
import semfacediff.metrics
import semfacediff.parsing
from semfacediff import config, plugins, tasks
from semfacediff.errors import UserError
from semfacediff.hydra_app import composed

REPOSITORY = Path(__file__).resolve().parents[1]
EDITOR = """
import cv2
import torch
from semfacediff.editing.base import Editor

class Blur(Editor):
    name, native_size, batchable = "blur", None, True

    def __init__(self, sigma_px: float):
        self.sigma_px = sigma_px

    def edit(self, requests):
        planes = [r.photo.permute(1, 2, 0).numpy() for r in requests]
        blurred = [cv2.GaussianBlur(p, (0, 0), self.sigma_px) for p in planes]
        return [torch.from_numpy(b).permute(2, 0, 1).clamp(0, 1) for b in blurred]

EDITOR = Blur
"""
METRIC = """
from semfacediff.metrics.base import NO_RESIZE, Metric, declared

class MeanChange(Metric):
    columns, higher_is_better = ("mean_change",), {"mean_change": None}

    def score(self, pair):
        return {"mean_change": float(abs(pair.edit.astype(float) - pair.photo).mean())}

    def identity(self):
        return declared("mean_change", implementation="test", version="1", bounds=[0, 255], unit="8-bit levels",
                        higher_is_better=None, resize=NO_RESIZE)

METRIC = MeanChange
"""
PARSER = """
from torch import nn
from semfacediff.parsing.registry import Kind

class OneLayer(nn.Module):
    encoder = ("stem",)

    def __init__(self, classes=19, width=4):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.ReLU())
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, photos):
        return self.head(self.stem(photos))

PARSER = Kind(__name__, "OneLayer", head="head.bias")
"""
PLACE = "runtime.device=cpu runtime.workers=0 tracking=none".split()


@pytest.fixture
def add(monkeypatch, tmp_path):
    """``add(kind, name, source, conf)``: a module in the package and a file in ``conf/``; returns the checkout."""
    packages = {"editor": semfacediff.editing, "metric": semfacediff.metrics, "parser": semfacediff.parsing}
    checkout = tmp_path / "checkout"
    for name in ("conf", "experiments"):
        shutil.copytree(REPOSITORY / name, checkout / name)

    def added(kind: str, name: str, source: str, conf: str) -> Path:
        folder = tmp_path / f"{kind}s"
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.py").write_text(source)
        monkeypatch.setattr(packages[kind], "__path__", [*packages[kind].__path__, str(folder)])
        group = "metrics" if kind == "metric" else kind
        (checkout / "conf" / group / f"{name}.yaml").write_text(conf)
        plugins.find.cache_clear()
        return checkout

    yield added
    plugins.find.cache_clear()


def edited(checkout: Path, folder: Path, *words: str) -> Path:
    plain = "data.count=2 data.size=64 parser=ground_truth metrics=no_weights attributes=[hair] strips=0".split()
    cfg = composed("evaluate", [*plain, *PLACE, *words], checkout)
    assert tasks.start(config.typed(cfg, config.EditingEvaluation), folder) == 0
    return folder


def test_an_editor(add, tmp_path):
    checkout = add("editor", "blur", EDITOR, "name: blur\nsigma_px: 3.0\n")
    folder = edited(checkout, tmp_path / "run", "editor=blur", "composite=off", "metrics.columns=[psnr]")
    run = json.loads((folder / "run.json").read_text())
    assert run["identity"]["config"]["editor"] == {"name": "blur", "sigma_px": 3.0}
    assert len(run["editor"]["digest"]) == 64
    from semfacediff.data.toy import ToyFaces

    photo = ToyFaces(2, 64)[0].photo
    expected = gaussian_filter(photo.astype(float), (3, 3, 0), mode="mirror", truncate=4)
    from semfacediff.data.reading import decode_photo

    made = decode_photo((folder / "edits/hair/00000.png").read_bytes(), "edit")
    assert np.abs(made - expected).max() < 2


def test_an_option_that_it_does_not_take(add, tmp_path):
    checkout = add("editor", "blur", EDITOR, "name: blur\nsigma_px: 3.0\nstrong: true\n")
    with pytest.raises(UserError, match=r"editor 'blur': .*unexpected keyword argument 'strong'"):
        edited(checkout, tmp_path / "run", "editor=blur")


def test_a_metric(add, tmp_path, capsys):
    checkout = add("metric", "mean_change", METRIC, "defaults: [no_weights]\ncolumns: [ssim, mean_change]\n")
    folder = edited(checkout, tmp_path / "run", "metrics=mean_change", "prompts.hair=green hair")
    samples = pd.read_parquet(folder / "samples.parquet")
    assert (samples["mean_change"] > 0.5).all()
    summary = pd.read_csv(folder / "summary.csv")
    assert summary["mean_change_mean"][0] == pytest.approx(samples["mean_change"].mean())
    assert "mean change" in capsys.readouterr().out
    run = json.loads((folder / "run.json").read_text())
    assert [m["metric"] for m in run["metrics"]] == ["ssim", "mean_change"]


def test_a_parser(add, tmp_path):
    plain = (REPOSITORY / "conf/parser/fastscnn_lite.yaml").read_text()
    checkout = add("parser", "one_layer", PARSER, plain.replace("fastscnn_lite", "one_layer"))
    small = "data.count=8 data.size=32 train.size=32 train.epochs=1 train.batch_size=2 optim.warmup_steps=1".split()
    cfg = composed("train_parser", ["parser=one_layer", "data=toy", *small, *PLACE], checkout)
    assert tasks.start(config.typed(cfg, config.ParserTraining), tmp_path / "run") == 0
    model, card = semfacediff.parsing.load_parser(tmp_path / "run/checkpoints/best")
    assert card.name == "one_layer"
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 19, 32, 32)


def test_what_is_not_there_or_broken(add):
    with pytest.raises(
        UserError, match=r"metric 'glow': expected METRIC in semfacediff/metrics/glow.py or an entry po"
    ):
        plugins.made("metric", "glow", {})
    add("editor", "broken", "import nothing_of_that_name", "name: broken\n")
    with pytest.raises(UserError, match=r"editor 'broken' cannot be imported .ModuleNotFoundError"):
        plugins.find("editor", "broken")


def test_entry_points(monkeypatch):
    one = EntryPoint("psnr2", "semfacediff.metrics.fidelity:PSNR", "semfacediff.metrics")
    monkeypatch.setattr(plugins, "entry_points", lambda group, name: [one] if name == "psnr2" else [one, one])
    plugins.find.cache_clear()
    assert plugins.find("metric", "psnr2").__name__ == "PSNR"
    with pytest.raises(UserError, match=r"metric 'twice' is registered by .*; uninstall one"):
        plugins.find("metric", "twice")
    plugins.find.cache_clear()

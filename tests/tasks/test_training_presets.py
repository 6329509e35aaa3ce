"""Presets say what their sources say, and every cell of a sweep runs."""

import json
import os
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from torch import nn

from semfacediff import config, hydra_app, tasks
from semfacediff.config import ParserTraining
from semfacediff.hydra_app import composed
from semfacediff.parsing import load_parser
from semfacediff.parsing.checkpoint import ParserCard
from semfacediff.parsing.segformer_folder import STARTS
from semfacediff.tasks.training import parser as train_parser
from semfacediff.tasks.training.course import new_course

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def undrawn(monkeypatch):
    """No curves: they take longer than everything else together."""
    monkeypatch.setattr(train_parser, "training_curves", lambda *_: None)


@pytest.fixture
def preset(tmp_path, monkeypatch):
    """``preset(name, *words)``: the typed configuration of ``experiment=name``."""
    monkeypatch.setenv("SEMFACEDIFF_DATA", str(tmp_path))

    def typed(name: str, *words: str) -> ParserTraining:
        return config.typed(composed("train_parser", [f"experiment={name}", *words], REPOSITORY), ParserTraining)

    return typed


class TestThesis:
    """Its section 5.1, and what it leaves open."""

    def test_data_and_start(self, preset):
        s = preset("thesis/parser")
        assert (s.data.name, s.parser.name) == ("celebamask_hq", "segformer_b5")
        assert s.parser.pretrained == "nvidia/segformer-b5-finetuned-ade-640-640" == STARTS["segformer_b5"][0]
        parts = s.data.subset
        assert parts.train + parts.val + parts.test == 3000
        assert (parts.val, parts.seed) == (300, 42)  # 10 %
        assert s.train.size == 512
        card = ParserCard.of_kind(s.parser.name, "celebamask", s.train.size)
        assert (card.mean, card.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

    def test_loss(self, preset):
        loss = preset("thesis/parser").loss
        assert (loss.cross_entropy, loss.dice, loss.focal, loss.lovasz) == (1, 0, 0, 0)
        assert (loss.class_weights, loss.class_weight_batches, loss.label_smoothing) == ("inverse", 40, 0.05)

    def test_optimiser(self, preset):
        s = preset("thesis/parser")
        model = nn.ModuleDict({"body": nn.Linear(3, 2), "head": nn.Linear(2, 2)})
        model.encoder = ("body",)
        course = new_course(s, steps_per_epoch=300)
        made = course.optimiser(model)
        assert isinstance(made, torch.optim.AdamW)
        for step in (0, 1, 3000, 5999):
            course.set_rates(made, step)
            assert [group["lr"] for group in made.param_groups] == [6e-6, 6e-5]  # encoder, decoder
        assert [group["params"][0] is model["body"].weight for group in made.param_groups] == [True, False]
        assert {group["weight_decay"] for group in made.param_groups} == {0.01}
        assert s.train.gradient_clip_norm == 1.0

    def test_choice_of_the_checkpoint_and_the_test_part(self, preset):
        train = preset("thesis/parser").train
        assert (train.best_by, train.validate_every, train.early_stopping) == ("miou", 1, None)
        assert train.test

    def test_what_is_ours(self, preset):
        train = preset("thesis/parser").train
        assert (train.batch_size, train.epochs, train.augment) == (8, 20, "flip")
        assert (train.accumulate, train.sampling, train.paste_accessories) == (1, "shuffled", 0)


REPORT = {
    "unet": ("unet_lite", 25),
    "deeplabv3plus": ("deeplabv3plus_lite", 25),
    "fastscnn": ("fastscnn_lite", 25),
    "segformer": ("segformer_lite", 50),
}


@pytest.mark.parametrize("name", REPORT)
class TestReport:
    """The course report's code, where it differs from its text."""

    def test_network_and_photos(self, name, preset):
        s = preset(f"ce7454/{name}")
        assert (s.parser.name, s.parser.options, s.parser.pretrained) == (REPORT[name][0], {}, None)
        assert (s.train.size, s.train.augment, s.train.augment_on) == (512, "ce7454", "loader")
        card = ParserCard.of_kind(s.parser.name, "celebamask", 512)
        assert card.mean == (0.5192456841, 0.4181598723, 0.3640346229)
        assert card.std == (0.2684383392, 0.2414970696, 0.2339624018)
        assert (s.train.sampling, s.train.paste_accessories) == ("shuffled", 0)

    def test_loss(self, name, preset):
        s = preset(f"ce7454/{name}")
        loss = s.loss
        assert (loss.cross_entropy, loss.dice, loss.focal, loss.lovasz) == (1, 0, 0, 0)
        assert (loss.class_weights, loss.label_smoothing, s.train.loss_stride) == ("inverse_log", 0, 1)
        assert loss.class_weight_batches * s.train.batch_size >= 5000  # every photo

    def test_optimisation(self, name, preset):
        s = preset(f"ce7454/{name}")
        assert s.train.batch_size == 2
        assert s.train.epochs == 120
        assert (s.train.accumulate, s.train.gradient_clip_norm, s.train.ema_decay) == (1, None, None)
        assert (s.train.best_by, s.train.precision) == ("loss", "float32")
        assert s.optim.model_dump() == {
            "name": "adam_then_sgd",
            "adam_lr": 1e-3,
            "adam_eta_min": 5e-4,
            "adam_t_max": 50,
            "sgd_lr": 0.02,
            "min_sgd_lr": 0.005,
            "sgd_t_max": REPORT[name][1],
            "sgd_momentum": 0.5,
            "weight_decay": 1e-7,
            "patience": 12,
        }


@pytest.fixture
def script(tmp_path, monkeypatch):
    """``script(*words)``: exit code of ``train_parser.py`` with these words, in this process."""
    monkeypatch.chdir(tmp_path)
    for name in ("SEMFACEDIFF_EXPERIMENTS", "SEMFACEDIFF_OVERRIDES", "SEMFACEDIFF_SWEEP", "HYDRA_FULL_ERROR"):
        monkeypatch.setenv(name, os.environ.get(name, ""))  # put back afterwards what a run sets

    def train(cfg, folder):
        return tasks.start(config.typed(cfg, ParserTraining), folder)

    def start(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["train_parser.py", *words])
        with pytest.raises(SystemExit) as left:
            hydra_app.run("train_parser", train, REPOSITORY)
        return left.value.code

    return start


TOY = (
    "data=toy data.count=6 data.size=32 data.split_rule.modulo=3 train.size=32 train.batch_size=2 train.epochs=2 "
    "loss.class_weight_batches=2 optim.patience=1 runtime.workers=0 runtime.device=cpu"
).split()


def test_report_pipeline_runs_on_drawn_faces(script, tmp_path):
    assert script("experiment=ce7454/fastscnn", *TOY, f"hydra.run.dir={tmp_path}/run") == 0
    run = json.loads((tmp_path / "run/run.json").read_text())
    assert run["status"] == "done"
    history = pd.read_csv(tmp_path / "run/history.csv")
    assert list(history["phase"]) == ["adam", "adam"]
    assert history["lr"].tolist() == pytest.approx([1e-3, 5e-4 + 5e-4 * 0.99901336], abs=1e-9)  # cosine, 50 epochs
    assert run["best_epoch"] == history["epoch"][history["val_loss"].idxmin()]
    _, card = load_parser(tmp_path / "run/checkpoints/best")
    assert card.name == "fastscnn_lite"


ABLATIONS = REPOSITORY / "experiments" / "experiment" / "ablations"
SWEEPS = {p.stem: yaml.safe_load(p.read_text()) for p in ABLATIONS.glob("parser_*")}


def test_the_sweeps_that_are_offered():
    kinds = ("class_weights", "clipping", "loss", "lr_split", "model", "resolution", "smoothing")
    assert sorted(SWEEPS) == [f"parser_{kind}" for kind in kinds]


def as_value(word: str) -> str:
    """``1.0e-4`` and ``0.0001`` are one value."""
    return str(yaml.safe_load(word))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n == "parser_lr_split" else [pytest.mark.slow]) for n in sorted(SWEEPS)]
)
def test_every_cell_of_a_sweep_leaves_a_record(name, script, tmp_path):
    ((key, values),) = SWEEPS[name]["hydra"]["sweeper"]["params"].items()
    # What is swept stays; sizes stay small by having one step an epoch.
    words = [w for w in TOY if not w.startswith((f"{key}=", "optim.patience")) and "epochs" not in w]
    assert script("-m", f"experiment=ablations/{name}", *words, "train.epochs=1") == 0
    folders = [p.parent for p in (tmp_path / "outputs/train_parser").rglob("run.json")]
    cells = [str(v) for v in values.split(",")]
    assert len(folders) == len(cells)
    swept = []
    for folder in folders:
        run = json.loads((folder / "run.json").read_text())
        assert run["status"] == "done"
        assert (folder / "checkpoints/best/model.safetensors").is_file()
        assert len(pd.read_csv(folder / "history.csv")) == 1
        swept.append(next(w.partition("=")[2] for w in run["command"].split() if w.startswith(f"{key}=")))
    assert sorted(map(as_value, swept)) == sorted(map(as_value, cells))
    made = [(folder / "checkpoints/last/model.safetensors").read_bytes() for folder in folders]
    assert len(set(made)) == len(cells)  # what is swept makes a difference

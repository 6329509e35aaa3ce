"""SegFace through the scripts' functions: recipes, a training on LaPa's layout, scores with and without landmarks."""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image

from semfacediff import config, tasks
from semfacediff.cli import main
from semfacediff.config import ParserTraining, ParsingEvaluation
from semfacediff.data.opening import open_data
from semfacediff.data.toy import ToyFaces
from semfacediff.data.toy_landmarked import write_lapa
from semfacediff.errors import UserError
from semfacediff.hydra_app import composed
from semfacediff.labels import SPACES
from semfacediff.parsing import ParserCard, build_parser, load_parser, save_parser
from semfacediff.parsing.checkpoint import resolve
from semfacediff.parsing.opening import new_parser
from semfacediff.tasks.folder_digest import folder_digest
from semfacediff.tasks.parsing import evaluate as evaluate_parsing
from semfacediff.tasks.training import parser as train_parser
from semfacediff.tasks.training.course import new_course

REPOSITORY = Path(__file__).resolve().parents[2]
PRESETS = REPOSITORY / "experiments" / "experiment"
OF_SEGFACE = sorted(p.stem for p in (PRESETS / "segface").glob("*.yaml"))
ABLATIONS = sorted(p.stem for p in (PRESETS / "ablations").glob("segface_*.yaml"))
QUICK = "runtime.workers=0 runtime.device=cpu".split()


@pytest.fixture(autouse=True)
def undrawn(monkeypatch):
    """No curves: they take longer than everything else together."""
    monkeypatch.setattr(train_parser, "training_curves", lambda *_: None)


@pytest.fixture
def typed(tmp_path, monkeypatch):
    """``typed(*words)``: the configuration of a training; ``kind``: of another script."""
    monkeypatch.setenv("SEMFACEDIFF_DATA", os.environ.get("SEMFACEDIFF_DATA", str(tmp_path)))

    def made(*words, kind=ParserTraining):
        script = "train_parser" if kind is ParserTraining else "evaluate"
        return config.typed(composed(script, list(words), REPOSITORY), kind)

    return made


class TestRecipe:
    @pytest.mark.parametrize("name", OF_SEGFACE)
    def test_every_preset_is_the_published_recipe(self, name, typed):
        s = typed(f"experiment=segface/{name}")
        assert (s.loss.cross_entropy, s.loss.dice, s.loss.dice_form) == (0.5, 0.5, "segface")
        assert (s.loss.focal, s.loss.lovasz, s.loss.label_smoothing, s.loss.class_weights) == (0, 0, 0, "none")
        assert (s.optim.encoder_lr, s.optim.decoder_lr, s.optim.weight_decay) == (1e-4, 1e-4, 1e-5)
        assert (s.optim.decay_norms_and_biases, s.optim.warmup_steps) == (True, 0)
        assert (s.optim.schedule, s.optim.milestones, s.optim.milestone_factor) == ("multistep", [80, 200], 0.1)
        assert (s.train.epochs, s.train.accumulate, s.train.gradient_clip_norm, s.train.ema_decay) == (
            300,
            1,
            None,
            None,
        )
        assert (s.train.precision, s.seed) == ("float32", 32)
        assert s.train.batch_size == (16 if name.startswith("helen") else 32)
        assert s.train.augment == ("lapa" if name.startswith("lapa") else "none")
        if name != "recipe":
            assert str(s.train.size) == name.rpartition("_")[2]
            assert s.data.name in name
            assert s.parser.pretrained == "imagenet"
            assert s.parser.name.removeprefix("segface_") in name
            space = s.train.label_space or s.data.label_space
            assert SPACES[space].name == {"c": "segface", "l": "lapa", "h": "helen"}[name[0]]

    def test_the_rates_fall_at_80_and_200_of_300(self, typed):
        course = new_course(typed("experiment=segface/lapa_swin_base_512"), steps_per_epoch=10)
        made = course.optimiser(build_parser("segface_mobilenet", classes=11))
        rates = []
        for epoch in (0, 79, 80, 199, 200, 299):
            course.set_rates(made, 10 * epoch)
            rates.append({g["lr"] for g in made.param_groups})
        assert [pytest.approx(r.pop()) for r in rates] == [1e-4, 1e-4, 1e-5, 1e-5, 1e-6, 1e-6]

    def test_the_sizes_and_backbones_of_the_published_tables_are_there(self):
        wanted = {f"celebamask_hq_swin_base_{s}" for s in (64, 96, 128, 192, 224, 256, 448, 512)}
        wanted |= {f"lapa_swin_base_{s}" for s in (224, 256, 448, 512)} | {"helen_swin_base_512"}
        wanted |= {f"celebamask_hq_{b}_512" for b in "convnext_base efficientnet mobilenet resnet swinv2_base".split()}
        assert wanted <= set(OF_SEGFACE)


class TestAblations:
    def test_they_are_there(self):
        assert [f"segface_{kind}" for kind in ("backbone", "multi_scale", "resolution")] == ABLATIONS

    @pytest.mark.parametrize("name", ABLATIONS)
    def test_each_says_what_it_costs_and_feeds_and_its_cells_differ(self, name, typed):
        text = (PRESETS / "ablations" / f"{name}.yaml").read_text()
        opening = text.split("defaults:")[0]
        assert f"python train_parser.py -m experiment=ablations/{name}" in opening
        assert f"table ablation_{name} (add hydra.sweep.dir=results/runs/{name})" in opening
        ((key, values),) = yaml.safe_load(text)["hydra"]["sweeper"]["params"].items()
        made = [typed(f"experiment=ablations/{name}", f"{key}={value}") for value in str(values).split(",")]
        assert f"{len(made)} trainings of {made[0].train.epochs} epochs" in opening
        assert len({folder_digest(s) for s in made}) == len(made)
        table = yaml.safe_load((REPOSITORY / "experiments" / "tables" / f"ablation_{name}.yaml").read_text())
        assert (table["kind"], table["sweep"]) == ("ablation", name)

    def test_the_sizes_are_64_to_512(self, typed):
        text = (PRESETS / "ablations" / "segface_resolution.yaml").read_text()
        assert yaml.safe_load(text)["hydra"]["sweeper"]["params"]["train.size"] == "64,96,128,192,224,256,448,512"

    def test_the_option_reaches_the_network_and_the_card(self, typed):
        for value, maps in (("true", 4), ("false", 1)):
            s = typed("experiment=ablations/segface_multi_scale", f"+parser.options.multi_scale={value}")
            model, card = new_parser(s.parser, SPACES["segface"], s.train.size)
            assert len(model.linear_c) == maps
            assert card.options == {"multi_scale": value == "true"}


@pytest.fixture(scope="module")
def lapa_root(tmp_path_factory):
    root = tmp_path_factory.mktemp("lapa")
    write_lapa(root, {"train": 4, "val": 1, "test": 3}, 48)
    (root / "test" / "landmarks" / "test_1.txt").unlink()
    return root


class TestLapa:
    @pytest.fixture(scope="class")
    @classmethod
    def trained(cls, lapa_root, tmp_path_factory):
        """The preset's recipe for one epoch of two steps at 32 px."""
        folder = tmp_path_factory.mktemp("trained")
        words = ["experiment=segface/lapa_mobilenet_512", f"data.root={lapa_root}", "parser.pretrained=null", *QUICK]
        words += ["train.epochs=1", "train.size=32", "train.batch_size=2", "train.test=false"]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(train_parser, "training_curves", lambda *_: None)
            assert tasks.start(config.typed(composed("train_parser", words, REPOSITORY), ParserTraining), folder) == 0
        return folder

    def test_the_network_was_given_landmarks(self, trained):
        model, card = load_parser(trained / "checkpoints" / "best")
        assert (card.label_space, card.uses_landmarks, card.input_size) == ("lapa", True, 32)
        assert model.face_decoder.classes == 11
        assert list(pd.read_csv(trained / "history.csv")["epoch"]) == [1]

    def test_a_released_file_is_scored_at_its_own_size_in_its_own_space(
        self, trained, lapa_root, typed, tmp_path, capsys, monkeypatch
    ):
        """Its folder's name says both; the scores say which photos had no landmarks."""
        state = {f"module.{key}": value for key, value in load_parser(resolve(trained))[0].state_dict().items()}
        released = tmp_path / "mobilenet_lapa_32"
        released.mkdir()
        torch.save({"epoch": 299, "state_dict_backbone": state, "optimizer": {}}, released / "model_299.pt")
        for drawing in ("draw_scores", "_draw_strips"):
            monkeypatch.setattr(evaluate_parsing, drawing, lambda *_: None)
        words = ["protocol=segface", "data=lapa", f"data.root={lapa_root}", "data.split=test", *QUICK]
        words += [f"parser.checkpoint={released}"]
        assert tasks.start(typed(*words, kind=ParsingEvaluation), tmp_path / "run") == 0
        run = json.loads((tmp_path / "run" / "run.json").read_text())
        assert (run["n"], run["without_landmarks"]) == (3, 1)
        assert (run["parser"]["label_space"], run["parser"]["input_size"]) == ("lapa", 32)
        assert run["parser"]["read_from"]["input_size"] == "the name mobilenet_lapa_32"
        assert 0 < run["photos_per_s"] < 1e5
        assert "1 photos have no landmarks and were parsed without the warp" in capsys.readouterr().out
        rows = [json.loads(line) for line in (tmp_path / "run" / "samples.jsonl").read_text().splitlines()]
        assert [row["landmarks"] for row in rows if "sample_id" in row] == [True, False, True]
        table = pd.read_csv(tmp_path / "run" / "summary.csv").set_index("class")
        assert list(table.index[:11]) == list(SPACES["lapa"].classes)
        assert {"f1", "iou", "f1_native", "iou_native"} <= set(table)
        assert table.loc[["miou", "miou_no_background"], "iou"].notna().all()
        assert table["pixels"].iloc[:11].sum() == 3 * 32 * 32

    def test_an_augmentation_that_loses_landmarks_is_refused(self, lapa_root, typed, tmp_path):
        words = ["experiment=segface/lapa_mobilenet_512", f"data.root={lapa_root}", "parser.pretrained=null", *QUICK]
        with pytest.raises(UserError, match=r"train.augment=flip does not move the landmarks"):
            tasks.start(typed(*words, "train.augment=flip", "train.size=32"), tmp_path / "run")

    def test_a_graph_without_landmarks_is_not_exported(self, trained, tmp_path, capsys):
        assert main(["export", str(trained), "--to", "torch", "--out", str(tmp_path / "out")]) == 2
        assert "a segface_mobilenet for lapa needs landmarks besides the photo" in capsys.readouterr().err
        assert not (tmp_path / "out").exists()

    def test_a_parser_of_more_classes_is_refused_by_name(self, lapa_root, typed, tmp_path, tiny_checkpoint):
        words = ["protocol=segface", "data=lapa", f"data.root={lapa_root}", *QUICK]
        with pytest.raises(UserError, match=r"'celebamask' cannot be converted to 'lapa', which lacks .*neck"):
            tasks.start(typed(*words, f"parser.checkpoint={tiny_checkpoint}", kind=ParsingEvaluation), tmp_path / "run")


def test_augmentation_at_own_size_excludes_what_works_on_small_photos(typed):
    for word in ("train.keep_in_memory=true", "train.paste_accessories=0.5"):
        with pytest.raises(UserError, match=r"train\.augment=lapa works on photos at their own size; set"):
            typed("train.augment=lapa", word)


class TestLabelSpace:
    TOY = "data=toy data.count=8 data.size=32 data.split_rule.modulo=4 train.size=32 train.batch_size=2".split()

    def test_a_training_in_another_order_of_the_classes(self, typed, tmp_path):
        words = [*self.TOY, "train.epochs=1", "train.label_space=segface", "parser=fastscnn_lite", *QUICK]
        assert tasks.start(typed(*words), tmp_path / "run") == 0
        _, card = load_parser(tmp_path / "run" / "checkpoints" / "best")
        assert card.label_space == "segface"
        table = pd.read_csv(tmp_path / "run" / "summary.csv")
        assert list(table["class"][:19]) == list(SPACES["segface"].classes)
        pixels = dict(zip(table["class"], table["pixels"], strict=True))
        val = open_data(typed(*words).data, "val").faces
        counts = np.bincount(np.concatenate([s.labels.ravel() for s in val]), minlength=19)
        assert {c: pixels[c] for c in SPACES["celebamask"].classes} == dict(
            zip(SPACES["celebamask"].classes, counts.tolist(), strict=True)
        )

    def test_a_space_that_lacks_classes_is_refused(self, typed, tmp_path):
        with pytest.raises(UserError, match=r"'celebamask' cannot be converted to 'lapa', which lacks"):
            tasks.start(typed(*self.TOY, "train.label_space=lapa", *QUICK), tmp_path)


class TestTokenFigure:
    @pytest.fixture(scope="class")
    @classmethod
    def checkpoint(cls, tmp_path_factory):
        folder = tmp_path_factory.mktemp("checkpoint")
        torch.manual_seed(0)
        card = ParserCard.of_kind("segface_mobilenet", "helen", 32)
        save_parser(build_parser("segface_mobilenet", classes=11), card, folder / "segface")
        save_parser(
            build_parser("fastscnn_lite"), ParserCard.of_kind("fastscnn_lite", "celebamask", 32), folder / "other"
        )
        Image.fromarray(ToyFaces(1, 48)[0].photo).save(folder / "face.png")
        return folder

    def test_it_is_drawn(self, checkpoint, tmp_path, capsys):
        words = [
            "report",
            "--tokens",
            str(checkpoint / "segface"),
            str(checkpoint / "face.png"),
            "--out",
            str(tmp_path),
        ]
        assert main(words) == 0
        assert capsys.readouterr().out.strip() == str(tmp_path / "tokens.png")
        with Image.open(tmp_path / "tokens.png") as image:
            assert image.width > 1000
        assert (tmp_path / "tokens.pdf").stat().st_size > 5000

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["--tokens", "{}/other", "{}/face.png"], "tokens: expected a SegFace"),
            (["--tokens", "{}/segface", "{}/none.png"], "none.png: cannot be read"),
            (["--tokens", "{}/none", "{}/face.png"], "parser.checkpoint: nothing is at"),
            ([], "report: name the folders of runs, or --tokens RUN PHOTO"),
            (["run", "--tokens", "{}/segface", "{}/face.png"], "report: name the folders of runs, or --tokens"),
        ],
    )
    def test_mistakes(self, checkpoint, words, message, capsys):
        assert main(["report", *(w.format(checkpoint) for w in words)]) == 2
        assert message in capsys.readouterr().err

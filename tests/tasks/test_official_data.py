"""Every task on the official CelebAMask-HQ layout, where photos have 1024 px and part masks 512."""

import contextlib
import functools
import io
import json
import shlex
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from PIL import Image

from semfacediff import config, hydra_app, tasks
from semfacediff.cli import main
from semfacediff.commands.report.page import ReportOptions, report
from semfacediff.commands.thesis import experiments as thesis
from semfacediff.errors import UserError
from semfacediff.labels import CELEBAMASK
from semfacediff.metrics.face_facts import ita_deg, pose_proxy
from semfacediff.metrics.segmentation import confusion_matrix
from semfacediff.parsing import ModelParser, load_parser
from semfacediff.records.showcase import read_showcase
from semfacediff.tasks.parsing import evaluate as evaluate_parsing
from semfacediff.tasks.synthesis import showcase as synthesis_showcase
from semfacediff.tasks.training import parser as train_parser

IDS = ["0", "20", "2001"]
LAYOUTS = ("official", "folder", "shards")
CHEAP = "runtime.device=cpu runtime.workers=0".split()
EVALUATED = [*CHEAP, *"data.split=all metrics=no_weights weights.download=false strips=0".split()]
STAGES = "cascade={stages: [{attribute: hair, prompt: purple hair}, {attribute: skin, prompt: green skin}]}"
TRAINING = "parser=unet_lite train.size=64 train.batch_size=1 train.epochs=1 train.augment=none train.test=true".split()
SYNTHESIS = "task=synthesis synthesis.steps=1 synthesis.latency_steps=[] synthesis.diversity_samples=0".split()
PICTURES = {*"photo labels reconstruction noise swap_style swap_parts mix interpolation edited_labels edit".split()}
TIMES = ["latency_s", "peak_memory_mib"]


def started(compose, primary: str, words: list[str], folder: Path) -> Path:
    """Run the task in ``folder``, which must end well."""
    models = {
        "train_parser": (config.ParserTraining,),
        "evaluate": (config.EditingEvaluation, config.ParsingEvaluation, config.SynthesisEvaluation),
    }
    assert tasks.start(config.typed(compose(primary, *words), *models[primary]), folder) == 0
    return folder


@pytest.fixture(scope="module", autouse=True)
def undrawn():
    """No figures: they take longer than everything else together."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (evaluate_parsing, train_parser):
            patch.setattr(module, "draw_scores", lambda *_: None)
        patch.setattr(evaluate_parsing, "_draw_strips", lambda *_: None)
        patch.setattr(train_parser, "training_curves", lambda *_: None)
        patch.setattr(synthesis_showcase, "_draw", lambda *_: None)
        yield


@pytest.fixture(scope="module")
def places(official_tree, tmp_path_factory) -> dict[str, list[str]]:
    """Words that name the data: the tree itself, and what ``prepare`` made of it, used as its hint line says."""
    words = {"official": ["data=celebamask_hq", f"data.root={official_tree}"]}
    for layout in ("folder", "shards"):
        out, said = tmp_path_factory.mktemp("prepared") / layout, io.StringIO()
        with contextlib.redirect_stdout(said):
            command = f"prepare {official_tree} --out {out} --layout {layout} --workers 1"
            assert main(shlex.split(command)) == 0
        hint = next(line for line in said.getvalue().splitlines() if line.startswith("use it: "))
        words[layout] = hint.removeprefix("use it: ").split()
    return words


@pytest.fixture(scope="module")
def run(compose, places, tiny_synthesis, tiny_checkpoint, checkpoint, tmp_path_factory):
    """``run(task, layout)``: the folder of that run, made once."""
    made = functools.partial(started, compose)
    judge = f"parser.checkpoint={tiny_checkpoint}"
    words = {
        "train_parser": [*CHEAP, *TRAINING],
        "parsing": [*EVALUATED, "task=parsing", "parser=face_lite"],
        "editing": [*EVALUATED, "parser=ground_truth", "attributes=[hair]", "data.n=1"],
        "thesis": [*EVALUATED, "protocol=thesis", "parser=ground_truth", "attributes=[lips]", "data.n=1"],
        "cascade": [*EVALUATED, f"parser.checkpoint={checkpoint}", STAGES, "data.n=1"],
        "synthesis": [*EVALUATED, *SYNTHESIS, f"synthesis.checkpoint={tiny_synthesis}", judge, "data.n=2"],
    }

    @functools.cache
    def folder_of(task: str, layout: str) -> Path:
        primary = "train_parser" if task == "train_parser" else "evaluate"
        own = ["synthesis.showcase=2" if layout == "official" else "synthesis.showcase=0"] * (task == "synthesis")
        return made(primary, [*places[layout], *words[task], *own], tmp_path_factory.mktemp(task) / layout)

    return folder_of


def record(folder: Path) -> dict:
    return json.loads((folder / "run.json").read_text())


def rows(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder / "samples.parquet").set_index("sample_id")


@pytest.fixture
def parsed(compose, tiny_checkpoint, tmp_path):
    """``parsed(root, *words)``: rows of ``task=parsing`` with the tiny parser on a folder."""

    def score(root: Path, *words: str) -> pd.DataFrame:
        own = [f"data.root={root}", "task=parsing", f"parser.checkpoint={tiny_checkpoint}", *words]
        kind = [] if any(word.startswith("data=") for word in words) else ["data=folder"]
        folder = tmp_path / f"run-{len(list(tmp_path.glob('run-*')))}"
        return rows(started(compose, "evaluate", [*EVALUATED, *kind, *own], folder))

    return score


class TestTheSameFromEveryLayout:
    @pytest.mark.parametrize("layout", LAYOUTS[1:])
    @pytest.mark.parametrize("task", ["parsing", "editing", "synthesis"])
    def test_an_evaluation(self, run, task, layout):
        official, prepared = run(task, "official"), run(task, layout)
        a, b = (rows(folder).drop(columns=TIMES, errors="ignore") for folder in (official, prepared))
        pd.testing.assert_frame_equal(a, b, check_exact=True)
        if task == "parsing":
            for file in ("summary.csv", "confusion.csv"):
                assert (official / file).read_bytes() == (prepared / file).read_bytes()

    @pytest.mark.parametrize("layout", LAYOUTS[1:])
    def test_a_training(self, run, layout):
        official, prepared = run("train_parser", "official"), run("train_parser", layout)
        for file in ("history.csv", "checkpoints/best/model.safetensors", "test/summary.csv"):
            assert (official / file).read_bytes() == (prepared / file).read_bytes()
        data = record(official)["data"]
        assert (data["train"]["n"], data["val"]["n"], record(official)["test"]["n"]) == (1, 1, 1)


def plain_counts(photo: np.ndarray, truth: np.ndarray, checkpoint: Path, protocol: str) -> np.ndarray:
    """By hand: confusion of one photo as the protocol says."""
    parser = ModelParser(*load_parser(checkpoint), torch.device("cpu"))
    if protocol == "segface":
        photo = np.asarray(Image.fromarray(photo).resize((64, 64), Image.Resampling.BICUBIC))
    logits = parser.logits(torch.from_numpy(photo / np.float32(255)).permute(2, 0, 1)[None])
    if protocol == "segface":
        truth = truth[4::8, 4::8]  # the pixel whose centre is nearest to that of a cell of 8 px, rounded up
    else:
        logits = torch.nn.functional.interpolate(logits, (512, 512), mode="bilinear")
    return confusion_matrix(truth, logits.argmax(1)[0].numpy(), 19)


def drawn_truth(root: Path, number: int) -> np.ndarray:
    """Label map from the part masks, one by one; the drawn ones do not overlap."""
    truth = np.zeros((512, 512), np.uint8)
    for file in (root / "CelebAMask-HQ-mask-anno" / str(number // 2000)).glob(f"{number:05d}_*.png"):
        truth[np.asarray(Image.open(file).convert("L")) > 0] = CELEBAMASK.index(file.stem.split("_", 1)[1])
    return truth


class TestParsing:
    @pytest.mark.parametrize("protocol", ["strict", "ce7454", "segface"])
    def test_scores_are_those_of_a_plain_count(self, parsed, official_tree, tiny_checkpoint, protocol):
        scored = parsed(official_tree, "data=celebamask_hq", f"protocol={protocol}", "data.n=2")
        assert list(scored.index) == IDS[:2]
        for id_ in IDS[:2]:
            photo = np.asarray(Image.open(official_tree / "CelebA-HQ-img" / f"{id_}.jpg"))
            expected = plain_counts(photo, drawn_truth(official_tree, int(id_)), tiny_checkpoint, protocol)
            found = {(t, p): n for t, p, n in scored.loc[id_, "confusion"]}
            assert found == {(t, p): expected[t, p] for t, p in np.argwhere(expected)}

    def test_facts_about_the_photo_are_measured_at_its_size(self, run, official_tree):
        row = rows(run("parsing", "official")).loc["20"]
        photo = np.asarray(Image.open(official_tree / "CelebA-HQ-img" / "20.jpg"))
        enlarged = drawn_truth(official_tree, 20).repeat(2, 0).repeat(2, 1)
        assert row["ita_deg"] == pytest.approx(ita_deg(photo, enlarged, CELEBAMASK), abs=1e-9)
        assert row["pose_proxy"] == pytest.approx(pose_proxy(enlarged, CELEBAMASK), abs=1e-12)

    def test_a_class_that_never_occurs_has_no_score(self, run, official_tree):
        there = set(np.unique([drawn_truth(official_tree, int(i)) for i in IDS]))
        absent = [c for i, c in enumerate(CELEBAMASK.classes) if i not in there]
        table = pd.read_csv(run("parsing", "official") / "summary.csv").set_index("class")
        never = [c for c in absent if np.isnan(table.loc[c, "iou"])]
        assert never, "face_lite finds every class in these photos"
        assert (table.loc[absent, ["pixels", "images"]] == 0).all(axis=None)
        assert table.loc["miou", "iou"] == pytest.approx(table["iou"].iloc[:19].mean())

    @pytest.mark.slow
    def test_a_sweep_of_two_cells(self, places, tiny_checkpoint, tmp_path, monkeypatch):
        words = [*places["official"], *EVALUATED, f"parser.checkpoint={tiny_checkpoint}", "data.n=1", "name=two"]
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["evaluate.py", "-m", *words, "protocol=ce7454,segface"])
        for variable in ("SEMFACEDIFF_SWEEP", "SEMFACEDIFF_OVERRIDES"):
            monkeypatch.setenv(variable, "")  # so that what the sweep sets is taken back
            monkeypatch.delenv(variable)

        def task(cfg, folder):
            return tasks.start(config.typed(cfg, config.ParsingEvaluation), folder)

        with pytest.raises(SystemExit) as ended:
            hydra_app.run("evaluate", task, config.repository())
        GlobalHydra.instance().clear()
        assert ended.value.code == 0
        cells = json.loads((tmp_path / "outputs/parsing/two/sweep.json").read_text())["cells"].values()
        assert [cell["status"] for cell in cells] == ["done", "done"]


class TestStrata:
    def test_head_pose_is_the_annotated_yaw(self, run, capsys):
        assert main(["strata", str(run("parsing", "official")), "--by", "pose", "--score", "miou"]) == 0
        printed = capsys.readouterr().out
        assert "annotated yaw, edges at 15 and 30 degrees" in printed
        for name, n in (("frontal", 1), ("half-turned", 1), ("turned", 0), ("unknown", 1)):
            line = next(line for line in printed.splitlines() if f" ({name}) " in line)
            assert f" ({n}) " in line

    def test_attributes_are_strata_too(self, run, capsys):
        assert main(["strata", str(run("editing", "folder")), "--by", "Eyeglasses"]) == 0
        assert "annotation 'Eyeglasses'" in capsys.readouterr().out


class TestEditing:
    def test_edits_have_the_photos_size(self, run):
        for task, attribute in (("editing", "hair"), ("thesis", "lips")):
            folder = run(task, "official")
            scored = rows(folder)
            assert (scored["status"] == "ok").all()
            assert (scored[["width", "height"]] == 1024).all(axis=None)
            with Image.open(folder / "edits" / attribute / "0.png") as edit:
                assert edit.size == (1024, 1024)

    def test_a_regions_size_is_a_fraction_of_the_frame(self, run, official_tree):
        coverage = rows(run("editing", "official")).loc["0", "coverage"]
        hair = (drawn_truth(official_tree, 0) == CELEBAMASK.index("hair")).mean()
        assert hair < coverage < 1.1 * hair, "dilated by 3 px"

    @pytest.mark.slow
    def test_a_cascade(self, run):
        scored = pd.read_parquet(run("cascade", "official") / "samples.parquet")
        assert scored["stage"].tolist() == [1, 2]
        assert (scored["status"] == "ok").all()


class TestSynthesis:
    def test_every_task_and_picture_is_made(self, run):
        folder = run("synthesis", "official")
        scored = rows(folder)
        assert (scored["status"] == "ok").all()
        tasks = ("photo", "reconstruction", "noise", "first_stage")
        assert scored.groupby("task").size().to_dict() == dict.fromkeys(tasks, 2)
        kinds = {item.kind for item, file in read_showcase(folder).files.items() if (folder / file).is_file()}
        assert kinds == PICTURES

    def test_the_photo_is_judged_at_the_models_size(self, run):
        photos = rows(run("synthesis", "official")).query("task == 'photo'")
        assert all(sum(n for *_, n in confusion) == 32 * 32 for confusion in photos["confusion"])


@pytest.mark.parametrize("tasks", [("parsing", "editing", "thesis", "synthesis"), ("cascade",)])
def test_the_report_shows_the_photos_of_every_task(run, official_tree, checkpoint, tmp_path, tasks):
    parser = checkpoint if tasks == ("cascade",) else None
    wish = ReportOptions(with_photos=True, data=official_tree, parser=parser)
    page = report([run(task, "official") for task in tasks], tmp_path, wish).read_text()
    assert page.count("data:image/webp;base64,") > 10
    for said in ("expected the photos that the run saw", "no parse and no masks", "no photos and no label maps"):
        assert said not in page


def in_this_process(command: list[str], check: bool):
    """Instead of another process: the same words, composed and run here; the training, which takes B5, is left out."""
    if "train_parser.py" in command[1]:
        return SimpleNamespace(returncode=0)
    words = [word for word in command[2:] if not word.startswith("hydra.")]
    place = next(word for word in command if word.startswith("hydra.run.dir="))
    settings = config.typed(hydra_app.composed("evaluate", words, config.repository()), config.EditingEvaluation)
    return SimpleNamespace(returncode=tasks.start(settings, Path.cwd() / Path(place).name))


TINY_THESIS = (
    "data.n=2 runtime.device=cpu runtime.workers=0 strips=0 working_size=64 editor.native_size=64 editor.steps=2 "
    "metrics=no_weights attributes=[hair,skin]"
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "run_by"),
    [
        ("toy", in_this_process),
        pytest.param("toy", None, marks=pytest.mark.slow),
        pytest.param("official", in_this_process, marks=pytest.mark.slow),
    ],
)
def test_the_thesis_runs_whole(tiny_sdxl, checkpoint, official_tree, tmp_path, monkeypatch, data, run_by):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SEMFACEDIFF_DATA", raising=False)
    if run_by is not None:
        monkeypatch.setattr(thesis, "subprocess", SimpleNamespace(run=run_by))
    words = ["data=toy"] if data == "toy" else ["--data", str(official_tree), "data.split=all"]
    words += [*TINY_THESIS.split(), f"weights.root={tiny_sdxl}", f"parser.checkpoint={checkpoint}"]
    assert main(["thesis", "--run", *words]) == 0
    finished = {file.parent.name: json.loads(file.read_text()) for file in tmp_path.rglob("run.json")}
    assert finished.keys() == {f"thesis_{part}" for part in ("6_1", "cascade", "6_1_recolor", "cascade_recolor")}
    for name, facts in finished.items():
        assert (facts["status"], facts["n_failed"]) == ("done", 0)
        assert facts["n_expected"] == (6 if "cascade" in name else 4)


class TestOddData:
    """What a data set may hold besides equal sizes."""

    @pytest.mark.parametrize("side", [32, 128])
    def test_photos_larger_and_smaller_than_their_labels(self, toy_folder, toy_samples, encode, parsed, side):
        root = toy_folder(2)
        for sample in toy_samples(2, side):
            (root / "masks" / f"{sample.id}.png").write_bytes(encode(sample.labels))
        scored = parsed(root)
        assert [sum(n for *_, n in row) for row in scored["confusion"]] == [side * side] * 2
        assert scored["ita_deg"].notna().all()

    def test_another_aspect_ratio(self, toy_folder, encode, parsed):
        root = toy_folder(1)
        (root / "masks" / "00000.png").write_bytes(encode(np.ones((32, 48), np.uint8)))
        with pytest.raises(UserError, match=r"00000.png: the label map is 48x32 px, its photo 64x64, which is another"):
            parsed(root)
        scored = parsed(root, "data.allow_mask_resize=true")
        assert sum(n for *_, n in scored["confusion"].iloc[0]) == 64 * 64

    def test_palette_and_16_bit_masks_are_label_maps(self, toy_folder, toy_samples, encode, parsed):
        plain = parsed(toy_folder(1))
        labels = toy_samples(1)[0].labels
        coloured = Image.fromarray(labels)
        coloured.putpalette(list(range(57)))
        for name, mask in (("palette", coloured), ("deep", labels.astype(np.uint16))):
            root = toy_folder(1, name=name)
            (root / "masks" / "00000.png").write_bytes(encode(mask))
            pd.testing.assert_frame_equal(parsed(root), plain, check_exact=True)

    def test_a_photo_without_any_part_mask(self, official_tree, tmp_path, parsed, compose):
        root = shutil.copytree(official_tree, tmp_path / "tree")
        shutil.rmtree(root / "CelebAMask-HQ-mask-anno" / "1")  # those of photo 2001
        with pytest.raises(UserError, match=r"\n  CelebA-HQ-img/2001.jpg: a photo without a part mask$"):
            parsed(root, "data=celebamask_hq")
        assert list(parsed(root, "data=celebamask_hq", "data.on_error=skip").index) == IDS[:2]

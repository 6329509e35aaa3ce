"""``evaluate.py task=synthesis`` and ``editor=sca_dm``, with an untrained model of 32 px."""

import json
import shutil
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from skimage.metrics import structural_similarity

from semfacediff import api as arrays
from semfacediff import config, tasks
from semfacediff.config import repository
from semfacediff.data.toy import ToyFaces
from semfacediff.editing.opening import open_editor
from semfacediff.errors import UserError
from semfacediff.hydra_app import composed
from semfacediff.labels import CELEBAMASK
from semfacediff.metrics.fidelity import luma
from semfacediff.metrics.generated import Diversity, LayoutFit
from semfacediff.metrics.segmentation import confusion_matrix, mean_iou
from semfacediff.parsing import ModelParser, load_parser
from semfacediff.synthesis import SCADM, load_synthesis, save_synthesis
from semfacediff.synthesis.model import SCADMOptions
from semfacediff.synthesis.tasks import Synthesizer
from semfacediff.tables.definitions import definitions, table
from semfacediff.tasks.synthesis import bench as synthesis_bench
from semfacediff.tasks.synthesis.evaluate import SynthesisBench
from semfacediff.tasks.synthesis.train_test_overlap import train_test_overlap
from semfacediff.types import to_tensor, to_uint8

OPTIONS = {"image_size": 32, "vq_channels": 32, "vq_multipliers": (1, 1, 2), "vq_layers": 1, "vq_codes": 4096}
OPTIONS |= {"style_features": 1, "style_down": 3, "token_width": 4, "unet_channels": 32, "unet_multipliers": (1,)}
OPTIONS |= {"unet_layers": 1, "attention_factors": (1,)}
SMALL = (
    "task=synthesis data=toy data.count=3 data.size=32 runtime.device=cpu runtime.workers=0 synthesis.steps=2 "
    "synthesis.diversity_samples=2 synthesis.diversity_photos=2 synthesis.latency_steps=[1,2] synthesis.showcase=0 "
    "metrics.columns=[ssim,lpips,iou] weights.lpips_alexnet=random weights.download=false"
).split()


def untrained(folder: Path, training: dict, label_space: str = "celebamask", classes: int = 19) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = SCADM(SCADMOptions(classes=classes, **OPTIONS))
        # Branches that start as nothing would make the same photo of any style, and few codes of any small difference.
        torch.nn.init.normal_(model.first_stage.vq.quantize.embedding.weight)
        for weight in model.unet.parameters():
            if weight.requires_grad and not weight.any():
                torch.nn.init.normal_(weight, std=0.2)
    save_synthesis(model, folder, label_space, training)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return untrained(tmp_path_factory.mktemp("model") / "model", {"run": "nowhere", "steps": 1})


@pytest.fixture(scope="module")
def settings(model, tiny_checkpoint):
    """``settings(*overrides)``: the typed configuration."""

    def typed(*overrides: str) -> config.SynthesisEvaluation:
        words = [*SMALL, f"synthesis.checkpoint={model}", f"parser.checkpoint={tiny_checkpoint}", *overrides]
        return config.typed(composed("evaluate", words, repository()), config.SynthesisEvaluation)

    return typed


@pytest.fixture(scope="module")
def scored(settings, tmp_path_factory) -> Path:
    """A finished run."""
    folder = tmp_path_factory.mktemp("scored")
    assert tasks.start(settings(), folder) == 0
    return folder


def generated(folder: Path, task: str, id_: str) -> np.ndarray:
    return cv2.imread(str(folder / "samples" / task / f"{id_}.png"))[..., ::-1]


def test_the_record_says_how_its_numbers_came_about(scored):
    run = json.loads((scored / "run.json").read_text())
    assert run["status"] == "done"
    assert run["measured"]["resolution_px"] == 32
    assert (run["measured"]["split"], run["measured"]["parser"]) == ("all", "fastscnn_lite")
    assert "pooled" in run["measured"]["averaging"]
    assert run["parser"]["judged_photos"] == {"overlap": "unknown", "why": "no record of the training was found"}
    assert {m["metric"] for m in run["metrics"]} == {
        "ssim",
        "layout_r2, layout_r2_other",
        "lpips_diversity",
        "miou, pixel_accuracy",
    }
    assert [(t["steps"], t["photos"]) for t in run["latency"]] == [(1, 3), (2, 3)]
    assert any("lpips: weights random are not the public" in doubt for doubt in run["not_comparable"])


def test_scores_are_those_of_the_photos_on_the_disk(scored, tiny_checkpoint):
    rows = pd.read_parquet(scored / "samples.parquet").set_index(["task", "sample_id"])
    summary = pd.read_csv(scored / "summary.csv").set_index("task")
    assert list(summary.index) == ["photo", "reconstruction", "noise", "first_stage"]
    judge = ModelParser(*load_parser(tiny_checkpoint), torch.device("cpu"))
    faces = ToyFaces(3, 32)
    pooled = np.zeros((19, 19), np.int64)
    for sample in (faces[i] for i in range(3)):
        made = generated(scored, "reconstruction", sample.id)
        row = rows.loc[("reconstruction", sample.id)]
        expected = structural_similarity(luma(sample.photo), luma(np.ascontiguousarray(made)), data_range=255)
        assert row["ssim"] == pytest.approx(expected)
        found = judge.predict(to_tensor(np.ascontiguousarray(made))[None])[0].numpy()
        pooled += confusion_matrix(sample.labels, found, 19)
    reconstruction = summary.loc["reconstruction"]
    assert reconstruction["miou"] == pytest.approx(mean_iou(pooled))
    assert reconstruction["pixel_accuracy"] == pytest.approx(np.trace(pooled) / pooled.sum())
    whole = pd.read_parquet(scored / "samples.parquet")
    own, other = (whole[whole["task"] == "noise"][c].astype(float) for c in ("layout_r2", "layout_r2_other"))
    assert summary.loc["noise", "layout_r2_mean"] == pytest.approx(own.mean())
    assert summary.loc["noise", "layout_better_share"] == pytest.approx((own > other).mean())
    assert reconstruction["ssim_mean"] == pytest.approx(rows.loc["reconstruction"]["ssim"].astype(float).mean())
    assert summary.loc["noise", "lpips_diversity_n"] == 2
    assert summary.loc["noise", "lpips_diversity_mean"] > 0
    assert np.isnan(summary.loc["photo", "ssim_mean"])


def test_interrupted_and_continued_it_has_the_same_numbers(scored, settings, tmp_path, monkeypatch, capsys):
    original, made = SynthesisBench._row, []

    def stopping(self, *rest):
        if len(made) == 4:
            raise KeyboardInterrupt
        made.append(original(self, *rest))
        return made[-1]

    monkeypatch.setattr(SynthesisBench, "_row", stopping)
    with pytest.raises(KeyboardInterrupt):
        tasks.start(settings(), tmp_path)
    monkeypatch.undo()
    assert tasks.start(settings(), tmp_path) == 0
    assert (tmp_path / "summary.csv").read_bytes() == (scored / "summary.csv").read_bytes()
    for task in ("reconstruction", "noise"):
        assert np.array_equal(generated(tmp_path, task, "00002"), generated(scored, task, "00002"))
    capsys.readouterr()
    assert tasks.start(settings(), tmp_path) == 0
    said = capsys.readouterr().out
    assert "| reconstruction |" in said
    assert "32 px, split all, n = 3, 2 steps; judged by fastscnn_lite" in said


def test_half_precision_is_another_run_of_nearly_the_same_photos(scored, settings, tmp_path):
    few = ["synthesis.diversity_samples=0", "synthesis.latency_steps=[]", "metrics.columns=[ssim]"]
    half = settings("synthesis.precision=bfloat16", *few)
    assert tasks.start(half, tmp_path) == 0
    ids = ("00000", "00001", "00002")
    floats, halves = (np.stack([generated(at, "noise", i) for i in ids]).astype(int) for at in (scored, tmp_path))
    assert np.abs(halves - floats).max() > 0
    assert np.abs(halves - floats).mean() < np.abs(floats - np.roll(floats, 1, 0)).mean() / 2, "other faces are farther"
    assert config.scientific(half)["generation"]["precision"] == "bfloat16"
    assert "precision" not in config.scientific(settings())["generation"], "as records from before have it"


def test_columns_of_missing_weights_stay_empty_and_say_so(settings, tmp_path):
    words = ("weights.lpips_alexnet=null", "metrics.columns=[ssim,lpips,fid]", "synthesis.latency_steps=[]")
    with pytest.raises(UserError, match=r"weights.lpips_alexnet: .*metrics.on_missing=skip"):
        tasks.start(settings(*words), tmp_path / "error")
    asked = settings(*words, "metrics.on_missing=skip", "data.n=1", "synthesis.steps=1")
    assert tasks.start(asked, tmp_path / "skip") == 0
    run = json.loads((tmp_path / "skip" / "run.json").read_text())
    assert set(run["empty_columns"]) == {"lpips_diversity", "fid"}
    assert not run["not_comparable"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["synthesis.checkpoint=null"], r"synthesis.checkpoint is not set: name a run of train_synthesis.py"),
        (["synthesis.checkpoint=nowhere"], r"synthesis.checkpoint: nothing is at nowhere; expected a run"),
        (["synthesis.steps=60"], r"steps: 60 does not divide 1000 .* use 50 or 100"),
        (
            ["synthesis.steps=60"],
            r"^synthesis.steps: .*, or synthesis.spacing=compatible for those 63$",
        ),
        (["synthesis.steps=300"], r"use 250 or 500, or synthesis.sampler=ddpm synthesis.steps=1000$"),
        (
            ["synthesis.latency_steps=[300]"],
            r"^synthesis.latency_steps: 300 would need step 1000 .*; use 250 or 500$",
        ),
        (
            ["synthesis.latency_steps=[1000]", "synthesis.sampler=ddpm", "synthesis.steps=1000"],
            r"^synthesis.latency_steps: 1000 would need step 1000 of a schedule that ends at 999; use 500$",
        ),
        (["synthesis.tasks=[noise,noise]"], r"^synthesis.tasks: expected each once, got \['noise', 'noise'\]$"),
        (["synthesis.latency_steps=[9,2,9]"], r"^synthesis.latency_steps: expected each once, got \[9, 2, 9\]$"),
        (["synthesis.latency_steps=[60]"], r"use 50 or 100, or synthesis.spacing=compatible for those 63$"),
        (["synthesis.guidance=1.2"], r"guidance 1.2 is ambiguous: name its form"),
        (["parser.name=ground_truth", "parser.checkpoint=null"], r"ground_truth cannot judge generated photos"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(settings, tmp_path, words, said):
    with pytest.raises(UserError, match=said) as e:
        tasks.start(settings(*words), tmp_path / "run")
    assert "\n" not in str(e.value)
    assert not (tmp_path / "run").exists()


def test_the_time_of_a_step_count_is_the_median_of_three(settings, monkeypatch):
    clock = iter([0, 9, 10, 11, 20, 24])  # 9, 1 and 4 s
    monkeypatch.setattr(synthesis_bench.time, "perf_counter", lambda: next(clock))
    made = []

    class Timed(Synthesizer):
        def generate(self, layouts, draw=0):
            made.append(self.options.steps)

    monkeypatch.setattr(synthesis_bench, "Synthesizer", Timed)
    bench = object.__new__(SynthesisBench)
    bench.settings, bench.faces = settings("synthesis.latency_steps=[4]"), ToyFaces(1, 32)
    bench.synthesizer = Timed(SCADM(SCADMOptions(**OPTIONS)))
    assert bench.latencies() == [{"steps": 4, "seconds": 4, "seconds_per_step": 1, "photos": 3}]
    assert made == [1, 4, 4, 4]


def test_label_maps_of_another_space_are_refused_before_any_photo_is_read(settings, tmp_path):
    lapa = untrained(tmp_path / "lapa", {"run": "x"}, "lapa", 11)
    with pytest.raises(
        UserError, match=r"labels of space 'celebamask' cannot be converted to 'lapa', which lacks eye_g"
    ):
        tasks.start(settings(f"synthesis.checkpoint={lapa}"), tmp_path / "run")


def test_an_untrained_model_is_not_comparable_and_enters_no_table(settings, tmp_path):
    place = untrained(tmp_path / "untrained", {})
    root = tmp_path / "checkout"
    folder = root / "results" / "runs" / "ours"
    words = (f"synthesis.checkpoint={place}", "data.n=1", "metrics.columns=[ssim]", "synthesis.latency_steps=[]")
    assert tasks.start(settings(*words, "synthesis.tasks=[reconstruction]"), folder) == 0
    shutil.copytree(repository() / "results" / "published", root / "results" / "published")
    (root / "experiments" / "tables").mkdir(parents=True)
    text = (
        "title: T\nkind: synthesis\npublished: sca_dm_table_1.csv\nlabels: [method]\nruns: {tiny: ours}\ncommand: c\n"
    )
    (root / "experiments" / "tables" / "mine.yaml").write_text(text)
    with pytest.raises(UserError, match=r"cannot enter a table: the model was never trained"):
        table(definitions(root)["mine"], root)
    run = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(run | {"not_comparable": []}))
    grid = table(definitions(root)["mine"], root)
    assert [row.labels[0] for row in grid.rows] == [
        *"MaskGAN SEAN V-INADE SemanticStyleGAN SCA-DM".split(),
        "tiny, ours",
    ]
    ssim = pd.read_csv(folder / "summary.csv").loc[0, "ssim_mean"]
    assert grid.rows[-1].cells[0].mean == pytest.approx(ssim)
    assert grid.rows[-1].cells[1].missing
    assert any("tiny: 32 px, split all" in note for note in grid.notes)


class TestAcquaintance:
    """Which photos a training has seen."""

    DATA: ClassVar = {"name": "shards", "split_rule": {"by": "id", "modulo": 20, "val": [0], "test": [10]}, "n": None}

    @pytest.fixture
    def asked(self, tmp_path):
        return config.typed(
            composed("evaluate", ["data=shards", f"data.root={tmp_path}"], repository()), config.EditingEvaluation
        ).data

    def of(self, asked, **changes):
        record = {"identity": {"config": {"data": {**self.DATA, **changes}, "limit": None}}}
        return train_test_overlap(record, asked, ["00000", "00001", "00010", "00020", "00021"])

    def test_ids_are_counted_where_the_split_goes_by_id(self, asked):
        assert self.of(asked) == {"in_training": 2, "in_selection": 2, "of": 5}

    def test_a_training_of_the_first_photos_had_at_most_these(self, asked):
        assert self.of(asked, n=3)["note"].startswith("at most")

    @pytest.mark.parametrize(
        ("changes", "why"),
        [
            ({"name": "toy"}, "it was trained on data=toy, this run reads data=shards"),
            ({"split_rule": {"by": "index", "modulo": 2, "val": [], "test": []}}, "its split does not go by id"),
        ],
    )
    def test_elsewhere_it_is_unknown(self, asked, changes, why):
        assert self.of(asked, **changes) == {"overlap": "unknown", "why": why}


class TestEditor:
    """``editor=sca_dm`` beside the other editors."""

    @pytest.fixture
    def face(self):
        return ToyFaces(2, 64)[0]

    @pytest.fixture
    def edit(self, face, model):
        def edit(**options):
            of_model = {"checkpoint": str(model), "steps": 4, **options}
            return arrays.edit(face.photo, "hair", "any words", labels=face.labels, editor="sca_dm", **of_model)

        return edit

    @pytest.fixture
    def reference(self, tmp_path):
        """``reference(name)``: files of another face; the label map has this name."""
        other = ToyFaces(2, 64)[1]

        def write(name: str = "00001") -> dict[str, str]:
            (tmp_path / "maps").mkdir()
            photo, labels = tmp_path / "00001.png", tmp_path / "maps" / f"{name}.png"
            Image.fromarray(other.photo).save(photo)
            Image.fromarray(other.labels).save(labels)
            return {"reference": str(photo), "reference_labels": str(labels)}

        return write

    def test_the_region_changes_alone_and_the_reference_is_named(self, edit, face, reference):
        files = reference()
        with pytest.warns(UserWarning, match="style of reference 00001; the prompt is not read"):
            made = edit(**files)
        with pytest.warns(UserWarning, match="style out of noise; the prompt is not read"):
            other = edit()
        hair = face.labels == CELEBAMASK.index("hair")
        assert (made != face.photo).any(2)[hair].mean() > 0.5
        assert not (made != face.photo).any(2)[cv2.dilate(hair.astype(np.uint8), np.ones((21, 21))) == 0].any()
        assert (made != other).any()
        with pytest.warns(UserWarning, match="style of reference"):
            assert np.array_equal(edit(**files), made)

    def test_a_reference_and_a_map_of_another_id_are_refused(self, edit, reference):
        with pytest.raises(UserError, match=r"paired by id: no label map for 00001 .*; name the files alike"):
            edit(**reference("00007"))

    def test_half_precision(self, edit, face, model):
        with pytest.warns(UserWarning, match="out of noise"):
            made = edit(precision="bfloat16")
        assert (made != face.photo).any()
        words = ["editor=sca_dm", f"editor.checkpoint={model}", "editor.precision=bfloat16"]
        settings = config.typed(composed("evaluate", words, repository()), config.EditingEvaluation)
        half, _ = open_editor(settings.editor, torch.device("cpu"))
        assert {p.dtype for p in half.synthesizer.model.unet.parameters()} == {torch.bfloat16}
        assert config.scientific(settings)["editor"]["precision"] == "bfloat16"

    def test_inversion_gives_a_photo_too(self, edit, face):
        with pytest.warns(UserWarning, match="out of noise"):
            assert edit(inversion=True, steps=2).shape == face.photo.shape

    def test_it_enters_the_benchmark(self, model, reference, tmp_path):
        words = "data=toy data.count=2 data.size=64 parser=ground_truth editor=sca_dm editor.steps=1 attributes=[hair]"
        files = [f"editor.{key}={value}" for key, value in reference().items()]
        more = ["metrics=no_weights", "runtime.device=cpu", "strips=0", f"editor.checkpoint={model}", *files]
        cfg = composed("evaluate", [*words.split(), *more], repository())
        assert tasks.start(config.typed(cfg, config.EditingEvaluation), tmp_path / "run") == 0
        rows = pd.read_parquet(tmp_path / "run" / "samples.parquet")
        assert set(rows["status"]) <= {"ok", "empty_region"}
        assert rows["note"].str.contains("style of reference 00001").any()
        run = json.loads((tmp_path / "run" / "run.json").read_text())
        assert run["editor"]["numerics"]["reference"]["id"] == "00001"


def test_the_first_stage_is_the_photo_encoded_and_decoded(scored, model):
    first = load_synthesis(model)[0].first_stage
    photo = to_tensor(ToyFaces(3, 32)[1].photo)
    with torch.inference_mode():
        expected = (first.decode(first.encode(photo[None] * 2 - 1))[0] + 1) / 2
    made = generated(scored, "first_stage", "00001").astype(int)
    assert np.abs(made - to_uint8(expected.clamp(0, 1))).max() <= 1
    rows = pd.read_parquet(scored / "samples.parquet").set_index(["task", "sample_id"])
    assert abs(rows.at[("first_stage", "00001"), "ssim"]) < 1


class TestLayoutFit:
    """What a label map tells of a photo's colours."""

    def test_it_is_the_r2_of_a_regression_on_the_classes(self):
        face = ToyFaces(2, 64)[0]
        there = [c for c in range(19) if (face.labels == c).any()]
        columns = np.stack([(face.labels == c).ravel() for c in there], 1).astype(float)
        colours = face.photo.reshape(-1, 3).astype(float)
        found, *_ = np.linalg.lstsq(columns, colours, rcond=None)
        expected = 1 - ((colours - columns @ found) ** 2).sum() / ((colours - colours.mean(0)) ** 2).sum()
        assert LayoutFit().score(face.photo, face.labels) == pytest.approx(expected)

    def test_ends_of_the_scale(self):
        labels = np.repeat(np.uint8([0, 5, 9, 18]), 16).reshape(8, 8)
        assert LayoutFit().score(np.stack([labels * 3, labels, labels * 7], 2), labels) == pytest.approx(1)
        assert LayoutFit().score(np.stack([np.tile(np.uint8([0, 255]), 32).reshape(8, 8)] * 3, 2), labels) == 0
        assert LayoutFit().score(np.full((8, 8, 3), 7, np.uint8), labels) is None


def test_diversity_is_the_mean_over_pairs():
    class Brightness:
        """A stand-in for LPIPS whose distances are known."""

        def scores(self, pairs):
            assert not any(pair.blend.any() for pair in pairs)
            return [{"lpips": abs(float(pair.photo.mean()) - float(pair.edit.mean()))} for pair in pairs]

    photos = [np.full((8, 8, 3), level, np.uint8) for level in (0, 10, 40)]
    assert Diversity(Brightness()).score(photos) == pytest.approx((10 + 40 + 30) / 3)


def test_the_group_under_its_old_name(settings):
    with pytest.raises(UserError, match=r"generation: this group is named synthesis now; write synthesis\.<key>"):
        settings("+generation.steps=3")

"""``semfacediff export`` from the command line, and what is made of it wherever a parser is used."""

import io
import json
import sys
import types

import huggingface_hub
import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers
from PIL import Image
from safetensors.torch import load_file
from torch import nn

import semfacediff
from semfacediff import cli, config, tasks
from semfacediff.commands.export import parser as export_parser
from semfacediff.errors import UserError
from semfacediff.labels import ATTRIBUTES, CELEBAMASK, attribute_indices
from semfacediff.parsing import ModelParser, ParserCard, build_parser, exporting, load_parser, registry, save_parser
from semfacediff.parsing.any_photo import parse_any
from semfacediff.parsing.checkpoint import checkpoint_digest
from semfacediff.parsing.onnx_model import load_onnx
from semfacediff.parsing.opening import open_trained
from semfacediff.tasks.parsing import evaluate as evaluate_parsing

CPU = torch.device("cpu")


class Small(nn.Module):
    """Quick to export; its classes are far apart, as a trained network's are."""

    encoder = ("conv",)

    def __init__(self, classes=19):
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Conv2d(8, classes, 1)

    def forward(self, x):
        y = self.conv(x)
        y = y + F.interpolate(F.adaptive_avg_pool2d(y, 3), y.shape[-2:], mode="bilinear")
        return 10 * F.interpolate(self.head(y), x.shape[-2:], mode="bilinear")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """An architecture ``small``, known while a test runs."""
    monkeypatch.setitem(sys.modules, "small_network", types.SimpleNamespace(Small=Small))
    network = registry.Kind("small_network", "Small", head="head.bias")
    find = registry.find
    monkeypatch.setattr(registry, "find", lambda kind, name: network if name == "small" else find(kind, name))


@pytest.fixture
def checkpoint(tmp_path):
    """A parser with the papers of a shipped one."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build_parser("small", classes=19)
    folder = tmp_path / "trained" / "best"
    save_parser(model, ParserCard.of_kind("small", "celebamask", 64, {"run": "r", "epochs": 3}), folder)
    (folder / "LICENSE-WEIGHTS").write_text("not for sale")
    return folder


def export(*words):
    return cli.main(["export", *map(str, words)])


def parser(folder):
    return ModelParser(*load_parser(folder), CPU)


class TestHalf:
    def test_it_opens_like_any_other_and_parses_alike(self, checkpoint, tmp_path, toy_samples, capsys):
        out = tmp_path / "half"
        assert export(checkpoint, "--to", "half", "--out", out) == 0
        said = capsys.readouterr().out.splitlines()
        size = (out / "model.safetensors").stat().st_size
        assert f"model.safetensors: {size / 1e6:.2f} MB, float16 (computes in float32)" in said
        whole, halves = (load_file(f / "model.safetensors") for f in (checkpoint, out))
        assert whole.keys() == halves.keys()
        for k, v in whole.items():
            assert halves[k].dtype == (torch.float16 if v.is_floating_point() else v.dtype)
            assert torch.equal(halves[k], v.half() if v.is_floating_point() else v)
        before, after = parser(checkpoint), parser(out)
        assert {p.dtype for p in after.model.parameters()} == {torch.float32}
        shares = [
            (parse_any(before, s.photo).labels == parse_any(after, s.photo).labels).mean() for s in toy_samples(8)
        ]
        assert np.mean(shares) >= 0.999
        assert f"labels: {100 * (1 - np.mean(shares)):.4f} % of pixels change (8 photos" in "\n".join(said)

    def test_the_card_is_kept_and_tells_the_origin(self, checkpoint, tmp_path):
        export(checkpoint, "--to", "half", "--out", tmp_path / "half")
        before, after = (json.loads((f / "parser.json").read_text()) for f in (checkpoint, tmp_path / "half"))
        origin = after["training"].pop("exported")
        assert before == after
        assert origin == {
            "to": "half",
            "from_digest": checkpoint_digest(checkpoint),
            "semfacediff": semfacediff.__version__,
        }
        assert (tmp_path / "half" / "LICENSE-WEIGHTS").read_text() == "not for sale"


@pytest.mark.slow
def test_onnx_and_its_eight_bit_twin(checkpoint, tmp_path, toy_folder, toy_samples, capsys):
    for name in exporting.PACKAGES:
        pytest.importorskip(name, reason="needs the extra 'export'")
    out, photos = tmp_path / "onnx", toy_folder(3) / "images"
    assert export(checkpoint, "--to", "onnx", "--int8", "--out", out, "--photos", photos) == 0
    said = capsys.readouterr().out
    assert "batches of any size, any height and width" in said
    assert "logits as torch's: the largest difference is " in said
    assert "(photos: 1 x 64 x 64, 3 x 64 x 64, 1 x 96 x 80 px)" in said
    before = parser(checkpoint)
    for folder in (out, out / "int8"):
        made = ModelParser(*load_onnx(folder), CPU)
        changed = [
            (parse_any(before, s.photo).labels != parse_any(made, s.photo).labels).mean() for s in toy_samples(3)
        ]
        assert f"labels: {100 * np.mean(changed):.4f} % of pixels change (3 photos; most in 0000" in said
        assert f"python evaluate.py task=parsing parser.backend=onnx parser.checkpoint={folder}\n" in said
        batch = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        assert torch.allclose(made.logits(batch), before.logits(batch), atol=1e-4) == (folder == out)
    card = json.loads((out / "int8" / "parser.json").read_text())
    assert card["training"]["exported"]["quantised"] == "dynamic, 8 bits"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["face_lite", "fastscnn_lite", "unet_lite", "deeplabv3plus_lite", "segformer_b0"])
def test_every_kind_can_be_exported(name, tmp_path, capsys):
    save_parser(build_parser(name), ParserCard.of_kind(name, "celebamask", 64), tmp_path / "fresh")
    assert export(tmp_path / "fresh", "--to", "onnx", "--out", tmp_path / "onnx") == 0
    assert export(tmp_path / "fresh", "--to", "torch", "--out", tmp_path / "torch") == 0
    assert "logits as torch's" in capsys.readouterr().out


@pytest.mark.slow
def test_a_program(checkpoint, tmp_path, capsys):
    assert export(checkpoint, "--to", "torch", "--out", tmp_path / "out") == 0
    assert "model.pt2: " in capsys.readouterr().out
    model, _ = load_parser(checkpoint)
    called = torch.export.load(tmp_path / "out" / "model.pt2").module()
    x = torch.randn(3, 3, 96, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(called(x), model(x), atol=1e-4)
    with pytest.raises(UserError, match=r"holds a program for torch.export.load; name the parser it is of"):
        load_parser(tmp_path / "out")


class TestMistakes:
    @pytest.fixture
    def refused(self, capsys):
        def ask(*words):
            assert export(*words) == 2
            error = capsys.readouterr().err
            assert len(error.splitlines()) == 1
            return error

        return ask

    def test_a_folder_that_is_taken(self, checkpoint, tmp_path, refused):
        (tmp_path / "taken").mkdir()
        (tmp_path / "taken" / "mine").write_text("x")
        said = refused(checkpoint, "--to", "half", "--out", tmp_path / "taken")
        assert "is not empty; give a new folder" in said
        assert [p.name for p in (tmp_path / "taken").iterdir()] == ["mine"]

    def test_options_of_another_kind(self, checkpoint, tmp_path, refused):
        said = refused(checkpoint, "--to", "half", "--int8", "--out", tmp_path / "out")
        assert "--to half: --int8 and --opset are for --to onnx; drop them" in said

    def test_no_parser(self, tmp_path, refused, nothing_ships):
        assert "no parser ships with this version; name RUN" in refused("--to", "half", "--out", tmp_path / "out")
        assert "nothing is at" in refused(tmp_path / "none", "--to", "half", "--out", tmp_path / "out")

    def test_what_computes_something_else_is_not_handed_out(self, checkpoint, tmp_path, refused, monkeypatch):
        class Wrong(torch.nn.Module):
            def forward(self, x):
                return F.pad(x, (0, 0, 0, 0, 0, 16))

        monkeypatch.setattr(export_parser, "exported", lambda model, side: (None, False))
        monkeypatch.setattr(torch.export, "save", lambda program, file: file.write_bytes(b"x"))
        monkeypatch.setattr(export_parser, "Program", lambda file: Wrong())
        said = refused(checkpoint, "--to", "torch", "--out", tmp_path / "out")
        assert "logits differ from torch's by " in said
        assert "at most 1e-04 is allowed; nothing was written" in said
        assert [p.name for p in tmp_path.iterdir()] == ["trained"]


class TestBackend:
    """``parser.backend=onnx`` where parsers are used."""

    def test_parse_and_the_python_interface(self, tiny_onnx, tmp_path, encode, toy_samples):
        photo = toy_samples(1, 64)[0].photo
        (tmp_path / "a.png").write_bytes(encode(photo))
        words = ["parse", str(tmp_path / "a.png"), "--out", str(tmp_path / "out"), "--device", "cpu"]
        assert cli.main([*words, "--checkpoint", str(tiny_onnx), "--backend", "onnx"]) == 0
        facts = json.loads((tmp_path / "out" / "a.json").read_text())["parser"]
        assert facts["backend"] == "onnx"
        assert facts["digest"] == checkpoint_digest(tiny_onnx, "model.onnx")
        labels = semfacediff.parse(photo, tiny_onnx, device="cpu", backend="onnx")
        assert np.array_equal(labels, parse_any(ModelParser(*load_onnx(tiny_onnx), CPU), photo).labels)
        with pytest.raises(UserError, match=r"parse: backend: .*'torch' or 'onnx', got 'tensorrt'"):
            semfacediff.parse(photo, tiny_onnx, backend="tensorrt")

    @pytest.mark.parametrize("task", ["parsing", "editing"])
    def test_evaluations_record_it(self, task, tiny_onnx, tmp_path, compose, monkeypatch):
        for slow in ("draw_scores", "_draw_strips"):
            monkeypatch.setattr(evaluate_parsing, slow, lambda *_: None)
        words = [f"task={task}", "data=toy", "data.count=2", "data.size=64", "data.split=all", "editor=recolor"]
        words += ["attributes=[hair]", "metrics=no_weights", "runtime.device=cpu", "runtime.workers=0"]
        words += ["parser.backend=onnx", f"parser.checkpoint={tiny_onnx}"]
        settings = config.typed(compose("evaluate", *words), config.EditingEvaluation, config.ParsingEvaluation)
        assert tasks.start(settings, tmp_path / "run") == 0
        record = json.loads((tmp_path / "run" / "run.json").read_text())
        assert record["parser"]["backend"] == "onnx"
        assert record["identity"]["inputs"]["parser"] == checkpoint_digest(tiny_onnx, "model.onnx")

    def test_edit(self, tiny_onnx, tmp_path, encode, toy_samples):
        (tmp_path / "a.png").write_bytes(encode(toy_samples(1, 64)[0].photo))
        labels = parse_any(ModelParser(*load_onnx(tiny_onnx), CPU), toy_samples(1, 64)[0].photo).labels
        attribute = next(a for a in ATTRIBUTES if np.isin(labels, attribute_indices(a, CELEBAMASK)).mean() > 0.01)
        words = ["edit", str(tmp_path / "a.png"), attribute, "red", "--out", str(tmp_path / "out"), "--device", "cpu"]
        words += ["--parser", str(tiny_onnx), "--editor", "recolor", "--face", "all", "--set", "parser.backend=onnx"]
        assert cli.main(words) == 0
        facts = json.loads((tmp_path / "out" / "a" / "edit.json").read_text())
        assert facts["identity"]["parser_digest"] == checkpoint_digest(tiny_onnx, "model.onnx")


@pytest.fixture(scope="module")
def segformer(tmp_path_factory):
    """A SegFormer-B0 whose classes are far apart."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build_parser("segformer_b0", classes=19).eval()
    model.decode_head.classifier.weight.data.mul_(30)
    folder = tmp_path_factory.mktemp("segformer") / "best"
    save_parser(model, ParserCard.of_kind("segformer_b0", "celebamask", 64, {"run": "r", "epochs": 3}), folder)
    return folder


class TestHub:
    def test_transformers_finds_the_same_labels(self, segformer, tmp_path, toy_samples, capsys):
        """At the input size nobody resizes the photo, so that only rounding and near-ties are left."""
        out = tmp_path / "hub"
        assert export(segformer, "--to", "hf", "--out", out) == 0
        said = capsys.readouterr().out
        assert "logits as torch's: the largest difference is" in said
        assert "labels: 0.0000 % of pixels change" in said
        photo = np.asarray(Image.fromarray(toy_samples(1)[0].photo).resize((64, 64)))
        ours = parse_any(parser(segformer), photo).labels
        net = transformers.SegformerForSemanticSegmentation.from_pretrained(out).eval()
        assert [net.config.id2label[i] for i in range(19)] == list(CELEBAMASK.classes)
        segment = transformers.pipeline("image-segmentation", str(out))
        found = {each["label"]: np.asarray(each["mask"]) > 0 for each in segment(Image.fromarray(photo))}
        assert set(found) == {CELEBAMASK.classes[i] for i in np.unique(ours)}
        assert len(found) > 1
        assert all((mask == (ours == CELEBAMASK.index(name))).mean() >= 0.999 for name, mask in found.items())

    def test_renamed_it_opens_as_a_checkpoint(self, segformer, tmp_path):
        assert export(segformer, "--to", "hf", "--out", tmp_path / "hub") == 0
        renamed = (tmp_path / "hub").rename(tmp_path / "another name")
        model, card, _ = open_trained(config.ParserConfig.trained(str(renamed)))
        assert (card.name, card.label_space, card.input_size) == ("segformer_b0", "celebamask", 64)
        x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            assert torch.equal(model(x), load_parser(segformer)[0](x))
        text = (renamed / "README.md").read_text()
        assert text.startswith("---\nlibrary_name: transformers\n")
        assert "- epochs: 3" in text

    def test_what_transformers_does_not_know(self, checkpoint, tmp_path, capsys):
        assert export(checkpoint, "--to", "hf", "--out", tmp_path / "hub") == 2
        said = capsys.readouterr().err
        assert "--to hf: transformers has no architecture small, it reads SegFormer B0 to B5; use --to onnx" in said
        assert not (tmp_path / "hub").exists()
        assert export(checkpoint, "--to", "half", "--push", "me/parser", "--out", tmp_path / "hub") == 2
        assert "--to half: --push is for --to hf; drop it" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("token", "answer", "said"),
        [(None, "y", "no login on the model hub"), ("t", "n", "not confirmed"), ("t", "", "not confirmed")],
    )
    def test_nothing_is_uploaded_without_token_and_consent(
        self, segformer, tmp_path, monkeypatch, capsys, token, answer, said
    ):
        monkeypatch.setattr(huggingface_hub, "get_token", lambda: token)
        monkeypatch.setattr(huggingface_hub.HfApi, "upload_folder", None)
        monkeypatch.setattr(sys, "stdin", io.StringIO(f"{answer}\n"))
        assert export(segformer, "--to", "hf", "--out", tmp_path / "hub", "--push", "me/parser") == 2
        assert f"error: --push me/parser: {said}" in capsys.readouterr().err
        assert (tmp_path / "hub" / "config.json").exists()

    def test_an_upload(self, segformer, tmp_path, monkeypatch, capsys):
        calls = []
        monkeypatch.setattr(huggingface_hub, "get_token", lambda: "t")
        monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", lambda self, name, **_: calls.append(name))
        monkeypatch.setattr(huggingface_hub.HfApi, "upload_folder", lambda self, **given: calls.append(given))
        monkeypatch.setattr(sys, "stdin", io.StringIO("yes\n"))
        out = tmp_path / "hub"
        assert export(segformer, "--to", "hf", "--out", out, "--push", "me/parser") == 0
        assert calls == ["me/parser", {"repo_id": "me/parser", "folder_path": out}]
        assert capsys.readouterr().out.endswith("/me/parser\n")


def test_graphs_have_the_same_side_files(checkpoint, tmp_path):
    assert export(checkpoint, "--to", "torch", "--out", tmp_path / "graph") == 0
    classes, preparation = (
        json.loads((tmp_path / "graph" / name).read_text()) for name in ("config.json", "preprocessor_config.json")
    )
    assert list(classes["id2label"].values()) == list(CELEBAMASK.classes)
    assert classes["label2id"]["hat"] == CELEBAMASK.index("hat")
    assert preparation["size"] == {"height": 64, "width": 64}
    assert preparation["image_mean"] == list(load_parser(checkpoint)[1].mean)

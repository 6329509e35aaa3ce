"""Parsers that onnxruntime computes: the same interface, and one sentence for a folder that is none."""

import shutil
import sys

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from semfacediff import config
from semfacediff.errors import UserError
from semfacediff.labels import CELEBAMASK
from semfacediff.parsing import ModelParser, load_parser
from semfacediff.parsing.onnx_model import load_onnx
from semfacediff.parsing.opening import new_parser, open_parser
from semfacediff.types import to_tensor

CPU = torch.device("cpu")


@pytest.fixture
def copy(tiny_onnx, tmp_path):
    return shutil.copytree(tiny_onnx, tmp_path / "exported")


def parser(folder, backend="onnx", name=None):
    return open_parser(config.ParserConfig.trained(str(folder), name, backend), CELEBAMASK, CPU)


class TestLogits:
    def test_they_are_those_of_the_same_convolution(self, tiny_onnx, toy_samples):
        photos = torch.stack([to_tensor(s.photo) for s in toy_samples(3, 48)])
        made, facts = parser(tiny_onnx)
        small = F.interpolate(photos, (32, 32), mode="bilinear", antialias=True)
        mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (made.card.mean, made.card.std))
        expected = F.conv2d((small - mean) / std, **load_file(tiny_onnx / "expected.safetensors"))
        assert torch.allclose(made.logits(photos), expected, atol=1e-5)
        assert made.predict(photos).shape == (3, 48, 48)
        assert {k: facts[k] for k in ("name", "backend", "input_size")} == {
            "name": "face_lite",
            "backend": "onnx",
            "input_size": 32,
        }

    def test_the_digest_is_of_the_file(self, tiny_onnx, copy):
        digest = parser(tiny_onnx)[1]["digest"]
        assert parser(copy)[1]["digest"] == digest
        (copy / "expected.safetensors").write_bytes(b"")
        assert parser(copy)[1]["digest"] == digest
        onnx = pytest.importorskip("onnx")
        other = onnx.load(copy / "model.onnx")
        onnx.helper.set_model_props(other, {"note": "another file"})
        onnx.save(other, copy / "model.onnx")
        assert parser(copy)[1]["digest"] != digest

    def test_it_uses_the_threads_of_torch(self, tiny_onnx):
        before = torch.get_num_threads()
        try:
            torch.set_num_threads(2)
            options = load_onnx(tiny_onnx)[0]._session.get_session_options()
        finally:
            torch.set_num_threads(before)
        assert options.intra_op_num_threads == 2


class TestMistakes:
    def test_a_folder_of_onnx_alone_needs_the_backend(self, tiny_onnx):
        with pytest.raises(UserError, match=r"exported.* holds an ONNX file and no weights; set parser.backend=onnx$"):
            parser(tiny_onnx, backend="torch")

    def test_a_folder_without_onnx(self, tiny_checkpoint):
        with pytest.raises(UserError, match=r"holds no model.onnx; make one with: semfacediff export .*tiny --to onnx"):
            parser(tiny_checkpoint)

    def test_a_weights_file(self, tiny_checkpoint):
        with pytest.raises(UserError, match=r"parser.backend=onnx: .* is a file; name the folder that semfacediff exp"):
            parser(tiny_checkpoint / "model.safetensors", name="fastscnn_lite")

    def test_a_damaged_file(self, copy):
        (copy / "model.onnx").write_bytes((copy / "model.onnx").read_bytes()[:40])
        with pytest.raises(UserError, match=r"model.onnx: onnxruntime cannot open it \(.*\); export the parser again"):
            parser(copy)

    def test_a_file_that_does_not_fit_the_card(self, copy):
        card = copy / "parser.json"
        card.write_text(card.read_text().replace("celebamask", "lapa"))
        with pytest.raises(UserError, match=r"do not fit .*parser.json \(input size 32, 11 classes\); export the pars"):
            parser(copy)

    def test_onnxruntime_is_not_installed(self, tiny_onnx, monkeypatch):
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
        with pytest.raises(
            UserError, match=r"needs the package onnxruntime; install it with pip install 'semfacediff\["
        ):
            parser(tiny_onnx)

    def test_it_cannot_be_trained(self, tiny_onnx):
        with pytest.raises(UserError, match=r"parser.backend=onnx computes and cannot be trained; drop it"):
            new_parser(config.ParserConfig.trained(str(tiny_onnx), None, "onnx"), CELEBAMASK, 64)


def test_both_files_in_one_folder_are_told_apart(tiny_onnx, tiny_checkpoint, tmp_path):
    both = shutil.copytree(tiny_checkpoint, tmp_path / "both")
    shutil.copyfile(tiny_onnx / "model.onnx", both / "model.onnx")
    assert isinstance(parser(both, "torch")[0].model, type(load_parser(tiny_checkpoint)[0]))
    assert isinstance(parser(both)[0], ModelParser)
    assert parser(both)[1]["digest"] != parser(both, "torch")[1]["digest"]

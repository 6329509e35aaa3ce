"""Half precision, ONNX and programs of torch.export, against torch itself."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from semfacediff.errors import UserError
from semfacediff.parsing import exporting
from semfacediff.parsing.exporting import exported, half_precision, pooled, quantise, write_onnx


class Small(nn.Module):
    """What parsers are made of: a strided convolution, adaptive pooling to odd grids, bilinear resizes."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.head = nn.Conv2d(8, 19, 1)

    def forward(self, x):
        y = self.conv(x)
        for grid in (1, 3):
            y = y + F.interpolate(F.adaptive_avg_pool2d(y, grid), y.shape[-2:], mode="bilinear")
        return F.interpolate(self.head(y), x.shape[-2:], mode="bilinear")


class OneSize(nn.Module):
    """Cannot leave the size open."""

    def forward(self, x):
        return x.expand(-1, 3, 40, 40) if x.shape[-1] == 40 else x[..., :1]


@pytest.fixture
def small():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Small().eval()


@pytest.mark.parametrize("grid", [(1, 1), (4, 4), (6, 2)])
def test_pooling_by_matrices_is_adaptive_pooling(grid):
    x = torch.randn(2, 5, 13, 17, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(pooled(x, grid), F.adaptive_avg_pool2d(x, grid), atol=1e-6)


class TestHalf:
    def test_floats_are_halved_and_integers_kept(self):
        made = half_precision({"w": torch.tensor([1 / 3]), "n": torch.tensor(70_000)})
        assert made["w"].dtype == torch.float16
        assert made["n"].dtype == torch.int64
        assert made["n"] == 70_000

    def test_what_does_not_fit_is_refused(self):
        with pytest.raises(UserError, match=r"export: 1 tensors do not fit half precision \(b, ...\); use --to onnx"):
            half_precision({"a": torch.ones(2), "b": torch.tensor([7e4])})


@pytest.mark.slow
def test_an_onnx_file_is_right_at_every_size(small, tmp_path, rounding):
    onnx = pytest.importorskip("onnx", reason="needs the extra 'export'")
    runtime = pytest.importorskip("onnxruntime", reason="needs the extra 'export'")
    pytest.importorskip("onnxscript", reason="needs the extra 'export'")
    program, any_size = exported(small, 40)
    assert any_size
    written = write_onnx(program, tmp_path / "model.onnx", 18, {"digest": "abc"})
    made = onnx.load(tmp_path / "model.onnx")
    assert written == 18 == next(o.version for o in made.opset_import if o.domain == "")
    assert {p.key: p.value for p in made.metadata_props} == {"digest": "abc"}
    quantise(tmp_path / "model.onnx", tmp_path / "small.onnx")
    calls = {name: runtime.InferenceSession(tmp_path / name) for name in ("model.onnx", "small.onnx")}
    for shape in ((1, 3, 40, 40), (3, 3, 40, 40), (2, 3, 56, 39)):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            expected = small(x)
        found = {name: torch.from_numpy(call.run(None, {"image": x.numpy()})[0]) for name, call in calls.items()}
        sums = 27 + 2 * 20 * 28 + 8 + 4 * 3  # convolution, means over the whole and a ninth, head, bilinear resizes
        atol = rounding(sums, expected.abs().max().item())
        assert torch.allclose(found["model.onnx"], expected, rtol=0, atol=atol)
        assert not torch.allclose(found["small.onnx"], expected, rtol=0, atol=10 * atol)
        assert torch.allclose(found["small.onnx"], expected, atol=0.1)
        assert torch.allclose(program.module()(x), expected, rtol=0, atol=atol)


def test_a_network_for_one_size(tmp_path):
    program, any_size = exported(OneSize().eval(), 40)
    assert not any_size
    x = torch.randn(3, 3, 40, 40)
    assert torch.equal(program.module()(x), x)


def test_a_network_that_cannot_be_followed():
    class Odd(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    with pytest.raises(UserError, match=r"export: torch.export cannot follow Odd \(.*\); use --to half"):
        exported(Odd(), 40)


def test_packages_that_are_missing_are_named(small, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting.importlib.util, "find_spec", lambda name: None if name == "onnxscript" else name)
    with pytest.raises(
        UserError, match=r"--to onnx needs onnxscript; install with pip install 'semfacediff\[export\]'"
    ):
        write_onnx(None, tmp_path / "model.onnx", None, {})

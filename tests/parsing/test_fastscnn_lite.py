"""Fast-SCNN against the published manifest: keys, shapes, parameters; and released weights through the front door."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from semfacediff.errors import UserError
from semfacediff.parsing import build_parser, from_published
from semfacediff.parsing.registry import architectures

MANIFEST = json.loads(
    (Path(__file__).parents[1] / "fixtures" / "lite_parsers" / "ce7454_fastscnn.manifest.json").read_text()
)


def closed_form_input(height=128, width=160):
    """float32 ``[1, 3, height, width]``, as if normalised."""
    v, u = np.mgrid[:height, :width] / np.array([height, width]).reshape(2, 1, 1)
    tau = 2 * np.pi
    channels = [
        1.2 * np.sin(tau * ((1 + i) * u + 0.5 * v) + 0.3 * i)
        + 0.7 * np.cos(tau * ((2 - 0.5 * i) * v - u * v))
        + 0.4 * np.sin(tau * 5 * (u + 0.3 * (i + 1) * v))
        - 0.1 * i
        for i in range(3)
    ]
    return torch.from_numpy((np.rint(np.stack(channels) * 32) / 32).astype(np.float32))[None]


@pytest.fixture(scope="module")
def published(filled):
    """Flat state dict under published keys, without the counters that a module constructs itself."""
    return filled("ce7454_fastscnn")


@pytest.fixture(scope="module")
def model(published):
    return from_published("fastscnn_lite", published)


@torch.inference_mode()
def logits(model, x):
    return model(x)


def test_keys_shapes_and_types_are_the_published_ones_in_order():
    state = build_parser("fastscnn_lite").state_dict()
    own = [[key, list(v.shape), str(v.dtype).removeprefix("torch.")] for key, v in state.items()]
    assert own == [entry[:3] for entry in MANIFEST["entries"]]
    assert len(own) == MANIFEST["n_entries"]


def test_parameters_and_buffers_are_told_apart_as_published():
    net = build_parser("fastscnn_lite")
    parameters = {name for name, _ in net.named_parameters()}
    assert parameters == {entry[0] for entry in MANIFEST["entries"] if entry[4] == "param"}
    assert sum(p.numel() for p in net.parameters()) == MANIFEST["params"] == 1_154_435


def test_the_closed_form_input_is_the_fixtures(model):
    x = closed_form_input()
    assert list(x.shape) == MANIFEST["input_shape"]
    assert (x * 32 == (x * 32).round()).all()
    assert x[0, :, 0, 0].tolist() == [0.6875, 0.96875, 1.1875]


def test_filled_weights_give_the_scale_that_the_manifest_states(model):
    """The whole map's standard deviation moves no further than the farthest of its numbers."""
    out = logits(model, closed_form_input())
    assert list(out.shape) == MANIFEST["output_shape"]
    assert out.dtype == torch.float32
    assert torch.isfinite(out).all()
    assert out.double().std(correction=0).item() == pytest.approx(MANIFEST["logit_std"], rel=0, abs=MANIFEST["atol"])


def test_a_forward_pass_repeats_itself(model, published):
    x = closed_form_input()
    again = from_published("fastscnn_lite", published)
    assert torch.equal(logits(model, x), logits(model, x))
    assert torch.equal(logits(model, x), logits(again, x))


@pytest.mark.parametrize("wrap", ["state_dict_backbone", "state_dict", "module.", "both"])
def test_wrapped_and_prefixed_weights_are_the_same(model, published, wrap):
    prefixed = {f"module.{k}": v for k, v in published.items()}
    state = {"module.": prefixed, "both": {"state_dict": prefixed, "epoch": 3}}.get(wrap) or {wrap: published}
    x = closed_form_input(64, 96)
    assert torch.equal(logits(from_published("fastscnn_lite", state), x), logits(model, x))


def test_the_order_of_the_keys_does_not_matter(model, published):
    """Files in the safetensors format sort their keys."""
    x = closed_form_input(64, 64)
    assert torch.equal(logits(from_published("fastscnn_lite", dict(sorted(published.items()))), x), logits(model, x))
    backwards = dict(reversed(published.items()))
    assert torch.equal(logits(from_published("fastscnn_lite", backwards), x), logits(model, x))


def test_counters_may_be_there_too(published):
    counters = {e[0]: torch.tensor(7) for e in MANIFEST["entries"] if e[0].endswith("num_batches_tracked")}
    net = from_published("fastscnn_lite", {**published, **counters})
    assert net.state_dict()["classifier.1.4.num_batches_tracked"] == 7


@pytest.mark.parametrize(("height", "width"), [(64, 160), (32, 32), (100, 75)])
def test_logits_have_the_size_of_the_input(model, height, width):
    out = logits(model, torch.zeros(2, 3, height, width))
    assert tuple(out.shape) == (2, 19, height, width)
    assert torch.isfinite(out).all()


def test_the_class_count_is_inferred(published):
    eleven = {**published, "classifier.3.weight": torch.zeros(11, 128, 1, 1), "classifier.3.bias": torch.zeros(11)}
    assert logits(from_published("fastscnn_lite", eleven, label_space="lapa"), torch.zeros(1, 3, 32, 32)).shape[1] == 11
    with pytest.raises(
        UserError,
        match=r"the weights have 11 classes, label space 'celebamask' has 19; .*of that size: lapa, helen\)",
    ):
        from_published("fastscnn_lite", eleven)


def test_training_changes_the_batch_statistics_and_reaches_every_parameter():
    net = build_parser("fastscnn_lite").train()
    net(torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))).square().mean().backward()
    assert [n for n, p in net.named_parameters() if p.grad is None] == []
    assert net.state_dict()["classifier.0.1.num_batches_tracked"] == 1


def test_the_encoder_names_sub_modules():
    net = build_parser("fastscnn_lite")
    assert all(hasattr(net, name) for name in net.encoder)


class TestForeignWeights:
    def test_missing_unexpected_and_mis_shaped_keys_are_listed(self, published):
        state = dict(published)
        del state["classifier.0.0.weight"]
        state["backbone.conv1.weight"] = torch.zeros(64, 3, 7, 7)
        state["classifier.3.weight"] = torch.zeros(19, 64, 1, 1)
        with pytest.raises(UserError) as caught:
            from_published("fastscnn_lite", state)
        assert str(caught.value) == (
            "parser 'fastscnn_lite': the weights do not fit this architecture: 1 missing keys (classifier.0.0.weight); "
            "1 unexpected keys (backbone.conv1.weight); "
            "1 mis-shaped keys (classifier.3.weight [19, 64, 1, 1] instead of [19, 128, 1, 1])"
        )

    def test_of_many_keys_the_first_are_listed(self):
        state = {f"encoder.{i}.weight": torch.zeros(8, 8) for i in range(9)}
        state["encoder.scale"] = torch.tensor(1.0)
        with pytest.raises(
            UserError, match=r"(\d+) missing keys \(learning_to.*, \.\.\.\); 10 unexpected keys \(encoder"
        ):
            from_published("fastscnn_lite", state)

    @pytest.mark.parametrize(
        "state", [{}, {"epoch": 3}, {"state_dict": {}}, {"state_dict": {"a": [1]}}, torch.zeros(3)]
    )
    def test_no_dictionary_of_tensors(self, state):
        with pytest.raises(
            UserError, match=r"the checkpoint holds no flat dictionary of tensors \(nor one under 'state"
        ):
            from_published("fastscnn_lite", state)

    def test_unknown_names_list_the_choices(self, published):
        with pytest.raises(UserError, match=f"unknown parser 'fastscnn'; choose one of {', '.join(architectures())}"):
            build_parser("fastscnn")
        with pytest.raises(UserError, match="unknown parser 'fastscnn'; choose one of"):
            from_published("fastscnn", published)
        with pytest.raises(UserError, match="unknown label space 'celeba'; choose one of celebamask"):
            from_published("fastscnn_lite", published, label_space="celeba")
        with pytest.raises(UserError, match=r"parser 'fastscnn_lite': .*unexpected keyword argument 'depth'"):
            build_parser("fastscnn_lite", depth=3)

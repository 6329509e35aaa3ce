"""The small U-Net against the published manifest and output; sizes, training, and released weights."""

import json

import numpy as np
import pytest
import torch

from semfacediff.errors import UserError
from semfacediff.parsing import ParserCard, build_parser, from_published, load_parser, save_parser
from semfacediff.parsing.unet_lite import padded

NAME = "ce7454_unet"


@pytest.fixture(scope="module")
def stated(manifest):
    return manifest(NAME)


@pytest.fixture(scope="module")
def published(filled):
    return filled(NAME)


@pytest.fixture(scope="module")
def model(published):
    return from_published("unet_lite", published)


@torch.inference_mode()
def logits(model, x):
    return model(x)


def test_keys_shapes_and_parameters_are_the_published_ones(stated):
    net = build_parser("unet_lite")
    own = [[key, list(v.shape), str(v.dtype).removeprefix("torch.")] for key, v in net.state_dict().items()]
    assert own == [entry[:3] for entry in stated["entries"]]
    assert len(own) == stated["n_entries"]
    assert sum(p.numel() for p in net.parameters()) == stated["params"] == 1_941_411
    assert not list(net.buffers())


def test_the_published_output_comes_out(model, stated, outputs):
    expected, atol = outputs(NAME), stated["atol"]
    found = logits(model, torch.from_numpy(expected["x"]))
    assert list(found.shape) == stated["output_shape"] == expected["out_shape"].tolist()
    s = int(expected["stride"])
    np.testing.assert_allclose(found[:, :, ::s, ::s], expected["logits_sub"], rtol=0, atol=atol)
    by_class = found[0].double().flatten(1)
    np.testing.assert_allclose(by_class.mean(1), expected["class_mean"], rtol=0, atol=atol)
    np.testing.assert_allclose(by_class.std(1, correction=0), expected["class_std"], rtol=0, atol=atol)
    assert (found.argmax(1).numpy().squeeze() == expected["argmax"].squeeze()).mean() >= 0.999


def test_the_skip_comes_before_the_upsampled(model, published, outputs):
    """The other order of the concatenation has the same shapes, so it must show in the numbers."""
    swapped = {k: v.roll(v.shape[1] // 2, 1) if k == "decoder4.0.weight" else v for k, v in published.items()}
    assert set(swapped) == set(published)
    x = torch.from_numpy(outputs(NAME)["x"])
    assert not torch.allclose(logits(from_published("unet_lite", swapped), x), logits(model, x), atol=1e-2)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (64, 80), (33, 50), (1, 17), (100, 75)])
def test_logits_have_the_size_of_the_input(model, height, width):
    out = logits(model, torch.zeros(2, 3, height, width))
    assert tuple(out.shape) == (2, 19, height, width)
    assert torch.isfinite(out).all()


def test_other_sizes_are_padded_with_the_edge_and_cropped_back(model):
    x = torch.rand(1, 3, 33, 50, generator=torch.Generator().manual_seed(1))
    by_hand = torch.from_numpy(np.pad(x.numpy(), ((0, 0), (0, 0), (0, 15), (0, 14)), mode="edge"))
    assert torch.equal(padded(x, 16), by_hand)
    assert torch.equal(logits(model, x), logits(model, by_hand)[..., :33, :50])
    exact = torch.rand(1, 3, 32, 48)
    assert padded(exact, 16) is exact


def test_a_channels_last_input_gives_the_same(model, outputs):
    x = torch.from_numpy(outputs(NAME)["x"])
    other = logits(model, x.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(other, logits(model, x), rtol=0, atol=1e-4)


def test_the_class_count_is_inferred_from_the_last_layer(published):
    """Not from ``encoder1`` or from the first dimension of a transposed convolution, which is its input."""
    eleven = {**published, "output.weight": torch.zeros(11, 16, 1, 1), "output.bias": torch.zeros(11)}
    assert logits(from_published("unet_lite", eleven, label_space="lapa"), torch.zeros(1, 3, 16, 16)).shape[1] == 11
    with pytest.raises(UserError, match=r"unet_lite: the weights have 11 classes, label space 'celebamask' has 19"):
        from_published("unet_lite", eleven)


def test_wrapped_and_prefixed_weights_are_the_same(model, published):
    state = {"state_dict": {f"module.{k}": v for k, v in published.items()}}
    x = torch.ones(1, 3, 32, 32)
    assert torch.equal(logits(from_published("unet_lite", state), x), logits(model, x))


def test_a_checkpoint_folder_keeps_it(model, tmp_path):
    save_parser(model, ParserCard.of_kind("unet_lite", "celebamask", 48), tmp_path / "unet")
    assert json.loads((tmp_path / "unet" / "parser.json").read_text())["name"] == "unet_lite"
    again, card = load_parser(tmp_path / "unet")
    x = torch.ones(1, 3, 48, 48)
    assert card.input_size == 48
    assert torch.equal(logits(again, x), logits(model, x))


def test_it_trains_on_a_batch_of_one():
    torch.manual_seed(0)
    net = build_parser("unet_lite")
    inside = {id(p) for name in net.encoder for p in getattr(net, name).parameters()}
    assert {n.split(".")[0] for n, p in net.named_parameters() if id(p) not in inside} == {
        *(f"upconv{i}" for i in range(1, 5)),
        *(f"decoder{i}" for i in range(1, 5)),
        "output",
    }
    net(torch.rand(1, 3, 32, 32)).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())

"""The DeepLabV3+-like parser against the published manifest; identical at 512 px, and any other size."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from semfacediff.errors import UserError
from semfacediff.parsing import ParserCard, build_parser, from_published, load_parser, save_parser
from semfacediff.parsing.checkpoint import load_published

NAME = "ce7454_deeplabv3plus"


@pytest.fixture(scope="module")
def stated(manifest):
    return manifest(NAME)


@pytest.fixture(scope="module")
def published(filled):
    return filled(NAME)


@pytest.fixture(scope="module")
def model(published):
    return from_published("deeplabv3plus_lite", published)


@torch.inference_mode()
def logits(model, x):
    return model(x)


def closed_form_input(size=512):
    """float32 ``[1, 3, size, size]``: the fixtures' input."""
    v, u = np.mgrid[:size, :size] / size
    tau = 2 * np.pi
    channels = [
        1.2 * np.sin(tau * ((1 + i) * u + 0.5 * v) + 0.3 * i)
        + 0.7 * np.cos(tau * ((2 - 0.5 * i) * v - u * v))
        + 0.4 * np.sin(tau * 5 * (u + 0.3 * (i + 1) * v))
        - 0.1 * i
        for i in range(3)
    ]
    return torch.from_numpy((np.rint(np.stack(channels) * 32) / 32).astype(np.float32))[None]


def as_published(state, x):
    """The published network written out over its state dict, fixed 256x256 and all."""

    def conv(name, y, **how):
        return F.conv2d(y, state[f"{name}.weight"], state[f"{name}.bias"], **how)

    def norm(name, y):
        names = ("running_mean", "running_var", "weight", "bias")
        return F.batch_norm(y, *(state[f"{name}.{n}"] for n in names), eps=1e-5)

    def block(name, y):
        for i in (0, 3):
            y = F.relu(norm(f"{name}.{i + 1}", conv(f"{name}.{i}", y, padding=1)))
        return F.max_pool2d(y, 2)

    def enlarged(y, size):
        return F.interpolate(y, size, mode="bilinear", align_corners=True)

    skip = block("backbone.block1", x)
    y = block("backbone.block3", block("backbone.block2", skip))
    branches = [F.relu(norm("aspp.bn1", conv("aspp.conv1", y)))]
    for i, d in ((2, 6), (3, 12), (4, 18)):
        branches.append(F.relu(norm(f"aspp.bn{i}", conv(f"aspp.conv{i}", y, padding=d, dilation=d))))
    frame = F.relu(norm("aspp.bn5", conv("aspp.conv1x1", y.mean((2, 3), keepdim=True))))
    branches.append(frame.expand(-1, -1, *y.shape[-2:]))
    y = enlarged(norm("aspp.bn_out", conv("aspp.conv_out", torch.cat(branches, 1))), (256, 256))
    y = torch.cat([y, F.relu(norm("decoder.bn1", conv("decoder.conv1", skip)))], 1)
    for i in (2, 3):
        y = F.relu(norm(f"decoder.bn{i}", conv(f"decoder.conv{i}", y, padding=1)))
    y = conv("decoder.conv_out", y)
    return F.conv_transpose2d(y, state["decoder.upconv.weight"], state["decoder.upconv.bias"], stride=2)


def test_keys_shapes_and_parameters_are_the_published_ones(stated):
    net = build_parser("deeplabv3plus_lite")
    own = [[key, list(v.shape), str(v.dtype).removeprefix("torch.")] for key, v in net.state_dict().items()]
    assert own == [entry[:3] for entry in stated["entries"]]
    assert len(own) == stated["n_entries"]
    assert {n for n, _ in net.named_parameters()} == {e[0] for e in stated["entries"] if e[4] == "param"}
    assert sum(p.numel() for p in net.parameters()) == stated["params"] == 1_964_394


def test_at_512_px_it_is_the_published_network(model, published, stated):
    x = closed_form_input()
    assert list(x.shape) == stated["input_shape"]
    found = logits(model, x)
    assert list(found.shape) == stated["output_shape"]
    assert found.double().std(correction=0).item() == pytest.approx(stated["logit_std"], rel=0, abs=stated["atol"])
    with torch.inference_mode():
        expected = as_published(published, x)
    torch.testing.assert_close(found, expected, rtol=0, atol=stated["atol"])


@pytest.mark.parametrize(("height", "width"), [(64, 96), (33, 50), (100, 75), (8, 8), (9, 17)])
def test_logits_have_the_size_of_the_input(model, height, width):
    out = logits(model, torch.zeros(2, 3, height, width))
    assert tuple(out.shape) == (2, 19, height, width)
    assert torch.isfinite(out).all()


def test_odd_sides_repeat_the_last_row_and_column(model):
    x = torch.randn(1, 3, 33, 51, generator=torch.Generator().manual_seed(1))
    out = logits(model, x)
    detail, context = model.backbone(x)
    with torch.inference_mode():
        assert torch.equal(out[..., :32, :50], model.decoder(model.aspp(context), detail))
    assert torch.equal(out[..., 32, :], out[..., 31, :])
    assert torch.equal(out[..., 50], out[..., 49])


def test_a_photo_does_not_feel_its_neighbours(model):
    x = torch.randn(3, 3, 64, 48, generator=torch.Generator().manual_seed(1))
    together = logits(model, x.contiguous(memory_format=torch.channels_last))
    alone = torch.cat([logits(model, one) for one in x.split(1)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


def test_the_class_count_is_inferred(published):
    eleven = {
        **published,
        "decoder.conv_out.weight": torch.zeros(11, 64, 1, 1),
        "decoder.conv_out.bias": torch.zeros(11),
        "decoder.upconv.weight": torch.zeros(11, 11, 2, 2),
        "decoder.upconv.bias": torch.zeros(11),
    }
    net = from_published("deeplabv3plus_lite", eleven, label_space="lapa")
    assert logits(net, torch.zeros(1, 3, 16, 16)).shape[1] == 11
    with pytest.raises(
        UserError, match=r"deeplabv3plus_lite: the weights have 11 classes, label space 'celebamask' has"
    ):
        from_published("deeplabv3plus_lite", eleven)


def test_an_unknown_option():
    with pytest.raises(UserError, match=r"parser 'deeplabv3plus_lite': .*unexpected keyword argument 'depth'"):
        build_parser("deeplabv3plus_lite", depth=3)


def test_a_bare_file_and_a_checkpoint_folder_keep_it(model, published, tmp_path):
    torch.save({"state_dict": {f"module.{k}": v for k, v in published.items()}}, tmp_path / "a.pth")
    net, card = load_published("deeplabv3plus_lite", tmp_path / "a.pth")
    assert replace(card, training={}) == ParserCard.of_kind("deeplabv3plus_lite", "celebamask", 512)
    save_parser(net, card, tmp_path / "kept")
    again, _ = load_parser(tmp_path / "kept")
    x = torch.ones(1, 3, 32, 32)
    assert torch.equal(logits(again, x), logits(model, x))


def test_training_needs_two_photos_and_reaches_every_parameter():
    net = build_parser("deeplabv3plus_lite").train()
    with pytest.raises(ValueError, match="Expected more than 1 value per channel when training"):
        net(torch.rand(1, 3, 32, 32))
    inside = {id(p) for name in net.encoder for p in getattr(net, name).parameters()}
    assert {n.split(".")[0] for n, p in net.named_parameters() if id(p) not in inside} == {"aspp", "decoder"}
    net(torch.rand(2, 3, 32, 32)).square().mean().backward()
    assert [n for n, p in net.named_parameters() if p.grad is None] == []

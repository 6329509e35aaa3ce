"""The small SegFormer against the published manifests and output; attention without a matrix; both upsamplings."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from semfacediff.errors import UserError
from semfacediff.parsing import ParserCard, build_parser, from_published, load_parser, save_parser
from semfacediff.parsing.checkpoint import load_published
from semfacediff.parsing.segformer_lite import Attention, attended

NAMES = {"transposed": "ce7454_segformer", "bilinear": "ce7454_segformer_bilinear"}
COUNTS = {"transposed": 1_981_478, "bilinear": 1_975_683}
both = pytest.mark.parametrize("upsampling", list(NAMES))


@pytest.fixture(scope="module")
def published(filled):
    return {upsampling: filled(name) for upsampling, name in NAMES.items()}


@pytest.fixture(scope="module")
def models(published):
    return {upsampling: from_published("segformer_lite", state) for upsampling, state in published.items()}


@pytest.fixture(scope="module")
def x(outputs):
    """The fixtures' input; both variants were given the same."""
    return torch.from_numpy(outputs(NAMES["transposed"])["x"])


@torch.inference_mode()
def logits(model, x):
    return model(x)


def plainly(attention, x):
    """The published form: one matrix of scores for every head."""
    n, c, height, width = x.shape
    d = c // attention.heads
    q, k, v = attention.qkv(x).reshape(n, 3, attention.heads, d, height * width).transpose(-1, -2).unbind(1)
    mixed = ((q @ k.transpose(-1, -2)) * d**-0.5).softmax(-1) @ v
    return attention.proj(mixed.transpose(-1, -2).reshape(n, c, height, width))


def as_published(model, x):
    """The whole network in the published order of operations: plain attention, concatenation before the mixing."""
    resize = torch.nn.functional.interpolate
    maps, y = [], x
    for embed, blocks, norm in model.stages:
        y = embed(y)
        for block in blocks:
            y = y + plainly(block.attn, block.norm1(y))
            y = y + block.ffn(block.norm2(y))
        y = norm(y)
        maps.append(y)
    decoder, size = model.decoder, maps[0].shape[-2:]
    same_size = [resize(p(m), size, mode="bilinear") for p, m in zip(decoder.projections, maps, strict=True)]
    small = decoder.classifier(decoder.fusion(torch.cat(same_size, dim=1)))
    if model.upconv is not None:
        return model.upconv(small)
    return resize(small, x.shape[-2:], mode="bilinear")


@both
def test_keys_shapes_and_parameters_are_the_published_ones(upsampling, manifest):
    stated, net = manifest(NAMES[upsampling]), build_parser("segformer_lite", upsampling=upsampling)
    own = [[key, list(v.shape), str(v.dtype).removeprefix("torch.")] for key, v in net.state_dict().items()]
    assert own == [entry[:3] for entry in stated["entries"]]
    assert {n for n, _ in net.named_parameters()} == {e[0] for e in stated["entries"] if e[4] == "param"}
    assert sum(p.numel() for p in net.parameters()) == stated["params"] == COUNTS[upsampling]


def test_the_parts_have_the_published_sizes():
    net = build_parser("segformer_lite")
    count = {name: sum(p.numel() for p in part.parameters()) for name, part in net.named_modules()}
    assert [count[f"encoder.stages.{s}"] for s in range(4)] == [6_352, 32_736, 444_288, 1_127_232]
    assert [count[f"decoder.projections.{s}"] for s in range(4)] == [4_864, 8_960, 33_536, 49_920]
    assert (count["decoder.fusion"], count["decoder.classifier"], count["upconv"]) == (262_912, 4_883, 5_795)


def test_the_published_output_comes_out(models, manifest, outputs):
    stated, expected = manifest(NAMES["transposed"]), outputs(NAMES["transposed"])
    found, atol = logits(models["transposed"], torch.from_numpy(expected["x"])), stated["atol"]
    assert list(found.shape) == stated["output_shape"] == expected["out_shape"].tolist()
    s = int(expected["stride"])
    np.testing.assert_allclose(found[:, :, ::s, ::s], expected["logits_sub"], rtol=0, atol=atol)
    by_class = found[0].double().flatten(1)
    np.testing.assert_allclose(by_class.mean(1), expected["class_mean"], rtol=0, atol=atol)
    np.testing.assert_allclose(by_class.std(1, correction=0), expected["class_std"], rtol=0, atol=atol)
    assert (found.argmax(1).numpy().squeeze() == expected["argmax"].squeeze()).mean() >= 0.999


@both
def test_the_scale_of_the_logits_is_the_stated_one(upsampling, models, manifest, x):
    found, stated = logits(models[upsampling], x).double().std(correction=0).item(), manifest(NAMES[upsampling])
    assert found == pytest.approx(stated["logit_std"], rel=0, abs=stated["atol"])


@both
def test_the_published_order_of_operations_gives_the_same(upsampling, models, manifest, x):
    with torch.inference_mode():
        expected = as_published(models[upsampling], x)
    torch.testing.assert_close(
        logits(models[upsampling], x), expected, rtol=0, atol=manifest(NAMES[upsampling])["atol"]
    )


class TestAttention:
    @pytest.mark.parametrize(("width", "heads"), [(16, 2), (32, 2), (128, 2), (192, 8)])
    @pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
    def test_it_is_plain_attention(self, width, heads, layout, rounding):
        """In float64: large scores make float32 differ by much more than a mistake might."""
        torch.manual_seed(0)
        attention, x = Attention(width, heads).double(), 3 * torch.randn(2, width, 9, 14).double()
        torch.nn.init.normal_(attention.qkv.weight, std=width**-0.5)
        x = x.contiguous(memory_format=layout)
        values = attention.qkv(x).abs().max().item()
        atol = rounding(2 * width + width // heads + 9 * 14, values**3 * width // heads, torch.float64)
        torch.testing.assert_close(attention(x), plainly(attention, x), rtol=0, atol=atol)

    def test_its_gradients_are_those_of_plain_attention(self):
        torch.manual_seed(0)
        attention, x = Attention(16, 2), torch.randn(1, 16, 6, 7, requires_grad=True)
        inputs = [x, *attention.parameters()]
        ours = torch.autograd.grad(attention(x).square().sum(), inputs)
        plain = torch.autograd.grad(plainly(attention, x).square().sum(), inputs)
        for a, b in zip(ours, plain, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
    def test_the_cpu_takes_its_fused_kernel(self, layout):
        """Not the one that builds the matrix of scores, which other strides would lead to."""
        net = build_parser("segformer_lite").eval().to(memory_format=layout)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            logits(net, torch.zeros(1, 3, 64, 64).contiguous(memory_format=layout))
        called = {event.key: event.count for event in profile.key_averages()}
        assert called["aten::_scaled_dot_product_flash_attention_for_cpu"] == 7
        assert "aten::_scaled_dot_product_attention_math" not in called
        assert "aten::_softmax" not in called

    def test_filling_up_narrow_heads_changes_nothing(self, rounding):
        torch.manual_seed(0)
        q, k, v = torch.randn(3, 1, 2, 50, 8).double()
        expected = torch.softmax(q @ k.transpose(-1, -2) / 8**0.5, -1) @ v
        assert attended(q, k, v).shape == (1, 2, 50, 8)
        scores = 8 * q.abs().max().item() * k.abs().max().item()  # an error of a score is one of its exponential
        atol = rounding(2 * 8 + 2 * 50, scores * v.abs().max().item(), torch.float64)
        torch.testing.assert_close(attended(q, k, v), expected, rtol=0, atol=atol)


@both
@pytest.mark.parametrize(("height", "width"), [(32, 32), (33, 50), (100, 75), (1, 17)])
def test_logits_have_the_size_of_the_input(upsampling, models, height, width):
    out = logits(models[upsampling], torch.zeros(2, 3, height, width))
    assert tuple(out.shape) == (2, 19, height, width)
    assert torch.isfinite(out).all()


@both
def test_a_photo_does_not_feel_its_neighbours(upsampling, models):
    x = torch.randn(3, 3, 64, 48, generator=torch.Generator().manual_seed(1))
    together = logits(models[upsampling], x.contiguous(memory_format=torch.channels_last))
    alone = torch.cat([logits(models[upsampling], one) for one in x.split(1)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


class TestReleasedWeights:
    @both
    def test_the_variant_is_inferred_from_the_keys(self, upsampling, published, models):
        assert (models[upsampling].upconv is not None) == (upsampling == "transposed")
        wrapped = {"state_dict": {f"module.{k}": v for k, v in published[upsampling].items()}}
        x = torch.ones(1, 3, 32, 32)
        assert torch.equal(logits(from_published("segformer_lite", wrapped), x), logits(models[upsampling], x))

    def test_the_default_is_the_transposed_one(self):
        assert build_parser("segformer_lite").upconv is not None

    def test_a_stated_variant_that_the_keys_contradict(self, published):
        with pytest.raises(UserError, match=r"2 unexpected keys \(upconv.weight, upconv.bias\)"):
            from_published("segformer_lite", published["transposed"], upsampling="bilinear")
        with pytest.raises(UserError, match=r"2 missing keys \(upconv.weight, upconv.bias\)"):
            from_published("segformer_lite", published["bilinear"], upsampling="transposed")

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"upsampling": "nearest"}, r"segformer_lite: upsampling is one of transposed, bilinear, got 'nearest'"),
            ({"depth": 3}, r"parser 'segformer_lite': .*unexpected keyword argument 'depth'"),
        ],
    )
    def test_wrong_options(self, options, message):
        with pytest.raises(UserError, match=message):
            build_parser("segformer_lite", **options)

    def test_the_class_count_is_inferred(self, published):
        state = published["transposed"]
        eleven = {
            **state,
            "decoder.classifier.weight": torch.zeros(11, 256, 1, 1),
            "decoder.classifier.bias": torch.zeros(11),
            "upconv.weight": torch.zeros(11, 11, 4, 4),
            "upconv.bias": torch.zeros(11),
        }
        net = from_published("segformer_lite", eleven, label_space="lapa")
        assert logits(net, torch.zeros(1, 3, 32, 32)).shape[1] == 11
        with pytest.raises(
            UserError, match=r"segformer_lite: the weights have 11 classes, label space 'celebamask' has"
        ):
            from_published("segformer_lite", eleven)

    @both
    def test_a_bare_file_and_a_checkpoint_folder_keep_the_variant(self, upsampling, published, models, tmp_path):
        torch.save(published[upsampling], tmp_path / "a.pt")
        net, card = load_published("segformer_lite", tmp_path / "a.pt")
        assert replace(card, training={}) == ParserCard(
            "segformer_lite", "celebamask", 512, card.mean, card.std, options={"upsampling": upsampling}
        )
        save_parser(net, card, tmp_path / "kept")
        again, kept = load_parser(tmp_path / "kept")
        assert kept.options == {"upsampling": upsampling}
        x = torch.ones(1, 3, 32, 32)
        assert torch.equal(logits(again, x), logits(models[upsampling], x))


class TestTraining:
    def test_it_trains_on_a_batch_of_one(self):
        net = build_parser("segformer_lite").train()
        inside = {id(p) for name in net.encoder for p in getattr(net, name).parameters()}
        assert {n.split(".")[0] for n, p in net.named_parameters() if id(p) in inside} == {"encoder"}
        assert {n.split(".")[0] for n, p in net.named_parameters() if id(p) not in inside} == {"decoder", "upconv"}
        net(torch.rand(1, 3, 64, 64)).square().mean().backward()
        assert all(p.grad is not None for p in net.parameters())

    def test_recomputing_blocks_gives_the_same_gradients(self, published, x):
        def trained(on):
            net, runs = from_published("segformer_lite", published["transposed"]).checkpointed(on).train(), []
            norms = [m for n, m in net.named_modules() if n.endswith("norm1")]
            for m in norms:
                m.register_forward_hook(lambda *_: runs.append(1))
            net(x[..., :64, :64]).square().mean().backward()
            return len(runs) / len(norms), [p.grad for p in net.parameters()]

        (once, kept), (twice, recomputed) = trained(False), trained(True)
        assert (once, twice) == (1, 2)
        for a, b in zip(kept, recomputed, strict=True):
            torch.testing.assert_close(a, b)

    def test_it_can_be_switched_off_again_and_copied(self, models, x):
        other = copy.deepcopy(models["transposed"]).checkpointed(True).checkpointed(False)
        assert torch.equal(logits(other, x), logits(models["transposed"], x))
        assert not other.train()._modules["encoder"].recompute

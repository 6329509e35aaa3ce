"""The denoiser: published outputs, counts at full size, and conditions that serve every step."""

import pytest
import torch

from semfacediff.synthesis import SCADM, UNet, from_published, one_hot
from semfacediff.synthesis.published import build_component, published_names
from semfacediff.synthesis.unet import SoftRead, SpatialTransformer

NAME = "unet_small"


@pytest.fixture(scope="module")
def published(filled):
    return filled(NAME)


@pytest.fixture(scope="module")
def unet(manifest, published):
    return from_published("unet", manifest(NAME)["hyper_parameters"], published)


@pytest.fixture(scope="module")
def found(outputs):
    return outputs(NAME)


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_the_published_outputs_come_out(unet, found):
    x, t, style, mask = found["x"], found["t"], found["style"], one_hot(found["labels"], 19)
    close(unet.time_proj(t), found["timestep_embedding"])
    close(unet.time_embed(unet.time_proj(t)), found["time_mlp"])
    cond, null = unet(x, t, style, mask), unet(x, t, 0 * style, 0 * mask)
    close(cond, found["eps"])
    close(null, found["eps_null"])
    close(null + 1.2 * (cond - null), found["eps_guided_code_1p2"])


@torch.inference_mode()
def test_the_published_output_without_attention_mask(manifest, published, found):
    hyper = {**manifest(NAME)["hyper_parameters"], "use_mask_attn": False}
    plain = from_published("unet", hyper, published)
    eps = plain(found["x"], found["t"], found["style"], one_hot(found["labels"], 19))
    close(eps, found["eps_without_attention_mask"])


@pytest.mark.parametrize("name", ["unet_small", "unet_3level"])
def test_keys_and_parameters_are_the_published_ones(manifest, name):
    stated = manifest(name)
    with torch.device("meta"):
        model = build_component("unet", stated["hyper_parameters"])
    state = model.state_dict()
    assert {p: list(state[k].shape) for k, p in published_names(model).items()} == dict(stated["state_dict"])
    assert sum(p.numel() for p in model.parameters()) == stated["num_parameters"]


def test_counts_at_full_size():
    with torch.device("meta"):
        model = SCADM()
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
    assert counts == {"first_stage": 55_322_782, "style_encoder": 18_069_304, "unet": 486_912_387}
    assert len(model.unet.state_dict()) == 801
    dead = [p for n, p in model.unet.named_parameters() if n.endswith(("attn2.to_q.weight", "attn2.to_k.weight"))]
    assert len(dead) == 32
    assert round(sum(p.numel() for p in dead) / 1e6, 1) == 22.1
    heads = [m.transformer_blocks[0].attn1.heads for m in model.unet.modules() if isinstance(m, SpatialTransformer)]
    assert heads == [14, 14, 21, 21, 28, 28, 28, 28, 28, 28, 21, 21, 21, 14, 14, 14]


@torch.inference_mode()
def test_a_condition_serves_every_step(unet, found):
    style, mask = found["style"], one_hot(found["labels"], 19)
    kept = unet.condition(style, mask, (16, 16))
    for t in (1, 500, 999):
        x, now = found["x"] * (1 + t / 1000), torch.full((2,), t)
        torch.testing.assert_close(unet.denoise(x, now, kept), unet(x, now, style, mask), rtol=0, atol=1e-4)


@torch.inference_mode()
def test_a_null_condition_of_one_serves_a_batch(unet, found):
    style, mask = 0 * found["style"][:1], 0 * one_hot(found["labels"][:1], 19)
    null = unet.condition(style, mask, (16, 16))
    close(unet.denoise(found["x"], found["t"], null), found["eps_null"])


@torch.inference_mode()
def test_look_ups_and_softmax_agree(unet, found):
    """A mask a hair away from one-hot takes the softmax; exact zeros exclude there too."""
    mask = one_hot(found["labels"], 19)
    nearly = mask * (1 - 1e-6)
    reads = unet.condition(found["style"], nearly, (16, 16)).reads
    assert any(isinstance(read, SoftRead) for read in reads)
    assert not any(isinstance(read, SoftRead) for read in unet.condition(found["style"], mask, (16, 16)).reads)
    close(unet(found["x"], found["t"], found["style"], nearly), found["eps"])


@torch.inference_mode()
def test_tokens_of_parts_outside_the_layout_change_nothing(unet, found):
    labels = found["labels"].clone()
    labels[labels == 13] = 1
    mask, style = one_hot(labels, 19), found["style"].clone()
    before = unet(found["x"], found["t"], style, mask)
    style[:, 13] = 5
    assert torch.equal(unet(found["x"], found["t"], style, mask), before)


@torch.inference_mode()
def test_a_token_enters_at_the_pixels_of_its_part(unet, found):
    """What layers read differs nowhere else; normalisation and self-attention mix afterwards, as they must."""
    mask = one_hot(found["labels"], 19)
    part = int(found["labels"].flatten().mode().values)
    style = found["style"].clone()
    style[:, part] += 1
    own, other = (unet.condition(s, mask, (16, 16)) for s in (found["style"], style))
    for before, after in zip(own.modulations, other.modulations, strict=True):  # SPADE reads no token
        assert all(torch.equal(a, b) for a, b in zip(sum(before, ()), sum(after, ()), strict=True))
    for before, after in zip(own.reads, other.reads, strict=True):
        side = int(before.shape[1] ** 0.5)
        inside = (found["labels"][:, :: 64 // side, :: 64 // side] == part).flatten(1)
        assert torch.equal((before != after).any(-1), inside)


def test_what_nothing_reads_is_frozen():
    model = UNet(channels=32, multipliers=(1, 2), layers=1, attention_factors=(2,), token_width=8)
    frozen = {n.split("transformer_blocks.0.")[-1] for n, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {"label_emb.weight", "attn2.to_q.weight", "attn2.to_k.weight", "norm2.weight", "norm2.bias"}
    free = UNet(channels=32, multipliers=(1, 2), layers=1, attention_factors=(2,), token_width=8, mask_attention=False)
    assert [n for n, p in free.named_parameters() if not p.requires_grad] == ["label_emb.weight"]


def test_everything_else_gets_a_gradient_also_with_checkpointing(make_tiny):
    grads = {}
    for checkpointing in (False, True):
        model = make_tiny().train()
        model.unet.checkpointing = checkpointing
        labels = torch.arange(32 * 32).view(1, 32, 32) // 32 % 19
        torch.manual_seed(1)
        images = torch.randn(1, 3, 32, 32)
        eps = model(torch.randn(1, 3, 8, 8), torch.tensor([5]), images, one_hot(labels, 19))
        eps.square().mean().backward()
        parts = {**dict(model.unet.named_parameters()), **dict(model.style_encoder.named_parameters())}
        assert all(p.grad is not None for p in parts.values() if p.requires_grad)
        assert not any(p.grad is not None for p in model.first_stage.parameters())
        grads[checkpointing] = torch.cat([p.grad.flatten() for p in parts.values() if p.requires_grad])
    torch.testing.assert_close(grads[True], grads[False], rtol=1e-4, atol=1e-6)


def test_a_fresh_model_predicts_nothing():
    """The last convolution starts as zeros."""
    model = UNet(channels=32, multipliers=(1, 2), layers=1, attention_factors=(2,), token_width=8)
    out = model(torch.randn(1, 3, 8, 8), torch.tensor([3]), torch.randn(1, 19, 8), torch.zeros(1, 19, 32, 32))
    assert not out.any()

"""SPADE, its residual block, the plain one and the transformer, against the published outputs."""

import pytest
import torch
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel

from semfacediff.parsing.registry import load_renamed
from semfacediff.synthesis import from_published, one_hot
from semfacediff.synthesis.attention import class_index, to_size
from semfacediff.synthesis.published import build_component, published_names
from semfacediff.synthesis.unet import SoftRead, SpatialTransformer


@pytest.fixture(scope="module")
def spade(manifest, filled):
    return from_published("spade_resblock", manifest("spade_resblock")["hyper_parameters"], filled("spade_resblock"))


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@torch.inference_mode()
def test_the_published_spade_block(spade, outputs):
    expected = outputs("spade_resblock")
    x, emb, mask = expected["x"], expected["emb"], one_hot(expected["labels"], 19)
    close(spade.norm1(x, spade.norm1.modulation(mask, (8, 8))), expected["in_norm"])
    close(spade(x, emb, mask), expected["y"])
    close(spade(x, emb, 0 * mask), expected["y_zero_mask"])
    close(spade(x, mask, emb), expected["y"])


@pytest.mark.parametrize("name", ["spade_resblock", "spade_resblock_same"])
def test_keys_and_parameters_of_the_spade_block(manifest, name):
    stated = manifest(name)
    with torch.device("meta"):
        block = build_component("spade_resblock", stated["hyper_parameters"])
    state = block.state_dict()
    assert {p: list(state[k].shape) for k, p in published_names(block).items()} == dict(stated["state_dict"])
    assert sum(p.numel() for p in block.parameters()) == stated["num_parameters"]


@torch.inference_mode()
def test_modulations_serve_every_feature_map(spade, outputs):
    found = outputs("spade_resblock")
    mask = one_hot(found["labels"], 19)
    kept = spade.modulations(mask, (8, 8))
    for x in (found["x"], 2 * found["x"] + 1):
        assert torch.equal(spade.modulated(x, found["emb"], kept), spade(x, found["emb"], mask))


@torch.inference_mode()
def test_a_mask_is_felt_two_pixels_far(spade):
    """Two convolutions of three: scale and shift further away do not change by a bit."""
    labels = torch.zeros(1, 8, 8, dtype=torch.int64)
    changed = labels.clone()
    changed[0, 0, 0] = 1
    for before, after in zip(*(spade.norm1.modulation(one_hot(y, 19), (8, 8)) for y in (labels, changed)), strict=True):
        differs = (before != after).any(1)[0]
        assert differs[:3, :3].all()
        assert differs.sum() == 9


@torch.inference_mode()
def test_the_published_plain_block(manifest, filled, outputs):
    h, expected = manifest("plain_resblock")["hyper_parameters"], outputs("plain_resblock")
    block = ResnetBlock2D(
        in_channels=h["channels"], out_channels=h["out_channels"], temb_channels=h["emb_channels"], eps=1e-5
    )
    load_renamed(block, filled("plain_resblock"), published_names(block), "plain block")
    close(block.eval()(expected["x"], expected["emb"]), expected["y"])


@pytest.fixture(scope="module")
def transformer(filled):
    made = SpatialTransformer(64, 48)
    made.load_state_dict(filled("spatial_transformer"))  # published under the names of the library's parts
    return made.eval()


@pytest.fixture(scope="module")
def found(outputs):
    return outputs("spatial_transformer")


@torch.inference_mode()
def test_the_published_outputs_come_out(transformer, found):
    mask = to_size(one_hot(found["labels"], 19), (8, 8))
    x, tokens = found["x"], found["context"]
    looked_up = transformer.read(tokens, None, class_index(mask))
    close(transformer(x, looked_up), found["y_onehot"])
    close(transformer(x, transformer.read(tokens, mask, None)), found["y_onehot"])
    close(transformer(x, SoftRead(tokens, None)), found["y_nomask"])
    nothing = transformer.read(0 * tokens, None, class_index(0 * mask))
    close(transformer(x, nothing), found["y_zero_context_zero_mask"])


@torch.inference_mode()
def test_without_mask_it_is_the_librarys_transformer(transformer, found, filled):
    theirs = Transformer2DModel(2, 32, in_channels=64, cross_attention_dim=48)
    theirs.load_state_dict(filled("spatial_transformer"))
    ours = transformer(found["x"], SoftRead(found["context"], None))
    close(ours, theirs.eval()(found["x"], found["context"]).sample)

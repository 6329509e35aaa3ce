"""The autoencoder against a plain transcription of its description, under the published key names."""

import pytest
import torch
from torch.nn import functional as F

from semfacediff.synthesis import from_published
from semfacediff.synthesis.published import build_component, published_names

NAME = "vq_first_stage_small"


@pytest.fixture(scope="module")
def weights(filled):
    return filled(NAME)


@pytest.fixture(scope="module")
def first_stage(manifest, weights):
    return from_published("first_stage", manifest(NAME)["hyper_parameters"], weights)


@pytest.fixture(scope="module")
def image():
    return torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


class Plain:
    """Latent diffusion's VQ autoencoder, written from its description."""

    def __init__(self, weights):
        self.w = weights

    def conv(self, name, x, **options):
        w = self.w[f"{name}.weight"]
        return F.conv2d(x, w, self.w[f"{name}.bias"], **{"padding": w.shape[-1] // 2, **options})

    def norm(self, name, x):
        return F.group_norm(x, 32, self.w[f"{name}.weight"], self.w[f"{name}.bias"], eps=1e-6)

    def residual(self, name, x):
        h = self.conv(f"{name}.conv1", F.silu(self.norm(f"{name}.norm1", x)))
        h = self.conv(f"{name}.conv2", F.silu(self.norm(f"{name}.norm2", h)))
        return h + (self.conv(f"{name}.nin_shortcut", x) if f"{name}.nin_shortcut.weight" in self.w else x)

    def attention(self, name, x):
        h = self.norm(f"{name}.norm", x)
        q, k, v = (self.conv(f"{name}.{part}", h).flatten(2) for part in "qkv")
        weights = torch.softmax(q.transpose(1, 2) @ k * q.shape[1] ** -0.5, -1)
        return x + self.conv(f"{name}.proj_out", (v @ weights.transpose(1, 2)).view_as(x))

    def middle(self, name, x):
        return self.residual(f"{name}.block_2", self.attention(f"{name}.attn_1", self.residual(f"{name}.block_1", x)))

    def encode(self, x):
        h = self.conv("encoder.conv_in", x)
        for level in range(3):
            for block in range(2):
                h = self.residual(f"encoder.down.{level}.block.{block}", h)
            if level < 2:
                h = self.conv(f"encoder.down.{level}.downsample.conv", F.pad(h, (0, 1, 0, 1)), stride=2, padding=0)
        h = F.silu(self.norm("encoder.norm_out", self.middle("encoder.mid", h)))
        return self.conv("quant_conv", self.conv("encoder.conv_out", h))

    def index(self, z):
        apart = (z[:, None] - self.w["quantize.embedding.weight"][None, :, :, None, None]).square().sum(2)
        return apart.argmin(1)

    def decode(self, z):
        h = self.middle("decoder.mid", self.conv("decoder.conv_in", self.conv("post_quant_conv", z)))
        for level in (2, 1, 0):
            for block in range(3):
                h = self.residual(f"decoder.up.{level}.block.{block}", h)
            if level:
                h = self.conv(f"decoder.up.{level}.upsample.conv", F.interpolate(h, scale_factor=2.0))
        return self.conv("decoder.conv_out", F.silu(self.norm("decoder.norm_out", h)))


@torch.inference_mode()
def test_it_is_the_described_autoencoder(first_stage, weights, image):
    plain = Plain(weights)
    z = first_stage.encode(image)
    assert z.shape == (1, 3, 8, 8)
    torch.testing.assert_close(z, plain.encode(image), rtol=1e-4, atol=1e-4)
    index = first_stage.code_index(z)
    assert torch.equal(index, plain.index(z))
    codes = weights["quantize.embedding.weight"][index].movedim(-1, 1)
    torch.testing.assert_close(first_stage.decode(z), plain.decode(codes), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(first_stage.decode(z, quantise=False), plain.decode(z), rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_latents_are_neither_quantised_nor_scaled(first_stage, image):
    z = first_stage.encode(image)
    assert torch.equal(z, first_stage.vq.quant_conv(first_stage.vq.encoder(image)))
    assert first_stage.vq.config.scaling_factor == 1
    book = first_stage.vq.quantize.embedding.weight
    assert (torch.cdist(z.movedim(1, -1).flatten(0, 2), book).min(1).values > 1e-3).all()


def test_keys_and_parameters_are_the_published_ones(manifest, weights):
    stated = manifest(NAME)
    with torch.device("meta"):
        model = build_component("first_stage", stated["hyper_parameters"])
    names = published_names(model)
    assert set(names.values()) == set(weights)
    assert sum(p.numel() for p in model.parameters()) == stated["num_parameters"]
    for key, value in model.state_dict().items():
        assert value.numel() == weights[names[key]].numel()

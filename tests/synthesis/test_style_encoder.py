"""Style tokens: published outputs, which class reads which, and what a class without pixels gets."""

import pytest
import torch

from semfacediff.synthesis import StyleEncoder, from_published, one_hot
from semfacediff.synthesis.published import build_component, published_names

NAME = "style_encoder_small"


@pytest.fixture(scope="module")
def encoder(manifest, filled):
    return from_published("style_encoder", manifest(NAME)["hyper_parameters"], filled(NAME))


@pytest.fixture(scope="module")
def found(outputs):
    return outputs(NAME)


@torch.inference_mode()
def test_the_published_tokens_come_out(encoder, found):
    mask = one_hot(found["labels"], 19)
    torch.testing.assert_close(encoder(found["image"], mask), found["style"], rtol=0, atol=1e-5)
    torch.testing.assert_close(encoder(0 * found["image"], mask), found["style_zero_image"], rtol=0, atol=1e-5)


@torch.inference_mode()
def test_the_published_features_come_out(encoder, found):
    h = encoder.stem(found["image"])
    for stage in encoder.down:
        h = stage(h)
    torch.testing.assert_close(h, found["deepest_encoder_feature"], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(encoder.up[0](h), found["first_decoder_feature"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["style_encoder_small", "style_encoder_tiny5", "style_encoder_full"])
def test_keys_and_parameters_are_the_published_ones(manifest, name):
    stated = manifest(name)
    with torch.device("meta"):
        model = build_component("style_encoder", stated["hyper_parameters"])
    state = model.state_dict()
    assert {p: list(state[k].shape) for k, p in published_names(model).items()} == dict(stated["state_dict"])
    assert sum(p.numel() for p in model.parameters()) == stated["num_parameters"]


@torch.inference_mode()
def test_a_class_without_pixels_gets_a_constant_of_its_own(encoder, found):
    """Whatever the photo: pooling nothing gives tanh of the bias."""
    mask = one_hot(found["labels"], 19)
    assert not mask[0, 18].any()
    bias = torch.cat([h.bias.view(19, -1)[18] for h in encoder.heads])
    for image in (found["image"], found["image"].flip(-1)):
        torch.testing.assert_close(encoder(image, mask)[0, 18], bias.tanh(), rtol=0, atol=1e-6)


def reads(interleave: bool) -> torch.Tensor:
    """bool ``[K, 2, K]``: whose channels (decoder's, skip's) every group of the second decoder stage reads."""
    torch.manual_seed(0)
    model = StyleEncoder(features=1, down=3, token_width=2, interleave_skips=interleave)
    per = 2
    parts = [torch.randn(1, 19 * per * 2, 4, 4, requires_grad=True) for _ in range(2)]
    out = model.up[1][1](model._beside(*parts)).unflatten(1, (19, -1))  # the convolution alone
    rows = []
    for group in range(19):
        grads = torch.autograd.grad(out[:, group].sum(), parts, retain_graph=True)
        rows.append(torch.stack([g.unflatten(1, (19, -1)).abs().sum((0, 2, 3, 4)) > 0 for g in grads]))
    return torch.stack(rows)


def test_published_groups_read_other_classes_after_the_skip():
    found = reads(interleave=False)
    expected = torch.zeros_like(found)
    for g in range(9):
        expected[g, 0, [2 * g, 2 * g + 1]] = True
    expected[9, 0, 18] = expected[9, 1, 0] = True
    for g in range(10, 19):
        expected[g, 1, [2 * g - 19, 2 * g - 18]] = True
    assert torch.equal(found, expected)


def test_interleaved_groups_read_their_own_class():
    own = torch.eye(19, dtype=torch.bool)[:, None].expand(-1, 2, -1)
    assert torch.equal(reads(interleave=True), own)


def weights_read(interleave: bool, part: int) -> set[int]:
    """Classes whose own convolutions the token of ``part`` depends on."""
    torch.manual_seed(0)
    model = StyleEncoder(features=2, down=3, token_width=2, interleave_skips=interleave)
    labels = torch.arange(32 * 32).view(1, 32, 32) // 8 % 19
    model(torch.randn(1, 3, 32, 32), one_hot(labels, 19))[0, part].sum().backward()
    grads = [s[-3].weight.grad.unflatten(0, (19, -1)).flatten(1).abs().sum(1) for s in (*model.down, *model.up)]
    return set((torch.stack(grads).sum(0) > 0).nonzero().flatten().tolist())


def test_interleaved_a_token_depends_on_the_weights_of_its_class_alone():
    assert weights_read(True, 13) == {13}
    assert len(weights_read(False, 13)) > 1


@torch.inference_mode()
def test_the_learned_token_stands_for_absent_parts_only(found):
    torch.manual_seed(0)
    plain = StyleEncoder(features=4, down=3, token_width=16).eval()
    torch.manual_seed(0)
    learned = StyleEncoder(features=4, down=3, token_width=16, absent_token=True).eval()
    learned.absent.normal_()
    mask = one_hot(found["labels"], 19)
    there = mask.flatten(2).any(-1)
    tokens = learned(found["image"], mask)
    assert torch.equal(tokens[there], plain(found["image"], mask)[there])
    assert torch.equal(tokens[0, 18], learned.absent[18])


def test_a_part_left_out_of_the_mask_trains_the_learned_token(found):
    model = StyleEncoder(features=4, down=3, token_width=16, absent_token=True)
    mask = one_hot(found["labels"], 19)
    mask[:, 1] = 0
    model(found["image"], mask)[:, 1].sum().backward()
    assert model.absent.grad[1].all()


@torch.inference_mode()
def test_half_precision_pools_without_overflow(encoder, found):
    """A sum over all pixels exceeds 65,504 where the mean does not."""
    half = StyleEncoder(features=4, down=3, token_width=16).half()
    half.load_state_dict(encoder.state_dict())
    feature = torch.full((1, 152, 128, 128), 60.0, dtype=torch.float16)
    mask = one_hot(torch.zeros(1, 128, 128), 19).half()
    pooled = half._pooled(feature, mask, half.heads[1])
    assert pooled.isfinite().all()
    expected = encoder._pooled(feature.float(), mask.float(), encoder.heads[1])
    torch.testing.assert_close(pooled.float(), expected, rtol=0, atol=1e-2)

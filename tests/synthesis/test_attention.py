"""Masked cross-attention: the published cases, and the look-up against the softmax it stands for."""

import copy

import pytest
import torch

from semfacediff.synthesis import one_hot
from semfacediff.synthesis.attention import MaskedCrossAttention, class_index, to_size

NAME = "masked_cross_attention"


@pytest.fixture(scope="module")
def attention(manifest, filled):
    h = manifest(NAME)["hyper_parameters"]
    made = MaskedCrossAttention(h["query_dim"], h["context_dim"], h["heads"], h["dim_head"])
    made.load_state_dict(filled(NAME))
    assert sum(p.numel() for p in made.parameters()) == manifest(NAME)["num_parameters"]
    return made


@pytest.fixture(scope="module")
def found(outputs):
    return outputs(NAME)


def masks(found):
    """The published cases: name -> (mask at the input's size or none, factor of the tokens)."""
    plain = one_hot(found["labels"], 19)
    return {
        "y_onehot": (plain, 1),
        "y_nomask": (None, 1),
        "y_zeromask": (0 * plain, 1),
        "y_fractional": (found["mask_fractional"], 1),
        "y_two_hot": (found["mask_two_hot"].float(), 1),
        "y_zero_context": (plain, 0),
        "y_zero_context_zero_mask": (0 * plain, 0),
    }


def at_tokens(mask):
    return None if mask is None else to_size(mask, (8, 8)).flatten(2)


CASES = ("y_onehot", "y_nomask", "y_zeromask", "y_fractional", "y_two_hot", "y_zero_context")


@torch.inference_mode()
@pytest.mark.parametrize("case", [*CASES, "y_zero_context_zero_mask"])
def test_the_published_output_comes_out(attention, found, case):
    mask, factor = masks(found)[case]
    context = factor * found["context"]
    for form in (attention, attention.attend):
        torch.testing.assert_close(form(found["x"], context, at_tokens(mask)), found[case], rtol=0, atol=1e-5)


@torch.inference_mode()
def test_the_published_logits_come_out(attention, found):
    q, k = (attention._split(f(x)) for f, x in ((attention.to_q, found["x"]), (attention.to_k, found["context"])))
    logits = (q @ k.transpose(-1, -2)).flatten(0, 1) * 32**-0.5
    torch.testing.assert_close(logits, found["logits_before_mask"], rtol=0, atol=1e-5)


def gradients(attention, form, found):
    """float64, of a sum with random factors, by what can be trained or conditioned on."""
    tokens, x = (found[name].double().requires_grad_() for name in ("context", "x"))
    attention.zero_grad()
    out = form(x, tokens)
    (out * torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).double()).sum().backward()
    named = {name: p.grad for name, p in attention.named_parameters()}
    return {**named, "tokens": tokens.grad, "x": x.grad}


def test_the_look_up_has_the_gradients_of_the_softmax(attention, found):
    """In float64, where the sums over all pixels leave nothing of their order."""
    attention, mask = copy.deepcopy(attention).double(), one_hot(found["labels"], 19).double()
    mask[0, :, :8, :8] = 0  # pixels without a class
    small = to_size(mask, (8, 8))
    index = class_index(small).flatten(1)
    soft = gradients(attention, lambda x, c: attention.attend(x, c, small.flatten(2)), found)
    hard = gradients(attention, lambda x, c: attention.look_up(c, index), found)
    for name in ("tokens", "to_v.weight", "to_out.0.weight", "to_out.0.bias"):
        torch.testing.assert_close(hard[name], soft[name], rtol=1e-11, atol=1e-11)
    for name in ("to_q.weight", "to_k.weight", "x"):  # a one-hot mask leaves queries and keys nothing to say
        assert hard[name] is None
        assert not soft[name].any()


def test_pixels_are_indexed_by_class_and_by_none():
    mask = one_hot(torch.tensor([[[0, 2], [1, 1]]]), 3)
    mask[0, :, 0, 0] = 0
    assert class_index(mask).tolist() == [[[3, 2], [1, 1]]]


@pytest.mark.parametrize("value", [0.5, 1.5, -1.0])
def test_other_masks_have_no_index(value):
    mask = one_hot(torch.zeros(1, 2, 2), 3)
    mask[0, 1, 0, 0] = value
    assert class_index(mask) is None
    mask[0, 1, 0, 0] = 1  # two classes in a pixel
    assert class_index(mask) is None


def test_a_mask_is_resized_to_the_top_left_pixel_of_every_cell():
    mask = torch.arange(16.0).view(1, 1, 4, 4)
    assert to_size(mask, (2, 2)).flatten().tolist() == [0, 2, 8, 10]
    assert to_size(mask, (4, 4)) is mask


@torch.inference_mode()
def test_a_token_reaches_the_pixels_of_its_class_alone(attention, found):
    labels = found["labels"][:, ::4, ::4].long()
    index = labels.flatten(1)
    part = int(labels[0, 3, 3])
    changed = found["context"].clone()
    changed[:, part] += 1
    before, after = attention.look_up(found["context"], index), attention.look_up(changed, index)
    assert torch.equal((before != after).any(-1), index == part)


@torch.inference_mode()
def test_in_half_precision_excluded_tokens_stay_excluded(attention, found):
    half = MaskedCrossAttention(64, 48, 2).half()
    half.load_state_dict(attention.state_dict())
    mask = one_hot(found["labels"][:, ::4, ::4], 19).flatten(2).half()
    out = half.attend(found["x"].half(), found["context"].half(), mask)
    torch.testing.assert_close(out.float(), found["y_onehot"], rtol=0, atol=2e-2)

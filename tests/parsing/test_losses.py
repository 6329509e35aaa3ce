"""The summed loss against torch's mean, and class weights against their definition."""

import pytest
import torch
import torch.nn.functional as F

from semfacediff.parsing.losses import class_weights, count_pixels, cross_entropy_sums


@pytest.fixture
def batch():
    g = torch.Generator().manual_seed(0)
    return (
        torch.randn(3, 5, 6, 7, generator=g),
        torch.randint(5, (3, 6, 7), generator=g),
        torch.rand(5, generator=g) + 0.1,
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_quotient_is_torchs_mean(batch, smoothing, weighted):
    logits, labels, weights = batch
    weights = weights if weighted else torch.ones(5)
    loss, weight = cross_entropy_sums(logits, labels, weights, smoothing)
    expected = F.cross_entropy(logits, labels, weights if weighted else None, label_smoothing=smoothing)
    torch.testing.assert_close(loss / weight, expected, rtol=1e-6, atol=1e-6)


def test_parts_of_a_batch_add_up(batch):
    """What several processes rely on: the sums of the shares are the sums of the whole."""
    logits, labels, weights = batch
    whole = cross_entropy_sums(logits, labels, weights, 0.1)
    parts = [cross_entropy_sums(logits[i : i + 1], labels[i : i + 1], weights, 0.1) for i in range(3)]
    for k in range(2):
        torch.testing.assert_close(sum(p[k] for p in parts), whole[k])


def test_a_sure_and_right_answer_costs_nothing():
    labels = torch.tensor([[[0, 1]]])
    logits = F.one_hot(labels, 2).permute(0, 3, 1, 2) * 100.0
    loss, weight = cross_entropy_sums(logits, labels, torch.tensor([1.0, 3.0]), 0.0)
    assert (loss.item(), weight.item()) == (0.0, 4.0)


def test_gradients_flow(batch):
    logits, labels, weights = batch
    logits.requires_grad_()
    loss, weight = cross_entropy_sums(logits, labels, weights, 0.0)
    (loss / weight).backward()
    torch.testing.assert_close(logits.grad.sum(1), torch.zeros(3, 6, 7), atol=1e-7, rtol=0)


@pytest.mark.parametrize(("kind", "power"), [("inverse", -1.0), ("inverse_sqrt", -0.5)])
def test_weights_are_powers_of_the_frequency_with_mean_one(kind, power):
    counts = torch.tensor([1000, 100, 10, 1])
    weights = class_weights(kind, counts)
    assert weights.dtype == torch.float32
    assert weights.mean().item() == pytest.approx(1)
    ratio = (weights / weights[0]).tolist()
    assert ratio == pytest.approx([(c / 1000) ** power for c in (1000, 100, 10, 1)], rel=1e-5)


def test_no_weights_are_ones():
    assert class_weights("none", torch.tensor([5, 0, 1])).tolist() == [1, 1, 1]


@pytest.mark.parametrize("kind", ["inverse", "inverse_sqrt"])
def test_a_class_never_seen_weighs_as_much_as_the_rarest(kind):
    weights = class_weights(kind, torch.tensor([1000, 0, 10]))
    assert torch.isfinite(weights).all()
    assert weights[1] == weights[2] > weights[0]


def test_pixels_are_counted_over_batches():
    batches = [(None, torch.tensor([[[0, 1], [1, 2]]], dtype=torch.uint8)), (None, torch.full((1, 2, 2), 4).byte())]
    counts = count_pixels(batches, 6)
    assert counts.dtype == torch.int64
    assert counts.tolist() == [1, 2, 1, 0, 4, 0]

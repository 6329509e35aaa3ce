"""One step: strides, precision, clipping, overflow."""

import pytest
import torch
from torch import nn

from semfacediff.tasks.training.step import GradientStep, new_accelerator, strided


def made(precision="float32", clip=None):
    torch.manual_seed(0)
    net = nn.Conv2d(3, 4, 1)
    accelerator = new_accelerator(torch.device("cpu"), precision)
    return net, GradientStep(accelerator, net, clip), torch.optim.SGD(net.parameters(), lr=1.0)


def backward(step, x, y):
    with step.autocast():
        logits = step.net(x)
    return step.add((logits.float().mean((1, 2, 3)) - y.float().mean((1, 2))).square().sum())


def one_step(step, optimiser, x, y):
    loss = backward(step, x, y)
    step.update(optimiser)
    return loss


X, Y = torch.linspace(0, 1, 2 * 3 * 4 * 4).view(2, 3, 4, 4), torch.ones(2, 4, 4, dtype=torch.int64)


def test_mean_over_all_phases_is_the_loss_of_all_pixels():
    logits, labels = torch.randn(2, 5, 6, 8), torch.randint(0, 5, (2, 6, 8))
    phases = [(r, c) for r in range(2) for c in range(2)]
    parts = [nn.functional.cross_entropy(*strided(logits, labels, 2, phase)) for phase in phases]
    torch.testing.assert_close(torch.stack(parts).mean(), nn.functional.cross_entropy(logits, labels))


def test_clipping_bounds_the_move():
    net, step, optimiser = made(clip=0.125)
    before = [p.detach().clone() for p in net.parameters()]
    one_step(step, optimiser, X, Y)
    moved = torch.cat([(p - b).flatten() for p, b in zip(net.parameters(), before, strict=True)])
    assert moved.norm().item() == pytest.approx(0.125, rel=1e-4)


def test_the_batches_of_a_step_add_up_to_the_mean_gradient():
    net, step, _ = made()
    step.accelerator.gradient_accumulation_steps = 2
    for half in range(2):
        backward(step, X[half : half + 1], Y[half : half + 1])
    accumulated = net.weight.grad.clone()
    net.zero_grad()
    backward(step, X, Y)
    torch.testing.assert_close(accumulated, net.weight.grad)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_lower_precision_rounds_the_forward_pass_and_keeps_the_weights(precision):
    (_, full, a), (net, lower, b) = made(), made(precision)
    exact, rounded = one_step(full, a, X, Y), one_step(lower, b, X, Y)
    assert rounded != exact
    assert rounded.item() == pytest.approx(exact.item(), rel=0.05)
    assert net.weight.dtype == torch.float32


def test_overflowing_gradients_leave_the_weights_alone_and_lower_the_scale():
    net, step, optimiser = made("float16")
    before, scale = net.weight.detach().clone(), step.scaler.get_scale()
    backward(step, X, Y)
    net.weight.grad.fill_(float("inf"))
    assert step.update(optimiser)  # training goes on
    assert torch.equal(net.weight, before)
    assert step.scaler.get_scale() < scale


@pytest.mark.parametrize("clip", [None, 1.0])
@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
def test_gradient_that_is_not_finite_is_reported_and_moves_nothing(clip, bad):
    net, step, optimiser = made(clip=clip)
    before = net.weight.detach().clone()
    backward(step, X, Y)
    net.weight.grad[0, 0] = bad
    assert not step.update(optimiser)
    assert torch.equal(net.weight, before)
    backward(step, X, Y)
    assert step.update(optimiser)
    assert not torch.equal(net.weight, before)


def test_loss_that_is_not_finite_leaves_no_gradient():
    net, step, _ = made()
    assert backward(step, X * float("nan"), Y).isnan()
    assert net.weight.grad is None

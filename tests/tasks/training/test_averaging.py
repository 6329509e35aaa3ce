"""The moving average against its definition."""

import torch
from torch import nn

from semfacediff.tasks.training.averaging import MovingAverage


def moved(model: nn.Module, value: float) -> nn.Module:
    with torch.no_grad():
        for p in model.parameters():
            p.fill_(value)
    return model


def test_is_the_recursion_with_a_warmed_up_decay():
    model = moved(nn.Linear(3, 2), 1.0)
    average, expected = MovingAverage(model, 0.3), 1.0
    for k, value in enumerate([2.0, -1.0, 5.0, 0.5]):
        average.update(moved(model, value))
        decay = min(0.3, (1 + k) / (10 + k))
        expected = decay * expected + (1 - decay) * value
        torch.testing.assert_close(average.model.weight, torch.full((2, 3), expected))


def test_running_statistics_follow_and_counts_are_copied():
    model = nn.BatchNorm1d(2)
    average = MovingAverage(model, 0.9)
    model.train()(torch.randn(8, 2, generator=torch.Generator().manual_seed(0)) + 5)
    average.update(model)
    assert torch.all(average.model.running_mean != 0)
    assert average.model.num_batches_tracked == 1
    assert not average.model.training


def test_continues_from_its_state():
    model = moved(nn.Linear(2, 2), 1.0)
    one = MovingAverage(model, 0.9)
    one.update(moved(model, 3.0))
    other = MovingAverage(moved(nn.Linear(2, 2), 0.0), 0.9)
    other.restore(one.state())
    moved(model, -2.0)
    one.update(model)
    other.update(model)
    assert torch.equal(one.model.weight, other.model.weight)

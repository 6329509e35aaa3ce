"""Learning rates against torch's own schedulers and by hand."""

import itertools
import math

import pytest
import torch

from semfacediff import config
from semfacediff.tasks.training.schedules import rate_factor


def factors(epochs: int, steps: int, s: config.AdamWConfig) -> list[float]:
    return [rate_factor(step, steps, epochs, s) for step in range(epochs * steps)]


def torchs(scheduler, epochs: int, **options) -> list[float]:
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    made, rates = scheduler(optimiser, **options), []
    for _ in range(epochs):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        made.step()
    return rates


def test_cosine_is_torchs(settings):
    theirs = torchs(torch.optim.lr_scheduler.CosineAnnealingLR, 40, T_max=40)
    assert factors(8, 5, settings()) == pytest.approx(theirs)


def test_polynomial_is_torchs(settings):
    theirs = torchs(torch.optim.lr_scheduler.PolynomialLR, 40, total_iters=40, power=0.9)
    assert factors(8, 5, settings(schedule="polynomial")) == pytest.approx(theirs)


def test_multistep_is_torchs_at_the_starts_of_epochs(settings):
    theirs = torchs(torch.optim.lr_scheduler.MultiStepLR, 8, milestones=[2, 5], gamma=0.1)
    ours = factors(8, 5, settings(schedule="multistep", milestones=[2, 5]))
    assert ours == pytest.approx([rate for rate in theirs for _ in range(5)])


def test_constant_stays(settings):
    assert set(factors(3, 4, settings(schedule="constant"))) == {1.0}


@pytest.mark.parametrize("schedule", ["constant", "cosine", "polynomial"])
def test_warm_up_rises_in_equal_steps_to_the_full_rate(schedule, settings):
    rates = factors(10, 10, settings(schedule=schedule, warmup_steps=10))
    assert rates[:10] == pytest.approx([(k + 1) / 10 for k in range(10)])
    assert rates[10] == 1
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))


def test_warm_up_longer_than_the_training_is_no_error(settings):
    assert all(math.isfinite(f) and f <= 1 for f in factors(1, 5, settings(warmup_steps=50)))


def test_a_warm_up_that_nobody_chose_is_at_most_a_tenth_of_the_training(settings):
    def rising(epochs: int, steps: int, asked: int | None) -> list[float]:
        return [f for f in factors(epochs, steps, settings(warmup_steps=asked, schedule="constant")) if f < 1]

    assert rising(4, 10, None) == [0.25, 0.5, 0.75], "4 of 40 steps, the fourth at the base rate"
    assert rising(1, 9, None) == []
    assert rising(20, 100, None) == pytest.approx([k / 100 for k in range(1, 100)])
    assert rising(4, 10, 20) == pytest.approx([k / 20 for k in range(1, 20)]), "what is asked for is done"

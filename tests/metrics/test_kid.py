"""KID against closed forms, plain loops and itself."""

from math import comb

import numpy as np
import pytest

from semfacediff.metrics.kernel import SUBSETS, kernel_distance, polynomial_mmd


def normal(seed, n, width=1, mean=0.0, sd=1.0):
    return np.random.default_rng(seed).normal(mean, sd, (n, width))


def moments_of_normal(mean, sd):
    """E x, E x^2, E x^3."""
    return mean, mean**2 + sd**2, mean**3 + 3 * mean * sd**2


def known(a, b):
    """Squared MMD of two one-dimensional normals under (xy + 1)^3: the kernel is a sum over moments."""
    pairs = zip(moments_of_normal(*a), moments_of_normal(*b), strict=True)
    return sum(comb(3, k) * (p - q) ** 2 for k, (p, q) in enumerate(pairs, 1))


@pytest.mark.parametrize(("a", "b"), [((0, 1), (1, 1)), ((0.5, 0.5), (0, 1)), ((0, 1), (0, 1.5))])
def test_gaussians_whose_distance_is_known(a, b):
    estimates = [polynomial_mmd(normal(i, 900, 1, *a), normal(100 + i, 900, 1, *b)) for i in range(8)]
    error = np.std(estimates, ddof=1) / np.sqrt(len(estimates))
    assert np.mean(estimates) == pytest.approx(known(a, b), abs=4 * error)
    assert error < 0.15 * known(a, b)


def test_equal_distributions_have_mean_zero_and_may_be_negative():
    """Unbiased also for small sets, where a biased estimate is far above zero."""
    estimates = [polynomial_mmd(normal(i, 6, 8), normal(1000 + i, 6, 8)) for i in range(400)]
    assert np.mean(estimates) == pytest.approx(0, abs=4 * np.std(estimates) / 20)
    assert min(estimates) < 0 < max(estimates)


def test_equals_plain_loops():
    x, y = normal(0, 5, 7), normal(1, 4, 7, 0.5)

    def k(a, b):
        return (float(np.dot(a, b)) / 7 + 1) ** 3

    xx = sum(k(a, b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j) / 20
    yy = sum(k(a, b) for i, a in enumerate(y) for j, b in enumerate(y) if i != j) / 12
    xy = sum(k(a, b) for a in x for b in y) / 20
    assert polynomial_mmd(x, y) == pytest.approx(xx + yy - 2 * xy, rel=1e-12)


def test_a_set_against_itself_is_near_zero():
    x = normal(2, 200, 16).astype(np.float32)
    value, sd = kernel_distance(x, x)
    assert abs(value) < sd / 2, "edits that resemble their photos must not pull the cross term up"
    assert 0 < sd < 0.05


def test_more_damage_is_further():
    x = normal(3, 120, 16)
    values = [kernel_distance(x, x + normal(4, 120, 16, s, s))[0] for s in (0.1, 0.4, 1.5)]
    assert values == sorted(values)


def test_the_subsets_are_the_same_every_time():
    x, y = normal(5, 90, 8), normal(6, 90, 8, 0.3)
    assert kernel_distance(x, y) == kernel_distance(x, y)
    state = np.random.get_state()[1].copy()
    kernel_distance(x, y)
    assert (np.random.get_state()[1] == state).all()


@pytest.mark.parametrize(("n", "size"), [(4, 2), (41, 20), (2500, 1000)])
def test_subsets_are_of_different_photos(monkeypatch, n, size):
    seen = []
    monkeypatch.setattr("semfacediff.metrics.kernel.polynomial_mmd", lambda x, y: seen.append((x, y)) or 0.0)
    rows = np.arange(n)[:, None]
    assert kernel_distance(rows, rows) == (0.0, 0.0)
    assert len(seen) == SUBSETS
    for x, y in seen:
        assert len(x) == len(y) == size
        assert len(np.union1d(x, y)) == 2 * size


@pytest.mark.parametrize("n", [2, 3])
def test_too_few_to_split_have_no_value(n):
    with pytest.raises(ValueError, match=f"KID needs at least 4 photos, got {n}"):
        kernel_distance(normal(7, n, 8), normal(8, n, 8))

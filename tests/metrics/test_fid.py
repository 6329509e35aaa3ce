"""FID against closed forms and pytorch-fid: the distance, the moments, the network."""

import numpy as np
import pytest
import torch
from PIL import Image
from pytorch_fid import fid_score, inception
from scipy import linalg

from semfacediff.errors import UserError
from semfacediff.metrics.frechet import frechet_distance
from semfacediff.metrics.inception import Inception
from semfacediff.metrics.moments import Moments
from semfacediff.metrics.set_scores import SetScores

CPU = torch.device("cpu")


def rows(seed, n=400, width=12, shift=0.0, scale=1.0):
    return np.random.default_rng(seed).normal(shift, scale, (n, width))


def with_moments(mean, covariance, n=50):
    """Moments of an imagined set of vectors with this mean and covariance."""
    return Moments(n, n * mean, covariance * (n - 1) + n * np.outer(mean, mean))


def test_gaussians_whose_distance_is_known():
    """Of commuting covariances: |m|^2 + sum((sqrt(l) - sqrt(k))^2)."""
    rotation, _ = np.linalg.qr(rows(0, 5, 5))
    a, b = np.array([1.0, 2, 3, 4, 9]), np.array([4.0, 2, 1, 16, 1])
    mean = np.array([3.0, 0, 4, 0, 0])
    x, y = (with_moments(m, rotation @ np.diag(v) @ rotation.T) for m, v in ((mean, a), (0 * mean, b)))
    expected = 25 + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum()
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(y, x) == pytest.approx(expected, rel=1e-9)


def test_a_set_against_itself():
    x = Moments.of(rows(1))
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)


def test_more_damage_is_further():
    photos = rows(2)
    values = [frechet_distance(Moments.of(photos), Moments.of(photos + rows(3, scale=s))) for s in (0.1, 0.5, 2)]
    assert values == sorted(values)
    assert SetScores.higher_is_better["fid"] is False


def test_equals_pytorch_fid_on_means_and_covariances():
    x, y = rows(4, width=64, shift=0.4), rows(5, width=64, scale=1.3)
    expected = fid_score.calculate_frechet_distance(
        x.mean(0), np.cov(x, rowvar=False), y.mean(0), np.cov(y, rowvar=False)
    )
    assert frechet_distance(Moments.of(x), Moments.of(y)) == pytest.approx(expected, rel=1e-9)
    root = linalg.sqrtm(np.cov(x, rowvar=False) @ np.cov(y, rowvar=False)).real
    by_hand = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(np.cov(x.T) + np.cov(y.T) - 2 * root)
    assert expected == pytest.approx(by_hand, rel=1e-6)


@pytest.mark.parametrize("n", [2, 5, 11])
def test_fewer_vectors_than_entries_stay_near_the_exact_value(n):
    """The covariances are singular; the exact root's trace is the nuclear norm of the cross product."""
    x, y = rows(6, n, 64, 1.0), rows(7, n, 64)
    a, b = ((v - v.mean(0)) / np.sqrt(n - 1) for v in (x, y))
    nuclear = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    exact = ((x.mean(0) - y.mean(0)) ** 2).sum() + (a**2).sum() + (b**2).sum() - 2 * nuclear
    assert frechet_distance(Moments.of(x), Moments.of(y)) == pytest.approx(exact, rel=1e-4)


def test_nothing_is_printed_where_results_go(capsys):
    x = Moments.of(rows(8, 3, 16))
    frechet_distance(x, with_moments(np.zeros(16), np.zeros((16, 16))))
    assert capsys.readouterr().out == ""


def test_moments_are_numpys_and_add_up(rounding):
    x = (1000 + rows(9, 100)).astype(np.float32)
    whole = Moments.of(x, chunk=7)
    assert whole.mean == pytest.approx(x.astype(np.float64).mean(0), rel=1e-13)
    atol = rounding(100, 1e6, torch.float64)  # of products near 1000 x 1000
    np.testing.assert_allclose(whole.covariance, np.cov(x.astype(np.float64), rowvar=False), rtol=0, atol=atol)
    assert whole.outer.dtype == np.float64
    parts = Moments.of(x[:1]) + Moments.of(x[1:40]) + Moments.of(x[40:])
    assert parts.n == 100
    rel = rounding(100, dtype=torch.float64)
    assert parts.outer == pytest.approx(whole.outer, rel=rel)
    assert parts.total == pytest.approx(whole.total, rel=rel)


def test_one_vector_has_no_covariance_and_nan_no_distance():
    with pytest.raises(ValueError, match="at least 2 vectors, got 1"):
        _ = Moments.of(rows(0, 1)).covariance
    bad = rows(0)
    bad[3, 2] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        frechet_distance(Moments.of(bad), Moments.of(rows(1)))


# The network.


@pytest.fixture(scope="module")
def network():
    return Inception(None, "random", CPU)


@pytest.fixture(scope="module")
def state(network):
    """What pytorch-fid's file holds, untrained."""
    head = torch.nn.Linear(2048, 1008)
    return dict(network.net.state_dict()) | {"fc.weight": head.weight.detach(), "fc.bias": head.bias.detach()}


@pytest.fixture
def photos(pair):
    return [pair(seed, 40 + 9 * seed, 64).photo for seed in range(3)]


def test_features_equal_pytorch_fids_of_the_same_files(state, photos, tmp_path, monkeypatch):
    monkeypatch.setattr(inception, "load_state_dict_from_url", lambda *_, **__: state)
    files = [tmp_path / f"{i}.png" for i in range(len(photos))]
    for file, photo in zip(files, photos, strict=True):
        Image.fromarray(photo).save(file)
    expected = fid_score.get_activations(files, inception.InceptionV3([3]), batch_size=1, num_workers=0)
    found = np.array(list(Inception(state, "x", CPU).features(photos)))
    assert found.dtype == np.float32
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_a_batch_has_the_features_of_its_photos(network, photos, monkeypatch):
    alone = np.array(list(network.features(photos)))
    monkeypatch.setattr(network, "at_once", 2)
    together = np.array(list(network.features(photos)))
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5 * np.abs(alone).max())


def test_company_does_not_change_a_feature(network, photos):
    alone = [next(network.features([p])) for p in photos]
    np.testing.assert_allclose(np.array(list(network.features(iter(photos)))), alone, rtol=1e-4, atol=1e-6)
    assert list(network.features([])) == []


def test_weights_of_something_else_are_refused(state):
    for other in ({"a": torch.zeros(1)}, {k: v for k, v in state.items() if "Mixed_6e" not in k}):
        with pytest.raises(
            UserError, match=r"weights\.inception: not pytorch-fid's Inception .*2015-12-05-6726825d\.pth"
        ):
            Inception(other, "x", CPU)


# The set's scores.


def features(seed, n=6, shift=0.0):
    return rows(seed, n, 2048, shift).astype(np.float32)


def test_too_few_or_damaged_features_leave_the_values_empty_with_the_reason(network):
    sets = SetScores(("fid", "kid"), network)
    assert sets.score(features(0, 1), features(1, 1)) == ({"fid_n": 1}, "1 photo, at least 2 are needed")
    assert sets.score(features(0, 0), features(1, 0)) == ({"fid_n": 0}, "0 photos, at least 2 are needed")
    values, why = SetScores(("kid",), network).score(features(0, 3), features(1, 3))
    assert (values, why) == ({}, "3 photos, at least 4 are needed")
    bad = features(0)
    bad[1, 7] = np.nan
    values, why = sets.score(features(1), bad)
    assert values == {"fid_n": 6}
    assert why == "features that are not finite; weights random are damaged"


def test_only_what_was_asked_for_is_measured(network):
    values, why = SetScores(("kid",), network).score(features(0), features(1, shift=0.1))
    assert set(values) == {"kid", "kid_sd"}
    assert why is None


def test_the_name_carries_dialect_and_n_and_small_sets_are_warned_of(network):
    sets = SetScores(("fid", "kid"), network)
    assert sets.name(100) == "fid[pytorch-fid 0.3.0, uint8 PNG, bilinear 299, n=100]"
    assert "n = 100 is biased" in sets.warning(100)
    assert "under 2,048 read KID" in sets.warning(2047)
    assert sets.warning(2048) is None
    fid, kid = sets.identities()
    assert (fid["dialect"], fid["weights"], kid["metric"]) == (
        "pytorch-fid 0.3.0, uint8 PNG, bilinear 299",
        "random",
        "kid",
    )
    assert "seed 0" in kid["subsets"]


def test_is_never_below_zero():
    vectors = np.random.default_rng(3).normal(size=(12, 64))
    moments = Moments.of(vectors)
    assert 0 <= frechet_distance(moments, moments) < 1e-3

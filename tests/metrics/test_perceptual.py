"""LPIPS against the ``lpips`` package, with a random trunk and with one read from a file."""

import dataclasses
import warnings

import lpips
import numpy as np
import pytest
import torch

from semfacediff.errors import UserError
from semfacediff.metrics.perceptual import LPIPS
from semfacediff.metrics.weights import LPIPS_ALEXNET, find

PROTOCOLS = ("thesis", "strict")
CPU = torch.device("cpu")


def by_hand(state, spatial):
    """``lpips.LPIPS`` whose convolutions are overwritten, in order, with those of an AlexNet state dict."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = lpips.LPIPS(net="alex", spatial=spatial, pnet_rand=True, verbose=False).eval()
    convolutions = [m for m in net.net.modules() if isinstance(m, torch.nn.Conv2d)]
    with torch.no_grad():
        for layer, index in zip(convolutions, (0, 3, 6, 8, 10), strict=True):
            layer.weight.copy_(state[f"features.{index}.weight"])
            layer.bias.copy_(state[f"features.{index}.bias"])
    return net


@torch.no_grad()
def direct(net, pair, protocol):
    photo, edit = (
        torch.tensor(x.astype(np.float64) / 255 * 2 - 1, dtype=torch.float32).permute(2, 0, 1)[None]
        for x in (pair.photo, pair.edit)
    )
    if protocol == "thesis":
        keep = torch.tensor((pair.blend < 128).astype(np.float32))
        return net(photo * keep, edit * keep).item()
    keep = pair.blend == 0
    return float(net(photo, edit).numpy()[0, 0][keep].mean(dtype=np.float64))


@pytest.fixture(scope="module", params=PROTOCOLS)
def protocol(request):
    return request.param


@pytest.fixture(scope="module")
def metric(protocol, alexnet_file):
    found = find(LPIPS_ALEXNET, str(alexnet_file), None, download=False)
    return LPIPS(protocol, found.state, found.name, CPU)


def test_equal_photos_have_no_distance(metric, pair):
    p = pair()
    assert metric.score(dataclasses.replace(p, edit=p.photo)) == {"lpips": 0.0}


def test_equals_lpips_with_these_weights_put_in_by_hand(metric, protocol, alexnet, pair):
    net = by_hand(alexnet, spatial=protocol == "strict")
    for p in (pair(0), pair(1, 64, 80)):
        expected = direct(net, p, protocol)
        assert expected > 1e-3
        assert metric.score(p)["lpips"] == pytest.approx(expected, abs=1e-5)


def test_equals_lpips_with_a_random_trunk(protocol, pair):
    random = LPIPS(protocol, None, "random", CPU)
    p = pair()
    assert random.score(p)["lpips"] == pytest.approx(direct(random.net, p, protocol), abs=1e-5)
    assert random.score(p) == LPIPS(protocol, None, "random", CPU).score(p), "the same random trunk every time"


def test_the_random_trunk_leaves_the_global_generator_alone(protocol):
    before = torch.random.get_rng_state()
    LPIPS(protocol, None, "random", CPU)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_more_damage_is_worse(metric, pair):
    values = [metric.score(pair(0, 64, 64, d))["lpips"] for d in (2, 8, 30)]
    assert values == sorted(values)
    assert len(set(values)) == 3
    assert metric.higher_is_better == {"lpips": False}


def test_damage_inside_the_region_is_not_seen_under_the_thesis(alexnet, pair):
    p = pair(damage=0)
    edit = np.where((p.blend >= 128)[..., None], p.edit, p.photo)
    assert LPIPS("thesis", alexnet, "x", CPU).score(dataclasses.replace(p, edit=edit)) == {"lpips": 0.0}


def test_a_score_depends_on_its_own_pair_only(metric, pair):
    pairs = [pair(0, 48, 64), pair(1, 64, 48), pair(2, 64, 64)]
    forward = [metric.score(p) for p in pairs]
    assert [metric.score(p) for p in reversed(pairs)] == forward[::-1]


def test_a_batch_is_scored_as_its_pairs(metric, protocol, pair, monkeypatch):
    """Whole photos instead of their changed parts, side by side: up to the rounding of the convolutions."""
    pairs = [pair(i, damage=5 + 7 * i) for i in range(3)]
    pairs.append(dataclasses.replace(pairs[0], blend=np.full_like(pairs[0].blend, 255)))
    alone = [metric.score(p)["lpips"] for p in pairs]
    monkeypatch.setattr(metric, "together", True)
    assert [s["lpips"] for s in metric.scores(pairs)] == [x if x is None else pytest.approx(x, abs=1e-5) for x in alone]
    mixed = [pairs[1], pair(4, 48, 64)]  # sizes that do not stack
    assert metric.scores(mixed) == [metric.score(p) for p in mixed]


def test_no_outside(metric, protocol, pair):
    p = pair()
    covered = dataclasses.replace(p, blend=np.full_like(p.blend, 255))
    assert metric.score(covered) == {"lpips": 0.0 if protocol == "thesis" else None}


def test_the_smallest_photo(metric, pair):
    assert metric.score(pair(height=32, width=32))["lpips"] >= 0


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda s: {"layer.weight": torch.zeros(3)}, r"not a torchvision AlexNet state dict \(no features\.0\."),
        (lambda s: {k: v for k, v in s.items() if "features.8" not in k}, r"no features\.8\.weight"),
        (lambda s: s | {"features.3.bias": torch.zeros(7)}, r"not a torchvision AlexNet \(size mismatch for slice2"),
    ],
)
def test_weights_of_something_else_are_refused(alexnet, tmp_path, spoil, message):
    file = tmp_path / "other.pth"
    torch.save(spoil(alexnet), file)
    state = find(LPIPS_ALEXNET, str(file), None, download=False).state
    with pytest.raises(UserError, match=rf"weights\.lpips_alexnet: .*{message}"):
        LPIPS("strict", state, "x", CPU)


def test_misspelt_protocol_is_refused():
    with pytest.raises(ValueError, match="protocol: expected one of thesis, strict"):
        LPIPS("strikt", None, "random", CPU)


def test_identity_names_weights_and_protocol(alexnet):
    made = [LPIPS(p, alexnet, w, CPU).identity() for p in PROTOCOLS for w in ("sha256:a", "sha256:b")]
    assert len({str(i) for i in made}) == 4
    assert all(i["implementation"] == "semfacediff" and i["held_to"].startswith("lpips 0") for i in made)

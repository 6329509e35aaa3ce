"""Metrics of ours beside the libraries that they are held to (metrics.reference=true), over every editing protocol."""

import numpy as np
import pytest
import torch

from semfacediff import config
from semfacediff.metrics.base import EditPair
from semfacediff.metrics.inception import Inception
from semfacediff.metrics.opening import open_metrics
from semfacediff.metrics.reference import ReferenceInception, ReferenceSetScores, as_reference
from semfacediff.metrics.seam import Seam
from semfacediff.metrics.set_scores import SetScores
from semfacediff.records.legacy_metrics import compared, completed

CPU = torch.device("cpu")
TOLERANCE = {"ssim": 1e-9, "lpips": 1e-5, "change_de": 2e-3, "toward_prompt": 1e-4, "structure_change": 0.0}
"""Sums of 49 8-bit products are exact in ours; float32 networks; float32 colours against float64."""


@pytest.fixture(scope="module")
def pairs():
    """Edits of a whole region, of a part, of nothing, and one whose region is the photo, uint8 [64, 48, 3]."""
    random = np.random.default_rng(0)
    photo = random.integers(0, 256, (64, 48, 3), np.uint8)
    region = np.zeros((64, 48), bool)
    region[10:40, 8:30] = True
    changed = np.where(region[..., None], 255 - photo, photo)
    noisy = np.clip(photo.astype(int) + random.integers(-3, 4, photo.shape), 0, 255).astype(np.uint8)
    whole = np.ones_like(region)
    given = [(changed, region), (noisy, region), (photo, region), (noisy, whole)]
    return [
        EditPair(photo, edit, 255 * mask.astype(np.uint8), mask, mask, "bright red hair", "hair")
        for edit, mask in given
    ]


@pytest.fixture(scope="module")
def opened(compose):
    def opened(protocol: str, reference: bool):
        columns = "[effect,ssim,psnr,lpips]" if protocol == "pie" else "[effect,alignment,ssim,psnr,lpips]"
        random = ["weights.lpips_alexnet=random", "weights.lpips_squeeze=random"]
        words = [f"protocol={protocol}", f"metrics.columns={columns}", f"metrics.reference={reference}", *random]
        return open_metrics(config.typed(compose("evaluate", *words), config.EditingEvaluation), CPU)

    return opened


@pytest.mark.parametrize("protocol", ["strict", "thesis", "pie"])
def test_ours_and_the_libraries_give_the_same_columns(protocol, opened, pairs):
    ours, theirs = (opened(protocol, reference) for reference in (False, True))
    assert [m.columns for m in ours.each] == [m.columns for m in theirs.each]
    seen = set()
    for metric, reference in zip(ours.each, theirs.each, strict=True):
        for pair in pairs:
            a, b = metric.score(pair), reference.score(pair)
            assert a.keys() == b.keys()
            for name, value in a.items():
                if name == "changed_pct":  # pixels at the threshold may fall on either side
                    assert value == pytest.approx(b[name], abs=100 * 3 / pair.before.sum())
                else:
                    assert value == (
                        b[name] if b[name] is None else pytest.approx(b[name], rel=1e-6, abs=TOLERANCE.get(name, 0))
                    )
                seen.add(name)
    assert seen >= {"ssim", "lpips", "change_de", "changed_pct", "structure_change"}


def test_the_record_says_who_computed_what(opened):
    ours, theirs = ({m["metric"]: m for m in opened("strict", reference).identities()} for reference in (False, True))
    effect = "change_de, changed_pct, toward_prompt, structure_change"
    libraries = {"ssim": "scikit-image", "lpips": "lpips", effect: "scikit-image"}
    for name, library in libraries.items():
        assert (ours[name]["implementation"], ours[name]["version"]) == ("semfacediff", "1")
        assert ours[name]["held_to"].startswith(f"{library} ")
        assert theirs[name]["implementation"] == library
        assert compared(ours[name]) == compared(theirs[name]), "their values may stand side by side"
        assert completed(theirs[name]) == theirs[name], "a record keeps who computed it"
    assert {n: m for n, m in ours.items() if n not in libraries} == {
        n: m for n, m in theirs.items() if n not in libraries
    }


def test_a_record_of_an_earlier_version_names_the_library_and_is_the_same_measurement(opened):
    for one in opened("strict", False).identities():
        if one["metric"] in ("ssim", "lpips"):
            library = one["held_to"].partition(" ")[0]
            earlier = {k: v for k, v in one.items() if k != "held_to"} | {"implementation": library, "version": "0.1"}
            assert completed(earlier) == compared(one)
    pie = next(m for m in opened("pie", False).identities() if m["metric"] == "ssim")
    assert completed(pie) is pie, "protocol pie calls scikit-image itself"
    assert pie["implementation"] == "scikit-image"


def test_the_frechet_distance_of_numpys_moments():
    random = np.random.default_rng(1)
    network = type("Network", (), {"weights": "random"})()
    a, b = random.normal(size=(2, 80, 24)).astype(np.float32)
    ours, theirs = (of(("fid",), network).score(a, b + 0.3)[0]["fid"] for of in (SetScores, ReferenceSetScores))
    assert ours == pytest.approx(theirs, rel=1e-5)
    said = [of(("fid", "kid"), network).identities() for of in (SetScores, ReferenceSetScores)]
    assert [(m["metric"], m["implementation"]) for m in said[0]] == [("fid", "semfacediff"), ("kid", "semfacediff")]
    assert [(m["metric"], m["implementation"]) for m in said[1]] == [("fid", "pytorch-fid"), ("kid", "semfacediff")]
    assert [compared(m) for m in said[0]] == [compared(m) for m in said[1]]


def test_the_features_of_pytorch_fids_own_network():
    photos = list(np.random.default_rng(2).integers(0, 256, (2, 40, 32, 3), np.uint8))
    network = Inception(None, "random", CPU)
    ours, theirs = (np.stack(list(of.features(photos))) for of in (network, ReferenceInception(network)))
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4 * np.abs(theirs).max())


def test_metrics_without_a_library_stay():
    metric = Seam()
    assert as_reference(metric) is metric


def test_set_scores_keep_their_columns_and_weights():
    made = as_reference(SetScores(("fid", "kid"), Inception(None, "random", CPU)))
    assert (type(made), type(made.network)) == (ReferenceSetScores, ReferenceInception)
    assert (made.columns, made.network.weights) == (("fid", "kid"), "random")

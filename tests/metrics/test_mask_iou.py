"""Mask IoU against counts by hand."""

import dataclasses

import numpy as np
import pytest

from semfacediff.metrics.mask_iou import MaskIoU

PROTOCOLS = ("thesis", "strict")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_same_region_is_perfect(pair, protocol):
    p = pair(after_shift=0)
    assert MaskIoU(protocol).score(p) == {"iou": 1.0}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("seed", range(3))
def test_counted_pixel_by_pixel(pair, protocol, seed):
    p = pair()
    before, after = np.random.default_rng(seed).random((2, *p.blend.shape)) < 0.4
    both = sum(bool(a and b) for a, b in zip(before.ravel(), after.ravel(), strict=True))
    either = sum(bool(a or b) for a, b in zip(before.ravel(), after.ravel(), strict=True))
    scored = MaskIoU(protocol).score(dataclasses.replace(p, before=before, after=after))
    assert scored["iou"] == pytest.approx(both / either, abs=1e-12)


def test_a_region_further_away_is_worse(pair):
    values = [MaskIoU("strict").score(pair(after_shift=s))["iou"] for s in (0, 2, 6, 15)]
    assert values == sorted(values, reverse=True)
    assert len(set(values)) == 4


def test_before_and_after_may_be_exchanged(pair):
    p = pair()
    exchanged = dataclasses.replace(p, before=p.after, after=p.before)
    assert MaskIoU("strict").score(p) == MaskIoU("strict").score(exchanged)


@pytest.mark.parametrize(("protocol", "both_empty"), [("thesis", 0.0), ("strict", None)])
def test_empty_regions(pair, protocol, both_empty):
    p = pair()
    nothing = np.zeros_like(p.before)
    metric = MaskIoU(protocol)
    assert metric.score(dataclasses.replace(p, before=nothing, after=nothing)) == {"iou": both_empty}
    assert metric.score(dataclasses.replace(p, after=nothing)) == {"iou": 0.0}
    assert metric.score(dataclasses.replace(p, before=nothing)) == {"iou": 0.0}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_missing_where_the_parser_has_no_opinion(pair, protocol):
    assert MaskIoU(protocol).score(dataclasses.replace(pair(), after=None)) == {"iou": None}


def test_misspelt_protocol_is_refused():
    with pytest.raises(ValueError, match="protocol: expected one of thesis, strict"):
        MaskIoU("Strict")


def test_identity_tells_protocols_apart():
    assert MaskIoU("thesis").identity() != MaskIoU("strict").identity()

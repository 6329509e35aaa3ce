"""The effect of an edit against scikit-image and scipy, against edits whose effect is known, and on odd regions."""

import dataclasses

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d
from skimage import color

from semfacediff.metrics.ciede2000 import ciede2000
from semfacediff.metrics.effect import METRIC, NOTICEABLE_DE, toward

RED = (0xE5, 0x00, 0x00)
"""XKCD's "red"."""


@pytest.fixture
def hair(pair):
    """A pair whose prompt names a colour."""
    return dataclasses.replace(pair(), prompt="red hair", attribute="hair")


def score(pair, **changes):
    return METRIC().score(dataclasses.replace(pair, **changes))


def painted(pair, rgb):
    return np.where(pair.before[..., None], np.array(rgb, np.uint8), pair.photo)


def everywhere(pair, edit):
    return dataclasses.replace(pair, edit=edit, before=np.ones_like(pair.before))


def test_differences_are_scikit_images():
    steps = np.arange(0, 256, 15, dtype=np.uint8)
    cube = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(-1, 3)
    first = color.rgb2lab(cube).astype(np.float32)
    second = first[np.random.default_rng(0).permutation(len(first))]
    expected = color.deltaE_ciede2000(first.astype(float), second.astype(float))
    # Thirty operations in single precision on values of up to 100. Where two hues lie opposite, rounding decides
    # which way round their middle lies, so that a pair in a thousand may differ.
    far = np.abs(ciede2000(first, second) - expected) > 1e-3 + 1e-4 * expected
    assert far.mean() < 1e-3
    near = ciede2000(first, first + np.float32(0.5)), color.deltaE_ciede2000(first, first + np.float32(0.5))
    np.testing.assert_allclose(*near, rtol=1e-3, atol=1e-3)
    assert (ciede2000(first, first) == 0).all()


@pytest.mark.parametrize("seed", range(3))
def test_change_is_the_definition_in_scikit_image(pair, seed):
    p = pair(seed)
    de = color.deltaE_ciede2000(*(color.rgb2lab(x)[p.before] for x in (p.photo, p.edit)))
    said = score(p)
    assert said["change_de"] == pytest.approx(de.mean(), abs=2e-3)
    at_the_limit = (np.abs(de - NOTICEABLE_DE) < 1e-2).mean()
    assert said["changed_pct"] == pytest.approx(100 * (de > NOTICEABLE_DE).mean(), abs=100 * at_the_limit + 1e-9)


def test_structure_is_the_definition_in_scipy(pair):
    p = pair()

    def gradient(photo):
        luma = photo @ np.array([0.299, 0.587, 0.114])
        orders = ((0, 1), (1, 0))
        return [gaussian_filter1d(gaussian_filter1d(luma, 0.7, 0, a), 0.7, 1, b)[p.before] for a, b in orders]

    (x, y), (u, v) = gradient(p.photo), gradient(p.edit)
    weight = np.hypot(x, y)
    expected = 1 - (np.abs(x * u + y * v) / np.hypot(u, v)).sum() / weight.sum()
    assert score(p)["structure_change"] == pytest.approx(expected, abs=1e-4)


def test_an_edit_that_equals_the_photo_to_the_bit_has_no_effect(hair):
    none = {"change_de": 0, "changed_pct": 0, "toward_prompt": 0, "structure_change": 0}
    assert score(hair, edit=hair.photo.copy()) == none


def test_what_lies_outside_the_region_has_no_effect(hair):
    noise = np.random.default_rng(1).integers(0, 256, hair.photo.shape, dtype=np.uint8)
    edit = np.where(hair.before[..., None], hair.photo, noise)
    said = score(hair, edit=edit)
    assert [said[c] for c in ("change_de", "changed_pct", "toward_prompt")] == [0, 0, 0]


def test_the_colour_that_was_asked_is_reached(hair):
    assert score(hair, edit=painted(hair, RED))["toward_prompt"] == pytest.approx(1, abs=1e-3)
    assert score(hair, edit=painted(hair, (0, 0xFF, 0xFF)))["toward_prompt"] < -0.1
    assert score(hair, edit=painted(hair, RED))["changed_pct"] == 100


def test_half_the_way_in_cielab_is_a_half():
    photo, edit = np.array([[20.0, 0, 0]] * 4), np.array([[40.0, 0, 0]] * 4)
    assert toward((119, 119, 119), photo, photo) == 0  # L* 50.03
    assert toward((119, 119, 119), photo, edit) == pytest.approx(2 / 3, abs=1e-3)


@pytest.mark.parametrize("prompt", ["", "curly hair", "blonde hair", "dark hair", "hair that is not red"])
def test_no_colour_of_the_tables_no_direction(hair, prompt):
    assert score(hair, prompt=prompt)["toward_prompt"] is None


@pytest.mark.parametrize(("offset", "missing"), [(9.9, True), (10.1, False)])
def test_missing_where_the_photo_has_the_colour_already(offset, missing):
    target = color.rgb2lab(np.array([[RED]], np.uint8))[0, 0]
    photo = np.tile(target + [0, 0, offset], (5, 1)).astype(np.float32)
    assert (toward(RED, photo, photo) is None) is missing


def test_of_two_colours_the_main_one_counts(hair):
    green = (0x15, 0xB0, 0x1A)
    for prompt, rgb in (
        ("green hair with red tips", green),
        ("red and green hair", RED),
        ("green eyes, red hair", RED),
    ):
        said = score(hair, prompt=prompt, edit=painted(hair, rgb))["toward_prompt"]
        assert said == pytest.approx(1, abs=1e-3), prompt


def test_recolouring_keeps_the_structure(pair):
    p = pair()
    assert score(everywhere(p, 255 - p.photo))["structure_change"] < 1e-5
    assert score(everywhere(p, p.photo // 2 + 60))["structure_change"] < 0.02
    curve = np.rint(255 * (np.arange(256) / 255) ** 0.7).astype(np.uint8)
    assert score(everywhere(p, curve[p.photo]))["structure_change"] < 0.05


def test_another_structure_is_a_change(pair):
    p = pair()
    noise = np.random.default_rng(2).integers(0, 256, p.photo.shape, dtype=np.uint8)
    # 1 - 2 / pi for independent directions; the spread of the weighted mean over 7,680 pixels is about 0.01
    assert score(everywhere(p, noise))["structure_change"] == pytest.approx(1 - 2 / np.pi, abs=0.05)
    assert score(everywhere(p, np.full_like(p.photo, 90)))["structure_change"] == 1


def test_a_flat_region_has_no_structure(pair):
    p = pair()
    steps = np.add.outer(np.zeros(96), np.arange(80) // 20).astype(np.uint8)
    for flat in (np.full_like(p.photo, 90), np.stack([100 + steps] * 3, -1)):
        said = score(everywhere(dataclasses.replace(p, photo=flat), p.edit))
        assert said["structure_change"] is None
        assert said["change_de"] > 0


def test_grey_photos(hair):
    grey = np.repeat(hair.photo[..., :1], 3, axis=-1)
    said = score(hair, photo=grey, edit=255 - grey)
    assert all(np.isfinite(v) for v in said.values())
    assert score(hair, photo=grey, edit=painted(hair, RED))["toward_prompt"] == pytest.approx(1, abs=1e-3)


def test_a_region_that_covers_everything_and_one_that_is_empty(hair):
    whole = score(everywhere(hair, 255 - hair.photo))
    assert all(v is not None for v in whole.values())
    assert set(score(hair, before=np.zeros_like(hair.before)).values()) == {None}


def test_turned_and_mirrored_pairs_score_the_same(hair):
    expected = score(hair)
    for move in (np.fliplr, np.flipud, np.rot90):
        fields = ("photo", "edit", "blend", "before", "after")
        moved = {f: np.ascontiguousarray(move(getattr(hair, f))) for f in fields}
        assert score(hair, **moved) == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_a_metric_that_scored_other_photos_scores_the_same(hair, pair):
    metric = METRIC()
    others = [dataclasses.replace(pair(seed), prompt="red hair", attribute="hair") for seed in range(1, 7)]
    first = [metric.score(p) for p in (hair, *others)]
    assert first == [score(p) for p in (hair, *others)] == [metric.score(p) for p in (hair, *others)]

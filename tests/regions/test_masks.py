"""Masks against plain NumPy, and at the places where regions go wrong: nothing, everything, the border, odd sizes."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from semfacediff.errors import UserError
from semfacediff.labels import ATTRIBUTES, CELEBAMASK, space
from semfacediff.regions import RegionRule, attribute_region, feather, region_masks
from semfacediff.regions import masks as masks_module
from semfacediff.regions.masks import MIN_COVERAGE

HAIR, U_LIP, L_LIP = 13, 11, 12
PLAIN = RegionRule(feather_sigma_px=0)


def label_map(height=64, width=64, **boxes):
    """int64 ``[H, W]`` background with (top, bottom, left, right) boxes of hair."""
    labels = torch.zeros(height, width, dtype=torch.int64)
    for top, bottom, left, right in boxes.values():
        labels[top:bottom, left:right] = HAIR
    return labels


def grown(mask, radius, shrink=False):
    """Dilation (or erosion) by a (2r+1)-square, pixel by pixel; what lies beyond the frame does not count."""
    reduce = np.min if shrink else np.max
    out = np.zeros_like(mask)
    for y, x in np.ndindex(mask.shape):
        out[y, x] = reduce(mask[max(0, y - radius) : y + radius + 1, max(0, x - radius) : x + radius + 1])
    return out


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_region_is_the_union_of_the_attributes_classes(attribute):
    labels = torch.arange(19).repeat(19, 1)
    expected = np.isin(labels.numpy(), [CELEBAMASK.classes.index(c) for c in ATTRIBUTES[attribute]])
    assert np.array_equal(attribute_region(labels, attribute, CELEBAMASK), expected)


def test_the_same_region_has_other_indices_in_another_space():
    segface = space("segface")
    labels = torch.tensor([[segface.index("u_lip"), segface.index("hair"), U_LIP]])
    assert attribute_region(labels, "lips", segface).tolist() == [[True, False, segface.classes[U_LIP] == "u_lip"]]


def test_a_space_without_the_class_is_refused():
    with pytest.raises(UserError, match="label space 'lapa' has no class 'hat'"):
        attribute_region(torch.zeros(2, 2, dtype=torch.int64), "hat", space("lapa"))


def test_unknown_attribute_is_refused_with_the_choices():
    with pytest.raises(UserError, match=r"unknown attribute 'hari'; did you mean 'hair'. choose one of hair, lips"):
        attribute_region(torch.zeros(2, 2, dtype=torch.int64), "hari", CELEBAMASK)


def test_the_thesiss_main_path_at_1024():
    labels = label_map(1024, 1024, hair=(300, 500, 200, 700))
    masks = region_masks(labels, "hair", CELEBAMASK, RegionRule())
    hard = ((labels == HAIR).numpy() * 255).astype(np.uint8)
    expected = cv2.GaussianBlur(hard, (15, 15), 7)
    assert np.array_equal(np.rint(masks.blend[0].numpy() * 255), expected)
    assert torch.equal(masks.semantic, masks.generation)
    assert masks.coverage == (expected > 128).mean()


def test_feathering_is_a_gaussian_cut_at_its_kernel():
    mask = np.zeros((40, 50), np.uint8)
    mask[10:30, 15:45] = 255
    x = np.arange(-7, 8)
    kernel = np.exp(-(x**2) / (2 * 7.0**2))
    padded = np.pad(mask.astype(np.float64), 7, mode="reflect")
    rows = sum(k / kernel.sum() * padded[:, i : i + 50] for i, k in enumerate(kernel))
    expected = sum(k / kernel.sum() * rows[i : i + 40] for i, k in enumerate(kernel))
    assert np.abs(feather(mask, 7.0).astype(float) - expected).max() < 2, "8-bit fixed point is that coarse"


@pytest.mark.parametrize("sigma", [0, 0.3, 0.499])
def test_below_half_a_pixel_nothing_is_feathered(sigma):
    mask = np.eye(8, dtype=np.uint8) * 255
    assert np.array_equal(feather(mask, sigma), mask)


@given(
    st.lists(st.tuples(*[st.integers(0, 24)] * 4), min_size=0, max_size=3),
    st.integers(0, 3),
    st.integers(0, 3),
)
def test_morphology_is_erosion_then_dilation_by_squares(boxes, erode, dilate):
    labels = torch.zeros(20, 24, dtype=torch.int64)
    for a, b, c, d in boxes:
        labels[min(a, b) : max(a, b), min(c, d) : max(c, d)] = HAIR
    scale = 24 / 1024
    rule = RegionRule(erode / scale, dilate / scale, 0)
    semantic = (labels == HAIR).numpy()
    expected = grown(grown(semantic, erode, shrink=True), dilate)
    masks = region_masks(labels, "hair", CELEBAMASK, rule)
    assert np.array_equal(masks.semantic[0].numpy() > 0, semantic)
    assert np.array_equal(masks.generation[0].numpy() > 0, expected)
    assert np.array_equal(masks.blend[0].numpy() > 0, expected)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (96, 48), (48, 96), (33, 50)])
def test_shapes_types_and_ranges(height, width):
    masks = region_masks(label_map(height, width, hair=(5, 30, 5, 30)), "hair", CELEBAMASK, RegionRule(0, 32, 64))
    for mask in (masks.semantic, masks.generation, masks.blend):
        assert mask.shape == (1, height, width)
        assert mask.dtype == torch.float32
        assert 0 <= mask.min() <= mask.max() <= 1
    assert set(masks.generation.unique().tolist()) <= {0.0, 1.0}
    assert torch.equal(masks.blend, (masks.blend * 255).round() / 255)


def test_pixels_are_given_at_1024_and_scale_with_the_longer_side():
    rule = RegionRule(dilate_px=32, feather_sigma_px=0)
    for height, width, expected in ((1024, 1024, 32), (512, 256, 16), (128, 512, 16), (64, 64, 2)):
        labels = torch.zeros(height, width, dtype=torch.int64)
        labels[height // 2, width // 2] = HAIR
        masks = region_masks(labels, "hair", CELEBAMASK, rule)
        assert masks.generation.sum() == (2 * expected + 1) ** 2


def test_the_frames_border_neither_erodes_nor_grows():
    touching = label_map(hair=(0, 20, 0, 64))
    eroded = region_masks(touching, "hair", CELEBAMASK, RegionRule(32, 0, 0)).generation[0]
    assert eroded[:18].all()
    assert not eroded[18:].any()
    feathered = region_masks(touching, "hair", CELEBAMASK, RegionRule(0, 0, 48)).blend[0]
    assert (feathered[:10] == 1).all(), "the feather must not fade toward the frame"


def test_a_region_over_the_whole_frame_stays_whole():
    masks = region_masks(label_map(hair=(0, 64, 0, 64)), "hair", CELEBAMASK, RegionRule(32, 32, 64))
    assert masks.coverage == 1
    assert (masks.blend == 1).all()


def test_nothing_stays_nothing():
    masks = region_masks(label_map(), "hair", CELEBAMASK, RegionRule(0, 200, 100))
    assert masks.coverage == 0
    assert not masks.blend.any()


def test_coverage_counts_what_exceeds_half_after_feathering():
    one_pixel = label_map(hair=(32, 33, 32, 33))
    assert region_masks(one_pixel, "hair", CELEBAMASK, PLAIN).coverage == 1 / 4096
    assert region_masks(one_pixel, "hair", CELEBAMASK, RegionRule(feather_sigma_px=64)).coverage == 0
    enough = label_map(hair=(32, 33, 30, 35))
    assert region_masks(enough, "hair", CELEBAMASK, PLAIN).coverage == 5 / 4096 > MIN_COVERAGE


@pytest.mark.parametrize(("level", "coverage"), [(127, 0), (128, 0), (129, 1)])
def test_coverage_begins_above_128_of_255(monkeypatch, level, coverage):
    monkeypatch.setattr(masks_module, "feather", lambda mask, sigma: np.full_like(mask, level))
    assert region_masks(label_map(), "hair", CELEBAMASK, PLAIN).coverage == coverage


def test_two_classes_make_one_region_and_no_seam_between_them():
    labels = label_map()
    labels[20:30], labels[30:40] = U_LIP, L_LIP
    masks = region_masks(labels, "lips", CELEBAMASK, RegionRule(feather_sigma_px=48))
    assert (masks.blend[0, 26:34] == 1).all()


def test_the_label_map_is_left_as_it_was():
    labels = label_map(hair=(3, 40, 3, 40))
    before = labels.clone()
    region_masks(labels, "hair", CELEBAMASK, RegionRule(16, 32, 64))
    assert torch.equal(labels, before)

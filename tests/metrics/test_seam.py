"""Seams against scikit-image's own filters and colour space, and against steps whose height is known."""

import dataclasses

import cv2
import numpy as np
import pytest
from skimage import color, filters

from semfacediff.metrics.base import EditPair
from semfacediff.metrics.seam import Seam, gradient_energy, ring


def score(pair):
    return Seam().score(pair)["seam"]


def flat_pair(step, feather=0, size=64):
    """A grey photo and an edit whose left half is ``step`` levels brighter, over a ramp of ``feather`` pixels."""
    photo = np.full((size, size, 3), 120, np.uint8)
    ramp = np.clip((size / 2 - 0.5 - np.arange(size)) / max(feather, 1) + 0.5, 0, 1)
    blend = np.broadcast_to(np.rint(ramp * 255).astype(np.uint8), (size, size)).copy()
    edit = np.rint(120 + step * (blend[..., None] / 255) + np.zeros(3)).astype(np.uint8)
    region = blend > 127
    return EditPair(photo, edit, blend, region, region)


def test_equal_photos_have_no_seam(pair):
    p = pair()
    assert score(dataclasses.replace(p, edit=p.photo)) == 0


@pytest.mark.parametrize("seed", range(3))
def test_equal_to_the_definition_in_scikit_image(pair, seed):
    p = pair(seed)
    near = np.lib.stride_tricks.sliding_window_view(np.pad(p.blend, 1, mode="edge"), (3, 3))
    on_ring = (near.max((2, 3)) > 0) & (near.min((2, 3)) < 255)

    def rms(photo):
        lab = color.rgb2lab(photo)
        # scikit-image's kernel is the difference of pixels two apart: half of it is the slope per pixel
        squares = sum((f(lab[..., c]) / 2) ** 2 for c in range(3) for f in (filters.scharr_h, filters.scharr_v))
        return np.sqrt(squares[on_ring].mean())

    assert np.array_equal(ring(p.blend), on_ring)
    assert score(p) == pytest.approx(rms(p.edit) - rms(p.photo), abs=1e-3)


def test_a_step_across_a_hard_mask_has_half_its_height():
    """The kernel spans two pixels, and the ring of a hard mask is the two pixels beside the step."""
    p = flat_pair(step=40)
    height = color.rgb2lab(p.edit)[0, 0, 0] - color.rgb2lab(p.photo)[0, 0, 0]
    assert ring(p.blend).sum() == 2 * 64
    assert score(p) == pytest.approx(height / 2, abs=1e-3)


def test_a_higher_step_is_worse():
    values = [score(flat_pair(step, feather=6)) for step in (0, 10, 40, 100)]
    assert values == sorted(values)
    assert len(set(values)) == 4


def test_a_sharp_step_is_worse_than_one_that_is_drawn_out_over_the_same_ring():
    soft = flat_pair(step=60, feather=16)
    edit = np.where((soft.blend > 127)[..., None], np.uint8(180), soft.photo)
    assert score(dataclasses.replace(soft, edit=edit)) > 2 * score(soft)


def test_an_edit_that_smooths_an_edge_away_is_negative():
    p = flat_pair(step=50, feather=6)
    assert score(dataclasses.replace(p, photo=p.edit, edit=p.photo)) == pytest.approx(-score(p), abs=1e-12) != 0


def test_a_seam_of_colour_alone_is_seen():
    p = flat_pair(step=0)
    same_grey = np.array([128 + 60, 128 - 21, 128 - 60], np.uint8)
    edit = np.where((p.blend > 127)[..., None], same_grey, np.uint8(120))
    assert abs(int(cv2.cvtColor(edit, cv2.COLOR_RGB2GRAY)[0, 0]) - 120) < 12
    assert score(dataclasses.replace(p, edit=edit)) > 15


def test_what_lies_off_the_ring_is_not_seen(pair):
    p = pair()
    near = cv2.dilate(ring(p.blend).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    edit = np.where(near[..., None], p.edit, np.uint8(255) - p.edit)
    assert score(dataclasses.replace(p, edit=edit)) == pytest.approx(score(p), abs=1e-6)


def test_turned_and_mirrored_pairs_score_the_same(pair):
    p = pair()
    for move in (np.fliplr, np.flipud, np.rot90):
        fields = ("photo", "edit", "blend", "before", "after")
        moved = dataclasses.replace(p, **{f: np.ascontiguousarray(move(getattr(p, f))) for f in fields})
        assert score(moved) == pytest.approx(score(p), rel=1e-5)


def test_the_cut_out_box_changes_nothing(pair):
    p = pair()
    energies = [gradient_energy(photo)[ring(p.blend)] for photo in (p.edit, p.photo)]
    expected = np.subtract(*(np.sqrt(e.mean(dtype=np.float64)) for e in energies))
    assert score(p) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("level", [0, 255])
def test_missing_where_the_mask_has_no_boundary(pair, level):
    p = pair()
    assert Seam().score(dataclasses.replace(p, blend=np.full_like(p.blend, level))) == {"seam": None}


def test_floats_are_refused(pair):
    p = pair()
    with pytest.raises(ValueError, match="edit: expected uint8"):
        dataclasses.replace(p, edit=p.edit / 255)


def test_identity_says_what_decides_a_value():
    said = Seam().identity()
    assert said["unit"] == "CIELAB units per pixel"
    assert said["higher_is_better"] is False
    assert said == Seam().identity()

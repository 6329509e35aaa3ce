"""Motions that were made, found again to a tenth of a pixel, and undone."""

import dataclasses

import cv2
import numpy as np
import pytest
from skimage import data

from semfacediff.metrics.alignment import METRIC, Motion
from semfacediff.metrics.base import EditPair
from semfacediff.metrics.fidelity import SSIM

NOTHING = {"shift_px": 0, "zoom_pct": 0, "rotation_deg": 0}


@pytest.fixture(scope="module")
def photo():
    """A portrait, 320 x 288 px."""
    return np.ascontiguousarray(data.astronaut()[:320, 80:368])


def edited(photo, motion, region=True):
    """The photo moved by ``motion`` and painted in a disc, which the blend mask covers if ``region``."""
    (height, width), matrix = photo.shape[:2], motion.matrix(photo.shape)
    edit = cv2.warpAffine(photo, matrix, (width, height), flags=cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REFLECT)
    y, x = np.mgrid[:height, :width]
    disc = np.hypot(y - height / 2, x - width / 2) < height / 5
    edit[disc] = (200, 30, 30)
    return EditPair(photo, edit, np.where(disc, np.uint8(255), np.uint8(0)), disc, None)


def score(pair):
    return METRIC().score(pair)


@pytest.mark.parametrize("shift", [(0.25, 0), (0, -0.5), (-1, 1), (3, 0), (-3, 4), (0, 5)])
def test_shifts_are_found_to_a_tenth_of_a_pixel(photo, shift):
    pair = edited(photo, Motion(*shift))
    found = METRIC().motion(pair)
    assert np.hypot(found.x - shift[0], found.y - shift[1]) < 0.1
    said = score(pair)
    assert said["shift_px"] == pytest.approx(np.hypot(*shift), abs=0.1)
    assert said["zoom_pct"] == pytest.approx(0, abs=0.1)
    assert said["rotation_deg"] == pytest.approx(0, abs=0.1)


@pytest.mark.parametrize(("zoom", "degrees"), [(1.01, 0), (0.98, 0), (1, 0.5), (1, -2), (1.02, 1)])
def test_zoom_and_rotation(photo, zoom, degrees):
    said = score(edited(photo, Motion(1, -1, zoom, np.radians(degrees))))
    assert said["zoom_pct"] == pytest.approx(100 * (zoom - 1), abs=0.1)
    assert said["rotation_deg"] == pytest.approx(degrees, abs=0.1)
    assert said["shift_px"] == pytest.approx(np.sqrt(2), abs=0.15)


def test_a_photo_beyond_the_size_that_is_aligned(photo):
    large = cv2.resize(photo, None, fx=2.5, fy=2.5, interpolation=cv2.INTER_CUBIC)
    found = METRIC().motion(edited(large, Motion(2.5, -0.5)))
    assert np.hypot(found.x - 2.5, found.y + 0.5) < 0.1


def test_equal_outsides_have_moved_by_exactly_nothing(photo):
    pair = edited(photo, Motion())
    assert not np.array_equal(pair.photo, pair.edit)
    assert score(pair) == NOTHING
    assert score(dataclasses.replace(pair, edit=photo.copy())) == NOTHING
    assert METRIC().registered(pair) is pair


def test_noise_is_no_motion(photo):
    noise = np.random.default_rng(0).normal(0, 6, photo.shape)
    pair = edited(np.clip(photo + noise, 0, 255).astype(np.uint8), Motion())
    said = score(dataclasses.replace(pair, photo=photo))
    assert said["shift_px"] < 0.1
    assert said["zoom_pct"] == pytest.approx(0, abs=0.1)


def test_registration_gives_the_outside_back(photo):
    ssim = SSIM("strict")
    still, moved = edited(photo, Motion()), edited(photo, Motion(3, -2, 1.01, 0))
    registered = METRIC().registered(moved)
    assert ssim.score(moved)["ssim"] < 0.8 < 0.95 < ssim.score(registered)["ssim"] <= ssim.score(still)["ssim"]
    assert np.array_equal(registered.photo, photo)
    assert (registered.blend >= moved.blend).all(), "what the edit no longer shows is no outside"
    assert (registered.blend > moved.blend).any()


@pytest.mark.parametrize("level", [0, 90])
def test_a_flat_outside_and_none_at_all_say_nothing(photo, level):
    pair = edited(photo, Motion(2, 0))
    flat = dataclasses.replace(pair, photo=np.full_like(photo, level))
    whole = dataclasses.replace(pair, edit=255 - photo, blend=np.full_like(pair.blend, 255))
    for nothing in (flat, whole):
        assert set(score(nothing).values()) == {None}
        assert METRIC().registered(nothing) is None


def test_another_photo_is_lost_or_far(photo):
    pair = edited(np.ascontiguousarray(photo[::-1, ::-1]), Motion())
    said = score(dataclasses.replace(pair, photo=photo))
    assert said["shift_px"] is None or said["shift_px"] > 1

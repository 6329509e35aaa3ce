"""A photo in a square keeps its aspect, and everything finds back to its own place."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from semfacediff.data.square import edit_to_photo, labels_to_photo, labels_to_square, placement, to_square

SIZES = st.integers(1, 90)


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)


@given(height=SIZES, width=SIZES, side=SIZES, enlarge=st.booleans())
def test_the_photo_is_centred_and_touches_the_sides(height, width, side, enlarge):
    p = placement(height, width, side, enlarge)
    longest = max(p.box_height, p.box_width)
    assert longest == (side if enlarge or max(height, width) > side else max(height, width))
    assert 0 <= p.top <= side - p.box_height <= 2 * p.top + 1
    assert 0 <= p.left <= side - p.box_width <= 2 * p.left + 1
    scale = longest / max(height, width)
    assert abs(p.box_height - max(1, height * scale)) <= 0.5 + 1e-9
    assert abs(p.box_width - max(1, width * scale)) <= 0.5 + 1e-9


@given(height=SIZES, width=SIZES, side=SIZES)
def test_labels_return_as_they_were_unless_they_were_shrunk(height, width, side):
    labels = np.random.default_rng(0).integers(0, 19, (height, width), dtype=np.uint8)
    p = placement(height, width, side)
    square = labels_to_square(labels, p, fill=0)
    assert square.shape == (side, side)
    back = labels_to_photo(square, p)
    assert back.shape == labels.shape
    if side >= max(height, width):
        assert np.array_equal(back, labels)


@given(height=SIZES, width=SIZES, side=SIZES)
def test_what_no_edit_touched_is_the_photo_to_the_bit(height, width, side):
    photo = noise(height, width)
    square, p = to_square(photo, side)
    assert np.array_equal(edit_to_photo(photo, square, square.copy(), p), photo)


def test_the_frame_is_white():
    square, p = to_square(np.zeros((20, 40, 3), np.uint8), 80)
    assert (p.top, p.left, p.box_height, p.box_width) == (20, 0, 40, 80)
    assert (square[:20] == 255).all()
    assert (square[60:] == 255).all()
    assert (square[20:60] == 0).all()


def test_it_is_scaled_with_lanczos():
    photo = noise(60, 30)
    square, p = to_square(photo, 20)
    wanted = Image.fromarray(photo).resize((10, 20), Image.Resampling.LANCZOS)
    assert np.array_equal(square[p.box], np.asarray(wanted))


def test_a_photo_of_the_squares_size_is_not_touched():
    photo = noise(32, 32)
    assert np.array_equal(to_square(photo, 32)[0], photo)
    small = noise(16, 32)
    square, p = to_square(small, 32)
    assert np.array_equal(square[p.box], small)


def test_a_small_photo_may_be_left_as_it_is():
    photo = noise(10, 20)
    square, p = to_square(photo, 64, enlarge=False)
    assert np.array_equal(square[p.box], photo)
    assert (p.top, p.left) == (27, 22)


@pytest.mark.parametrize("side", [16, 40, 120])
def test_an_edit_lands_where_it_was_made_and_nowhere_else(side):
    photo = noise(40, 30)
    square, p = to_square(photo, side)
    edited = square.copy()
    middle = (p.top + p.box_height // 2, p.left + p.box_width // 2)
    edited[middle] = 255 - edited[middle]
    back = edit_to_photo(photo, square, edited, p)
    rows, columns = np.nonzero((back != photo).any(axis=2))
    reach = 40 / p.box_height + 1
    assert len(rows)
    assert np.abs(rows - 20).max() <= reach
    assert np.abs(columns - 15).max() <= reach


def test_an_edit_of_the_frame_is_dropped():
    photo = noise(20, 40)
    square, p = to_square(photo, 64)
    edited = square.copy()
    edited[0] = 0
    assert np.array_equal(edit_to_photo(photo, square, edited, p), photo)

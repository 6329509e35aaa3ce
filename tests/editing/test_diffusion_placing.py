"""Crops around a region and the way into the model's square and back."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from semfacediff.editing.diffusion.placing import SMALLEST_CROP, Box, pasted, placed, whole, zoom_box
from semfacediff.types import to_tensor, to_uint8


def mask_of(height, width, top, bottom, left, right):
    mask = np.zeros((height, width), bool)
    mask[top:bottom, left:right] = True
    return mask


def photo_of(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def into_square(mask, size, cell=2, box=None, photo=None):
    height, width = mask.shape
    photo = photo_of(height, width) if photo is None else photo
    region = torch.from_numpy(mask[None].astype(np.float32))
    return placed(to_tensor(photo), region, box or whole(height, width), size, cell)


def test_the_box_is_a_square_with_context_on_each_side():
    assert zoom_box(mask_of(100, 100, 40, 50, 30, 50), context=0.5) == Box(25, 20, 40, 40)


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        (mask_of(100, 100, 0, 10, 45, 55), Box(0, 40, 20, 20)),  # at the upper edge
        (mask_of(100, 100, 90, 100, 90, 100), Box(80, 80, 20, 20)),  # in the lower right corner
        (mask_of(100, 60, 20, 60, 0, 30), Box(0, 0, 80, 60)),  # wider than the frame
        (mask_of(100, 100, 0, 100, 0, 100), Box(0, 0, 100, 100)),  # fills the frame
        (mask_of(100, 100, 0, 90, 40, 60), Box(0, 0, 100, 100)),  # nearly
        (mask_of(80, 100, 0, 0, 0, 0), Box(0, 0, 80, 100)),  # empty
    ],
)
def test_the_box_stays_in_the_frame(mask, expected):
    assert zoom_box(mask, context=0.5) == expected


def test_a_speck_is_not_magnified_without_end():
    box = zoom_box(mask_of(800, 400, 100, 101, 200, 201), context=0.5)
    assert (box.height, box.width) == (800 * SMALLEST_CROP,) * 2


@given(st.data())
def test_the_box_holds_the_region_and_lies_in_the_frame(data):
    height, width = data.draw(st.integers(1, 90)), data.draw(st.integers(1, 90))
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    bottom, right = data.draw(st.integers(top + 1, height)), data.draw(st.integers(left + 1, width))
    box = zoom_box(mask_of(height, width, top, bottom, left, right), data.draw(st.floats(0, 2)))
    assert 0 <= box.top <= top
    assert bottom <= box.top + box.height <= height
    assert 0 <= box.left <= left
    assert right <= box.left + box.width <= width


def test_a_photo_of_the_models_size_goes_in_and_out_untouched():
    photo, mask = photo_of(32, 32), mask_of(32, 32, 8, 16, 8, 16)
    at = into_square(mask, 32, photo=photo)
    assert np.array_equal(np.asarray(at.photo), photo)
    assert np.array_equal(np.asarray(at.mask) == 255, mask)
    made = torch.rand(3, 32, 32)
    assert torch.equal(pasted(to_tensor(photo), made, at), made)


@pytest.mark.parametrize("size", [(64, 64), (48, 96), (300, 40), (7, 5)])
def test_another_size_keeps_its_aspect_and_repeats_its_edge(size):
    photo = photo_of(*size)
    at = into_square(mask_of(*size, 0, 2, 0, 2), 32, photo=photo)
    square, (height, width) = np.asarray(at.photo), at.shape
    assert max(at.shape) == 32
    assert abs(height / width - size[0] / size[1]) < 0.2 * size[0] / size[1] or 1 in at.shape
    resized = np.asarray(Image.fromarray(photo).resize((width, height), Image.Resampling.LANCZOS))
    assert np.array_equal(square[:height, :width], resized)
    assert (square[height:] == square[height - 1]).all()
    assert (square[:, width:] == square[:, width - 1 : width]).all()
    assert not np.asarray(at.mask)[height:].any()
    result = pasted(to_tensor(photo), torch.rand(3, 32, 32), at)
    assert result.shape == (3, *size)
    assert 0 <= result.min() <= result.max() <= 1


@pytest.mark.parametrize("size", [(32, 32), (64, 48)])
def test_a_mask_without_cells_keeps_its_levels(size):
    levels = cv2.GaussianBlur(mask_of(*size, 8, 20, 10, 30).astype(np.uint8) * 255, (15, 15), 7)
    soft = torch.from_numpy(levels[None] / np.float32(255))
    at = placed(to_tensor(photo_of(*size)), soft, whole(*size), 32, cell=None)
    wanted = Image.fromarray(levels).resize((round(32 * size[1] / size[0]), 32), Image.Resampling.LANCZOS)
    assert np.array_equal(np.asarray(at.mask)[:, : wanted.width], np.asarray(wanted))
    assert not np.asarray(at.mask)[:, wanted.width :].any()
    assert len(np.unique(np.asarray(at.mask))) > 30


def test_thin_regions_survive_the_way_to_the_latents():
    thin = mask_of(256, 256, 101, 102, 30, 200)  # at 32 px an eighth of a pixel high
    mask = np.asarray(into_square(thin, 32, cell=8).mask) == 255
    cells = mask[::8, ::8]
    assert np.array_equal(mask, cells.repeat(8, 0).repeat(8, 1))
    assert cells.nonzero()[0].tolist() == [1, 1, 1, 1]
    assert cells.nonzero()[1].tolist() == [0, 1, 2, 3]


def test_beyond_the_box_not_a_bit_changes():
    photo, box = to_tensor(photo_of(60, 50)), Box(10, 5, 40, 30)
    mask = mask_of(60, 50, 20, 30, 10, 20)
    at = into_square(mask, 32, box=box, photo=to_uint8(photo))
    result = pasted(photo, torch.rand(3, 32, 32), at)
    beyond = torch.ones(60, 50, dtype=torch.bool)
    beyond[box.slices] = False
    assert torch.equal(result[:, beyond], photo[:, beyond])
    assert not torch.equal(result[:, ~beyond], photo[:, ~beyond])

"""Mask files of one's own: what counts as white, sizes, and what is refused."""

import io

import numpy as np
import pytest
from PIL import Image

from semfacediff.errors import UserError
from semfacediff.regions.own_masks import drawn_region

BOX = np.zeros((40, 60), bool)
BOX[10:30, 15:50] = True


def file(picture: Image.Image, kind: str = "png") -> bytes:
    held = io.BytesIO()
    picture.save(held, kind)
    return held.getvalue()


def grey(values: np.ndarray) -> Image.Image:
    return Image.fromarray(values)


def over_black() -> Image.Image:
    """White everywhere, and transparent outside the box."""
    return Image.fromarray(np.dstack([np.full((40, 60, 3), 255, np.uint8), BOX.astype(np.uint8) * 255]))


@pytest.mark.parametrize(
    "picture",
    [
        grey(BOX.astype(np.uint8) * 255),
        grey(BOX.astype(np.uint8)),
        grey(BOX.astype(np.uint16) * 65535),
        grey(np.where(BOX, 128, 127).astype(np.uint8)),
        grey(BOX.astype(np.uint8) * 255).convert("1"),
        grey(BOX.astype(np.uint8) * 255).convert("RGB"),
        grey(BOX.astype(np.uint8) * 255).convert("P"),
        over_black(),
    ],
    ids=["0 and 255", "0 and 1", "16 bit", "about the middle", "1 bit", "RGB", "palette", "transparent"],
)
def test_white_is_the_region(picture):
    assert np.array_equal(drawn_region(file(picture), "m.png", (40, 60)), BOX)


def test_of_a_jpeg_too():
    assert np.array_equal(drawn_region(file(grey(BOX.astype(np.uint8) * 255), "jpeg"), "m.jpg", (40, 60)), BOX)


@pytest.mark.parametrize("factor", [2, 3])
def test_another_size_of_the_same_aspect_is_scaled(factor):
    """Of a rectangle whose sides lie between pixels at both sizes, at most the corners are rounded."""
    large = BOX.repeat(factor, 0).repeat(factor, 1)
    assert (drawn_region(file(grey(BOX.astype(np.uint8) * 255)), "m", large.shape) != large).sum() <= 4
    assert np.array_equal(drawn_region(file(grey(large.astype(np.uint8) * 255)), "m", BOX.shape), BOX)


def test_the_aspect_may_be_that_of_any_frame():
    square = drawn_region(file(grey(BOX.astype(np.uint8) * 255)), "m", (64, 64), (40, 60))
    assert square.shape == (64, 64)
    assert square.mean() == pytest.approx(BOX.mean(), abs=1 / 32)


@pytest.mark.parametrize(
    ("picture", "said"),
    [
        (Image.new("RGB", (60, 40), "red"), "m.png: expected a grey image, white where the edit belongs"),
        (Image.new("L", (40, 60)), "m.png: the mask is 40x60 px, its photo 60x40, which is another aspect ratio"),
    ],
)
def test_what_is_no_mask_of_the_photo_is_refused(picture, said):
    with pytest.raises(UserError, match=said):
        drawn_region(file(picture), "m.png", (40, 60))


def test_what_is_no_image_is_refused():
    with pytest.raises(UserError, match=r"m.png: not a readable image"):
        drawn_region(b"text", "m.png", (40, 60))

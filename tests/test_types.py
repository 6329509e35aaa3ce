"""Conversions between 8-bit photos and tensors are exact, and other conventions are refused."""

import dataclasses

import numpy as np
import pytest
import torch

from semfacediff.types import FaceSample, check_image, to_tensor, to_uint8


def test_every_8_bit_value_survives_the_way_to_a_tensor_and_back():
    photo = np.arange(256, dtype=np.uint8).reshape(16, 16)[..., None].repeat(3, axis=2).copy()
    photo[..., 1] = photo[::-1, :, 1]
    image = to_tensor(photo)
    assert image.dtype == torch.float32
    assert image.shape == (3, 16, 16)
    assert image.is_contiguous()
    assert (image.min(), image.max()) == (0.0, 1.0)
    assert np.array_equal(to_uint8(image), photo)


def test_to_uint8_rounds_to_nearest_and_clamps():
    image = torch.tensor([-0.5, 0.4 / 255, 0.6 / 255, 254.6 / 255, 2.0]).view(1, 1, 5).expand(3, 1, 5)
    assert to_uint8(image)[0, :, 0].tolist() == [0, 0, 1, 255, 255]


def test_the_photo_is_not_touched():
    photo = np.full((4, 4, 3), 7, np.uint8)
    photo.setflags(write=False)
    to_tensor(photo).zero_()
    assert (photo == 7).all()


def test_an_image_by_the_convention_passes():
    check_image(torch.rand(2, 3, 4, 5))
    check_image(torch.zeros(0, 3, 4, 5))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.rand(3, 4, 4), r"photos: expected float32 \[N,3,H,W\], got torch.float32 \[3, 4, 4\]"),
        (torch.rand(1, 1, 4, 4), r"got torch.float32 \[1, 1, 4, 4\]"),
        (torch.zeros(1, 3, 4, 4, dtype=torch.uint8), r"got torch.uint8"),
        (torch.zeros(1, 3, 4, 4, dtype=torch.float64), r"got torch.float64"),
        (torch.full((1, 3, 4, 4), -1.0), r"values in \[0,1\], got -1..-1; images in \[-1,1\] need \(x\+1\)/2"),
        (torch.full((1, 3, 4, 4), 255.0), r"values in \[0,1\], got 255..255"),
        (torch.full((1, 3, 4, 4), torch.nan), r"values in \[0,1\], got nan..nan"),
        (torch.full((1, 3, 4, 4), torch.inf), r"values in \[0,1\], got inf..inf"),
    ],
)
def test_another_convention_is_refused(image, message):
    with pytest.raises(ValueError, match=message):
        check_image(image, "photos")


def test_samples_are_frozen():
    sample = FaceSample("a", np.zeros((2, 2, 3), np.uint8))
    assert sample.labels is None
    assert sample.attributes == {}
    with pytest.raises(dataclasses.FrozenInstanceError):
        sample.id = "b"

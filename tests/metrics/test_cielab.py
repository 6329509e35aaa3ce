"""CIELAB against scikit-image, over the whole cube of colours."""

import numpy as np
import pytest
from skimage import color

from semfacediff.metrics.cielab import cielab


def test_every_part_of_the_cube_is_scikit_images():
    steps = np.arange(0, 256, 5, dtype=np.uint8)
    cube = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(len(steps), -1, 3)
    assert np.abs(cielab(cube) - color.rgb2lab(cube)).max() < 1e-3


def test_black_and_white_are_the_ends():
    ends = cielab(np.array([[[0, 0, 0], [255, 255, 255]]], np.uint8))
    assert ends[0, :, 0] == pytest.approx([0, 100], abs=1e-3)
    assert np.abs(ends[0, :, 1:]).max() < 0.02

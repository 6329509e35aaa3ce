"""The one rule on sizes: which size is scored, what counts as the same frame, and how labels get there."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from semfacediff.data.sizes import (
    FIXED_PX,
    at_working_size,
    in_frame,
    resized_labels,
    resized_photo,
    same_aspect,
    scored_size,
)
from semfacediff.errors import UserError

SIDES = st.integers(1, 60)


class TestScoredSize:
    @pytest.mark.parametrize(
        ("protocol", "input_size", "size"),
        [
            ("strict", 512, (400, 300)),
            ("segface", 448, (448, 448)),
            ("segface", None, (512, 512)),
            ("ce7454", 256, (512, 512)),
            ("thesis", 256, (1024, 1024)),
        ],
    )
    def test_of_a_protocol(self, protocol, input_size, size):
        assert scored_size(protocol, (400, 300), input_size) == size

    def test_the_listed_sizes_are_the_configured_ones(self, compose):
        cfg = compose("evaluate", "protocol=thesis")
        assert cfg.working_size == FIXED_PX["thesis"]
        assert compose("evaluate", "protocol=strict").working_size is None


class TestResizedLabels:
    def test_the_same_size_and_whole_factors(self):
        labels = np.arange(12, dtype=np.uint8).reshape(3, 4)
        assert resized_labels(labels, (3, 4)) is labels
        twice = resized_labels(labels, (6, 8))
        assert twice.dtype == np.uint8
        assert np.array_equal(twice, labels.repeat(2, 0).repeat(2, 1))
        assert np.array_equal(resized_labels(twice, (3, 4)), labels)

    def test_by_hand(self):
        """Centres of two pixels of five lie at 1.25 and 3.75, those of three of two at 1/3, 1 (a border) and 5/3."""
        column = np.array([[1], [2], [3], [4], [5]], np.uint8)
        assert resized_labels(column, (2, 1)).tolist() == [[2], [4]]
        first, _, last = resized_labels(np.array([[7, 9]], np.uint8), (1, 3))[0].tolist()
        assert (first, last) == (7, 9)

    @given(height=SIDES, width=SIDES, to_height=SIDES, to_width=SIDES)
    def test_every_pixel_is_the_one_under_its_centre(self, height, width, to_height, to_width):
        rows, columns = np.mgrid[:height, :width].astype(np.uint8)
        for values, to, own in ((rows, to_height, height), (columns, to_width, width)):
            made = resized_labels(values, (to_height, to_width))
            place = made if values is rows else made.T
            assert (place == place[:, :1]).all()
            centre = (np.arange(to) + 0.5) * own / to
            assert (np.abs(centre - (place[:, 0] + 0.5)) <= 0.5 + 1e-9).all()

    @pytest.mark.parametrize("sides", [(512, 256), (512, 1024), (72, 64), (300, 256)])
    def test_it_is_torchs_nearest_exact(self, sides):
        """None of these factors puts a centre on a border of two pixels, where libraries decide differently."""
        side, new = sides
        labels = np.random.default_rng(0).integers(0, 19, (side, side), dtype=np.uint8)
        exact = torch.nn.functional.interpolate(torch.from_numpy(labels)[None, None], (new, new), mode="nearest-exact")
        assert np.array_equal(resized_labels(labels, (new, new)), exact[0, 0].numpy())


class TestSameAspect:
    @pytest.mark.parametrize(
        ("photo", "labels"),
        [
            ((1024, 1024), (512, 512)),
            ((64, 64), (512, 512)),
            ((1023, 767), (512, 384)),
            ((1023, 767), (511, 383)),
            ((384, 512), (767, 1023)),
            ((333, 500), (333, 500)),
        ],
    )
    def test_scaled_and_rounded(self, photo, labels):
        assert same_aspect(photo, labels)
        assert same_aspect(labels, photo)

    @pytest.mark.parametrize(
        ("photo", "labels"),
        [((1024, 1024), (512, 510)), ((64, 48), (48, 64)), ((100, 102), (100, 100)), ((1024, 768), (512, 512))],
    )
    def test_another_frame(self, photo, labels):
        assert not same_aspect(photo, labels)
        assert not same_aspect(labels, photo)

    @given(height=st.integers(32, 300), width=st.integers(32, 300), factor=st.floats(0.2, 4))
    def test_whatever_is_rounded_to_the_nearest_pixel_fits(self, height, width, factor):
        scaled = tuple(int(np.rint(factor * n)) for n in (height, width))
        exact = max(abs(s - factor * n) for s, n in zip(scaled, (height, width), strict=True)) < 0.499
        assert same_aspect((height, width), scaled) or not exact


class TestInFrame:
    def test_labels_of_the_same_aspect_are_left_alone(self):
        labels = np.zeros((5, 8), np.uint8)
        assert in_frame(labels, "a.png", (10, 16), False) is labels

    def test_another_aspect_is_refused_or_brought_to_the_photo(self):
        labels = np.arange(8, dtype=np.uint8).reshape(2, 4)
        with pytest.raises(UserError) as caught:
            in_frame(labels, "a.png", (4, 4), False)
        assert str(caught.value) == (
            "a.png: the label map is 4x2 px, its photo 4x4, which is another aspect ratio; set "
            "data.allow_mask_resize=true if the two show the same frame"
        )
        assert np.array_equal(in_frame(labels, "a.png", (4, 4), True), labels.repeat(2, 0))


class TestPhotos:
    def test_one_of_that_size_is_left_alone(self):
        photo = np.zeros((4, 6, 3), np.uint8)
        assert resized_photo(photo, (4, 6), Image.Resampling.BICUBIC) is photo
        assert at_working_size(photo, None) is photo

    def test_the_working_size_is_a_lanczos_square(self):
        photo = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
        expected = np.asarray(Image.fromarray(photo).resize((32, 32), Image.Resampling.LANCZOS))
        assert np.array_equal(at_working_size(photo, 32), expected)

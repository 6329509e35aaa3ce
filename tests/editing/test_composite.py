"""Three forms of composite, and the guarantee of the exact one."""

import numpy as np
import pytest

from semfacediff.editing.composite import FORMS, composite


@pytest.fixture
def parts():
    random = np.random.default_rng(0)
    photo, edit = random.integers(0, 256, (2, 24, 32, 3), dtype=np.uint8)
    blend = random.integers(0, 256, (24, 32)).astype(np.float32) / 255
    blend[:8], blend[16:] = 0, 1
    return photo, edit, blend


def test_off_takes_the_edit_as_it_is(parts):
    assert np.array_equal(composite(*parts, "off"), parts[1])


@pytest.mark.parametrize("form", ["blend", "exact"])
def test_mixes_by_the_mask_and_rounds_to_nearest(parts, form):
    photo, edit, blend = parts
    levels = np.rint(blend.astype(np.float64) * 255)[..., None]
    expected = np.rint((photo * (255 - levels) + edit * levels) / 255)
    assert np.array_equal(composite(photo, edit, blend, form), expected)


@pytest.mark.parametrize("form", ["blend", "exact"])
def test_all_of_the_edit_where_the_mask_is_one(parts, form):
    assert np.array_equal(composite(*parts, form)[16:], parts[1][16:])


@pytest.mark.parametrize("garbage", [0, 255, 77])
def test_exact_keeps_the_photos_bytes_where_the_mask_is_zero(parts, garbage):
    photo, edit, blend = parts
    edit = np.where(blend[..., None] == 0, np.uint8(garbage), edit)
    assert np.array_equal(composite(photo, edit, blend, "exact")[blend == 0], photo[blend == 0])


@pytest.mark.parametrize("form", FORMS)
def test_an_edit_that_changes_nothing_gives_the_photo(parts, form):
    photo, _, blend = parts
    assert np.array_equal(composite(photo, photo.copy(), blend, form), photo)


@pytest.mark.parametrize("form", FORMS)
def test_inputs_are_left_as_they_were(parts, form):
    copies = [p.copy() for p in parts]
    result = composite(*parts, form)
    assert result.dtype == np.uint8
    assert all(np.array_equal(a, b) for a, b in zip(parts, copies, strict=True))

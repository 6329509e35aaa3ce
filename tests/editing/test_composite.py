"""Three forms of composite, and the guarantee of the exact one."""

import cv2
import numpy as np
import pytest

from semfacediff.editing.composite import FORMS, SEAMS, check_outside, composite


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


def scene(height=96, width=80, box=(30, 60, 25, 55), feather=2.0):
    """(photo, edit, blend uint8): smooth pictures, the edit of another brightness and texture."""
    random = np.random.default_rng(1)

    def smooth():
        return cv2.GaussianBlur(random.normal(0, 200, (height, width, 3)), (0, 0), 4)

    photo = np.clip(110 + smooth(), 0, 255).astype(np.uint8)
    edit = np.clip(150 + smooth(), 0, 255).astype(np.uint8)
    blend = np.zeros((height, width), np.uint8)
    blend[box[0] : box[1], box[2] : box[3]] = 255
    return photo, edit, cv2.GaussianBlur(blend, (0, 0), feather) if feather else blend


BOXES = {
    "inside": (30, 60, 25, 55),
    "corner": (0, 30, 0, 30),
    "pixel": (40, 41, 40, 41),
    "row": (0, 1, 0, 80),
    "full": (0, 96, 0, 80),
    "empty": (0, 0, 0, 0),
}


@pytest.mark.parametrize("seam", SEAMS)
@pytest.mark.parametrize("feather", [0, 2.0])
@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES)
def test_with_every_seam_the_outside_is_bit_equal(box, feather, seam):
    photo, edit, blend = scene(box=box, feather=feather)
    final = composite(photo, edit, blend, "exact", seam)
    assert final.dtype == np.uint8
    assert np.array_equal(final[blend == 0], photo[blend == 0])
    check_outside(photo, final, blend)
    same = composite(photo, photo.copy(), blend, "exact", seam)
    assert np.abs(same.astype(int) - photo).max() <= 1  # Poisson solves in floats


@pytest.mark.parametrize("seam", SEAMS)
@pytest.mark.parametrize("size", [(40, 33), (255, 201)])
def test_any_size_and_both_types_of_mask(size, seam):
    height, width = size
    photo, edit, blend = scene(height, width, (height // 3, height, width // 4, width // 2))
    final = composite(photo, edit, blend, "exact", seam)
    assert final.shape == photo.shape
    assert np.array_equal(composite(photo, edit, (blend / 255).astype(np.float32), "exact", seam), final)


def steepest(change):
    """Largest step between neighbours in what was changed."""
    return max(np.abs(np.diff(change, axis=axis)).max() for axis in (0, 1))


@pytest.mark.parametrize("seam", ["laplacian", "poisson"])
def test_seams_hide_a_drift_of_brightness(seam):
    photo, _, blend = scene(200, 200, (50, 150, 50, 150), feather=1.0)
    drifted = np.clip(photo.astype(int) + 40, 0, 255).astype(np.uint8)
    plain, blended = (composite(photo, drifted, blend, "exact", s).astype(int) - photo for s in ("none", seam))
    assert steepest(blended) < 0.75 * steepest(plain)


def test_poisson_takes_the_edits_detail_and_the_photos_tone():
    photo, edit, blend = scene(feather=0)
    final = composite(photo, edit, blend, "exact", "poisson").astype(float)
    core = np.s_[40:50, 35:45]

    def detail(x):
        return (x - cv2.blur(x.astype(float), (5, 5)))[core].ravel()

    assert np.corrcoef(detail(final), detail(edit))[0, 1] > 0.9
    assert np.corrcoef(detail(final), detail(photo))[0, 1] < 0.5
    lifted = composite(photo, np.clip(edit.astype(int) + 30, 0, 255).astype(np.uint8), blend, "exact", "poisson")
    assert np.abs(lifted[core] - final[core]).mean() < 4  # a lift of the whole edit goes away


def test_a_pyramid_keeps_the_edit_in_the_middle():
    photo, edit, blend = scene(200, 200, (40, 160, 40, 160))
    final = composite(photo, edit, blend, "exact", "laplacian")
    assert np.abs(final[95:105, 95:105].astype(int) - edit[95:105, 95:105]).max() <= 2


def test_what_cannot_be_joined_is_refused():
    photo, edit, blend = scene()
    with pytest.raises(ValueError, match="seam: composite=off joins nothing, got 'poisson'"):
        composite(photo, edit, blend, "off", "poisson")
    with pytest.raises(ValueError, match="seam: expected one of none, laplacian, poisson, got 'glue'"):
        composite(photo, edit, blend, "exact", "glue")
    with pytest.raises(ValueError, match="composite: expected one of off, blend, exact, got 'all'"):
        composite(photo, edit, blend, "all")


def test_a_change_outside_does_not_pass_as_exact():
    photo, edit, blend = scene()
    final = composite(photo, edit, blend, "exact")
    final[0, 0, 2] ^= 1
    with pytest.raises(RuntimeError, match="composite=exact changed 1 pixels outside the blend mask"):
        check_outside(photo, final, blend)

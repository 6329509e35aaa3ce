"""Edits from disk: the right file, the photo's size, and one sentence for what is missing or broken."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from semfacediff.editing.base import EditRequest
from semfacediff.editing.precomputed import Precomputed
from semfacediff.errors import UserError
from semfacediff.types import RegionMasks, to_uint8


def request(sample_id="a", attribute="hair", size=(48, 40)):
    mask = torch.ones(1, *size)
    masks = RegionMasks(semantic=mask, generation=mask, blend=mask, coverage=1.0)
    return EditRequest(sample_id, attribute, torch.zeros(3, *size), masks, "words", "", 0)


def pixels(height=48, width=40, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def root(tmp_path):
    for attribute in ("hair", "lips"):
        (tmp_path / attribute).mkdir()
    return tmp_path


def test_returns_each_requests_own_file_bit_for_bit(root):
    Image.fromarray(pixels(seed=1)).save(root / "hair" / "a.png")
    Image.fromarray(pixels(seed=2)).save(root / "hair" / "b.png")
    Image.fromarray(pixels(seed=3)).save(root / "lips" / "a.png")
    requests = [request("b"), request("a"), request("a", "lips")]
    for edit, seed in zip(Precomputed(root).edit(requests), (2, 1, 3), strict=True):
        assert edit.dtype == torch.float32
        assert edit.shape == (3, 48, 40)
        assert np.array_equal(to_uint8(edit), pixels(seed=seed))


def test_another_size_is_resized_like_a_photo(root):
    made = Image.fromarray(pixels(96, 80))
    made.save(root / "hair" / "a.png")
    expected = np.asarray(made.resize((40, 48), Image.Resampling.LANCZOS))
    assert np.array_equal(to_uint8(Precomputed(root).edit([request()])[0]), expected)


def test_transparency_is_composited_over_white(root):
    Image.new("RGBA", (40, 48), (200, 0, 0, 0)).save(root / "hair" / "a.png")
    assert (Precomputed(root).edit([request()])[0] == 1).all()


def test_missing_root_is_refused_at_once(tmp_path):
    with pytest.raises(UserError, match=r"editor\.root: expected a folder of edits at .*nowhere.*set editor\.root=DIR"):
        Precomputed(tmp_path / "nowhere")


def test_missing_attribute_folder_is_refused_before_any_work(root):
    editor = Precomputed(root)
    editor.check({"hair": "x", "lips": "y"})
    with pytest.raises(UserError, match=r"no folder hat, nose in .*attributes=\[\.\.\.\]"):
        editor.check({"hair": "x", "hat": "y", "nose": "z"})


def test_missing_file_is_named(root):
    with pytest.raises(UserError, match=r"hair/a\.png: cannot be read \(No such file"):
        Precomputed(root).edit([request()])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: b"", "the file is empty"),
        (lambda data: b"no image", "not a readable image"),
        (lambda data: data[: len(data) // 2], "truncated or corrupt"),
    ],
)
def test_broken_file_is_named_with_its_defect(root, damage, message):
    file = root / "hair" / "a.png"
    Image.fromarray(pixels()).save(file)
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(UserError, match=rf"hair/a\.png: .*{message}"):
        Precomputed(root).edit([request()])


def test_has_nothing_to_note(root):
    assert Precomputed(root).note(request()) is None


WIDE = r"hair/a\.png: the edit is 96x48 px, its photo 40x48, which is another aspect ratio; .*editor\.resize=fit"


def test_another_aspect_ratio_is_refused_with_both_sizes(root):
    Image.fromarray(pixels(48, 96)).save(root / "hair" / "a.png")
    with pytest.raises(UserError, match=WIDE):
        Precomputed(root).edit([request()])


@pytest.mark.parametrize("frame", [(48, 40), (96, 80), (96, 96)])
def test_the_photo_counts_as_it_was_given_or_as_it_was_edited(root, frame):
    """Both (48, 40), the size at which it is edited, and its own size may be that of the edit."""
    for size in ((48, 40), frame):
        made = Image.fromarray(pixels(*size))
        made.save(root / "hair" / "a.png")
        edit = to_uint8(Precomputed(root).edit([replace(request(), frame=frame)])[0])
        assert np.array_equal(edit, np.asarray(made.resize((40, 48), Image.Resampling.LANCZOS)))


def test_another_aspect_ratio_is_stretched_or_cut_on_request(root):
    wide = pixels(48, 96)
    Image.fromarray(wide).save(root / "hair" / "a.png")
    stretched = np.asarray(Image.fromarray(wide).resize((40, 48), Image.Resampling.LANCZOS))
    assert np.array_equal(to_uint8(Precomputed(root, "stretch").edit([request()])[0]), stretched)
    assert np.array_equal(to_uint8(Precomputed(root, "fit").edit([request()])[0]), wide[:, 28:68])
    high = pixels(96, 40)
    Image.fromarray(high).save(root / "hair" / "a.png")
    assert np.array_equal(to_uint8(Precomputed(root, "fit").edit([request()])[0]), high[24:72])

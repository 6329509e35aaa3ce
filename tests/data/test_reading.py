"""Photos and label maps from bytes: every mode, and every defect named in one sentence."""

import re
import warnings

import numpy as np
import pytest
from PIL import Image

from semfacediff.data.reading import MAX_PIXELS, Blob, decode_labels, decode_photo, rgb_over_white
from semfacediff.errors import UserError
from semfacediff.labels import CELEBAMASK, SPACES


@pytest.fixture(scope="module")
def sample(toy_samples):
    return toy_samples(1, 64)[0]


class TestPhotos:
    @pytest.mark.parametrize(
        ("kind", "options"), [("png", {}), ("webp", {"lossless": True}), ("bmp", {}), ("tiff", {})]
    )
    def test_lossless_files_come_back_as_they_were(self, encode, sample, kind, options):
        photo = decode_photo(encode(sample.photo, kind, **options), "a")
        assert photo.dtype == np.uint8
        assert np.array_equal(photo, sample.photo)

    def test_a_jpeg_is_close(self, encode, sample):
        photo = decode_photo(encode(sample.photo, "jpeg", quality=95), "a.jpg")
        assert np.abs(photo.astype(int) - sample.photo).mean() < 4

    def test_grey_becomes_rgb(self, encode):
        grey = np.arange(64 * 64, dtype=np.uint32).reshape(64, 64).astype(np.uint8)
        assert np.array_equal(decode_photo(encode(grey), "a"), np.repeat(grey[..., None], 3, axis=2))

    def test_16_bit_grey_is_scaled_to_8_bit(self, encode):
        deep = np.full((64, 64), 128 * 257, np.uint16)
        deep[0, 0], deep[0, 1] = 65535, 0
        photo = decode_photo(encode(Image.fromarray(deep)), "a")
        assert (photo[0, 0, 0], photo[0, 1, 0], photo[5, 5, 0]) == (255, 0, 128)

    def test_transparency_lies_over_white(self, encode):
        rgba = np.zeros((40, 40, 4), np.uint8)
        rgba[:20, :, 3] = 255
        rgba[20:30, :, 3] = 51
        photo = decode_photo(encode(rgba), "a")
        assert (photo[:20] == 0).all()
        assert (photo[20:30] == 204).all()
        assert (photo[30:] == 255).all()

    def test_a_palette_with_a_transparent_colour(self, encode):
        image = Image.new("P", (40, 40), 1)
        image.putpalette([255, 0, 0, 0, 255, 0])
        assert (decode_photo(encode(image), "a") == (0, 255, 0)).all()
        assert (decode_photo(encode(image, transparency=1), "a") == 255).all()

    def test_cmyk_becomes_rgb(self, encode, sample):
        photo = decode_photo(encode(Image.fromarray(sample.photo).convert("CMYK"), "jpeg", quality=95), "a")
        assert np.abs(photo.astype(int) - sample.photo).mean() < 8

    def test_a_turned_photo_stands_upright(self, encode, sample):
        exif = Image.Exif()
        exif[0x0112] = 6  # shown after a turn by 90 degrees clockwise
        photo = decode_photo(encode(sample.photo[:48], exif=exif), "a")
        assert np.array_equal(photo, np.rot90(sample.photo[:48], -1))

    def test_rgb_over_white_keeps_rgb(self, sample):
        assert np.array_equal(np.asarray(rgb_over_white(Image.fromarray(sample.photo))), sample.photo)


class TestDefectivePhotos:
    def test_empty(self):
        with pytest.raises(UserError, match=r"^images/a\.jpg: the file is empty$"):
            decode_photo(b"", "images/a.jpg")

    def test_no_image(self):
        with pytest.raises(UserError, match=r"^a.jpg: not a readable image \(expected JPEG, .* or GIF\)$"):
            decode_photo(b"<html>404 not found</html>", "a.jpg")

    @pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "bmp", "tiff"])
    @pytest.mark.parametrize("share", [0.02, 0.2, 0.5, 0.95])
    def test_truncated(self, encode, sample, kind, share):
        whole = encode(sample.photo, kind)
        with pytest.raises(UserError, match=r"^a: (the image is truncated or corrupt|not a readable image) \(.+\)$"):
            decode_photo(whole[: int(len(whole) * share)], "a")

    @pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's own remarks on damaged metadata
    @pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "tiff"])
    def test_flipped_bytes_end_in_a_photo_or_a_sentence(self, encode, sample, kind):
        """No damage escapes as another exception, which would end a run with a traceback."""
        exif = Image.Exif()
        exif[0x0112], exif[0x010E] = 6, "text"
        whole = encode(sample.photo, kind, exif=exif)
        rng = np.random.default_rng(0)
        refused = 0
        for _ in range(150):
            damaged = bytearray(whole)
            for at in rng.integers(0, min(len(damaged), 600), 3):
                damaged[at] = rng.integers(0, 256)
            try:
                assert decode_photo(bytes(damaged), "a").ndim == 3
            except UserError as e:
                refused += 1
                assert str(e).startswith("a: ")  # noqa: PT017
        assert refused > 0

    @pytest.mark.parametrize(("width", "height"), [(1, 1), (31, 64), (64, 31)])
    def test_too_small(self, encode, width, height):
        with pytest.raises(UserError, match=f"^a.png: {width}x{height} px; a photo needs at least 32 px a side$"):
            decode_photo(encode(np.zeros((height, width, 3), np.uint8)), "a.png")

    def test_the_smallest(self, encode):
        assert decode_photo(encode(np.zeros((32, 32, 3), np.uint8)), "a").shape == (32, 32, 3)

    def test_too_large_is_refused_before_it_is_decoded(self, encode):
        side = int(MAX_PIXELS**0.5) + 1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with pytest.raises(UserError, match=f"^a: {side}x{side} px is over the limit of {MAX_PIXELS} pixels"):
                decode_photo(encode(Image.new("1", (side, side))), "a")


class TestLabels:
    def test_a_grey_map_comes_back(self, encode, sample):
        labels = decode_labels(encode(sample.labels), "a", CELEBAMASK)
        assert labels.dtype == np.uint8
        assert np.array_equal(labels, sample.labels)

    def test_of_a_palette_image_the_index_counts(self, encode, sample):
        image = Image.fromarray(sample.labels)
        image.putpalette([255 - i for i in range(57)])
        assert image.mode == "P"
        assert np.array_equal(decode_labels(encode(image), "a", CELEBAMASK), sample.labels)

    @pytest.mark.parametrize("mode", ["RGB", "RGBA", "1", "LA"])
    def test_another_mode(self, encode, sample, mode):
        image = Image.fromarray(sample.labels).convert(mode)
        with pytest.raises(UserError, match=f"^masks/a.png: expected a label map in mode L, P or I;16, got {mode}$"):
            decode_labels(encode(image), "masks/a.png", CELEBAMASK)

    def test_a_16_bit_map(self, encode, sample):
        deep = sample.labels.astype(np.uint16)
        labels = decode_labels(encode(deep), "a", CELEBAMASK)
        assert labels.dtype == np.uint8
        assert np.array_equal(labels, sample.labels)
        with pytest.raises(UserError, match=r"^a: label values 257, 514, .* lie outside space 'celebamask'"):
            decode_labels(encode(deep * 257), "a", CELEBAMASK)

    def test_values_outside_the_space(self, encode):
        labels = np.zeros((8, 8), np.uint8)
        labels[0, :3] = 19, 255, 18
        with pytest.raises(
            UserError, match=re.escape("a.png: label values 19, 255 lie outside space 'celebamask' (0..18)")
        ):
            decode_labels(encode(labels), "a.png", CELEBAMASK)

    def test_each_space_has_its_own_limit(self, encode):
        labels = np.full((8, 8), 11, np.uint8)
        assert decode_labels(encode(labels), "a", CELEBAMASK)[0, 0] == 11
        with pytest.raises(UserError, match=r"label values 11 lie outside space 'lapa' \(0..10\)"):
            decode_labels(encode(labels), "a", SPACES["lapa"])

    def test_empty(self):
        with pytest.raises(UserError, match=r"^a\.png: the file is empty$"):
            decode_labels(b"", "a.png", CELEBAMASK)

    @pytest.mark.parametrize("share", [0.02, 0.2, 0.5, 0.9])
    def test_truncated(self, encode, sample, share):
        whole = encode(sample.labels)
        with pytest.raises(UserError, match=r"^a: (the image is truncated or corrupt|not a readable image) \(.+\)$"):
            decode_labels(whole[: int(len(whole) * share)], "a", CELEBAMASK)


class TestBlobs:
    def test_a_file_and_a_part_of_it(self, tmp_path):
        file = tmp_path / "a"
        file.write_bytes(b"0123456789")
        assert Blob(file, "a").read() == b"0123456789"
        assert Blob(file, "a", 3, 4).read() == b"3456"

    def test_missing(self, tmp_path):
        with pytest.raises(UserError, match=r"^images/a.jpg: cannot be read \(No such file or directory\)$"):
            Blob(tmp_path / "a.jpg", "images/a.jpg").read()

    def test_an_archive_that_ends_too_early(self, tmp_path):
        file = tmp_path / "a.tar"
        file.write_bytes(b"0123456789")
        with pytest.raises(UserError, match=r"^a.tar:b: the archive ends after 2 of 5 bytes; copy it again$"):
            Blob(file, "a.tar:b", 8, 5).read()

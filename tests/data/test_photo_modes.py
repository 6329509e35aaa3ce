"""Photos of every kind that people have: colour modes, depths, orientations, animations, sizes."""

import struct
import warnings
import zlib

import numpy as np
import PIL
import pytest
from PIL import Image

from semfacediff.data.reading import MAX_PIXELS, decode_any, decode_photo, photo_size
from semfacediff.errors import UserError

HALF = 128


def filled(mode, value, size=(40, 48)):
    return Image.new(mode, size[::-1], value)


class TestTransparency:
    @pytest.mark.parametrize(
        ("mode", "value", "wanted"),
        [
            ("RGBA", (200, 100, 0, 0), (255, 255, 255)),
            ("RGBA", (200, 100, 0, 255), (200, 100, 0)),
            ("RGBA", (200, 100, 0, HALF), (227, 177, 127)),
            ("LA", (100, 0), (255, 255, 255)),
            ("LA", (100, 255), (100, 100, 100)),
            ("LA", (100, HALF), (177, 177, 177)),
        ],
    )
    def test_lies_over_white(self, encode, mode, value, wanted):
        photo = decode_photo(encode(filled(mode, value)), "a")
        assert photo.dtype == np.uint8
        assert np.abs(photo.astype(int) - wanted).max() <= 1

    @pytest.mark.parametrize(("mode", "value"), [("RGB", (10, 20, 30)), ("L", 10)])
    def test_a_colour_declared_transparent(self, encode, mode, value):
        image = filled(mode, value)
        assert (decode_photo(encode(image, transparency=value), "a") == 255).all()
        assert (decode_photo(encode(image), "a") == value).all()

    def test_a_palette_with_alpha_for_each_entry(self, encode):
        image = filled("P", 1)
        image.putpalette([0, 0, 0, 200, 100, 0])
        assert (decode_photo(encode(image), "a") == (200, 100, 0)).all()
        half = decode_photo(encode(image, transparency=bytes([255, HALF])), "a")
        assert np.abs(half.astype(int) - (227, 177, 127)).max() <= 1

    def test_a_16_bit_grey_declared_transparent(self, encode):
        deep = np.full((40, 40), 300, np.uint16)
        deep[0] = 257 * 9
        photo = decode_photo(encode(Image.fromarray(deep), transparency=300), "a")
        assert (photo[0] == 9).all()
        assert (photo[1:] == 255).all()


class TestDepth:
    @pytest.mark.parametrize("kind", ["png", "tiff"])
    def test_16_bit_grey(self, encode, kind):
        deep = np.repeat(np.arange(0, 65536, 1024, dtype=np.uint16)[None], 40, axis=0)
        photo = decode_photo(encode(Image.fromarray(deep), kind), "a")
        assert np.array_equal(photo[0, :, 0], np.rint(deep[0] / 257).astype(np.uint8))

    def test_16_bit_rgb_png(self):
        deep = np.full((40, 48, 3), (65535, 32768, 256), ">u2")
        lines = b"".join(b"\0" + row.tobytes() for row in deep)

        def chunk(name, data):
            return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

        header = struct.pack(">IIBBBBB", 48, 40, 16, 2, 0, 0, 0)
        data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
        photo = decode_photo(b"\x89PNG\r\n\x1a\n" + data, "a")
        assert np.abs(photo.astype(int) - (255, 127, 1)).max() <= 1

    def test_16_bit_rgb_tiff(self):
        photo = decode_photo(deep_tiff(np.full((40, 48, 3), (65535, 32768, 256), "<u2")), "a")
        assert photo.shape == (40, 48, 3)
        assert np.abs(photo.astype(int) - (255, 127, 1)).max() <= 1

    def test_one_bit(self, encode):
        image = filled("1", 0)
        image.paste(1, (0, 0, 10, 40))
        photo = decode_photo(encode(image), "a")
        assert (photo[:, :10] == 255).all()
        assert (photo[:, 10:] == 0).all()

    @pytest.mark.parametrize(("top", "wanted"), [(1.0, 128), (255.0, 0)])
    def test_floats_are_0_to_1_or_0_to_255(self, encode, top, wanted):
        values = np.full((40, 40), 0.5, np.float32)
        values[0, 0], values[0, 1] = top, np.nan
        photo = decode_photo(encode(Image.fromarray(values), "tiff"), "a")
        assert (photo[0, 0, 0], photo[0, 1, 0]) == (255, 0)
        assert abs(int(photo[5, 5, 0]) - wanted) <= 1


def deep_tiff(values):
    """An uncompressed TIFF of uint16 ``[H, W, 3]``, which Pillow reads but does not write."""
    height, width, _ = values.shape
    at, pixels = 8, values.tobytes()
    bits = at + len(pixels)
    tags = [(256, 3, 1, width), (257, 3, 1, height), (258, 3, 3, bits), (259, 3, 1, 1), (262, 3, 1, 2), (273, 4, 1, at)]
    tags += [(277, 3, 1, 3), (278, 3, 1, height), (279, 4, 1, len(pixels))]
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *t) for t in tags) + bytes(4)
    return struct.pack("<2sHI", b"II", 42, bits + 6) + pixels + struct.pack("<3H", 16, 16, 16) + directory


class TestColour:
    def test_cmyk(self, encode):
        photo = decode_photo(encode(filled("CMYK", (0, 255, 255, 0)), "tiff"), "a")
        assert np.abs(photo.astype(int) - (255, 0, 0)).max() <= 1

    @pytest.mark.skipif(int(PIL.__version__.split(".")[0]) < 13, reason="Pillow 12 cannot read what it writes here")
    def test_ycbcr_tiff(self, encode):
        photo = decode_photo(encode(filled("YCbCr", (128, 128, 128)), "tiff"), "a")
        assert np.abs(photo.astype(int) - 128).max() <= 1

    def test_lab_is_refused_in_a_sentence(self, encode):
        with pytest.raises(UserError, match=r"^a.tif: colour mode LAB cannot be turned into RGB here; save"):
            decode_photo(encode(filled("LAB", (128, 128, 128)), "tiff"), "a.tif")

    def test_a_progressive_jpeg_is_the_same_photo(self, encode, toy_samples):
        photo = toy_samples(1, 64)[0].photo
        plain, progressive = (encode(photo, "jpeg", quality=95, progressive=p) for p in (False, True))
        assert plain != progressive
        assert np.array_equal(decode_photo(progressive, "a"), decode_photo(plain, "a"))


class TestOrientation:
    TURNS = {  # noqa: RUF012
        1: lambda x: x,
        2: lambda x: x[:, ::-1],
        3: lambda x: x[::-1, ::-1],
        4: lambda x: x[::-1],
        5: lambda x: x.swapaxes(0, 1),
        6: lambda x: np.rot90(x, -1),
        7: lambda x: np.rot90(x, 2).swapaxes(0, 1),
        8: lambda x: np.rot90(x, 1),
    }

    @pytest.mark.parametrize("orientation", TURNS)
    @pytest.mark.parametrize("kind", ["png", "jpeg", "tiff"])
    def test_every_photo_stands_upright(self, encode, toy_samples, kind, orientation):
        photo = toy_samples(1, 64)[0].photo[:48]
        exif = Image.Exif()
        exif[0x0112] = orientation
        plain = decode_photo(encode(photo, kind), "a")
        data = encode(photo, kind, exif=exif)
        turned = decode_photo(data, "a")
        assert np.array_equal(turned, self.TURNS[orientation](plain))
        assert photo_size(data, "a") == turned.shape[:2]

    def test_an_orientation_that_is_none(self, encode):
        exif = Image.Exif()
        exif[0x0112] = 99
        assert decode_photo(encode(filled("RGB", 0), exif=exif), "a").shape == (40, 48, 3)


@pytest.mark.parametrize("kind", ["gif", "webp", "png"])
def test_of_an_animation_the_first_frame_counts(encode, kind):
    frames = [filled("RGB", c) for c in ((250, 0, 0), (0, 250, 0))]
    options = {"lossless": True} if kind == "webp" else {}
    data = encode(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert np.abs(decode_photo(data, "a").astype(int) - (250, 0, 0)).max() <= 6


class TestSize:
    def bomb(self, side):
        """A PNG that claims to be ``side`` px wide and high and carries nothing."""
        header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
        packed = [struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks]
        return b"\x89PNG\r\n\x1a\n" + b"".join(packed)

    @pytest.mark.parametrize("side", [10_001, 12_000, 14_000, 60_000])
    def test_a_huge_photo_is_refused_before_it_is_decoded(self, side):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with pytest.raises(UserError, match=rf"^a: .* px is over the limit of {MAX_PIXELS} pixels; scale it down$"):
                decode_photo(self.bomb(side), "a")

    def test_the_size_is_known_from_the_header(self, encode):
        assert photo_size(encode(filled("RGB", 0)), "a") == (40, 48)

    def test_a_jpeg_that_breaks_off_is_noticed_from_its_end(self, encode, toy_samples):
        whole = encode(toy_samples(1, 64)[0].photo, "jpeg")
        assert photo_size(whole + b"maker's notes", "a") == (64, 64)
        with pytest.raises(UserError, match=r"^a.jpg: the image is truncated or corrupt \(no end mark\); copy it"):
            photo_size(whole[:-40], "a.jpg")


def test_values_as_they_are_stored(encode):
    assert decode_any(encode(filled("LA", (7, 0))), "a")[0, 0] == 7
    assert decode_any(encode(filled("RGBA", (7, 8, 9, 0))), "a")[0, 0].tolist() == [7, 8, 9]
    assert decode_any(encode(Image.fromarray(np.full((4, 4), 60000, np.uint16))), "a")[0, 0] == 60000

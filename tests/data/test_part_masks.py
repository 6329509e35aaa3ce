"""Part masks by the short way through PNG give what Pillow gives, whatever filters the file uses."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from semfacediff.data import part_masks
from semfacediff.data.part_masks import PartMask, decode_part, paint
from semfacediff.errors import UserError


def predictor(kind, left, above, corner):
    """PNG specification, section 9, in whole numbers."""
    p = left + above - corner
    pa, pb, pc = abs(p - left), abs(p - above), abs(p - corner)
    paeth = np.where((pa <= pb) & (pa <= pc), left, np.where(pb <= pc, above, corner))
    return (np.zeros_like(left), left, above, (left + above) // 2, paeth)[kind]


def png(values, kinds):
    """A PNG of uint8 ``[H, W, 1 or 3]`` whose row k is filtered by ``kinds[k]``."""
    height, width, channels = values.shape
    x = np.zeros((height + 1, (width + 1) * channels), np.int64)
    x[1:, channels:] = values.reshape(height, -1)
    lines = b""
    for k, kind in enumerate(kinds, 1):
        row = x[k, channels:] - predictor(kind, x[k, :-channels], x[k - 1, channels:], x[k - 1, :-channels])
        lines += bytes([kind]) + (row % 256).astype(np.uint8).tobytes()

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, {1: 0, 3: 2}[channels], 0, 0, 0)
    compressed = zlib.compress(lines)
    half = len(compressed) // 2
    parts = [chunk(b"tEXt", b"a\0b"), chunk(b"IDAT", compressed[:half]), chunk(b"IDAT", compressed[half:])]
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(parts) + chunk(b"IEND", b"")


@st.composite
def masks(draw):
    """(bool ``[H, W]``, filter of every row): boxes on noise of some density."""
    height, width = draw(st.integers(1, 20)), draw(st.integers(1, 70))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    mask = rng.random((height, width)) < draw(st.sampled_from([0.0, 0.03, 0.5]))
    mask[draw(st.integers(0, height)) :, : draw(st.integers(0, width))] = True
    kinds = draw(st.lists(st.integers(0, 4), min_size=height, max_size=height))
    return mask, kinds


@pytest.mark.parametrize("channels", [1, 3])
@given(case=masks())
def test_every_filter_is_undone(channels, case):
    mask, kinds = case
    values = np.repeat(np.uint8(255) * mask[..., None].astype(np.uint8), channels, axis=2)
    data = png(values, kinds)
    with Image.open(io.BytesIO(data)) as image:
        assert np.array_equal(np.asarray(image).reshape(values.shape), values)
    part = decode_part(data, "a")
    assert np.array_equal(part.whole(), mask)
    assert part.grey == 0


@given(case=masks(), value=st.integers(1, 254), channels=st.sampled_from([1, 3]), where=st.integers(0, 2**16))
def test_a_grey_pixel_counts_and_is_noticed(case, value, channels, where):
    mask, kinds = case
    values = np.repeat(np.uint8(255) * mask[..., None].astype(np.uint8), channels, axis=2)
    y, x = np.unravel_index(where % mask.size, mask.shape)
    values[y, x] = value
    mask[y, x] = True
    part = decode_part(png(values, kinds), "a")
    assert np.array_equal(part.whole(), mask)
    assert part.grey == 1


def test_colours_count_where_any_channel_is_set(encode):
    image = np.zeros((8, 8, 3), np.uint8)
    image[1, 2, 0], image[3, 4, 2] = 255, 1
    part = decode_part(encode(image), "a")
    assert np.argwhere(part.whole()).tolist() == [[1, 2], [3, 4]]
    assert part.grey == 1


@pytest.mark.parametrize("mode", ["1", "P", "LA", "RGBA", "I;16"])
def test_other_kinds_of_png_go_through_pillow(encode, mode):
    mask = np.zeros((40, 48), bool)
    mask[10:20, 5:30] = True
    if mode == "I;16":
        image = Image.fromarray(mask.astype(np.uint16) * 65535)
    else:
        image = Image.fromarray(np.uint8(255) * mask.astype(np.uint8)).convert(mode)
    part = decode_part(encode(image), "a")
    assert np.array_equal(part.whole(), mask)
    assert part.grey == 0


def test_an_interlaced_png_goes_through_pillow(encode, monkeypatch):
    data = bytearray(encode(np.zeros((8, 8), np.uint8)))
    data[28] = 1
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    assert part_masks._two_level_png(bytes(data)) is None


@pytest.mark.parametrize("where", ["drawn", "cut", "empty", "text"])
def test_defects_are_named(encode, where):
    whole = encode(np.eye(40, dtype=np.uint8) * 255)
    data = {"drawn": whole[:60] + b"\0\0\0" + whole[63:], "cut": whole[:60], "empty": b"", "text": b"<html>"}[where]
    with pytest.raises(UserError, match=r"^parts/a.png: (the image is|the file is empty|not a readable image)"):
        decode_part(data, "parts/a.png")


def test_any_damage_ends_in_a_mask_or_a_sentence(encode):
    whole = encode(np.eye(40, dtype=np.uint8) * 255)
    rng = np.random.default_rng(0)
    for _ in range(150):
        damaged = bytearray(whole)
        damaged[rng.integers(0, len(whole))] = rng.integers(0, 256)
        try:
            decode_part(bytes(damaged), "a")
        except UserError as e:
            assert str(e).startswith("a: ")  # noqa: PT017


def test_the_plain_zlib_gives_the_same(encode, monkeypatch):
    mask = np.zeros((40, 48), bool)
    mask[10:20, 5:30] = True
    monkeypatch.setattr(part_masks, "fast_zlib", zlib)
    data = encode(np.uint8(255) * mask.astype(np.uint8))
    assert np.array_equal(part_masks._two_level_png(data).whole(), mask)


class TestPainting:
    def part(self, rows, top=0, size=(4, 4)):
        return PartMask(*size, top, np.array(rows, bool))

    def test_a_later_part_has_the_pixel(self):
        first, second = self.part([[1, 1, 0, 0]]), self.part([[0, 1, 1, 0]])
        assert paint([(3, first), (5, second)], (4, 4))[0].tolist() == [3, 5, 5, 0]
        assert paint([(5, second), (3, first)], (4, 4))[0].tolist() == [3, 3, 5, 0]

    def test_rows_lie_where_they_were(self):
        labels = paint([(7, self.part([[1, 0, 0, 1]], top=2))], (4, 4))
        assert labels.dtype == np.uint8
        assert labels.tolist() == [[0] * 4, [0] * 4, [7, 0, 0, 7], [0] * 4]

    def test_another_size_is_resized(self):
        labels = paint([(7, self.part([[1, 0]], top=1, size=(2, 2)))], (4, 4))
        assert labels.tolist() == [[0] * 4, [0] * 4, [7, 7, 0, 0], [7, 7, 0, 0]]

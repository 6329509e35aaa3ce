"""What strangers send: too large, broken, or named to deceive."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from semfacediff.errors import UserError
from semfacediff.web import uploads
from semfacediff.web.uploads import decode_upload, safe_name


def _header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds no pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def test_a_photo_within_the_limits():
    picture, file = np.full((40, 50, 3), 7, np.uint8), io.BytesIO()
    Image.fromarray(picture).save(file, "png")
    assert np.array_equal(decode_upload(file.getvalue(), "a.png"), picture)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "a.png: the file is empty"),
        (b"<html>", "a.png: not a readable image"),
        (_header(64, 64), "a.png: the image is truncated or corrupt"),
        (_header(10_000, 10_000), "a.png: 10000x10000 px is over the limit of 16000000 pixels; scale it down"),
        (_header(100_000, 100_000), "over the limit of 16000000 pixels"),
        (_header(8, 8), "a photo needs at least 32 px a side"),
    ],
)
def test_what_is_refused(data, why):
    with pytest.raises(UserError, match=why):
        decode_upload(data, "a.png")


def test_too_many_bytes_are_refused_before_they_are_looked_at(monkeypatch):
    monkeypatch.setattr(uploads, "MAX_UPLOAD_MB", 1)
    with pytest.raises(UserError, match=r"a.png: 1.2 MB are over the limit of 1 MB"):
        decode_upload(b"x" * 1_200_000, "a.png")


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("ada.png", "ada.png"),
        ("../../etc/passwd", "passwd"),
        ("<img src=x onerror=alert(1)>.png", "_img_src_x_onerror_alert_1_.png"),
        ("..", "photo"),
        ("", "photo"),
        ("x" * 90 + ".png", "x" * 56 + ".png"),
    ],
)
def test_names_become_plain(name, safe):
    assert safe_name(name) == safe

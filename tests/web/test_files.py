"""Uploads that are too large, broken, or named to deceive; and the files of pages, which go with them."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from semfacediff.errors import UserError
from semfacediff.web import files as module
from semfacediff.web.files import Files, decode_upload, safe_name
from semfacediff.web.jobs import StoppedError


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
    monkeypatch.setattr(module, "MAX_UPLOAD_MB", 1)
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


def test_equal_uploads_are_files_of_their_own_and_read_once(files):
    first, second = files.keep("a.png", b"1"), files.keep("a.png", b"1")
    assert first != second
    assert files.take(first) == b"1"
    with pytest.raises(UserError, match=r"a.png: expected a photo that was uploaded just now; load it again"):
        files.take(first)
    assert files.take(second) == b"1"


@pytest.mark.parametrize("name", [".", "..", "../x.png", "../../x.png", "b.png", "a.png/../b.png"])
def test_only_the_path_that_was_given_is_read(files, tmp_path, name):
    (tmp_path / "x.png").write_bytes(b"mine")
    kept = Path(files.keep("a.png", b"1"))
    with pytest.raises(UserError, match="expected a photo that was uploaded just now"):
        files.take(f"{kept.parent}/{name}")
    assert files.take(str(kept)) == b"1"
    assert (tmp_path / "x.png").read_bytes() == b"mine"


def test_a_link_in_place_of_an_upload_is_not_followed(files, tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "a.png").write_bytes(b"mine")
    kept = Path(files.keep("a.png", b"1"))
    kept.unlink()
    kept.symlink_to(tmp_path / "x" / "a.png")
    with pytest.raises(UserError, match="replaced by a link"):
        files.take(str(kept))
    kept = Path(files.keep("a.png", b"1"))
    kept.parent.rename(files.root / "moved")
    kept.parent.symlink_to(tmp_path / "x")
    with pytest.raises(UserError, match="replaced by a link"):
        files.take(str(kept))
    assert (tmp_path / "x" / "a.png").read_bytes() == b"mine"


def test_of_uploads_that_no_page_reads_the_oldest_go(files, monkeypatch):
    monkeypatch.setattr(module, "_WAITING", 2)
    first, second, third = (files.keep(f"{i}.png", b"") for i in range(3))
    with pytest.raises(UserError, match="load it again"):
        files.take(first)
    assert (files.take(second), files.take(third)) == (b"", b"")


def test_of_a_kind_a_page_keeps_the_last(files):
    page = files.page("me")
    other = page.write("mask", "mask.jpg", b"")
    shown = [page.write("parse", "parse.jpg", b"%d" % i) for i in range(6)]
    assert [Path(file).exists() for file in shown] == [False] * 2 + [True] * 4
    assert Path(other).exists()


def test_a_page_that_was_closed_writes_nothing(files):
    page, other = files.page("me"), files.page("you")
    page.write("mask", "mask.jpg", b"")
    kept, waiting = Path(other.write("mask", "mask.jpg", b"")), Path(files.keep("a.png", b""))
    files.close_page("me")
    with pytest.raises(StoppedError):
        page.write("mask", "mask.jpg", b"")
    assert (kept.exists(), waiting.exists()) == (True, True)
    files.close_page("you")
    files.close_page("never came")
    assert list(files.root.iterdir()) == []


def test_nothing_is_written_after_the_end(files):
    page = files.page("me")
    files.close()
    for write in (page.write, files.page("new").write):
        with pytest.raises(StoppedError):
            write("mask", "mask.jpg", b"")
    with pytest.raises(StoppedError):
        files.keep("a.png", b"")
    assert not files.root.exists()


def test_folders_of_servers_that_were_killed_go_at_the_next_start(files, tmp_path):
    left = tmp_path / "semfacediff-web-left"
    (left / "page").mkdir(parents=True)
    (left / "page" / "photo.jpg").write_bytes(b"")
    (tmp_path / "else").mkdir()
    (tmp_path / "semfacediff-web-link").symlink_to(tmp_path / "else")
    (tmp_path / "semfacediff-web-file").write_text("")
    second = Files()
    assert not left.exists()
    assert files.root.exists()
    assert {p.name for p in tmp_path.glob("[es]*")} == {
        "else",
        "semfacediff-web-link",
        "semfacediff-web-file",
        files.root.name,
        second.root.name,
    }
    second.close()

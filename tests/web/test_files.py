"""Uploads and what they are named; and the files of pages, which go with them."""

from pathlib import Path

import pytest

from semfacediff.errors import UserError
from semfacediff.web.files import Files, Folder, safe_name
from semfacediff.web.jobs import StoppedError


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
    first, second = files.uploads.write("photo", "a.png", b"1"), files.uploads.write("photo", "a.png", b"1")
    assert first != second
    assert files.uploads.take("photo", first) == b"1"
    with pytest.raises(UserError, match=r"a.png: expected a photo that was just uploaded; load it again"):
        files.uploads.take("photo", first)
    assert files.uploads.take("photo", second) == b"1"


@pytest.mark.parametrize("name", [".", "..", "../x.png", "../../x.png", "b.png", "a.png/../b.png"])
def test_only_the_path_that_was_given_is_read(files, tmp_path, name):
    (tmp_path / "x.png").write_bytes(b"mine")
    kept = Path(files.uploads.write("photo", "a.png", b"1"))
    with pytest.raises(UserError, match="expected a photo that was just uploaded"):
        files.uploads.take("photo", f"{kept.parent}/{name}")
    assert files.uploads.take("photo", str(kept)) == b"1"
    assert (tmp_path / "x.png").read_bytes() == b"mine"


def test_a_link_in_place_of_an_upload_is_not_followed(files, tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "a.png").write_bytes(b"mine")
    kept = Path(files.uploads.write("photo", "a.png", b"1"))
    kept.unlink()
    kept.symlink_to(tmp_path / "x" / "a.png")
    with pytest.raises(UserError, match="replaced by a link"):
        files.uploads.take("photo", str(kept))
    kept = Path(files.uploads.write("photo", "a.png", b"1"))
    kept.parent.rename(files.root / "moved")
    kept.parent.symlink_to(tmp_path / "x")
    with pytest.raises(UserError, match="replaced by a link"):
        files.uploads.take("photo", str(kept))
    assert (tmp_path / "x" / "a.png").read_bytes() == b"mine"


def test_of_uploads_that_no_page_reads_the_oldest_go(tmp_path):
    uploads = Folder(tmp_path / "uploads", 2)
    first, second, third = (uploads.write("photo", f"{i}.png", b"") for i in range(3))
    with pytest.raises(UserError, match="load it again"):
        uploads.take("photo", first)
    assert (uploads.take("photo", second), uploads.take("photo", third)) == (b"", b"")


def test_of_a_kind_a_page_keeps_the_last(files):
    page = files.page("me")
    other = page.write("mask", "mask.jpg", b"")
    shown = [page.write("parse", "parse.jpg", b"%d" % i) for i in range(6)]
    assert [Path(file).exists() for file in shown] == [False] * 2 + [True] * 4
    assert Path(other).exists()


def test_a_page_that_was_closed_writes_nothing(files):
    page, other = files.page("me"), files.page("you")
    page.write("mask", "mask.jpg", b"")
    kept, waiting = Path(other.write("mask", "mask.jpg", b"")), Path(files.uploads.write("photo", "a.png", b""))
    files.close_page("me")
    with pytest.raises(StoppedError):
        page.write("mask", "mask.jpg", b"")
    assert (kept.exists(), waiting.exists()) == (True, True)
    files.close_page("you")
    files.close_page("never came")
    assert list(files.root.iterdir()) == []
    assert files.uploads.take("photo", files.uploads.write("photo", "a.png", b"1")) == b"1"


def test_nothing_is_written_after_the_end(files):
    page = files.page("me")
    files.close()
    for folder in (page, files.uploads):
        with pytest.raises(StoppedError):
            folder.write("mask", "mask.jpg", b"")
    with pytest.raises(FileNotFoundError):
        files.page("new").write("mask", "mask.jpg", b"")
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

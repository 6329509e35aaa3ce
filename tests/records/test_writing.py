"""A write is whole or absent, and never fails in silence."""

import errno
import os

import pytest

from semfacediff.errors import UserError
from semfacediff.records.writing import write_bytes, write_errors, write_text


def test_writes_replaces_and_makes_folders(tmp_path):
    file = tmp_path / "a" / "b" / "c.txt"
    write_text(file, "ä1")
    assert file.read_bytes() == "ä1".encode()
    write_bytes(file, b"2")
    assert file.read_bytes() == b"2"
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_full_disk_keeps_the_old_content_and_leaves_no_debris(tmp_path, monkeypatch, step):
    file = tmp_path / "x.csv"
    write_text(file, "old")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, step, full)
    with pytest.raises(UserError, match=r"cannot write .*x\.csv \(No space left on device\); free the space"):
        write_text(file, "new")
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_interruption_keeps_the_old_content(tmp_path, monkeypatch):
    file = tmp_path / "x.csv"
    write_text(file, "old")

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_text(file, "new")
    assert file.read_text() == "old"


def test_a_folder_in_the_way(tmp_path):
    (tmp_path / "x.csv").mkdir()
    with pytest.raises(UserError, match=r"cannot write .*x\.csv \("):
        write_text(tmp_path / "x.csv", "new")


def test_a_file_where_a_folder_should_be(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(UserError, match=r"cannot write .*run/x\.csv \("):
        write_text(tmp_path / "run" / "x.csv", "new")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(UserError, match=r"Permission denied\); free the space or the permission"):
            write_text(tmp_path / "x.csv", "new")
    finally:
        tmp_path.chmod(0o700)


def test_other_errors_pass(tmp_path):
    with pytest.raises(ZeroDivisionError), write_errors(tmp_path):
        _ = 1 / 0

"""Counts are made once for the same data, and anew for any other or where the file is not whole."""

import pytest
import torch

from semfacediff.data.counts import cached_counts


@pytest.fixture
def counting():
    """``count()`` and how often it was called."""
    calls = []

    def count():
        calls.append(1)
        return torch.tensor([2**40, 0, len(calls)])

    return count, calls


def test_the_same_data_are_counted_once(tmp_path, counting):
    count, calls = counting
    first = cached_counts(tmp_path / "new" / "folder", "data:40", count)
    again = cached_counts(tmp_path / "new" / "folder", "data:40", count)
    assert first.tolist() == again.tolist() == [2**40, 0, 1]
    assert again.dtype == torch.int64
    assert len(calls) == 1


def test_other_data_are_counted_anew_and_beside(tmp_path, counting):
    count, calls = counting
    values = [cached_counts(tmp_path, key, count).tolist()[2] for key in ("a", "b", "a", "b")]
    assert values == [1, 2, 1, 2]
    assert len(list(tmp_path.iterdir())) == len(calls) == 2


@pytest.mark.parametrize("content", ["", '{"key": "a", "pix', '{"key": "other", "pixels": [7]}', "[]", '{"key": "a"}'])
def test_a_file_that_is_damaged_or_of_other_data_is_made_anew(tmp_path, counting, content):
    count, calls = counting
    cached_counts(tmp_path, "a", count)
    (file,) = tmp_path.iterdir()
    file.write_text(content)
    assert cached_counts(tmp_path, "a", count).tolist() == [2**40, 0, 2]
    assert cached_counts(tmp_path, "a", count).tolist() == [2**40, 0, 2]
    assert len(calls) == 2


def test_counting_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError):
        cached_counts(tmp_path, "a", lambda: 1 // 0)
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_named_and_the_counts_are_good(tmp_path, counting, capsys):
    (tmp_path / "cache").write_text("a file")
    assert cached_counts(tmp_path / "cache", "a", counting[0]).tolist() == [2**40, 0, 1]
    assert "pixel counts are not kept for the next run: cannot write" in capsys.readouterr().err
    assert (tmp_path / "cache").read_text() == "a file"

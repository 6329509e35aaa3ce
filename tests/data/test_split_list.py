"""A split that is a list: ``split.txt`` beside the data."""

import pytest

from semfacediff.data.splits import SplitRule, read_split_list
from semfacediff.errors import UserError


def test_ids_are_looked_up(tmp_path):
    (tmp_path / "split.txt").write_text("7 train\nanna maria val\n\n8 test\n")
    rule = SplitRule("file", listed=read_split_list(tmp_path))
    assert [rule.part(i, 0) for i in ("7", "anna maria", "8")] == ["train", "val", "test"]
    with pytest.raises(UserError, match=r"^split.txt: no line for '9'; add one, or set data.split=all$"):
        rule.part("9", 0)


def test_it_needs_files():
    with pytest.raises(UserError, match=r"^data.split_rule.by=file needs data in files; use by=id or by=index here$"):
        SplitRule("file").part("1", 0)


@pytest.mark.parametrize("line", ["7", "7 dev", "train"])
def test_another_kind_of_line(tmp_path, line):
    (tmp_path / "split.txt").write_text(f"6 val\n{line}\n")
    with pytest.raises(UserError, match=rf"split.txt, line 2: expected '<id> train\|val\|test', got '{line}'$"):
        read_split_list(tmp_path)


def test_no_list(tmp_path):
    with pytest.raises(UserError, match=r"^data.split_rule.by=file: expected .*split.txt with lines '<id> train\|val"):
        read_split_list(tmp_path)

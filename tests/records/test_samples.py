"""The per-sample file: what a kill, a full disk or a hand may do to it."""

import errno
import json
import os
import tracemalloc

import numpy as np
import pandas as pd
import pytest

from semfacediff.errors import UserError
from semfacediff.records.samples import ERROR, OK, SampleLog, refuse_changed_inputs, table_of, write_csv, write_parquet

KEY = ("sample_id", "attribute")


def row(sample_id, attribute="hair", status=OK, **more):
    return {"sample_id": sample_id, "attribute": attribute, "status": status, **more}


def log_with(file, *rows):
    log = SampleLog(file, KEY)
    for r in rows:
        log.append(r)
    log.close()
    return log


@pytest.fixture
def file(tmp_path):
    return tmp_path / "samples.jsonl"


def test_every_row_is_on_disk_as_it_is_made(file):
    log = SampleLog(file, KEY)
    for k, r in enumerate([row("a", ssim=0.1 + 0.2), row("ä", "lips", note=None)], 1):
        log.append(r)
        lines = file.read_text().splitlines()
        assert len(lines) == k
        assert json.loads(lines[-1]) == r


def test_opened_again_it_goes_on_where_it_stopped(file):
    rows = [row("a", ssim=1 / 3, seed=2**62 + 1), row("b")]
    log_with(file, *rows)
    before = file.read_bytes()
    log = log_with(file)
    assert log.rows == rows
    assert log.done == {("a", "hair"), ("b", "hair")}
    assert file.read_bytes() == before


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_a_last_line_cut_by_a_kill_is_made_again(file, cut):
    log_with(file, row("a"), row("b"))
    whole = file.read_bytes()
    file.write_bytes(whole[:-cut])
    assert log_with(file).done == {("a", "hair")}
    log_with(file, row("b"))
    assert file.read_bytes() == whole


def test_failed_samples_are_tried_again(file):
    log_with(file, row("a", status=ERROR, error="x"), row("b"))
    assert log_with(file).done == {("b", "hair")}
    assert len(file.read_text().splitlines()) == 1


@pytest.mark.parametrize(
    "line", ["garbage", "{", "{}", "[]", "3", '{"sample_id": "a", "attribute": "hair"}', '{"status": "ok"}', ""]
)
def test_a_file_changed_by_hand_is_refused(file, line):
    log_with(file, row("a"), row("b"))
    first, second = file.read_text().splitlines()
    damaged = f"{first}\n{line}\n{second}\n"
    file.write_text(damaged)
    with pytest.raises(UserError, match=r"samples\.jsonl: line 2 is no row of a run.*start in a new folder"):
        SampleLog(file, KEY)
    assert file.read_text() == damaged


def test_bytes_that_are_no_text_are_refused(file):
    file.write_bytes(b"\xff\xfe\n")
    with pytest.raises(UserError, match="line 1 is no row of a run"):
        SampleLog(file, KEY)


def test_two_rows_of_one_sample_are_refused(file):
    file.write_text(2 * (json.dumps(row("a")) + "\n"))
    with pytest.raises(UserError, match="a sample has two rows"):
        SampleLog(file, KEY)


def test_a_row_of_a_sample_the_run_does_not_have_is_refused(file):
    log = log_with(file, row("a"), row("stranger"))
    with pytest.raises(UserError, match=r"the run has no sample \('stranger', 'hair'\)"):
        log.finish([("a", "hair")])


@pytest.mark.parametrize("fault", ["short", "raised"])
def test_full_disk_ends_the_run_and_loses_nothing(file, monkeypatch, fault):
    log = SampleLog(file, KEY)
    log.append(row("a"))

    class Full:
        def __init__(self, handle):
            self.handle = handle

        def write(self, data):
            if fault == "raised":
                raise OSError(errno.ENOSPC, "No space left on device")
            return self.handle.write(data[: len(data) // 2])

        def fileno(self):
            return self.handle.fileno()

    log._handle = Full(log._handle)
    with pytest.raises(UserError, match=r"cannot write .*samples\.jsonl \(.*[nN]o space left"):
        log.append(row("b"))
    assert log_with(file).done == {("a", "hair")}


def test_failing_sync_is_not_swallowed(file, monkeypatch):
    log = SampleLog(file, KEY)

    def broken(_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(UserError, match="Input/output error"):
        log.append(row("a"))


def test_finished_file_has_the_given_order_whatever_order_rows_were_made_in(file):
    keys = [("a", "hair"), ("b", "hair"), ("a", "lips"), ("b", "lips")]
    log = log_with(file, *(row(*keys[i], x=i) for i in (2, 0, 3, 1)))
    assert list(log.finish(keys)["x"]) == [0, 1, 2, 3]
    assert [json.loads(line)["x"] for line in file.read_text().splitlines()] == [0, 1, 2, 3]


def test_what_was_appended_is_not_kept_in_memory(file, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: None)
    log = SampleLog(file, KEY)
    tracemalloc.start()
    try:
        for i in range(1000):
            log.append(row(f"{i:06}", **{f"score_{k}": i / (k + 1) for k in range(50)}))
        kept = tracemalloc.get_traced_memory()[0] / 1000
    finally:
        tracemalloc.stop()
    assert kept < 500, "bytes a row, of which the file has 1,400"
    table = log.finish([(f"{i:06}", "hair") for i in range(1000)])
    assert table.shape == (1000, 53)


def test_the_table_is_that_of_all_rows_at_once():
    rows = [
        row("a", n=1, x=None, flag=True, big=2**62 + 1),
        row("b", n=None, x=0.5, flag=None, big=2, late="x"),
        row("c", n=3, x=None, flag=False, big=3, counts=[1, 2], none=None),
    ]
    pd.testing.assert_frame_equal(table_of(iter(rows)), pd.DataFrame(rows))
    assert table_of([]).empty


def test_rows_made_from_other_inputs_are_made_again(file):
    log_with(file, row("a", x=1), row("b", x=2))
    log = SampleLog(file, KEY, lambda r: r["x"] == 2)
    assert [r["sample_id"] for r in log.rows] == ["b"]
    log.close()


def test_finished_run_whose_inputs_changed_is_refused(file):
    log_with(file, row("a", x=1), row("b", x=2))
    refuse_changed_inputs(file, KEY, lambda r: True)
    with pytest.raises(UserError, match=r"is finished, but the precomputed files of 1 of its rows \(first a/hair\)"):
        refuse_changed_inputs(file, KEY, lambda r: r["x"] == 2)


def test_tables_on_disk_keep_numbers_and_missing_values(tmp_path):
    table = pd.DataFrame({"a": ["x", "y"], "v": [0.1234567890123, np.nan], "n": [2**62 + 1, 2]})
    write_parquet(table, tmp_path / "t.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "t.parquet"), table)
    write_csv(table, tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text() == f"a,v,n\nx,0.123456789,{2**62 + 1}\ny,,2\n"


@pytest.mark.parametrize("write", [write_parquet, write_csv])
def test_tables_that_cannot_be_written_are_an_error(tmp_path, write):
    (tmp_path / "t").mkdir()
    with pytest.raises(UserError, match=r"cannot write .*t \("):
        write(pd.DataFrame({"a": [1]}), tmp_path / "t")

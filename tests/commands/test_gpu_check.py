"""``semfacediff gpu-check``: rehearsed on the CPU; what fails it, and what it writes."""

import json

import pytest
import torch

from semfacediff.cli import main
from semfacediff.commands.gpu_check import checks as package
from semfacediff.commands.gpu_check import several
from semfacediff.commands.gpu_check.checks import CHECKS, gpu_check
from semfacediff.commands.gpu_check.rows import FAIL, PASS, SKIPPED, TOY, Row, Taken, judged, timed
from semfacediff.errors import UserError

CPU = torch.device("cpu")


def rows_of(folder):
    return json.loads((folder / "gpu_check.json").read_text())["rows"]


@pytest.mark.slow
def test_a_part_of_the_chain_is_rehearsed(tmp_path, capsys):
    assert main(["gpu-check", "--toy", "--out", str(tmp_path), "--only", "parser"]) == 0, capsys.readouterr().out
    rows, said = rows_of(tmp_path), capsys.readouterr().out
    assert {row["status"] for row in rows} == {PASS}
    assert all(row["rate"] > 0 and row["ratio"] > 0 and row["peak_mib"] > 0 for row in rows)
    assert "training step, segformer_b0" in said


@pytest.mark.slow
def test_the_rehearsal_runs_the_chain(tmp_path, tiny_sdxl, capsys):
    (tmp_path / "sdxl_inpaint").symlink_to(tiny_sdxl / "sdxl_inpaint")
    words = ["gpu-check", "--toy", "--out", str(tmp_path), "--only", "parser", "loader", "metrics", "sca_dm", "sdxl"]
    assert main(words) == 0, capsys.readouterr().out
    rows, said = rows_of(tmp_path), capsys.readouterr().out
    assert len(rows) == 8
    assert {row["status"] for row in rows} == {PASS}
    assert all(row["rate"] > 0 and row["ratio"] > 0 and row["peak_mib"] > 0 for row in rows)
    for name in ("training step, segformer_b0", "loading", "LPIPS", "CLIP", "SCA-DM", "runtime=low_memory"):
        assert name in said
    facts = json.loads((tmp_path / "gpu_check.json").read_text())
    assert (facts["device"], facts["sizes"]["bounded"]) == ("cpu", False)
    assert {"torch", "diffusers"} <= facts["packages"].keys()


@pytest.mark.slow
def test_the_rest_of_the_rehearsal(tmp_path):
    assert gpu_check(tmp_path, toy=True, only=("inception", "several")) == 0
    assert [row["status"] for row in rows_of(tmp_path)] == [PASS, SKIPPED]
    (row,) = several.several(TOY, CPU, tmp_path, n=2)
    assert row.status == PASS, row.note


def test_without_an_accelerator_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UserError, match="needs an accelerator, and this machine has none; --toy runs it on the CPU"):
        gpu_check(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_what_one_check_raises_does_not_stop_the_others(tmp_path, monkeypatch, capsys):
    def broken(sizes, on, folder):
        yield Row("the first half", PASS)
        raise RuntimeError("no kernel image\nmore")

    def sound(sizes, on, folder):
        yield Row("the other", PASS)

    monkeypatch.setattr(package, "CHECKS", {"broken": broken, "sound": sound})
    assert gpu_check(tmp_path, toy=True) == 1
    found = [(row["name"], row["status"], row["note"]) for row in rows_of(tmp_path)]
    assert found == [
        ("the first half", PASS, ""),
        ("broken", FAIL, "RuntimeError: no kernel image"),
        ("the other", PASS, ""),
    ]
    assert "2 of 3 without failure" in capsys.readouterr().out


def test_a_row_fails_by_a_fault_or_a_low_ratio():
    ours, plain = Taken(2.0, 100.0), Taken(1.0, 50.0)
    slow = judged("x", ours, plain, 4, [], 0.8)
    assert (slow.status, slow.rate, slow.ratio, slow.peak_mib) == (FAIL, 2.0, 0.5, 100.0)
    assert slow.note == "expected at least 0.8 times the plain implementation's rate, got 0.50"
    assert judged("x", ours, plain, 4, [], 0.5).status == PASS
    assert judged("x", ours, plain, 4, [], None).status == PASS
    wrong = judged("x", ours, None, 4, ["a fault"], 0.8, "batch 1")
    assert (wrong.status, wrong.ratio, wrong.note) == (FAIL, None, "a fault; batch 1")


def test_the_clock_leaves_out_the_first_call(monkeypatch):
    now, calls = iter([10.0, 16.0]), []
    monkeypatch.setattr("semfacediff.commands.gpu_check.rows.time.perf_counter", lambda: next(now))
    taken = timed(lambda: calls.append(1), CPU, repeats=3)
    assert (len(calls), taken.seconds) == (4, 2.0)


def test_every_check_can_be_asked_for(capsys):
    with pytest.raises(SystemExit):
        main(["gpu-check", "--help"])
    said = capsys.readouterr().out
    assert all(name in said for name in CHECKS)

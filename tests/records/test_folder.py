"""A run's folder: begun, continued, held by one process, refused where it belongs to something else."""

import json
import os
import subprocess
import sys

import pytest

from semfacediff.errors import UserError
from semfacediff.records.folder import DONE, INCOMPLETE, SCHEMA_VERSION, RunFolder, read_run

IDENTITY = {"config": {"seed": 1, "region": {"dilate_px": 3.0}}, "inputs": {"data": "abc"}}
HEADER = {"task": "editing", "not_comparable": []}


def opened(path, identity=IDENTITY, text="seed: 1\n"):
    return RunFolder(path, identity, HEADER, text)


def contents(path):
    return {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in path.rglob("*") if p.is_file()}


def test_a_new_run_is_on_disk_before_any_work(tmp_path):
    with opened(tmp_path / "runs" / "r1") as record:
        facts = read_run(record.path)
        assert facts == json.loads((record.path / "run.json").read_text())
        assert (facts["schema_version"], facts["run_id"], facts["status"]) == (SCHEMA_VERSION, "r1", "running")
        assert facts["identity"] == IDENTITY
        assert facts["task"] == "editing"
        assert (record.path / "config.yaml").read_text() == "seed: 1\n"
        assert not record.finished
    assert sorted(p.name for p in record.path.iterdir()) == ["config.yaml", "run.json"]


def test_continued_run_keeps_its_beginning_and_adds_wall_time(tmp_path):
    with opened(tmp_path) as record:
        record.update(epochs_done=1)
        record.facts["wall_time_s"] = 100.0
        record.update(epochs_done=2)
    with opened(tmp_path, text="another text") as record:
        assert record.facts["epochs_done"] == 2
        record.close(INCOMPLETE, n=3)
    facts = read_run(tmp_path)
    assert (facts["status"], facts["n"]) == ("incomplete", 3)
    assert 100 <= facts["wall_time_s"] < 105
    assert facts["started"] <= facts["finished"]
    assert (tmp_path / "config.yaml").read_text() == "seed: 1\n"


def test_finished_run_is_not_written_to(tmp_path):
    with opened(tmp_path) as record:
        record.close(DONE)
    before = contents(tmp_path)
    with opened(tmp_path) as record:
        assert record.finished
    assert contents(tmp_path) == before


def test_another_configuration_is_refused_with_every_difference(tmp_path):
    with opened(tmp_path):
        pass
    other = {"config": {"seed": 2, "region": {"dilate_px": 5.0}}, "inputs": {"data": "abc"}}
    before = contents(tmp_path)
    with pytest.raises(UserError) as e:
        opened(tmp_path, other)
    assert "config.region.dilate_px was 3.0, now 5.0" in str(e.value)
    assert "config.seed was 1, now 2" in str(e.value)
    assert "set hydra.run.dir=DIR" in str(e.value)
    assert contents(tmp_path) == before
    with opened(tmp_path) as record:
        assert not record.finished, "a refusal leaves no lock behind"


def test_identity_survives_the_way_through_json(tmp_path):
    identity = {"config": {"attributes": ("hair", "lips")}, "inputs": {}}
    with opened(tmp_path, identity):
        pass
    with opened(tmp_path, identity) as record:
        assert record.facts["identity"]["config"]["attributes"] == ["hair", "lips"]


def test_killed_between_the_first_two_writes_it_still_begins(tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(RunFolder, "_taken", killed)
    with pytest.raises(KeyboardInterrupt):
        opened(tmp_path)
    monkeypatch.undo()
    with opened(tmp_path) as record:
        assert not record.finished
        assert (tmp_path / "config.yaml").read_text() == "seed: 1\n"


@pytest.mark.parametrize("name", ["samples.jsonl", "summary.csv", "config.yaml"])
def test_a_folder_with_results_of_something_else_is_refused(tmp_path, name):
    (tmp_path / name).write_text("precious")
    with pytest.raises(UserError, match=rf"holds {name} but no run\.json; set hydra\.run\.dir=DIR"):
        opened(tmp_path)
    assert (tmp_path / name).read_text() == "precious"


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"schema_version": 1}', '"x"'])
def test_damaged_record_is_refused(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(UserError, match=r"run\.json: not a run's record"):
        opened(tmp_path)


def test_no_record(tmp_path):
    with pytest.raises(UserError, match=r"run\.json: not a run's record \(FileNotFoundError\)"):
        read_run(tmp_path)


def test_another_schema_version_is_refused(tmp_path):
    (tmp_path / "run.json").write_text('{"schema_version": 99, "status": "done", "identity": {}}')
    with pytest.raises(UserError, match=r"schema version 99, this program reads 1"):
        read_run(tmp_path)


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "run").write_text("precious")
    with pytest.raises(UserError, match=r"cannot write .*run \(File exists\)"):
        opened(tmp_path / "run")
    assert (tmp_path / "run").read_text() == "precious"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(UserError, match=r"cannot write .*Permission denied"):
            opened(tmp_path / "run")
        with pytest.raises(UserError, match=r"cannot write .*Permission denied"):
            opened(tmp_path)
    finally:
        tmp_path.chmod(0o700)


HOLD = """
import sys
from pathlib import Path
from semfacediff.records.folder import RunFolder
with RunFolder(Path(sys.argv[1]), {"config": {}}, {}, ""):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_is_told_who_holds_the_folder(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(UserError, match=rf"process {holder.pid} is working in .*; wait for it, or set hydra\.run\.dir"):
        opened(tmp_path, {"config": {}})
    holder.kill()
    holder.communicate()
    with opened(tmp_path, {"config": {}}) as record:
        assert not record.finished, "a killed process holds nothing"

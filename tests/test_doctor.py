"""``semfacediff doctor``: quick, complete, and it touches nothing."""

import json
import socket
import subprocess
import sys
import time

import pytest
import torch

from semfacediff.cli import main
from semfacediff.metrics.weights import PUBLIC
from semfacediff.runs import doctor


@pytest.fixture(autouse=True)
def bare(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))

    def no_network(*_, **__):
        pytest.fail("went to the network")

    monkeypatch.setattr(socket, "socket", no_network)
    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)


def test_a_bare_machine_is_told_what_is_missing_and_how_to_get_it(tmp_path, capsys):
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    for public in PUBLIC:
        for part in (public.file, f"{public.size:,} bytes", public.sha256_prefix[:8], public.url, public.key):
            assert part in text
    assert "cpu: " in text
    assert "metrics=full: data, a parser, an editor; missing weights: lpips_alexnet, inception, clip" in text
    assert "make demo: nothing" in text
    assert not (tmp_path / "hub").exists()
    assert not (tmp_path / "home").exists()


def test_json_has_the_same_facts(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SEMFACEDIFF_DATA", str(tmp_path))
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found["weights"]) == {"lpips_alexnet", "inception", "clip"}
    assert {w["state"] for w in found["weights"].values()} == {"missing"}
    assert found["data"] == {"SEMFACEDIFF_DATA": str(tmp_path), "there": True}
    assert found["devices"][-1]["device"] == "cpu"
    assert found["packages"]["torch"]
    assert found["commands"]["evaluate.py metrics=no_weights"]["missing_weights"] == []


def test_files_of_the_right_name_are_checked_by_digest(tmp_path, monkeypatch, capsys):
    for public in PUBLIC:
        (tmp_path / public.file).write_bytes(b"something else")
    found = doctor.examined(str(tmp_path))
    assert {w["state"] for w in found["weights"].values()} == {"another file"}
    assert found["commands"]["evaluate.py metrics=full"]["missing_weights"] == []
    assert found["commands"]["evaluate.py metrics=full"]["other_weights"] == ["lpips_alexnet", "inception", "clip"]
    assert main(["doctor", "--root", str(tmp_path)]) == 0
    assert capsys.readouterr().out.count("not the public one") == 3
    digests = {public.file: public.sha256_prefix for public in PUBLIC}
    monkeypatch.setattr(doctor, "file_digest", lambda path: digests[path.name])
    assert {w["state"] for w in doctor.examined(str(tmp_path))["weights"].values()} == {"there"}


def test_huge_files_are_not_read(tmp_path, monkeypatch):
    (tmp_path / PUBLIC[0].file).write_bytes(b"0123456789")
    monkeypatch.setattr(doctor, "_HASHED_BYTES", 9)
    monkeypatch.setattr(doctor, "file_digest", lambda _: pytest.fail("read"))
    assert doctor.examined(str(tmp_path))["weights"]["lpips_alexnet"]["state"] == "unread"


def test_the_answer_comes_within_six_seconds_of_processor_time(tmp_path):
    """As a user starts it; processor time, for a loaded machine is slow, not wrong."""
    code = (
        "import sys, time; from semfacediff.cli import main; main(['doctor', '--json']); "
        "print(time.process_time(), 'open_clip' in sys.modules, 'lpips' in sys.modules, file=sys.stderr)"
    )
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    seconds, *heavy = done.stderr.split()
    assert json.loads(done.stdout)["weights"]
    assert float(seconds) < 6
    assert heavy == ["False", "False"], f"{time.monotonic() - start:.1f} s"

"""Real commands where machines differ: cores, quota, accelerators, locale, time zone, hash seed, paths, rights, home.

What does not exclude another is put together, for every command costs seconds; ``--slow`` has each by itself.
"""

import ctypes
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from semfacediff import config
from semfacediff.engine.devices import choose_device
from semfacediff.errors import UserError
from semfacediff.parsing import ModelParser, load_parser
from semfacediff.parsing.any_photo import parse_any

ODD = """Möller's "new" photos"""
SMALL = (
    "data=toy data.n=2 data.size=64 parser=ground_truth editor=recolor attributes=[hair] metrics=no_weights strips=0"
).split()

STARTED = """
import locale, os, pathlib, runpy, sys
point = locale.setlocale(locale.LC_ALL, "") and locale.localeconv()["decimal_point"]
assert point == os.environ.pop("EXPECTED_POINT", point)
if root := os.environ.pop("QUOTA_ROOT", None):
    from semfacediff import threads
    os.cpu_count, os.sched_getaffinity = (lambda: 64), (lambda _: set(range(64)))
    threads.allowed_cores.__defaults__ = (pathlib.Path(root),)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""Starts a script as a program that follows the user's locale does, perhaps on a machine of 64 cores."""


@pytest.fixture(scope="module")
def comma(tmp_path_factory) -> dict[str, str]:
    """Environment of a locale with decimal commas; the user's own where none can be made."""
    folder = tmp_path_factory.mktemp("locales")
    make = ["localedef", "-i", "de_DE", "-f", "UTF-8", str(folder / "de_DE.UTF-8")]
    if shutil.which("localedef") is None or subprocess.run(make, capture_output=True).returncode:
        return {}
    return {"LOCPATH": str(folder), "LC_ALL": "de_DE.UTF-8", "EXPECTED_POINT": ","}


@pytest.fixture(scope="module")
def checkout(repository, tmp_path_factory) -> Path:
    """A checkout without a history, at an odd path, in which nothing can be written."""
    root = tmp_path_factory.mktemp("clone") / ODD
    root.mkdir()
    for name in ("src", "conf", "experiments"):
        shutil.copytree(repository / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(repository / "evaluate.py", root)
    folders = [root, *(p for p in root.rglob("*") if p.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    yield root
    for folder in folders:
        folder.chmod(0o755)


def small(machine_words: list[str]) -> None:
    """In the child: one core, and rights of files that bind root too (capability 1 is dropped: DAC_OVERRIDE)."""
    ctypes.CDLL(None).prctl(24, 1, 0, 0, 0)
    if "one core" in machine_words:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def started(script: Path, words: list[str], root: Path, cwd: Path, machine: list[str], **environment: str):
    """What a command did; ``machine``: ``one core``, ``quota`` (64 cores, two of them allowed), ``no home``."""
    known = {k: v for k, v in os.environ.items() if not k.endswith("NUM_THREADS") and k != "XDG_CACHE_HOME"}
    known |= {"PYTHONPATH": str(root / "src"), "HYDRA_FULL_ERROR": "1"} | environment
    if "no home" in machine:
        known.pop("HOME", None)
    if "quota" in machine:
        (cwd / "proc/self").mkdir(parents=True)
        (cwd / "sys/fs/cgroup").mkdir(parents=True)
        (cwd / "proc/self/cgroup").write_text("0::/\n")
        (cwd / "sys/fs/cgroup/cpu.max").write_text("200000 100000\n")
        known["QUOTA_ROOT"] = str(cwd)
    command = [sys.executable, "-c", STARTED, str(script), *words]
    return subprocess.run(
        command, cwd=cwd, env=known, capture_output=True, text=True, timeout=300, preexec_fn=lambda: small(machine)
    )


def evaluated(checkout: Path, cwd: Path, machine: list[str], **environment: str) -> Path:
    """The folder of a short run on drawn faces."""
    out = cwd / ODD / "run"
    quoted = str(out).replace("'", r"\'")
    words = [*SMALL, f"hydra.run.dir='{quoted}'"]
    done = started(checkout / "evaluate.py", words, checkout, cwd, machine, **environment)
    assert done.returncode == 0, done.stderr
    assert not list(checkout.rglob("__pycache__")), "it could write into the checkout"
    return out


def assert_same_numbers(run: Path, other: Path) -> None:
    tables = [pd.read_csv(folder / "summary.csv") for folder in (run, other)]
    speed = [c for c in tables[0] if "latency" in c or "ms" in c.split("_")]
    pd.testing.assert_frame_equal(*(t.drop(columns=speed) for t in tables), rtol=1e-5, atol=1e-5)


def assert_parsed(checkout: Path, checkpoint: Path, face, encode, cwd: Path, machine: list[str], **environment: str):
    """A label map from the command line is the one that the library makes here, but for near ties."""
    photos = cwd / ODD
    photos.mkdir()
    (photos / "größe 1.png").write_bytes(encode(face.photo))
    words = ["parse", str(photos), "--out", str(cwd / f"{ODD} parsed"), "--checkpoint", str(checkpoint), "--overlay"]
    done = started(checkout / "src/semfacediff/cli.py", words, checkout, cwd, machine, **environment)
    assert (done.returncode, done.stderr.count("error")) == (0, 0), done.stderr
    made = np.asarray(Image.open(cwd / f"{ODD} parsed" / "größe 1.png"))
    expected = parse_any(ModelParser(*load_parser(checkpoint), torch.device("cpu")), face.photo).labels
    assert (made == expected).mean() >= 0.999


ELSEWHERE = {"TZ": "Pacific/Kiritimati", "PYTHONHASHSEED": "1", "CUDA_VISIBLE_DEVICES": ""}


@pytest.mark.skipif(sys.platform != "linux", reason="control groups and affinity are Linux's")
class TestMachines:
    @pytest.mark.slow
    def test_a_run_on_64_cores_with_a_quota_of_two(self, checkout, comma, tmp_path):
        run = evaluated(checkout, tmp_path, ["quota", "no home"], **ELSEWHERE, **comma)
        record = json.loads((run / "run.json").read_text())
        assert (record["status"], record["n"]) == ("done", 2)
        assert record["code"]["commit"] is None
        machine = record["hardware"]
        assert (machine["cpu_cores"], machine["allowed_cores"], machine["torch_threads"]) == (64, 2, 2)

    @pytest.mark.slow
    def test_a_photo_on_one_core(self, checkout, comma, tiny_checkpoint, toy_samples, encode, tmp_path):
        face, nowhere = toy_samples(1, 64)[0], {"HOME": str(tmp_path / "nobody"), "TZ": "America/St_Johns"}
        changed = ELSEWHERE | comma | nowhere | {"PYTHONHASHSEED": "77"}
        assert_parsed(checkout, tiny_checkpoint, face, encode, tmp_path, ["one core"], **changed)
        assert not (tmp_path / "nobody").exists()

    @pytest.mark.slow
    def test_numbers_are_those_of_every_other_machine(self, checkout, comma, tmp_path):
        places = [
            ([], {}),
            (["one core"], {}),
            (["quota"], {}),
            (["no home"], {}),
            ([], comma),
            ([], {"CUDA_VISIBLE_DEVICES": ""}),
            ([], {"TZ": "Pacific/Kiritimati"}),
            ([], {"PYTHONHASHSEED": "0"}),
            ([], {"PYTHONHASHSEED": "4242"}),
        ]
        runs = []
        for k, (machine, changed) in enumerate(places):
            (tmp_path / str(k)).mkdir()
            runs.append(evaluated(checkout, tmp_path / str(k), machine, **changed))
            assert_same_numbers(runs[-1], runs[0])


class TestDevices:
    """``runtime.device`` that is not there: one sentence."""

    @pytest.mark.parametrize("name", ["cuda", "mps"])
    def test_one_that_is_missing(self, name, monkeypatch):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
        with pytest.raises(UserError, match=f"^runtime.device={name} .*runtime.device=auto"):
            choose_device(config.DeviceConfig(device=name))

    def test_a_seventh_of_four(self, monkeypatch, compose):
        """Refused by the configuration or by the machine, whichever comes first."""
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
        with pytest.raises(UserError, match=r"runtime\.device.*cuda") as caught:
            choose_device(
                config.typed(compose("evaluate", "data=toy", "runtime.device=cuda:7"), config.EditingEvaluation).runtime
            )
        assert "\n" not in str(caught.value)

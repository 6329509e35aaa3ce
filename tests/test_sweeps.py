"""Sweeps from the command line: repeated, extended, held, and through launchers."""

import json
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from semfacediff import config, tasks
from semfacediff.hydra_app import _folder_digest, composed
from semfacediff.records.folder import held
from semfacediff.records.ledger import finished_runs

REPOSITORY = Path(__file__).resolve().parents[1]
QUICK = (
    "data.count=2 data.size=64 parser=ground_truth metrics=no_weights attributes=[hair] runtime.workers=0 strips=0 "
    "runtime.device=cpu name=quick"
).split()
MARKED_UP = r"red $x^2$ \textbf{hair} <b>&amp;</b>; `id` $(ls) %s, no \"curls\""
"""As it is typed in Hydra's double quotes: only a double quote is escaped."""
READ = r'red $x^2$ \textbf{hair} <b>&amp;</b>; `id` $(ls) %s, no "curls"'


def sweep(*words, cwd):
    command = [sys.executable, str(REPOSITORY / "evaluate.py"), "-m", *QUICK, *words]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)


def contents(folder):
    return {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in folder.rglob("*") if file.is_file()}


def test_a_sweep_answers(tmp_path):
    words = ["composite=off,exact", "data.count=3", "metrics=full", "metrics.on_missing=skip", "weights.root=/nowhere"]
    done = sweep(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    cells, _, table = done.stdout.partition("\n\n# editing: quick\n")
    assert [line.partition(":")[0] for line in cells.splitlines()] == ["composite=off", "composite=exact"]
    assert re.search(r"composite=off: done, \d+ s: \S+/quick-\w{8}\n", cells)
    assert "| attribute | composite |" in table
    assert done.stdout.count("lpips") == 1, "of absent weights one sentence"
    assert "not measured: lpips, clip, fid, kid" in table


@pytest.mark.slow
def test_an_extended_sweep_runs_what_is_missing_and_tries_failed_cells_again(tmp_path):
    ledger = tmp_path / "outputs" / "editing" / "quick"
    first = sweep("composite=off", "prompts.hair=red hair", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    before = {path: contents(path) for _, path in finished_runs(ledger)}
    assert len(before) == 1
    words = ["composite=off", f'prompts.hair=red hair,"{MARKED_UP}",""', "runtime.batch_size=1"]
    second = sweep(*words, cwd=tmp_path)
    assert second.returncode == 2
    assert second.stderr.count("error: the prompt for 'hair' is empty") == 1
    assert len(finished_runs(ledger)) == 2
    assert {path: contents(path) for path in before} == before, "finished cells are left as they are"
    cells = json.loads((ledger / "sweep.json").read_text())["cells"].values()
    assert sorted(c["status"] for c in cells) == ["done", "done", "refused"]
    marked = [path for _, path in finished_runs(ledger) if path not in before]
    prompts = [pd.read_parquet(path / "samples.parquet")["prompt"].unique().tolist() for path in marked]
    assert prompts == [[READ]]
    # The recorded command, read by a shell and by Hydra, asks for the same.
    words = shlex.split(json.loads((marked[0] / "run.json").read_text())["command"])[2:]
    assert composed("evaluate", words, REPOSITORY).prompts.hair == READ


KILLED = """
import os, runpy, signal, sys
from semfacediff.records.samples import SampleLog

inner, left = SampleLog.append, [4]

def append(log, row):
    inner(log, row)
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)

SampleLog.append = append
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.slow
def test_a_killed_sweep_runs_only_what_is_missing(tmp_path):
    """SIGKILL of the whole process within the second of two cells, after the first of its three samples."""
    words, ledger = ["composite=off,blend", "data.count=3"], tmp_path / "outputs" / "editing" / "quick"
    argv = [str(REPOSITORY / "evaluate.py"), "-m", *QUICK, *words]
    code = f"import sys; sys.argv = {argv!r}\n{KILLED}"
    killed = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    cells = json.loads((ledger / "sweep.json").read_text())["cells"]
    assert sorted(cell["status"] for cell in cells.values()) == ["done", "running"]
    ((_, finished),) = finished_runs(ledger)
    (broken,) = (ledger / name for name, cell in cells.items() if cell["status"] == "running")
    before, kept = contents(finished), (broken / "samples.jsonl").read_text()
    assert kept.count("\n") == 1
    again = sweep(*words, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert contents(finished) == before, "nothing of a finished cell is made anew"
    assert (broken / "samples.jsonl").read_text().startswith(kept), "nor a sample that was there"
    index = json.loads((ledger / "sweep.json").read_text())["cells"]
    assert [(cell["status"], cell["exit"]) for cell in index.values()] == [("done", 0)] * 2
    overrides = shlex.split(json.loads((broken / "run.json").read_text())["command"])[2:]
    unbroken = config.typed(composed("evaluate", overrides, REPOSITORY), config.EditingEvaluation)
    assert tasks.start(unbroken, tmp_path / "unbroken") == 0
    rows = [pd.read_parquet(folder / "samples.parquet") for folder in (broken, tmp_path / "unbroken")]
    timed = ["latency_s", "peak_memory_mib"]
    pd.testing.assert_frame_equal(*(table.drop(columns=timed) for table in rows), check_exact=True)


def test_a_second_process_is_told_who_holds_the_sweep(tmp_path):
    with held(tmp_path / "outputs" / "editing" / "quick", "set hydra.sweep.dir=DIR"):
        done = sweep("composite=off", cwd=tmp_path)
    assert done.returncode == 2
    assert "is working in" in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["submitit_local", "joblib"])
def test_cells_of_a_launcher_lie_where_those_of_this_process_would(tmp_path, launcher):
    done = sweep("composite=off", "prompts.hair=red hair,''", f"hydra/launcher={launcher}", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    ((overrides, made),) = finished_runs(tmp_path / "outputs" / "editing" / "quick")
    assert overrides == [*QUICK, "composite=off", r"prompts.hair=red\ hair"]
    assert made.name == f"quick-{_folder_digest(_root_=composed('evaluate', overrides, REPOSITORY))}"
    if launcher == "submitit_local":  # joblib's processes print their tables themselves
        assert done.stderr == ""
        first, *lines = done.stdout.splitlines()
        assert first.startswith("2 cells submitted, job ")
        assert sorted(line.partition(" ")[0] for line in lines) == ["1/2", "2/2"]
        assert sum(line.endswith("prompts.hair=red\\ hair: done") for line in lines) == 1
        assert sum("prompts.hair='': refused (error: the prompt for 'hair' is empty" in line for line in lines) == 1

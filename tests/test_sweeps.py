"""Sweeps from the command line: repeated, extended, held, and through launchers."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from semfacediff.hydra_app import composed
from semfacediff.records.ledger import finished_runs, held

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


def test_a_second_process_is_told_who_holds_the_sweep(tmp_path):
    with held(tmp_path / "outputs" / "editing" / "quick"):
        done = sweep("composite=off", cwd=tmp_path)
    assert done.returncode == 2
    assert "holds the sweep in" in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


@pytest.mark.parametrize("launcher", ["submitit_local", "joblib"])
def test_cells_of_a_launcher_lie_where_those_of_this_process_would(tmp_path, launcher):
    pytest.importorskip(f"hydra_plugins.hydra_{launcher.split('_')[0]}_launcher", reason="the extra 'launchers'")
    done = sweep("composite=off,blend", f"hydra/launcher={launcher}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    ledger = tmp_path / "outputs" / "editing" / "quick"
    made = {path.name for _, path in finished_runs(ledger)}
    here = sweep("composite=off,blend", cwd=tmp_path)
    assert here.returncode == 0, here.stderr
    assert {path.name for _, path in finished_runs(ledger)} == made
    assert len(made) == 2

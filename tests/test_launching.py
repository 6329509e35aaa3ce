"""Launchers of a sweep: what is said without them, without Slurm, and of lost jobs. Slurm's commands are stubs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from submitit.slurm.slurm import SlurmJob

from semfacediff import hydra_app, launching

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Writes stubs of Slurm's commands, which alone are on the PATH."""
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setattr(SlurmJob, "watcher", SlurmJob.watcher)
    monkeypatch.setattr(SlurmJob, "_results_timeout_s", 0)
    monkeypatch.chdir(tmp_path)

    def write(**scripts):
        for name, text in scripts.items():
            (programs / name).write_text(f"#!/bin/sh\n{text}\n")
            (programs / name).chmod(0o755)

    return write


def sweep(monkeypatch, capsys, *words):
    """(exit code, stdout, stderr) of a sweep of two cells whose task never runs in this process."""
    monkeypatch.setattr(sys, "argv", ["evaluate.py", "-m", "name=quick", "composite=off,blend", *words])
    with pytest.raises(SystemExit) as left:
        hydra_app.run("evaluate", lambda cfg, folder: pytest.fail("the task ran here"), REPOSITORY)
    return (left.value.code, *capsys.readouterr())


def test_without_sbatch(slurm, monkeypatch, capsys):
    code, out, err = sweep(monkeypatch, capsys, "hydra/launcher=submitit_slurm")
    assert (code, out) == (2, "")
    assert err == (
        "error: hydra/launcher=submitit_slurm submits jobs with Slurm's sbatch, which is not on the PATH of this "
        "machine; run the command on a login node of the cluster, or set hydra/launcher=submitit_local\n"
    )


def test_an_unknown_launcher(slurm, monkeypatch, capsys):
    code, _, err = sweep(monkeypatch, capsys, "hydra/launcher=ray")
    assert code == 2
    assert err == "error: hydra/launcher=ray is unknown; choose basic, joblib, submitit_local or submitit_slurm\n"


def test_without_the_extra(tmp_path):
    hidden = "import runpy, sys; sys.modules['hydra_plugins'] = None; runpy.run_path(sys.argv[0], run_name='__main__')"
    argv = [str(REPOSITORY / "evaluate.py"), "-m", "composite=off,blend", "hydra/launcher=submitit_slurm"]
    code = f"import sys; sys.argv = {argv!r}; {hidden}"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == (
        "error: hydra/launcher=submitit_slurm needs the extra 'launchers': pip install 'semfacediff[launchers]'\n"
    )


def test_jobs_that_slurm_refuses(slurm, monkeypatch, capsys):
    slurm(srun="", sbatch="echo 'sbatch: error: Invalid job array specification' >&2; exit 1")
    code, out, err = sweep(monkeypatch, capsys, "hydra/launcher=submitit_slurm")
    assert (code, out) == (2, "")
    assert "the jobs cannot be submitted (sbatch: error: Invalid job array specification" in err
    assert "set hydra.sweeper.max_batch_size=N where the cluster limits the size of a job array" in err
    assert err.count("\n") == 1


@pytest.mark.slow
def test_lost_jobs_are_reported_without_accounting(slurm, monkeypatch, capsys):
    """squeue shows that one job was killed and does not know the other one any more; there is no sacct."""
    slurm(srun="", sbatch="echo Submitted batch job 7", squeue="echo '7_1|OUT_OF_MEMORY'")
    code, out, err = sweep(monkeypatch, capsys, "hydra/launcher=submitit_slurm")
    first, *lines = out.splitlines()
    assert code == 1
    assert err == ""
    assert first.startswith("2 cells submitted, job 7; logs in ")
    assert len(lines) == 2
    assert any("composite=off: crashed (job 7_0 is GONE; see " in line for line in lines)
    assert any("composite=blend: crashed (job 7_1 is OUT_OF_MEMORY; see " in line for line in lines)
    ledger = json.loads(Path("outputs/editing/quick/sweep.json").read_text())["cells"]
    assert {name: (c["status"], c["exit"]) for name, c in ledger.items()} == dict.fromkeys(ledger, ("crashed", None))
    assert sorted(c["overrides"][-1] for c in ledger.values()) == ["composite=blend", "composite=off"]


def test_states_of_the_queue():
    watcher = launching.QueueWatcher()
    for job in ("3_0", "3_1", "4", "5"):
        watcher.register_job(job)
    watcher._info_dict.update(watcher.read_info("3_0|RUNNING\n3_1|CANCELLED\n4|CONFIGURING\n"))
    ended = {job: watcher.is_done(job, "cache") for job in ("3_0", "3_1", "4", "5")}
    assert ended == {"3_0": False, "3_1": True, "4": False, "5": True}
    assert watcher.get_state("5", "cache") == "GONE"
    assert not launching.QueueWatcher().is_done("6", "cache"), "nothing is known before squeue was asked"

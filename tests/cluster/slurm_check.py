"""Sweeps, shards, lost jobs and training on a real Slurm of one node: python tests/cluster/slurm_check.py

Every number is compared with the same work in one process. Needs Debian's munge, slurmctld, slurmd and slurm-client and
the extra ``launchers``; writes to a temporary folder only. One line a check; exit code 1 if one failed. Two minutes.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
from safetensors.torch import load_file
from slurm_node import missing_programs, slurm_node

from semfacediff.records.ledger import read_index

ROOT = Path(__file__).resolve().parents[2]
QUICK = (
    "-m data.count=6 data.size=64 parser=ground_truth metrics=no_weights attributes=[hair] runtime.workers=0 strips=0 "
    "runtime.device=cpu"
).split()
LONG = ["data.count=60", "data.size=128"]  # seconds, so that a job can be ended within
TRAINING = (
    "data.count=16 data.size=64 data.split_rule.modulo=4 train.size=64 train.batch_size=4 train.epochs=2 "
    "runtime.workers=0 runtime.device=cpu parser=unet_lite loss=cross_entropy_dice loss.lovasz=0.5 "
    "optim.encoder_lr=1e-4 optim.decoder_lr=1e-4"
).split()
SLURM = ["hydra/launcher=submitit_slurm", "hydra.launcher.cpus_per_task=1"]
TIMED = ["latency_s", "peak_memory_mib"]


def command(script: str, *words: str) -> list[str]:
    return [sys.executable, str(ROOT / script), *words]


def run(*words: str, code: int = 0) -> str:
    """What a command printed, checked for its exit code."""
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert done.returncode == code, f"exit {done.returncode} instead of {code}:\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def cells(sweep: Path) -> dict[str, Path]:
    """Value of composite -> folder, from the ledger."""
    index = read_index(sweep)
    words = {k: w.partition("=")[2] for k, c in index.items() for w in c["overrides"] if w.startswith("composite=")}
    return {value: sweep / name for name, value in words.items()}


def begun(cell: Path) -> bool:
    """Whether a cell has a sample."""
    log = cell / "samples.jsonl"
    return log.exists() and log.stat().st_size > 0


def holder(cell: Path) -> int:
    """The process that works in a cell's folder."""
    return int((cell / ".holder").read_text().split()[0])


def same_numbers(a: Path, b: Path) -> int:
    """Numbers in the records of two runs, all of them equal; columns of time and memory excepted."""
    tables = [pd.read_parquet(folder / "samples.parquet").drop(columns=TIMED) for folder in (a, b)]
    pd.testing.assert_frame_equal(*tables, check_exact=True)
    summaries = [
        pd.read_csv(folder / "summary.csv").drop(columns="latency_s_median", errors="ignore") for folder in (a, b)
    ]
    pd.testing.assert_frame_equal(*summaries, check_exact=True)
    return sum(table.select_dtypes("number").size for table in (tables[0], summaries[0]))


def check_sweep(folder: Path) -> str:
    words = [*QUICK, "composite=off,blend", "region.dilate_px=0,3"]
    here, there = folder / "here", folder / "slurm"
    run(*command("evaluate.py", *words, f"hydra.sweep.dir={here}"))
    said = run(*command("evaluate.py", *words, f"hydra.sweep.dir={there}", *SLURM))
    lines = said.splitlines()
    assert len(lines) == 5, said
    assert all(line.endswith(": done") for line in lines[1:]), said
    names = sorted(f.parent.name for f in here.glob("*/run.json"))
    assert names == sorted(f.parent.name for f in there.glob("*/run.json"))
    return f"{len(names)} cells, {sum(same_numbers(here / n, there / n) for n in names)} numbers equal, one line each"


def check_shards(folder: Path) -> str:
    run(*command("evaluate.py", *QUICK, f"hydra.sweep.dir={folder / 'whole'}"))
    parts = ["shard.count=3", "shard.index=0,1,2", f"hydra.sweep.dir={folder / 'parts'}"]
    run(*command("evaluate.py", *QUICK, *parts, *SLURM))
    paths = [str(f.parent) for f in (folder / "parts").glob("*/run.json")]
    run(sys.executable, "-m", "semfacediff.cli", "merge", *paths, "--out", str(folder / "merged"))
    (whole,) = (f.parent for f in (folder / "whole").glob("*/run.json"))
    return f"{len(paths)} parts merged, {same_numbers(whole, folder / 'merged')} numbers equal to one run"


def check_lost_jobs(folder: Path) -> str:
    """One job ended with scancel, the other one's process with SIGKILL; no accounting, so squeue has to tell."""
    words, sweep = [*QUICK, *LONG, "composite=off,blend"], folder / "slurm"
    there = command("evaluate.py", *words, f"hydra.sweep.dir={sweep}", *SLURM)
    parent = subprocess.Popen(there, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    job = parent.stdout.readline().split(" job ")[1].partition(";")[0]
    endings = {"off": lambda _: run("scancel", f"{job}_0"), "blend": lambda cell: os.kill(holder(cell), signal.SIGKILL)}
    while endings:  # each at its first sample
        for name, cell in cells(sweep).items():
            if name in endings and begun(cell):
                endings.pop(name)(cell)
        assert parent.poll() is None, "the sweep ended before its jobs were ended"
        time.sleep(0.05)
    broken = cells(sweep)
    said, _ = parent.communicate(timeout=120)
    assert parent.returncode == 1, said
    assert f"composite=off: crashed (job {job}_0 is CANCELLED;" in said, said
    assert f"composite=blend: crashed (job {job}_1 is FAILED;" in said, said
    kept = {name: (path / "samples.jsonl").read_text() for name, path in broken.items()}
    run(*there)
    run(*command("evaluate.py", *words, f"hydra.sweep.dir={folder / 'here'}"))
    assert all((broken[name] / "samples.jsonl").read_text().startswith(text) for name, text in kept.items())
    whole = cells(folder / "here")
    equal = sum(same_numbers(whole[name], broken[name]) for name in broken)
    rows = sum(text.count("\n") for text in kept.values())
    return f"scancel and SIGKILL reported, {rows} samples kept by the same command, {equal} numbers equal"


def check_time_limit(folder: Path) -> str:
    """The signal that Slurm sends before the time limit: the job goes back to the queue and continues."""
    sweep = folder / "slurm"
    words = [*QUICK, *LONG, "composite=off", f"hydra.sweep.dir={sweep}", *SLURM, "hydra.launcher.max_num_timeout=2"]
    parent = subprocess.Popen(
        command("evaluate.py", *words), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    job = parent.stdout.readline().split(" job ")[1].partition(";")[0]
    while not any(begun(cell) for cell in cells(sweep).values()):
        assert parent.poll() is None, "the sweep ended before its job was signalled"
        time.sleep(0.05)
    run("scancel", "--signal=USR2", job)
    while "PENDING" not in run("squeue", "--noheader", f"--jobs={job}", "--format=%T"):
        time.sleep(0.2)
    run("scontrol", "update", f"jobid={job}", "starttime=now")  # instead of two minutes of Slurm's patience
    said, _ = parent.communicate(timeout=200)
    assert parent.returncode == 0, said
    record = json.loads((cells(sweep)["off"] / "run.json").read_text())
    return f"job {job} requeued and finished with the same command, {record['status']}"


def check_training(folder: Path) -> str:
    """Two tasks of srun, a torchrun each, as on two nodes."""
    run(*command("train_parser.py", *TRAINING, f"hydra.run.dir={folder / 'one'}"))
    launch = ["srun", "--ntasks=2", "--cpus-per-task=1", sys.executable, "-m", "torch.distributed.run"]
    meet = ["--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d", "--rdzv-endpoint=localhost:29511"]
    run(*launch, *meet, str(ROOT / "train_parser.py"), *TRAINING, f"hydra.run.dir={folder / 'two'}")
    facts = json.loads((folder / "two" / "run.json").read_text())
    assert facts["processes"] == 2, facts["processes"]
    one, two = (load_file(folder / k / "checkpoints" / "last" / "model.safetensors") for k in ("one", "two"))
    for key, tensor in one.items():  # two sums of gradients of float32 instead of one
        assert (two[key] - tensor).abs().max() <= 1e-5, key
    histories = [pd.read_csv(folder / k / "history.csv") for k in ("one", "two")]
    pd.testing.assert_frame_equal(*histories, check_exact=False, atol=1e-5, rtol=1e-5)
    weights = sum(tensor.numel() for tensor in one.values())
    return f"2 processes, {weights} weights and {histories[0].size} numbers of history.csv within 1e-5 of one process"


CHECKS = (check_sweep, check_shards, check_lost_jobs, check_time_limit, check_training)


def main() -> int:
    names = [check.__name__.removeprefix("check_") for check in CHECKS]
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--only", nargs="+", choices=names, default=names)
    asked = arguments.parse_args().only
    if missing := missing_programs():
        print(f"missing: {', '.join(missing)}; apt-get install munge slurmctld slurmd slurm-client", file=sys.stderr)
        return 2
    os.environ["PYTHONPATH"] = str(ROOT / "src")
    failed = 0
    with tempfile.TemporaryDirectory(prefix="slurm-check-") as name:
        os.chdir(name)
        with slurm_node(Path(name) / "node"):
            for check in (c for c, n in zip(CHECKS, names, strict=True) if n in asked):
                start, title = time.monotonic(), check.__name__.removeprefix("check_").replace("_", " ")
                try:
                    result = f"pass: {check(Path(name) / check.__name__)}"
                except Exception as e:
                    result, failed = f"FAIL: {e}", failed + 1
                print(f"{title:12} {result} ({time.monotonic() - start:.0f} s)", flush=True)
    print(f"{len(asked) - failed} passed, {failed} failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())

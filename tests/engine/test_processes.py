"""Several processes: every task gives the numbers of one, and what can go wrong between them is said once.

One launch makes all runs that are looked at here: starting a process takes longer than what it does.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from semfacediff import config, tasks
from semfacediff.errors import UserError
from semfacediff.hydra_app import composed
from semfacediff.tasks.editing.bench import EditingBench
from semfacediff.tasks.training import parser as train_parser

REPOSITORY = Path(__file__).resolve().parents[2]
PLACE = "runtime.device=cpu runtime.workers=0".split()
EDITING = "data=folder editor=precomputed parser=precomputed metrics=no_weights strips=0 attributes=[hair,lips]".split()
SOFT = ["region.dilate_px=32", "region.feather_sigma_px=32"]
PARSING = "task=parsing data=folder parser=precomputed".split()
SYNTHESIS = (
    "task=synthesis data=toy data.count=3 data.size=32 synthesis.steps=2 synthesis.diversity_samples=2 "
    "synthesis.diversity_photos=2 synthesis.latency_steps=[1] synthesis.showcase=0 metrics.columns=[ssim,iou]"
).split()
PARSER = (
    "data.count=24 data.size=64 data.split_rule.modulo=4 train.size=64 train.batch_size=4 train.epochs=1 "
    "train.checkpoint_every_steps=2 loss.class_weight_batches=2 parser=unet_lite loss=cross_entropy_dice "
    "loss.lovasz=0.5 optim.encoder_lr=1e-4 optim.decoder_lr=1e-4"
).split()  # without batch norms, whose statistics differ between processes
SCA_DM = (
    "synthesis=tiny synthesis.image_size=32 synthesis.vq_codes=16 synthesis.style_features=1 synthesis.style_down=3 "
    "synthesis.token_width=4 synthesis.unet_multipliers=[1] synthesis.attention_factors=[1] "
    "data.count=10 data.size=32 data.split_rule.modulo=5 "
    "vq.steps=2 vq.batch_size=2 vq.unquantised_steps=1 vq.validate_every_steps=1 vq.revive_every_steps=2 "
    "diffusion.steps=2 diffusion.batch_size=2 diffusion.accumulate=2 diffusion.lr=1e-3 diffusion.ema_decay=0.5 "
    "diffusion.validate_every_steps=1"
).split()
VARYING = ["latency_s", "peak_memory_mib"]
ENDED = "ended: "
TYPES = {"train_parser": (config.ParserTraining,), "train_synthesis": (config.SynthesisTraining,)}
EVALUATIONS = (config.EditingEvaluation, config.ParsingEvaluation, config.SynthesisEvaluation)


def settings_of(job: dict, rank: int) -> config.Closed:
    """A job is ``{"config", "words", "folder"}``, and perhaps ``words_of_1`` (words that the second process alone is
    given) or ``dies`` (how many rows the second process makes before it ends without a word)."""
    words = job["words"] + (job.get("words_of_1", []) if rank == 1 else [])
    return config.typed(composed(job["config"], words, REPOSITORY), *TYPES.get(job["config"], EVALUATIONS))


def dying(rows, after: int):
    def few(self, indices):
        for made, row in enumerate(rows(self, indices)):
            if made == after:
                os._exit(9)
            yield row

    return few


def main() -> None:
    """What each process of a launch does: the jobs of a JSON file in turn; prints a line a job, how it ended."""
    torch.set_num_threads(1)
    rank = int(os.environ["RANK"])
    train_parser.training_curves = lambda *_: None  # they take longer than everything else
    for job in json.loads(Path(sys.argv[1]).read_text()):
        if rank == 1 and "dies" in job:
            EditingBench.rows = dying(EditingBench.rows, job["dies"])
        try:
            ended = tasks.start(settings_of(job, rank), Path(job["folder"]))
        except UserError as e:
            ended = str(e)
        except SystemExit as e:
            ended = f"exit {e.code}"
        print(ENDED + json.dumps(ended), flush=True)


def job(name: str, words: list[str], folder: Path, **more) -> dict:
    return {"config": name, "words": [*words, *PLACE, "weights.download=false"] if name == "evaluate" else
            [*words, *PLACE], "folder": str(folder), **more}  # fmt: skip


def environment(rank: int, port: int) -> dict[str, str]:
    """What ``torchrun --nproc-per-node=2`` sets."""
    ours = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_PORT": port}
    path = f"{REPOSITORY / 'src'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    plain = {k: str(v) for k, v in ours.items()}
    return os.environ | plain | {"MASTER_ADDR": "127.0.0.1", "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


def launched(jobs: list[dict], file: Path) -> list[subprocess.CompletedProcess]:
    """Two processes that do ``jobs`` together."""
    file.write_text(json.dumps(jobs))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, str(REPOSITORY / "tests/engine/test_processes.py"), str(file)]
    with contextlib.ExitStack() as stack:
        said = [
            [stack.enter_context((file.parent / f"{k}.{of}").open("w+")) for of in ("out", "err")] for k in range(2)
        ]
        started = [
            subprocess.Popen(words, env=environment(rank, port), stdout=out, stderr=err, cwd=REPOSITORY)
            for rank, (out, err) in enumerate(said)
        ]
        try:
            codes = [process.wait(timeout=300) for process in started]
        finally:
            for process in started:
                process.kill()
        texts = [[(f.flush(), f.seek(0), f.read())[-1] for f in of_one] for of_one in said]
    return [subprocess.CompletedProcess(words, code, *text) for code, text in zip(codes, texts, strict=True)]


def unfinish(folder: Path) -> None:
    facts = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**facts, "status": "running"}))
    for name in ("summary.csv", "samples.parquet"):
        (folder / name).unlink(missing_ok=True)


@pytest.fixture(scope="module")
def jobs(request, tmp_path_factory, write_files, tiny_checkpoint, tiny_synthesis) -> dict[str, dict]:
    """By name, to be done by one process; ``folder`` is that of one process. Without ``--slow`` those of three."""
    place = tmp_path_factory.mktemp("one")
    root = write_files(tmp_path_factory.mktemp("files"), [(64, 64)] * 4)
    files = [f"data.root={root}", f"parser.root={root}/parses"]
    made = [f"synthesis.checkpoint={tiny_synthesis}", f"parser.checkpoint={tiny_checkpoint}"]
    every = {
        "editing": job("evaluate", [*EDITING, *SOFT, *files, f"editor.root={root}/edits"], place / "editing"),
        "parsing": job("evaluate", [*PARSING, *files], place / "parsing"),
        "synthesis": job("evaluate", [*SYNTHESIS, *made], place / "synthesis"),
        "parser": job("train_parser", PARSER, place / "parser"),
        "first": job("train_synthesis", [*SCA_DM, "stage=first"], place / "first"),
        "diffusion": job(
            "train_synthesis", [*SCA_DM, f"first_stage.checkpoint={place / 'first'}"], place / "diffusion"
        ),
    }
    return every if request.config.getoption("--slow") else {name: every[name] for name in QUICK}


@pytest.fixture(scope="module")
def one(jobs) -> dict[str, Path]:
    """Folders of the runs that one process made."""
    for asked in jobs.values():
        assert tasks.start(settings_of(asked, 0), Path(asked["folder"])) == 0
    return {name: Path(asked["folder"]) for name, asked in jobs.items()}


QUICK = ("editing", "parsing")


@pytest.fixture(scope="module")
def two(jobs, one, tmp_path_factory) -> tuple[dict[str, Path], dict[str, list], list]:
    """(folders of the runs that two processes made, how each ended by process, the processes)."""
    place = tmp_path_factory.mktemp("two")
    asked = {name: {**of_one, "folder": str(place / name)} for name, of_one in jobs.items()}
    half = place / "editing"  # a sitting that one process began
    half.mkdir()
    shutil.copy(one["editing"] / "run.json", half)
    begun = (one["editing"] / "samples.jsonl").read_text().splitlines(keepends=True)[:3]
    (half / "samples.jsonl").write_text("".join(begun))
    unfinish(half)
    asked["another seed"] = {**asked["parsing"], "folder": str(place / "seed"), "words_of_1": ["seed=7", "data.n=3"]}
    shutil.copytree(one["parsing"], place / "foreign")
    asked["another's folder"] = {**asked["editing"], "folder": str(place / "foreign")}
    asked["a process dies"] = {**asked["editing"], "folder": str(place / "dies"), "dies": 1}
    processes = launched(list(asked.values()), place / "jobs.json")
    lines = [
        [json.loads(line.removeprefix(ENDED)) for line in p.stdout.splitlines() if line.startswith(ENDED)]
        for p in processes
    ]
    ended = {name: [of_rank[i] for of_rank in lines if i < len(of_rank)] for i, name in enumerate(asked)}
    return {name: Path(a["folder"]) for name, a in asked.items()}, ended, processes


def test_every_run_is_done(two, jobs):
    _, ended, processes = two
    assert {name: ended[name] for name in jobs} == {name: [0, 0] for name in jobs}, processes[0].stderr[-3000:]


def samples(folder: Path) -> pd.DataFrame:
    found = pd.read_parquet(folder / "samples.parquet")
    return found.drop(columns=[c for c in VARYING if c in found])


def test_editing_writes_the_record_of_one(one, two):
    ours = two[0]["editing"]
    pd.testing.assert_frame_equal(samples(one["editing"]), samples(ours), check_exact=True)
    tables = [
        pd.read_csv(f / "summary.csv", dtype=str).drop(columns="latency_s_median") for f in (one["editing"], ours)
    ]
    pd.testing.assert_frame_equal(*tables)
    ids = [[json.loads(line)["sample_id"] for line in (f / "samples.jsonl").read_text().splitlines()]
           for f in (one["editing"], ours)]  # fmt: skip
    assert ids[0] == ids[1]


def test_parsing_writes_the_record_of_one(one, two):
    for name in ("summary.csv", "samples.parquet", "samples.jsonl"):
        assert (two[0]["parsing"] / name).read_bytes() == (one["parsing"] / name).read_bytes()


@pytest.mark.slow
def test_synthesis_writes_the_record_of_one(one, two):
    pd.testing.assert_frame_equal(samples(one["synthesis"]), samples(two[0]["synthesis"]), check_exact=True)
    assert (two[0]["synthesis"] / "summary.csv").read_bytes() == (one["synthesis"] / "summary.csv").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["parser", "first", "diffusion"])
def test_a_training_moves_the_weights_as_one(one, two, name):
    """Sums of gradients in another order move each of a few steps by roundings of float32."""
    kept = "last" if name == "parser" else "average"
    alone, together = (load_file(f / f"checkpoints/{kept}/model.safetensors") for f in (one[name], two[0][name]))
    for key, tensor in alone.items():
        torch.testing.assert_close(together[key], tensor, rtol=1e-3, atol=1e-4)
    histories = [pd.read_csv(f / "history.csv") for f in (one[name], two[0][name])]
    pd.testing.assert_frame_equal(*histories, check_exact=False, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_the_record_of_a_training_is_kept_once(two):
    facts = json.loads((two[0]["parser"] / "run.json").read_text())
    assert (facts["processes"], facts["batch_norm"], facts["status"]) == (2, "none", "done")
    assert two[2][0].stdout.count("best checkpoint") == 1
    assert "best checkpoint" not in two[2][1].stdout


def test_processes_of_different_configurations_end_together(two):
    folders, ended, _ = two
    sentence, silent = ended["another seed"]
    assert sentence.startswith("process 1 of this launch differs from process 0 in config.data.n, config.seed, ")
    assert sentence.endswith("start all with the same command, the same files in conf/local and the same data")
    assert silent == "exit 2"
    assert not folders["another seed"].exists()


def test_a_folder_that_is_refused_ends_all(two):
    sentence, silent = two[1]["another's folder"]
    assert "belongs to another configuration" in sentence
    assert silent == "exit 2"


def test_nothing_is_lost_with_a_process_that_dies(one, two, jobs):
    folders, ended, (first, second) = two
    (sentence,) = ended["a process dies"]
    assert sentence.startswith("process 0 of this launch lost another one, which ended before it; see what that one")
    assert (first.returncode, second.returncode) == (0, 9)
    assert len((folders["a process dies"] / "samples.jsonl").read_text().splitlines()) >= 2
    assert tasks.start(settings_of(jobs["editing"], 0), folders["a process dies"]) == 0
    pd.testing.assert_frame_equal(samples(one["editing"]), samples(folders["a process dies"]), check_exact=True)


# With torchrun itself.


def by_torchrun(folder: Path) -> list[str]:
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "train_parser.py"]
    return [*launch, *PARSER, "train.epochs=2", *PLACE, f"hydra.run.dir={folder}"]


@pytest.mark.slow
def test_two_processes_killed_and_started_again_end_with_the_same_weights(tmp_path):
    whole, folder = tmp_path / "whole", tmp_path / "run"
    done = subprocess.run(by_torchrun(whole), cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    quiet = {"stderr": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    launch = subprocess.Popen(by_torchrun(folder), cwd=REPOSITORY, **quiet)
    deadline = time.monotonic() + 120
    while not (folder / "checkpoints" / "last").is_dir() and launch.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(int((folder / ".holder").read_text()), signal.SIGKILL)  # the launcher then ends the other one
    assert launch.wait() != 0
    assert json.loads((folder / "run.json").read_text())["status"] == "running"
    done = subprocess.run(by_torchrun(folder), cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "continuing at epoch" in done.stderr
    for which in ("last", "best"):
        weights = [(f / f"checkpoints/{which}/model.safetensors").read_bytes() for f in (whole, folder)]
        assert weights[0] == weights[1]
    assert (folder / "history.csv").read_bytes() == (whole / "history.csv").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--num_processes", "2"], "accelerate launch was asked for several processes and started one"),
        (["--num_processes", "1", "--mixed_precision", "bf16"], "accelerate asks for mixed precision"),
    ],
)
def test_accelerate_launch_is_followed_or_refused(tmp_path, words, message):
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", *words, "evaluate.py"]
    done = subprocess.run([*launch, "editor=identity", "parser=ground_truth", f"hydra.run.dir={tmp_path / 'run'}"],
                          cwd=REPOSITORY, capture_output=True, text=True)  # fmt: skip
    assert done.returncode != 0
    assert f"error: {message}" in done.stderr
    assert not (tmp_path / "run").exists()


if __name__ == "__main__":
    main()

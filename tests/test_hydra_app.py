"""The entry scripts as a user meets them: exit codes, sentences instead of tracebacks, sweeps."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from semfacediff import cli, config, hydra_app

REPOSITORY = Path(__file__).resolve().parents[1]
QUICK = "data.count=2 data.size=64 parser=ground_truth metrics=no_weights attributes=[hair] runtime.workers=0".split()


def script(name, *words, cwd):
    return subprocess.run(
        [sys.executable, str(REPOSITORY / name), *words], cwd=cwd, capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["data.rot=x"], 2, "unknown key 'data.rot'; known here: count, n, name, seed"),
        (["data=folder", "data.rot=x"], 2, "unknown key 'data.rot'; did you mean 'root'?"),
        (
            ["data=foldr"],
            2,
            "data=foldr: expected one of celebamask_hq, folder, helen, lapa, shards, toy; did you mean folder?",
        ),
        (["generation.steps=9"], 2, "'generation' is named 'synthesis' now: synthesis.steps"),
        (["+data.extra=1"], 2, "unknown key 'data.extra'"),
        (["attributes=[hair,ears]"], 2, "unknown attribute 'ears'; did you mean 'earrings'? choose one of hair, lips"),
        (["prompts.hair=''"], 2, "the prompt for 'hair' is empty"),
        (["parser.checkpoint=nowhere"], 2, "parser.checkpoint: nothing is at nowhere"),
        (["data=folder"], 2, "data.root is not set"),
    ],
)
def test_a_mistake_is_one_sentence(tmp_path, words, code, said):
    done = script("evaluate.py", *words, cwd=tmp_path)
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


CHOICES = "balanced, default, fast, low_memory"


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("runtime=1e3", f"runtime=1e3: expected one of {CHOICES}"),
        ("runtime=null", f"runtime=null: expected one of {CHOICES}"),
        ("parser=2", r"parser=2: expected one of \d+ \(semfacediff list parsers\)"),
        ("editor=true", r"editor=true: expected one of \d+ \(semfacediff list editors\)"),
        ("optim=5", "optim=5: expected one of adam_then_sgd, adamw"),
        ("editor=recolour", "editor=recolour: expected one of .*; did you mean recolor\\?"),
        ("data=tooy", "data=tooy: expected one of .*; did you mean toy\\?"),
        ("protocol=Thesis", "protocol=Thesis: expected one of .*; did you mean thesis\\?"),
        ("parser=recolor", "parser=recolor: expected .*; editor=recolor exists"),
        ("metrics=[x]", "metrics=x: expected one of full, no_weights"),
        (
            "experiment=thesis/tabel_6_1",
            r"experiment=\S+: expected one of \d+ \(.*\); did you mean thesis/table_6_1\?",
        ),
        (
            "prompts.hair=\U0001f600 hair",
            "prompts.hair=\U0001f600 hair: Hydra cannot read this value; quote it twice",
        ),
        (
            "attributes=hair,lips",
            r"attributes=hair,lips: one value expected; write attributes=\[hair,lips\] for a list",
        ),
        (
            "hydra/launcher=slurm",
            "hydra/launcher=slurm is unknown; choose basic, joblib, submitit_local or ",
        ),
        ("protocol=strict", "unknown key 'protocol'; known here: .*train"),
        ("runtime={1: 2}", r"runtime=\{1: 2\}: expected one of balanced"),
        ("runtime=[null]", r"runtime=\[null\]: expected one of balanced"),
        ("train.channels_last.x=1", "unknown key 'train.channels_last.x'; known here: nothing"),
        ("name='a\nb", "name='a.*: Hydra cannot read this value"),
        ("region.fether_sigma_px=3", "unknown key 'region.fether_sigma_px'; did you mean 'feather_sigma_px'"),
    ],
)
def test_what_hydra_refuses_is_one_sentence(word, said, monkeypatch, capsys, tmp_path):
    """In this process: the program's own entry, without what loads behind the configuration."""
    monkeypatch.chdir(tmp_path)
    name = "train_parser" if word.startswith(("optim", "train", "protocol=strict")) else "evaluate"
    monkeypatch.setattr(sys, "argv", [name, word, f"hydra.run.dir={tmp_path}/run"])
    with pytest.raises(SystemExit) as ended:
        hydra_app.run(name, lambda cfg, folder: pytest.fail("it was run"), REPOSITORY)
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert re.fullmatch(rf"error: {said}.*\n", error), error


@pytest.mark.parametrize("word", ["train.ema_decay=${x}", "train.ema_decay=${.a}"])
def test_an_interpolation_that_leads_nowhere_is_one_sentence(word, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train_parser", word, f"hydra.run.dir={tmp_path}/run"])

    def job(cfg, folder):
        config.typed(cfg, config.ParserTraining)
        pytest.fail("it has its type")

    with pytest.raises(SystemExit) as ended:
        hydra_app.run("train_parser", job, REPOSITORY)
    assert ended.value.code == 2
    assert re.fullmatch(r"error: configuration: .*\n", capsys.readouterr().err)


def test_the_words_of_a_run_are_kept_as_they_were_typed(monkeypatch, tmp_path):
    """A record holds them: what an interpolation stands for may be nobody else's business."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEMFACEDIFF_NAME", "secret")
    monkeypatch.setattr(sys, "argv", ["evaluate", "name=${oc.env:SEMFACEDIFF_NAME}", f"hydra.run.dir={tmp_path}/run"])
    seen = []
    with pytest.raises(SystemExit):
        hydra_app.run("evaluate", lambda cfg, folder: seen.append(os.environ["SEMFACEDIFF_OVERRIDES"]) or 0, REPOSITORY)
    assert "name=${oc.env:SEMFACEDIFF_NAME}" in seen[0]


def test_a_fault_in_a_job_is_no_mistake_of_the_user(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["evaluate", f"hydra.run.dir={tmp_path}/run"])

    def broken(cfg, folder):
        raise ValueError("ours")

    with pytest.raises(ValueError, match="ours"):
        hydra_app.run("evaluate", broken, REPOSITORY)


def test_a_run_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("in the way")
    done = script("evaluate.py", *QUICK, f"hydra.run.dir={tmp_path}/file/run", cwd=tmp_path)
    assert done.returncode == 2
    assert "cannot be made (Not a directory); set hydra.run.dir=DIR" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_reader_that_leaves_early_is_no_mistake(tmp_path):
    done = subprocess.run(
        f"{sys.executable} {REPOSITORY}/evaluate.py --cfg job | head -1",
        shell=True, cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout == "task: editing\n"
    assert "error" not in done.stderr
    assert "Traceback" not in done.stderr


def test_help_and_configuration_load_nothing_heavy(tmp_path):
    probe = tmp_path / "probe.py"
    probe.write_text(
        "import runpy, sys\n"
        "sys.argv = sys.argv[1:]\n"
        "try:\n    runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit:\n    pass\n"
        "print('torch' in sys.modules, 'pydantic' in sys.modules)\n"
    )
    for name in ("evaluate.py", "train_parser.py"):
        for word in ("--help", "--cfg=job"):
            words = [sys.executable, str(probe), str(REPOSITORY / name), word]
            done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)
            assert done.stdout.splitlines()[-1] == "False False"


@pytest.mark.slow
def test_every_job_of_a_sweep_has_a_folder_of_its_own_and_a_failure_stops_no_other(tmp_path):
    words = ["-m", *QUICK, "region.dilate_px=0,3", "editor=identity", "prompts.hair='',red hair"]
    first = script("evaluate.py", *words[:-1], "prompts.hair=red hair", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    folders = {p.parent.name for p in tmp_path.rglob("run.json")}
    assert len(folders) == 2
    assert all(name.startswith("toy-") for name in folders)
    second = script("evaluate.py", *words[:2], *QUICK[1:], "editor=identity", "prompts.hair='',red hair", cwd=tmp_path)
    assert second.returncode == 2
    assert second.stderr.count("error: the prompt for 'hair' is empty") == 1
    assert "| hair" in second.stdout
    # region.dilate_px is 3.0 by default: the other cell is one of the first sweep's, and finished.
    assert {p.parent.name for p in tmp_path.rglob("run.json")} == folders


@pytest.mark.slow
def test_interrupting_leaves_a_run_that_continues(tmp_path):
    words = [*QUICK, "data.count=40", "data.size=160", "hydra.run.dir=run"]
    command = [sys.executable, str(REPOSITORY / "evaluate.py"), *words]
    heard = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}  # a suite in the background ignores it
    quiet = {"stderr": subprocess.PIPE, "stdout": subprocess.DEVNULL, "text": True}
    process = subprocess.Popen(command, cwd=tmp_path, **quiet, **heard)
    log, deadline = tmp_path / "run" / "samples.jsonl", time.monotonic() + 60
    while not (log.exists() and log.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted; the same command continues this run" in stderr
    assert "Traceback" not in stderr
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "running"
    again = script("evaluate.py", *words, cwd=tmp_path)
    assert again.returncode == 0
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "done"


@pytest.mark.parametrize(
    "words",
    [
        "data=folder data.root=/nowhere",
        "parser=precomputed parser.root=/nowhere",
        "editor=precomputed editor.root=/nowhere",
    ],
)
def test_a_path_where_nothing_is_ends_before_libraries_load(words, monkeypatch, capsys):
    monkeypatch.setattr("semfacediff.tasks.start", lambda *_: pytest.fail("it began"))
    key = words.split()[-1].partition("=")[0]
    with pytest.raises(SystemExit) as left:
        cli.main(["evaluate", *words.split()])
    assert left.value.code == 2
    assert capsys.readouterr().err.endswith(f"error: {key}: nothing is at /nowhere; correct the path\n")

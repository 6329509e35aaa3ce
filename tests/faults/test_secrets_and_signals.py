"""What must not reach a record, and what a run says when it is told to stop."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from semfacediff import config
from semfacediff.errors import UserError
from semfacediff.hydra_app import composed

SECRET = "hf_do_not_publish_me"
QUICK = (
    "data=toy data.count=60 data.size=256 parser=ground_truth editor=recolor metrics=no_weights attributes=[hair,lips] "
    "strips=0 runtime.device=cpu runtime.workers=0 weights.download=false"
).split()
TRAIN = (
    "parser=fastscnn_lite data=toy data.count=10 data.size=64 train.epochs=200 train.batch_size=4 train.size=64 "
    "train.checkpoint_every_steps=1 optim.warmup_steps=1 runtime.workers=0"
).split()


def preset(folder, prompt: str, key: str = "hair") -> list[str]:
    """Words that choose a user's own preset of prompts."""
    (folder / "prompts").mkdir(parents=True)
    (folder / "prompts" / "mine.yaml").write_text(f"defaults: [evaluation, _self_]\n{key}: {json.dumps(prompt)}\n")
    return ["--config-dir", str(folder), "prompts=mine"]


def script(repository, name, *words, cwd, **more):
    command = [sys.executable, str(repository / name), *words]
    return subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)


# --- secrets ---------------------------------------------------------------------------------------------------------


def test_a_secret_of_the_environment_enters_no_record(repository, tmp_path):
    words = [*preset(tmp_path / "own", "red hair ${oc.env:TOKEN}"), *QUICK, "hydra.run.dir=run"]
    process = script(repository, "evaluate.py", *words, cwd=tmp_path, env=os.environ | {"TOKEN": SECRET})
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 2
    assert stderr.startswith("error: ${oc.env:TOKEN}: expected a variable called SEMFACEDIFF_...")
    assert stderr.count("\n") == 1
    assert SECRET not in stdout + stderr
    assert [f.name for f in tmp_path.iterdir()] == ["own"]  # no record, so no secret in one


@pytest.mark.parametrize(
    "text", ["${oc.env:TOKEN}", "${oc.env:TOKEN,none}", "${oc.decode:${oc.env:TOKEN}}", "${.lips} ${oc.env:PATH}"]
)
def test_other_spellings_are_refused(repository, monkeypatch, text):
    monkeypatch.setenv("TOKEN", SECRET)
    cfg = composed("evaluate", ["data=toy", f'prompts.hair="{text}"'], repository)
    with pytest.raises(UserError, match=r"^\$\{oc.env:(TOKEN|PATH)\}: expected a variable called SEMFACEDIFF_") as e:
        config.typed(cfg, config.EditingEvaluation)
    assert SECRET not in str(e.value)
    assert "\n" not in str(e.value)


def test_the_variables_of_this_program_are_read(repository, monkeypatch):
    monkeypatch.setenv("SEMFACEDIFF_COLOUR", "red")
    words = ["data=toy", 'prompts.hair="${oc.env:SEMFACEDIFF_COLOUR} hair, ${oc.env:SEMFACEDIFF_NONE,short}"']
    found = config.typed(composed("evaluate", words, repository), config.EditingEvaluation)
    assert found.prompts.texts["hair"] == "red hair, short"


def test_an_unset_variable_is_a_sentence(repository):
    cfg = composed("evaluate", ["data=toy", 'prompts.hair="${oc.env:SEMFACEDIFF_NONE}"'], repository)
    with pytest.raises(UserError, match=r"SEMFACEDIFF_NONE\}: the variable is not set; export it"):
        config.typed(cfg, config.EditingEvaluation)


@pytest.mark.slow
def test_a_secret_in_the_place_of_the_run_is_refused_in_a_sentence(repository, tmp_path):
    words = [*QUICK, "hydra.run.dir=${oc.env:TOKEN}"]
    process = script(repository, "evaluate.py", *words, cwd=tmp_path, env=os.environ | {"TOKEN": SECRET})
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "Traceback" not in stderr
    assert "expected a variable called SEMFACEDIFF_" in stderr
    assert list(tmp_path.iterdir()) == []


# --- signals ---------------------------------------------------------------------------------------------------------


def stopped(repository, tmp_path, name, words, log, by) -> str:
    """stderr of a run that was told to stop once ``log`` held something."""
    heard = {"preexec_fn": lambda: [signal.signal(n, signal.SIG_DFL) for n in (signal.SIGTERM, signal.SIGHUP)]}
    process = script(repository, name, *words, cwd=tmp_path, **heard)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(log)) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    os.kill(process.pid, by)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 128 + by, stderr
    assert stderr.endswith("\nstopped; the same command continues this run\n")
    assert "Traceback" not in stderr
    return stderr


HEARD = """
import os, sys, time
from pathlib import Path
from semfacediff import hydra_app

def task(cfg, folder):
    os.kill(os.getpid(), int(cfg.seed))
    time.sleep(60)

sys.argv = ["evaluate.py", *sys.argv[2:]]
hydra_app.run("evaluate", task, Path(os.environ["ROOT"]))
"""


@pytest.mark.parametrize(("by", "more"), [(signal.SIGTERM, []), (signal.SIGHUP, ["-m", "hydra.sweep.dir=sweep"])])
def test_a_signal_is_a_sentence_and_the_exit_code_of_shells(repository, tmp_path, by, more):
    command = [sys.executable, "-c", HEARD, "-", *more, "data=toy", f"seed={int(by)}", "hydra.run.dir=run"]
    env = os.environ | {"ROOT": str(repository)}
    heard = {"preexec_fn": lambda: signal.signal(by, signal.SIG_DFL)}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, **heard)
    assert done.returncode == 128 + by, done.stderr
    assert done.stderr == "\nstopped; the same command continues this run\n"
    if more:
        cells = json.loads((tmp_path / "sweep" / "sweep.json").read_text())["cells"]
        assert [(cell["status"], cell["exit"]) for cell in cells.values()] == [("interrupted", 128 + by)]


@pytest.mark.slow
def test_where_a_signal_is_ignored_it_stays_so(repository, tmp_path):
    """As under nohup."""
    script = HEARD.replace("time.sleep(60)", "return 0")
    command = [sys.executable, "-c", script, "-", "data=toy", f"seed={int(signal.SIGHUP)}", "hydra.run.dir=run"]
    env = os.environ | {"ROOT": str(repository)}
    ignored = {"preexec_fn": lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, **ignored)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_sigterm_leaves_a_run_that_continues(repository, tmp_path):
    words = [*QUICK, "hydra.run.dir=run"]
    stopped(repository, tmp_path, "evaluate.py", words, "run/edits/*/*.png", signal.SIGTERM)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "running"
    again = script(repository, "evaluate.py", *words, cwd=tmp_path)
    again.communicate(timeout=300)
    assert again.returncode == 0
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "done"


@pytest.mark.slow
def test_sighup_leaves_a_training_that_continues(repository, tmp_path):
    words = [*TRAIN, "hydra.run.dir=run"]
    stopped(repository, tmp_path, "train_parser.py", words, "run/checkpoints/last", signal.SIGHUP)
    words[words.index("train.epochs=200")] = "train.epochs=201"
    again = script(repository, "train_parser.py", *words, cwd=tmp_path)
    _, stderr = again.communicate(timeout=60)  # only the record is asked: it is this training's, of other settings
    assert "train.epochs was 200, now 201" in stderr


@pytest.mark.slow
def test_a_stopped_sweep_continues_to_the_same_end(repository, tmp_path):
    words = ["-m", *QUICK, "editor=identity,recolor", "hydra.sweep.dir=sweep"]
    words[words.index("data.count=60")] = "data.count=12"
    stopped(repository, tmp_path, "evaluate.py", words, "sweep/*/edits/*/*.png", signal.SIGTERM)
    cells = json.loads((tmp_path / "sweep" / "sweep.json").read_text())["cells"]
    assert ("interrupted", 143) in {(cell["status"], cell["exit"]) for cell in cells.values()}
    again = script(repository, "evaluate.py", *words, cwd=tmp_path)
    again.communicate(timeout=300)
    assert again.returncode == 0
    cells = json.loads((tmp_path / "sweep" / "sweep.json").read_text())["cells"]
    assert [cell["status"] for cell in cells.values()] == ["done", "done"]

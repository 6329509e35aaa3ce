"""The sweeps in ``experiments/wandb``, drawn by W&B's own agent without its server."""

import json
import os
import re
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from semfacediff import config
from semfacediff.hydra_app import composed

REPOSITORY = Path(__file__).resolve().parents[2]
SWEEPS = REPOSITORY / "experiments" / "wandb"
TASKS = {"parser_rates": config.ParserTraining, "editor_settings": config.EditingEvaluation}
TOY = {
    "parser_rates": "train.size=32 train.batch_size=4 train.epochs=4 optim.warmup_steps=2 tracking.every_steps=1",
    "editor_settings": "data.n=2 attributes=[hair] strips=0",
}


def swept(name):
    return yaml.safe_load((SWEEPS / f"{name}.yaml").read_text())


def drawn(name, which):
    """The ``which``-th (0 or -1) value of each parameter."""
    return {
        k: v["values"][which] if "values" in v else (v["min"], v["max"])[which]
        for k, v in swept(name)["parameters"].items()
    }


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("which", [0, -1])
def test_a_sweep_names_settings_that_there_are(name, which, monkeypatch):
    monkeypatch.setenv("SEMFACEDIFF_DATA", "faces")
    words = [w for w in swept(name)["command"] if "=" in w] + [f"{k}={v}" for k, v in drawn(name, which).items()]
    settings = config.typed(composed(swept(name)["program"].removesuffix(".py"), words, REPOSITORY), TASKS[name])
    assert isinstance(settings.tracking, config.WandbTracking)
    for key, value in drawn(name, which).items():
        group, _, last = key.partition(".")
        assert getattr(getattr(settings, group), last) == value
        assert isinstance(value, float), "a number in YAML has a point"


@pytest.fixture
def agent(tmp_path, toy_folder, stub, monkeypatch):
    """``agent(sweep)``: begins runs as W&B's agent does: ``begin(run id, values)`` gives a process."""
    from wandb.wandb_agent import Agent

    calls, runs = stub(), tmp_path / "runs"
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SEMFACEDIFF_DATA", str(toy_folder(12)))
    told = {"API_KEY": "k", "SWEEP_ID": "s1", "ENTITY": "lab", "PROJECT": "sweeps", "DIR": str(tmp_path)}
    for name, value in told.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    for name in ("RUN_ID", "SWEEP_PARAM_PATH"):
        monkeypatch.setenv(f"WANDB_{name}", "")  # the agent changes them; put back by the end of the test

    def of(name):
        ours, sweep = Agent(None, None, "s1"), swept(name)
        place = [f"hydra.run.dir={runs}/${{name}}-${{folder_digest:}}", "runtime.device=cpu", "runtime.workers=0"]
        *words, drawn_values = sweep["command"]
        ours._sweep_command = [*words, *place, *TOY[name].split(), drawn_values]

        def begin(run_id, values):
            args = {k: {"value": v} for k, v in values.items()}
            ours._command_run({"run_id": run_id, "program": sweep["program"], "args": args})
            return ours._run_processes[run_id]

        return SimpleNamespace(begin=begin, stop=lambda run_id: ours._command_stop({"run_id": run_id}))

    return SimpleNamespace(of=of, calls=calls, runs=runs)


def undocumented(calls):
    """Names that were logged and are not in the table of ``docs/tracking.md``."""
    page = (REPOSITORY / "docs" / "tracking.md").read_text()
    table = page.partition("## What is logged")[2].partition("Photos stay")[0]
    named = {"val_iou_<class>": "val_iou_.+", "running/<attribute>/<column>": "running/hair/.+"}
    patterns = [named.get(name, re.escape(name)) for name in re.findall("`([^`]+)`", table)]
    logged = {name for call in calls("log") for name in call["values"]}
    return {name for name in logged if not any(re.fullmatch(p, name) for p in patterns)}


def until(there):
    deadline = time.monotonic() + 300
    while not there():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_a_sweep_of_trainings(agent, capfd):
    sweep, rates, last = agent.of("parser_rates"), drawn("parser_rates", 0), {"train.epochs": 12}

    def calls(run_id, name):
        return [c for c in agent.calls(name) if c["of"] == run_id]

    def logged(run_id, column):
        return [c["values"][column] for c in calls(run_id, "log") if column in c["values"]]

    def ended(run_id):
        until(lambda: calls(run_id, "finish"))
        return calls(run_id, "finish")[0]["exit_code"]

    # A parameter that the configuration does not know: one sentence, and the agent goes on.
    assert sweep.begin("r0", {"optim.encodr_lr": 0.1}).wait(300) == 2
    (error,) = capfd.readouterr().err.splitlines()
    assert error.startswith("error: unknown key 'optim.encodr_lr'; did you mean 'encoder_lr'?")
    assert agent.calls() == []
    # A cell, and the same one drawn again: finished, and yet a run of its own.
    for run_id in ("r1", "r2"):
        assert sweep.begin(run_id, rates).wait(300) == 0
        assert ended(run_id) == 0
        assert f"W&B online, project lab/sweeps, run {run_id} of sweep s1" in capfd.readouterr().err
        assert logged(run_id, "epoch") == [1, 2, 3, 4]
        assert logged(run_id, "train/step") == [*range(1, 9)]
    assert len(list(agent.runs.iterdir())) == 1
    first, second = agent.calls("init")
    assert (first["id"], second["id"], first["sweep"]) == ("r1", "r2", "s1")
    assert first["config"]["optim"]["encoder_lr"] == rates["optim.encoder_lr"]
    assert logged("r1", "val_miou") == logged("r2", "val_miou")
    # Another agent draws a cell that is being trained, and one that is not.
    long = sweep.begin("r3", rates | last)
    until(lambda: len(list(agent.runs.glob("*/checkpoints/last"))) == 2)
    other = agent.of("parser_rates")
    os.kill(long._popen.pid, signal.SIGSTOP)  # so that it is not over before the other one has begun
    assert other.begin("r4", rates | last).wait(300) == 2
    assert "is working in" in capfd.readouterr().err
    assert other.begin("r5", drawn("parser_rates", -1)).wait(300) == 0
    # The agent stops a training, as hyperband does, and it is drawn once more; then a killed one.
    os.kill(long._popen.pid, signal.SIGCONT)
    sweep.stop("r3")
    assert long.wait(300) == 128 + signal.SIGTERM
    assert ended("r3") == 1
    begun = logged("r3", "epoch")
    killed = sweep.begin("r6", rates | last)
    until(lambda: len(logged("r6", "epoch")) > len(begun))
    killed.kill()
    assert killed.wait(300) == -signal.SIGKILL
    assert ended("r6") == 1
    assert sweep.begin("r7", rates | last).wait(300) == 0
    assert ended("r7") == 0
    assert logged("r7", "epoch") == [*range(1, 13)], "the whole curve, also of what another run began"
    assert logged("r7", "train/step") == [*range(1, 25)]
    assert logged("r7", "val_miou")[: len(begun)] == logged("r3", "val_miou")
    assert len(list(agent.runs.iterdir())) == 3
    assert undocumented(agent.calls) == set()


@pytest.mark.slow
def test_a_sweep_of_edits(agent):
    assert agent.of("editor_settings").begin("e1", drawn("editor_settings", -1)).wait(300) == 0
    until(lambda: agent.calls("finish"))
    assert agent.calls("init")[0]["config"]["editor"]["strength"] == drawn("editor_settings", -1)["editor.strength"]
    (summary,) = agent.calls("summary")
    assert 0 <= summary["values"]["iou_mean"] == summary["values"]["hair/iou_mean"] <= 1
    assert undocumented(agent.calls) == set()
    assert ".png" not in json.dumps(agent.calls())

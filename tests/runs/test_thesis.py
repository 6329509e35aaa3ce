"""``semfacediff thesis``: what can run here is known before it is run."""

import sys

import pytest

from semfacediff.cli import main
from semfacediff.runs import thesis as module


@pytest.fixture
def found(monkeypatch):
    facts = {
        "data": {"photos": 0, "labels": False, "layout": None},
        "parsers": [],
        "records": {"missing": {}},
        "pipelines": {"sdxl_inpaint": {"place": None, "fetch": "x"}},
        "devices": [{"device": "cpu"}],
    }
    monkeypatch.setattr(module, "examined", lambda *_: facts)
    return facts


@pytest.fixture
def ran(monkeypatch):
    commands = []

    def run(command, check):
        commands.append(command)
        return type("Done", (), {"returncode": 1 if "editor=recolor" in command else 0})

    monkeypatch.setattr(module.subprocess, "run", run)
    return commands


def test_a_bare_machine_runs_nothing_and_is_told_why(found, ran, capsys):
    assert main(["thesis", "--run"]) == 0
    text = capsys.readouterr().out
    assert ran == []
    assert "experiment=thesis/table_6_1 (table 6.1" in text
    for lack in ("no photos at SEMFACEDIFF_DATA", "no trained parser", "no weights of editor=sdxl_inpaint", "no accel"):
        assert lack in text
    assert "python evaluate.py experiment=thesis/cascade" in text


def test_what_the_weights_allow_is_run_with_what_was_found(found, ran, tmp_path):
    found["data"] |= {"photos": 5, "labels": True, "layout": "shards"}
    found["parsers"] = [{"place": "P", "error": None}]
    assert main(["thesis", "--run", "--data", "D", "data.n=2"]) == 1, "the worst exit code"
    (command,) = ran
    assert command[0] == sys.executable
    assert command[1].endswith("/evaluate.py")
    for word in ("experiment=thesis/table_6_1", "editor=recolor", "data=shards", "data.root=D", "data.n=2"):
        assert word in command
    assert "parser.checkpoint=P" in command
    ran.clear()
    found["pipelines"]["sdxl_inpaint"]["place"] = "W"
    assert main(["thesis", "--run", "runtime.device=cpu"]) == 1
    assert [c[2] for c in ran] == [
        "experiment=thesis/table_6_1",
        "experiment=thesis/cascade",
        "experiment=thesis/table_6_1",
    ]


def test_listing_runs_nothing(found, ran):
    found["data"] |= {"photos": 5, "labels": True, "layout": "shards"}
    found["parsers"] = [{"place": "P", "error": None}]
    assert main(["thesis"]) == 0
    assert ran == []


def test_the_presets_compose(compose):
    from semfacediff import config

    cfg = compose("evaluate", "experiment=thesis/table_6_1", "data.root=DIR")
    settings = config.typed(cfg, config.EditingEvaluation)
    assert (settings.protocol, settings.editor.name, settings.seeds) == ("thesis", "sdxl_inpaint", "run")
    assert (settings.editor.strength, settings.editor.guidance, settings.editor.steps) == (0.9, 12.0, 50)
    assert settings.attributes == ["hair", "lips", "skin", "eyes", "eyebrows"]
    assert (settings.data.n, settings.seed, settings.negatives) == (100, 42, "none")

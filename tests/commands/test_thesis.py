"""``semfacediff thesis``: what can run here is known before it is run."""

import sys

import pytest

from semfacediff.cli import main
from semfacediff.commands.thesis import experiments as module


@pytest.fixture
def found(monkeypatch):
    facts = {
        "data": {"photos": 0, "labels": False, "layout": None},
        "parsers": [],
        "records": {"missing": {}, "measured": []},
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
    assert [c[2:4] for c in ran] == [[f"experiment=thesis/{p}", "editor=recolor"] for p in ("table_6_1", "cascade")]
    command = ran[0]
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
        "experiment=thesis/cascade",
    ]


def test_each_part_gets_the_choices_that_it_knows(found, capsys):
    found["parsers"] = [{"place": "P", "error": None}]
    words = "data=toy editor.steps=2 train.epochs=1 strips=0 metrics.on_missing=skip loss=dice seed=3 sead=4".split()
    assert main(["thesis", *words]) == 0
    said = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("  python")]
    training, benchmark, recoloured = said[0], said[1], said[3]
    everywhere = {"data=toy", "seed=3", "sead=4"}
    assert {"train.epochs=1", "loss=dice"} | everywhere <= set(training)
    assert {"editor.steps=2", "strips=0", "metrics.on_missing=skip"} | everywhere <= set(benchmark)
    assert not {"train.epochs=1", "loss=dice"} & set(benchmark)
    assert not {"editor.steps=2", "strips=0", "metrics.on_missing=skip"} & set(training)
    assert "strips=0" in recoloured
    assert "editor.steps=2" not in recoloured, "it is the pipeline's"


@pytest.mark.parametrize(
    ("words", "layout", "all_photos"),
    [
        (["data=toy"], None, True),
        (["data=folder"], None, True),
        ([], "shards", True),
        (["data=toy", "data.split=test"], None, False),
        (["data=lapa"], None, False),
        ([], "celebamask_hq", False),
    ],
)
def test_data_without_a_test_part_are_taken_whole(found, capsys, words, layout, all_photos):
    found["data"] |= {"photos": 5, "labels": True, "layout": layout}
    main(["thesis", *words])
    said = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("  python evaluate.py")]
    assert [("data.split=all" in command) for command in said] == [all_photos] * 4


def test_drawn_faces_enter_no_record_of_the_thesis(found, capsys):
    for word, place in (("data=toy", "outputs/thesis/thesis_6_1"), ("data=shards", "results/runs/thesis_6_1")):
        main(["thesis", word])
        assert f"{place}\n" in capsys.readouterr().out


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
    assert (settings.data.n, settings.seed, settings.negatives) == (100, 42, "empty")

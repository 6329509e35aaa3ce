"""Every command of README and docs: its options parse, its configuration composes, what it names is there."""

import functools
import re
import tomllib
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from semfacediff import cli, config, plugins
from semfacediff.scripts import SCRIPTS

from .documented import commands

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = commands(ROOT)
HYDRA_FLAGS = {"-m", "--help", "--config-dir"}
OF_HYDRA = {"hydra.run.dir", "hydra.sweep.dir", "hydra.sweeper.max_batch_size", "hydra/launcher"}
OTHER_PROGRAMS = {"wandb": {"login", "offline", "disabled", "sweep", "agent"}, "accelerate": {"launch", "config"}}
OF_A_USER = {"experiment=first"}
"""Choices that lie in a project of ``semfacediff init``, which tests/test_installed.py starts."""


parser = functools.cache(cli.command_line)


@pytest.fixture
def _my_module(tmp_path, monkeypatch):
    """``my_module`` of docs/bring-your-own.md: the examples under its names."""
    (tmp_path / "my_module.py").write_text(
        "from blur_editor import Blur as MyEditor\nfrom edge_density import EdgeDensity as MyMetric\n"
        "from polygon_faces import PolygonFaces as MyFaces\nfrom deeplab_parser import PARSER, DeepLab as MyParser\n"
    )
    monkeypatch.syspath_prepend(ROOT / "examples")
    monkeypatch.syspath_prepend(tmp_path)


def as_one_run(words, is_sweep) -> list[str]:
    """Overrides of a job: the first cell of a sweep, without what Hydra keeps for itself."""
    of_job = []
    for override in OverridesParser.create().parse_overrides(list(words)):
        text, key = override.input_line, override.key_or_group
        if key.startswith(("hydra.", "hydra/")):
            assert key in OF_HYDRA or key.startswith("hydra.launcher."), f"Hydra has no {key}"
        elif override.is_sweep_override():
            assert is_sweep, f"{text} has several values, and -m is missing"
            of_job.append(f"{key}={next(override.sweep_string_iterator())}")
        elif text not in OF_A_USER:
            of_job.append(text)
    return of_job


def check_script(command, compose, monkeypatch) -> None:
    for word in re.findall(r"^SEMFACEDIFF_DATA=(\S+)", command.text):
        monkeypatch.setenv("SEMFACEDIFF_DATA", word)
    words = [word for word in command.after if word not in (*HYDRA_FLAGS, "DIR/experiments")]
    if "experiment=thesis/all" in words:  # of several scripts: the subcommand starts it
        parser().parse_args(["thesis", "--run", *words])
        return
    sweep = "-m" in command.after
    for word in words:
        preset = ROOT / "experiments" / f"{word.replace('=', '/', 1)}.yaml"
        if preset.is_file() and "sweeper:" in preset.read_text("utf-8"):
            assert sweep, f"{word} is a sweep, and -m is missing"
    cfg = compose(command.script, *as_one_run(words, sweep))
    config.typed(cfg, *(getattr(config, model) for model in SCRIPTS[command.script]))


def check_subcommand(words, compose, capsys) -> None:
    if len(words) == 1 and words[0] in cli.SUBCOMMANDS:  # a name in a sentence, without what it requires
        return
    try:
        arguments = vars(parser().parse_args(words))
    except SystemExit as e:
        if e.code:
            raise ValueError(capsys.readouterr().err) from e
        return
    overrides = [*(arguments.get("set") or []), *(arguments.get("words") or [])]
    if editor := arguments.get("editor"):
        overrides.append(f"editor={editor}")
    if overrides:
        compose("evaluate", *overrides)


def check_other(words) -> None:
    program, *rest = words
    if program == "make":
        assert re.search(rf"^{rest[0]}:", (ROOT / "Makefile").read_text("utf-8"), re.M), f"no target {rest[0]}"
    elif program in OTHER_PROGRAMS:
        assert rest[0] in OTHER_PROGRAMS[program]
        assert all((ROOT / word).is_file() for word in rest if word.endswith(".yaml"))
    elif program == "pip":
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
        named = [name for word in rest for group in re.findall(r"\[(.+)\]", word) for name in group.split(",")]
        assert set(named) <= set(extras)
    elif rest[0] != "-m":
        text = (ROOT / rest[0]).read_text("utf-8")
        assert all(f'"{word}"' in text for word in rest if word.startswith("--")), f"{rest[0]} lacks an option"


def check(command, compose, capsys, monkeypatch) -> None:
    words = list(command.words)
    if words[:3] == ["python", "-m", "semfacediff.cli"]:
        words = ["semfacediff", *words[3:]]
    if command.script:
        check_script(command, compose, monkeypatch)
    elif words[0] == "semfacediff":
        check_subcommand(words[1:], compose, capsys)
    else:
        check_other(words)


@pytest.mark.usefixtures("_my_module")
def test_every_command_is_one_that_the_program_takes(compose, capsys, monkeypatch):
    monkeypatch.setattr(plugins, "installed", functools.cache(plugins.installed))  # reads every installed package
    assert len(COMMANDS) > 200
    wrong = []
    for command in COMMANDS:
        try:
            with monkeypatch.context() as patched:
                check(command, compose, capsys, patched)
        except Exception as e:
            wrong.append(f"{command.page}: {command.text}: {type(e).__name__}: {e}")
    assert not wrong, "\n".join(wrong)

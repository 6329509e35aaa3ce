"""Every command of README and docs: its options parse, its configuration composes, what it names is there."""

import functools
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from semfacediff import cli, config, plugins
from semfacediff.scripts import SCRIPTS

from .conftest import write_tar
from .documented import Command, commands

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
        assert [word for word in rest if word.endswith(".yaml") and not (ROOT / word).is_file()] == []
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
        if not (command.of_text and words[1:] in [[name] for name in cli.SUBCOMMANDS]):  # not just its name
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


def test_what_counts_as_a_command(tmp_path):
    (tmp_path / "README.md").write_text(
        "```\nA=B python evaluate.py -m data=... \\\n  editor=a,b [parser.checkpoint=RUN]   # why\n```\n"
        "```python\nsemfacediff.parse(photo)\n```\n    semfacediff export RUN|PATH... --to half|onnx [--out DIR]\n"
        "`pip install '.[web]'; semfacediff web` or `semfacediff` or `parser=x`\n"
    )
    found = [(c.words, c.script, c.of_text) for c in commands(tmp_path)]
    assert found == [
        (("python", "evaluate.py", "-m", "data=toy", "editor=a,b", "parser.checkpoint=RUN"), "evaluate", False),
        (("semfacediff", "export", "RUN", "--to", "half", "--out", "DIR"), None, False),
        (("pip", "install", ".[web]"), None, True),
        (("semfacediff", "web"), None, True),
    ]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("semfacediff tables RUN --formt tex", "unrecognized arguments: --formt"),
        ("semfacediff parse", "required: PHOTO"),
        ("semfacediff check-data data.rot=DIR", "data.rot=DIR"),
        ("python evaluate.py data=folder data.rot=DIR", "data.rot=DIR"),
        ("python evaluate.py data=folder data.root=DIR data.n=x", "data.n"),
        ("python evaluate.py composite=off,exact", "-m is missing"),
        ("python evaluate.py experiment=ablations/composite", "-m is missing"),
        ("python evaluate.py -m experiment=ablations/composite", "data.root is not set"),
        ("python evaluate.py hydra.run.folder=X", "Hydra has no hydra.run.folder"),
        ("make tets", "no target tets"),
        ("python benchmarks/all.py --quik", "lacks an option"),
        ("wandb sweep experiments/wandb/none.yaml", "none.yaml"),
        ("pip install '.[wbe]'", "wbe"),
    ],
)
def test_a_wrong_command_is_found(text, why, tmp_path, compose, capsys, monkeypatch):
    (tmp_path / "README.md").write_text(f"```\n{text}\n```\n")
    (command,) = commands(tmp_path)
    with pytest.raises((Exception, SystemExit), match=re.escape(why)):
        check(command, compose, capsys, monkeypatch)


IN_A_TEXT = r"(?<!\S){}(?!\S)"
PLACES = {
    "parser.checkpoint=RUN": "parser.checkpoint=PARSER",
    "parser.checkpoint=JUDGE": "parser.checkpoint=PARSER",
    "export RUN": "export PARSER",
    "--parser RUN": "--parser PARSER",
    "--checkpoint RUN": "--checkpoint PARSER",
    "--parser FOLDER": "--parser PARSER",
    "rescore RUN": "rescore RESCORED",
    "compare RUN RUN RUN": "compare RUN OTHER",
    "compare RUN RUN": "compare RUN OTHER",
    "--photos DIR --edits DIR": "--photos P --edits E",
    "--out DIR": "--out OUT",
    "hydra.run.dir=RUN": "hydra.run.dir=TRAINED",
    "--weights DIR": "--set weights.lpips_alexnet=ALEXNET --set weights.clip=random --set weights.inception=random",
    "editor.donors=DIR_OF_OTHER_PEOPLE": "editor.donors=P",
    "experiment=controls": "experiment=controls editor.kind=nothing,jpeg_50",
    "experiment=ablations/feather_sigma": "experiment=ablations/feather_sigma region.feather_sigma_px=0,7",
    "--label-space NAME": "--label-space celebamask",
    "tables RUN --format md --columns SCORE,": "tables RUN --format md --columns ssim,seam",
    "--out FILE": "--out mine.md",
    "--rank SCORE": "--rank seam",
}
"""Placeholder -> what it is in the folder in which the commands run; ``RUN``, ``DIR``, ``P`` and others lie there."""
QUICK = {
    "evaluate": "runtime.workers=0 runtime.device=cpu data.n=1 metrics.on_missing=skip metrics.clip.model=ViT-S-32-alt",
    "train_parser": "runtime.workers=0 runtime.device=cpu limit=4 train.size=32 train.epochs=1 train.batch_size=2",
    "train_synthesis": "runtime.workers=0 runtime.device=cpu limit=3 vq.steps=1",
}
NOT_RUN = {
    "semfacediff web": "serves until Ctrl-C; tests/web, tests/test_installed.py",
    "semfacediff fetch": "needs a network; tests/fetching",
    "experiment=thesis/cascade": "needs the weights of SDXL; tests/tasks/test_cascade.py",
}


def chosen() -> list[Command]:
    """Those of the README and the first line of each page, once each."""
    seen: dict[tuple[str, ...], Command] = {}
    for page in dict.fromkeys(command.page for command in COMMANDS):
        of_page = [c for c in COMMANDS if c.page == page and (page == "README.md" or not c.of_text)]
        for command in of_page if page == "README.md" else of_page[:1]:
            ours = command.script or command.words[0] == "semfacediff"
            bare = not command.after if command.script else len(command.words) == 2
            in_a_sentence = bare and command.of_text
            if ours and not in_a_sentence and not any(words in command.text for words in NOT_RUN):
                seen.setdefault(command.words, command)
    return list(seen.values())


@pytest.fixture(scope="module")
def place(tmp_path_factory, portrait, encode, tiny_checkpoint, alexnet_file, official_tree, drawn) -> Path:
    """A folder in which what the docs call ``DIR`` or ``RUN`` exists."""
    root = tmp_path_factory.mktemp("place")
    for name in ("me.jpg", "photo.jpg", "PHOTO"):
        (root / name).write_bytes(encode(portrait, "jpeg"))
    for name, target in (("PARSER", tiny_checkpoint), ("ALEXNET", alexnet_file), ("OFFICIAL", official_tree)):
        (root / name).symlink_to(target)
    from semfacediff.data.toy import ToyFaces

    members = {}
    for folder in ("DIR/images", "DIR/masks", "P", "E"):
        (root / folder).mkdir(parents=True)
    for face in ToyFaces(11, 64):
        photo, labels = encode(face.photo), encode(face.labels)
        members |= {f"{face.id}.png": labels, f"{face.id}.webp": encode(face.photo, "webp", lossless=True)}
        for file, content in (("DIR/images", photo), ("DIR/masks", labels), ("P", photo), ("E", photo)):
            (root / file / f"{face.id}.png").write_bytes(content)
    write_tar(root / "DIR" / "toy-00000.tar", members)
    words = "data=folder data.root=DIR editor=recolor metrics.on_missing=skip attributes=[hair]"
    for name, sigma in (("RUN", 3), ("OTHER", 7)):
        run = [*words.split(), *QUICK["evaluate"].split(), "data.n=6", f"region.feather_sigma_px={sigma}"]
        done(root, [sys.executable, ROOT / "evaluate.py", *run, f"hydra.run.dir={name}"])
    shutil.copytree(root / "RUN", root / "RESCORED")  # with random weights, after which it is not comparable
    return root


def done(folder: Path, words) -> str:
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "SEMFACEDIFF_DATA": str(folder / "DIR")}
    made = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=400)
    assert made.returncode == 0, made.stderr[-3000:]
    return made.stdout


@pytest.mark.more
@pytest.mark.parametrize("command", chosen(), ids=lambda command: f"{command.page}: {command.text}")
def test_it_runs_on_drawn_faces(place, command, monkeypatch, capsys):
    line = shlex.join(command.words)
    for placeholder, real in PLACES.items():
        line = re.sub(IN_A_TEXT.format(re.escape(placeholder)), real, line)
    words = shlex.split(line)
    for made in ("OUT", "TRAINED"):
        shutil.rmtree(place / made, ignore_errors=True)
    monkeypatch.chdir(place)
    monkeypatch.setenv("SEMFACEDIFF_DATA", "DIR")
    if not command.script:
        assert cli.main(words[1:]) == 0, capsys.readouterr().err
        return
    after = [*words[len(command.words) - len(command.after) :], *QUICK[command.script].split()]
    done(place, [sys.executable, "-m", "semfacediff.cli", command.script.replace("_", "-"), *after])

"""The wheel in an empty environment: commands, presets and API work from any folder, and nothing is written beside it.

The environment sees this interpreter's packages through one ``.pth`` file; ``src/`` is not on its path.
"""

import ast
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest

import semfacediff
from semfacediff.commands.init.project import start_project
from semfacediff.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
QUICK = "data=toy data.count=2 data.size=64 parser=ground_truth metrics=no_weights attributes=[hair]".split()
HERE = ["runtime.workers=0", "runtime.device=cpu"]


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """``bin`` of an environment with the wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    quiet = {"check": True, "capture_output": True, "text": True, "env": ENVIRONMENT}
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)], cwd=ROOT, **quiet)
    (wheel,) = folder.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "env")], **quiet)
    python = folder / "env" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(pip, **quiet)
    (site,) = (folder / "env" / "lib").glob("*/site-packages")
    (site / "these.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python.parent


def files(environment: Path) -> set[Path]:
    (package,) = environment.parent.glob("lib/*/site-packages/semfacediff")
    return {file for file in package.rglob("*") if "__pycache__" not in file.parts}


def run(environment, folder, *words, program="semfacediff"):
    command = [str(environment / program), *words]
    done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


IN_ONE_PROCESS = """
import sys
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image

import semfacediff
from semfacediff.cli import main

assert Path(semfacediff.__file__).is_relative_to(sys.prefix), semfacediff.__file__
photo = "portrait.png"
Image.fromarray(skimage.data.astronaut()[:256, 96:352]).save(photo)
assert main(["tables", "segface_released"]) == 0
assert main(["doctor"]) == 0
assert main(["parse", photo, "--out", "parsed", "--device", "cpu"]) == 0
assert main(["edit", photo, "hair", "red hair", "--editor", "recolor", "--device", "cpu", "--out", "edited"]) == 0
labels = np.zeros((8, 8), np.int64)
labels[2:5, 2:5] = 13
assert np.array_equal(semfacediff.region_mask(labels, "hair"), 255 * (labels == 13))
"""


OTHER_FUNCTIONS = """
import sys
from pathlib import Path

import numpy as np
import torch

import semfacediff
from semfacediff.data.toy import ToyFaces
from semfacediff.metrics.inception import Inception

assert Path(semfacediff.__file__).is_relative_to(sys.prefix), semfacediff.__file__
photos = [face.photo for face in ToyFaces(2, 64)]
labels = semfacediff.parse(photos[0], device="cpu")
assert labels.shape == (64, 64)
mask = semfacediff.region_mask(labels, "skin")
edited = semfacediff.edit(photos[0], "skin", "blue skin", labels=labels, device="cpu")
changed = (edited != photos[0]).any(-1)
assert changed.any() and not changed[mask == 0].any()
after = semfacediff.parse(edited, device="cpu")
scores = semfacediff.score(photos[0], edited, mask, attribute="skin", labels=labels, edit_labels=after)
assert scores["max_abs_outside"] == 0 and 0 <= scores["iou"] <= 1, scores
random = Inception(None, "random", torch.device("cpu")).net.state_dict()
torch.save(random | {"fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}, "inception.pth")
sets = semfacediff.score_sets(photos, photos, weights={"inception": "inception.pth"}, device="cpu")
assert sets["fid_n"] == 2 and 0 <= sets["fid"] < 1e-3, sets
"""


def test_commands_and_api_from_an_empty_folder(environment, tmp_path):
    before = files(environment)
    printed = run(environment, tmp_path, "-c", IN_ONE_PROCESS, program="python")
    assert "convnext_base" in (tmp_path / "results" / "tables" / "segface_released.md").read_text()
    assert "segface_released" in printed.partition("tables from records: ")[2].partition("\n")[0]
    assert (tmp_path / "parsed" / "portrait.png").exists()
    assert (tmp_path / "edited" / "portrait.png").exists()
    assert files(environment) == before, "nothing is written beside the package"


@pytest.mark.more
def test_every_example_runs_by_the_command_in_its_first_lines(environment, tmp_path, encode):
    for file in (ROOT / "examples").glob("*.py"):
        shutil.copy(file, tmp_path)
    (tmp_path / "DIR").mkdir()
    for i in range(2):
        (tmp_path / "DIR" / f"{i}.png").write_bytes(encode(np.full((64, 64, 3), 90 * i, np.uint8)))
        (tmp_path / "DIR" / f"{i}.json").write_text(json.dumps({"hair": [[[20, 10], [40, 10], [40, 30], [20, 30]]]}))
    names = ("blur_editor", "edge_density", "torchmetrics_metric", "deeplab_parser", "polygon_faces")
    for name in names:
        said = ast.get_docstring(ast.parse((tmp_path / f"{name}.py").read_text()))
        words = shlex.split(said.split("\nsemfacediff ")[1])
        small = QUICK if words[0] == "evaluate" else ["data=toy", "data.count=20", "data.size=64", "train.epochs=1"]
        given = {word.partition("=")[0] for word in words}
        given |= {"data.count", "data.size"} if name == "polygon_faces" else set()
        more = [word for word in small if word.partition("=")[0] not in given]
        done = run(environment, tmp_path, *words, *more, *HERE, f"hydra.run.dir={name}")
        assert json.loads((tmp_path / name / "run.json").read_text())["status"] == "done", done


def test_a_starter_project(environment, tmp_path):
    project = tmp_path / "own project"
    assert start_project(project) == 0
    (project / "conf" / "prompts" / "loud.yaml").write_text("hair: bright red hair\nlips: blue lips\n")
    composed = run(environment, project, "evaluate", "experiment=first", "prompts=loud", "--cfg", "job")
    assert "bright red hair" in composed
    assert "\nname: first\n" in composed
    with pytest.raises(UserError, match="own project is not empty; name a new folder"):
        start_project(project)


def test_the_wheel_carries_what_git_does_not_ignore(environment):
    (carried,) = environment.parent.glob("lib/*/site-packages/semfacediff/carried")
    words = [
        "git",
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
        "conf",
        "experiments",
        "results/published",
    ]
    listed = subprocess.run(words, cwd=ROOT, capture_output=True, text=True).stdout.split()
    if not listed:
        pytest.skip("not a checkout of git")
    assert {str(f.relative_to(carried)) for f in carried.rglob("*") if f.is_file()} == set(listed)


@pytest.mark.more
def test_runs_sweep_training_and_report(environment, tmp_path):
    before = files(environment)
    run(environment, tmp_path, "evaluate", *QUICK, *HERE, "hydra.run.dir=run")
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["command"].startswith("semfacediff evaluate data=toy ")
    assert record["code"] == {"version": semfacediff.__version__, "commit": None, "dirty": None}
    run(environment, tmp_path, "evaluate", "-m", *QUICK, *HERE, "composite=off,blend")
    assert len(list((tmp_path / "outputs").rglob("run.json"))) == 2
    run(environment, tmp_path, "init", "project")
    presets = ["--config-dir", "project/experiments", "experiment=first", "prompts=demo"]
    assert "\nname: first\n" in run(environment, tmp_path, "evaluate", *presets, "--cfg", "job")
    tiny = ["train.epochs=1", "train.size=32", "train.batch_size=2", "hydra.run.dir=trained"]
    run(environment, tmp_path, "train-parser", "data=toy", "data.count=10", "data.size=32", *tiny, *HERE)
    run(environment, tmp_path, "report", "run", "trained", "--out", "report")
    assert (tmp_path / "report" / "index.html").exists()
    again = [sys.executable, str(ROOT / "evaluate.py"), *QUICK, *HERE, "hydra.run.dir=checkout"]
    subprocess.run(again, cwd=tmp_path, check=True, capture_output=True)
    for name in ("summary.csv", "leakage.csv"):
        frames = [(tmp_path / folder / name).read_text().splitlines() for folder in ("run", "checkout")]
        assert [len(f) for f in frames] == [len(frames[0])] * 2
    assert files(environment) == before


@pytest.mark.more
def test_the_other_functions(environment, tmp_path):
    before = files(environment)
    run(environment, tmp_path, "-c", OTHER_FUNCTIONS, program="python")
    assert [file.name for file in tmp_path.iterdir()] == ["inception.pth"], "functions on arrays write nothing"
    assert files(environment) == before


@pytest.mark.more
def test_the_page(environment, tmp_path):
    pytest.importorskip("gradio", reason="the extra 'web'")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    command = [environment / "semfacediff", "web", "--port", str(port), "--device", "cpu"]
    page = subprocess.Popen(command, cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
                    assert answer.status == 200
                break
            except OSError:  # refused, or slow on a busy machine
                assert page.poll() is None, page.stderr.read()
                assert time.monotonic() < deadline
                time.sleep(0.2)
    finally:
        page.send_signal(signal.SIGINT)
        page.wait(timeout=60)
    assert shutil.which("semfacediff", path=environment)

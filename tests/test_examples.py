"""The five plug-ins in ``examples/``: short, conforming, and usable as their first lines say."""

import ast
import json
import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from semfacediff import cli, config, plugins, tasks
from semfacediff.hydra_app import composed
from semfacediff.testing import check_data, check_editor, check_metric, check_parser

ROOT = Path(__file__).resolve().parents[1]
FILES = [f for f in sorted((ROOT / "examples").glob("*.py")) if f.stem not in ("optuna_search", "tint_program")]
PLACE = "runtime.device=cpu runtime.workers=0 tracking=none".split()


@pytest.fixture(autouse=True)
def _in_their_folder(monkeypatch):
    """As a user who has copied them; Python finds them in the current folder alone."""
    monkeypatch.chdir(ROOT / "examples")
    monkeypatch.syspath_prepend(ROOT / "examples")


@pytest.fixture
def polygons(tmp_path, toy_samples, encode):
    """Two photos with their hair as a polygon, and what the labels should be."""
    labels = np.zeros((64, 64), np.uint8)
    labels[10:31, 20:41] = 13
    for s in toy_samples(2):
        (tmp_path / f"{s.id}.png").write_bytes(encode(s.photo))
        square = [[20, 10], [40, 10], [40, 30], [20, 30]]
        (tmp_path / f"{s.id}.json").write_text(json.dumps({"hair": [square]}))
    return tmp_path, labels


def evaluated(folder, *words):
    plain = "data.count=2 data.size=64 parser=ground_truth metrics=no_weights attributes=[hair] strips=0".split()
    plain = [w for w in plain if not (w.startswith("data.") and "data=python" in words)]
    cfg = composed("evaluate", [*plain, *PLACE, *words], ROOT)
    assert tasks.start(config.typed(cfg, config.EditingEvaluation), folder) == 0
    return json.loads((folder / "run.json").read_text())


def test_there_are_five_and_each_is_short():
    assert len(FILES) == 5
    for file in FILES:
        assert len(file.read_text().splitlines()) < 60
        assert "\nsemfacediff " in ast.get_docstring(ast.parse(file.read_text()))


def test_an_editor_a_metric_and_a_data_set_in_one_run(tmp_path, polygons):
    root, labels = polygons
    from polygon_faces import PolygonFaces

    faces = PolygonFaces(root)
    check_data(faces)
    assert np.array_equal(faces[0].labels, labels)
    run = evaluated(
        tmp_path / "run",
        *("editor=python", "editor.target=blur_editor:Blur", "editor.options={sigma_px:2}"),
        *("data=python", "data.target=polygon_faces:PolygonFaces", f"data.options={{root:{root}}}"),
        *("metrics.columns=[psnr,edge_density:EdgeDensity]", "composite=off"),
        "metrics.options={EdgeDensity:{threshold:0.2}}",
    )
    identity = run["identity"]
    assert identity["config"]["editor"] == {"name": "blur_editor:Blur", "sigma_px": 2.0}
    assert identity["config"]["data"]["root"] is None
    assert str(root) not in json.dumps(run) + (tmp_path / "run/config.yaml").read_text()
    assert identity["inputs"]["metrics"]["edge_change_points"]["threshold"] == 0.2
    assert len(identity["inputs"]["metrics"]["edge_change_points"]["code"]) == 64
    assert len(identity["inputs"]["editor"]["digest"]) == 64
    rows = pd.read_parquet(tmp_path / "run" / "samples.parquet")
    assert (rows["edge_change_points"] == 0).all()
    assert rows["max_abs_outside"].eq(0).all()


def test_the_editor_and_the_metric_conform():
    check_editor(plugins.made("editor", "blur_editor:Blur", {}))
    check_metric(plugins.made("metric", "edge_density:EdgeDensity", {}))


@pytest.mark.slow
def test_a_metric_of_torchmetrics():
    name = "torchmetrics_metric:FromTorchmetrics"
    check_metric(plugins.made("metric", name, {}))
    with pytest.raises(ValueError, match=r"function: torchmetrics.functional.image has no 'nothing'"):
        plugins.made("metric", name, {"function": "nothing"})


@pytest.mark.slow
def test_a_parser_of_torchvision():
    from semfacediff.parsing import build_parser

    model = build_parser("deeplab_parser:PARSER", classes=11)
    check_parser(model, classes=11)


def test_editors_of_four_kinds_in_one_table(tmp_path, tiny_sdxl, capsys, monkeypatch):
    """Built in, a class, a program, and a maskless model; what a sweep runs one after another."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    preset = yaml.safe_load((ROOT / "experiments" / "experiment" / "demo" / "editors.yaml").read_text())
    kinds = preset["hydra"]["sweeper"]["params"]["editor"].split(",")
    small = ["data.count=5", "data.size=64", "metrics.columns=[effect,ssim]", "parser=ground_truth", *PLACE]
    for kind in kinds:
        own = [f"editor.model={tiny_sdxl / 'instruct'}", "editor.steps=1"] if kind == "example_instruct" else []
        cfg = composed("evaluate", ["experiment=demo/editors", f"editor={kind}", *small, *own], ROOT)
        assert tasks.start(config.typed(cfg, config.EditingEvaluation), tmp_path / kind) == 0
    folders = [str(tmp_path / kind) for kind in kinds]
    capsys.readouterr()
    assert cli.main(["compare", *folders]) == 2
    assert "example_instruct: not comparable (editor: random weights, for tests)" in capsys.readouterr().err
    assert cli.main(["compare", "--doubtful", *folders]) == 0
    table = capsys.readouterr().out
    assert all(f"| hair      | {kind:<16} |" in table for kind in kinds)
    assert "not comparable: example_instruct (editor: random weights, for tests)" in table
    heading = next(line for line in table.splitlines() if line.startswith("| attribute"))
    assert heading.index("SSIM raw") < heading.index("change CIEDE2000")

"""docs/status.md is what the records give, and docs/expected.md has the published values and the ranges it defines."""

import importlib.util
import json
import math
import re

import pandas as pd
import pytest
import yaml


@pytest.fixture(scope="module")
def status(repository):
    spec = importlib.util.spec_from_file_location("status", repository / "docs" / "status.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_not_stale(status, capsys):
    assert status.main(["--check"]) == 0, capsys.readouterr().err


def test_a_stale_page_is_said(status, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(status, "PAGE", tmp_path / "status.md")
    assert status.main(["--check"]) == 1
    assert capsys.readouterr().err == "error: docs/status.md is stale; run: python docs/status.py\n"
    assert status.main([]) == 0
    assert status.main(["--check"]) == 0


@pytest.mark.parametrize(
    ("changes", "said", "reproduced"),
    [
        ({}, "| `mine` |", "1 of 1"),
        ({"not_comparable": ["weights"]}, "| no |", "none of 1"),
        ({"status": "incomplete"}, "| no |", "none of 1"),
    ],
)
def test_a_finished_comparable_record_fills_the_last_column(
    status, repository, tmp_path, monkeypatch, changes, said, reproduced
):
    run = json.loads((repository / "results/runs/recolor_thesis/run.json").read_text())
    run = {**run, "parser": {**run["parser"], "digest": "other"}, "judge": None} | changes
    (tmp_path / "results/runs/mine").mkdir(parents=True)
    (tmp_path / "results/runs/mine/run.json").write_text(json.dumps(run))
    (tmp_path / "a.py").touch()
    entry = {"what": "W", "built": ["a.py"], "equal": [], "runs": ["mine"], "command": "c", "minutes": 1200, "gib": 2}
    text = status.page(tmp_path, [{"document": "D", "entries": [entry]}])
    assert f"Reproduced today: {reproduced}." in text
    assert said in text
    assert "| W | [a.py](../a.py) | no reference output |" in text
    assert text.endswith("| `c` | 1,200 | 2 |\n")
    two = status.page(tmp_path, [{"document": "D", "entries": [entry | {"runs": ["mine", "absent"]}]}])
    assert "Reproduced today: none of 1." in two
    with pytest.raises(FileNotFoundError, match=r"names b\.py, which is not there"):
        status.page(tmp_path, [{"document": "D", "entries": [entry | {"equal": ["b.py some words"]}]}])


def test_every_published_table_has_an_entry(status, repository):
    """Of the founding documents; FaRL is none of them."""
    told = (repository / "docs" / "status.yaml").read_text()
    entries = [e for document in yaml.safe_load(told) for e in document["entries"]]
    named = {path for e in entries for path in e["built"]} | {
        f"experiments/tables/{e.get('table')}.yaml" for e in entries
    }
    tables = {
        f"experiments/tables/segface_{name}.yaml" for name in ("lapa", "celebamask_hq", "helen", "table_2a", "table_2b")
    }
    assert tables | {f"experiments/tables/{n}.yaml" for n in ("thesis_6_1", "sca_dm_table_1", "sca_dm_steps")} <= named


def test_expected_ranges_are_those_of_its_definition(repository):
    page = (repository / "docs" / "expected.md").read_text()
    published = pd.read_csv(repository / "results/published/semfacediff_table_6_1.csv").set_index("attribute")
    titles = {"lpips": "LPIPS", "ssim": "SSIM", "iou": "Mask IoU", "clip": r"CLIP \(100 x cosine\)"}
    number = r"(\d+\.\d+)"
    for score, title in titles.items():
        block = re.search(rf"### {title}\n(.*?)\n###", page, re.DOTALL)[1]
        for attribute, row in published.iterrows():
            cells = re.search(rf"\| {attribute} \| {number} \| {number} to {number} \| {number} to {number} \|", block)
            mean, sd, last = row[f"{score}_mean"], row[f"{score}_sd"], 0.51 * 10 ** -(2 if score == "clip" else 4)
            each = [2 * sd * math.sqrt(1 / 100 + 1 / n) for n in (100, 20)]
            wanted = [mean, mean - each[0], mean + each[0], mean - each[1], mean + each[1]]
            assert [float(x) for x in cells.groups()] == pytest.approx(wanted, rel=0, abs=last)
            name = "IoU" if score == "iou" else title.partition(" ")[0]
            cells = re.search(
                rf"\| {attribute} \| {name} \| {number} \| {number} to {number} \| {number} to {number} \|", page
            )
            ratios = [math.exp(2 * math.sqrt(1 / 198 + 1 / (2 * n - 2))) for n in (100, 20)]
            wanted = [sd, sd / ratios[0], sd * ratios[0], sd / ratios[1], sd * ratios[1]]
            assert [float(x) for x in cells.groups()] == pytest.approx(wanted, rel=0, abs=last)

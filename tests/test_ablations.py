"""Every ablation of the editing benchmark says what it costs and feeds, and all of its cells can be run."""

import itertools
import re
from pathlib import Path

import pytest
import yaml

from semfacediff import config
from semfacediff.hydra_app import composed
from semfacediff.tasks.folder_digest import folder_digest

ROOT = Path(__file__).resolve().parents[1]
ABLATIONS = ROOT / "experiments" / "experiment" / "ablations"
OF_TRAININGS = ("parser_", "segface_", "recipe")
OF_EDITING = sorted(p.stem for p in ABLATIONS.glob("*.yaml") if not p.stem.startswith(OF_TRAININGS))
WITHOUT_WEIGHTS = {"feather_sigma", "dilation", "composite", "cascade", "parser", "working_size"}


def cells(name) -> list[list[str]]:
    """The words of every job of a sweep."""
    params = yaml.safe_load((ABLATIONS / f"{name}.yaml").read_text()).get("hydra", {}).get("sweeper", {}).get("params")
    choices = [[f"{key}={value}" for value in str(values).split(",")] for key, values in (params or {}).items()]
    return [list(words) for words in itertools.product(*choices)]


@pytest.fixture
def typed(compose, monkeypatch):
    monkeypatch.setenv("SEMFACEDIFF_DATA", "DIR")

    def typed(name, words):
        cfg = compose("evaluate", f"experiment=ablations/{name}", "parser.checkpoint=RUN", *words)
        return config.typed(cfg, config.EditingEvaluation)

    return typed


def test_all_ablations_are_there():
    asked = "strength guidance steps scheduler negatives".split()
    assert sorted({*asked, *WITHOUT_WEIGHTS}) == OF_EDITING


@pytest.mark.parametrize("name", OF_EDITING)
def test_an_ablation_opens_with_its_command_its_cost_and_its_table(name, typed):
    opening = (ABLATIONS / f"{name}.yaml").read_text().split("defaults:")[0]
    assert f"python evaluate.py -m experiment=ablations/{name}" in opening
    assert f"table ablation_{name} (add hydra.sweep.dir=results/runs/{name})" in opening
    edits = re.search(r"([\d,]+) edits", opening)[1].replace(",", "")
    per_cell = int(edits) // max(1, len(cells(name)))
    settings = typed(name, [])
    stages = len(settings.cascade.stages) if settings.cascade else len(settings.attributes)
    assert per_cell == settings.data.n * stages


@pytest.mark.parametrize("name", OF_EDITING)
def test_the_cells_of_an_ablation_are_different_runs(name, typed):
    settings = [typed(name, words) for words in cells(name)]
    assert name == "parser" or len(settings) >= 3
    assert len({folder_digest(s) for s in settings}) == len(settings)
    assert {s.name for s in settings} <= {name}
    if name in WITHOUT_WEIGHTS:
        assert {s.editor.name for s in settings} <= {"recolor"}


@pytest.mark.parametrize(("name", "n"), [("recipe", 21), ("recipe_rate", 3)])
def test_the_cells_of_the_recipe_are_different_trainings(name, n, monkeypatch):
    monkeypatch.setenv("SEMFACEDIFF_DATA", "DIR")
    jobs = [composed("train_parser", [f"experiment=ablations/{name}", *words], ROOT) for words in cells(name)]
    settings = [config.typed(job, config.ParserTraining) for job in jobs]
    assert len(settings) == n == len({folder_digest(s) for s in settings})
    rates = {(s.optim.encoder_lr, s.optim.decoder_lr) for s in settings}
    own = {(3e-4, 3e-3), (0, 3e-3), (3e-3, 3e-3)} if name == "recipe" else {(1e-4, 1e-3), (3e-4, 3e-3), (1e-3, 1e-2)}
    assert rates == own

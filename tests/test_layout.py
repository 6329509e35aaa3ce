"""Imports point one way, Hydra stays at the edge, and the entry scripts stay thin."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SRC = ROOT / "src" / "semfacediff"
COMMON = {"labels", "types", "errors", "places", "seeding", "threads", "weight_files", "folders", "downloads", "hub"}
STAGES = ("data", "parsing", "training", "regions", "editing", "metrics", "records", "tables", "report")
MODEL_CODE = {"data", "parsing", "regions", "editing", "synthesis"}
JOINING = {"runs", "build", "cli", "hydra_app", "launching", "scripts", "web"}
SCRIPTS = sorted(p for p in ROOT.glob("*.py"))
FILES = sorted(SRC.rglob("*.py"))


def imported(tree):
    """Every imported module by its full name, wherever in the file; ``from a import b`` counts as ``a.b`` too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            yield from (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))


def modules_of(file):
    return set(imported(ast.parse(file.read_text(), str(file))))


def ours(file):
    """First names below ``semfacediff`` that a file imports."""
    names = {m.split(".")[1] for m in modules_of(file) if m.startswith("semfacediff.")}
    return {n for n in names if (SRC / n).is_dir() or (SRC / f"{n}.py").is_file()}


def place(file):
    """The stage of a file, or the name of a module that belongs to none."""
    parts = file.relative_to(SRC).with_suffix("").parts
    return parts[0]


def shown(file):
    return str(file.relative_to(ROOT))


def test_every_module_has_its_place():
    known = COMMON | set(STAGES) | JOINING | {"__init__", "config", "synthesis"}
    assert {place(f) for f in FILES} <= known


@pytest.mark.parametrize("file", [f for f in FILES if place(f) in STAGES], ids=shown)
def test_a_stage_imports_earlier_stages_only(file):
    allowed = COMMON | set(STAGES[: STAGES.index(place(file)) + 1])
    assert ours(file) <= allowed


@pytest.mark.parametrize("file", [f for f in FILES if place(f) == "synthesis"], ids=shown)
def test_synthesis_stands_beside_editing(file):
    assert ours(file) <= COMMON | {"synthesis", "data", "parsing", "metrics"}


MEASURING = [f for f in FILES if place(f) in ("metrics", "records", "tables", "report")]


@pytest.mark.parametrize("file", MEASURING, ids=shown)
def test_what_measures_knows_no_model(file):
    """Scores must not be able to depend on how an edit was made."""
    assert not ours(file) & MODEL_CODE


@pytest.mark.parametrize("file", [f for f in FILES if place(f) in COMMON], ids=shown)
def test_common_ground_stands_on_itself(file):
    assert ours(file) <= COMMON


@pytest.mark.parametrize("file", [f for f in FILES if place(f) not in JOINING], ids=shown)
def test_only_runs_join_stages(file):
    assert not ours(file) & JOINING


def test_the_page_stands_at_the_edge():
    """Nothing but the command imports the page, and a visitor's session knows no page."""
    importers = {place(f) for f in FILES if "web" in ours(f) and place(f) != "web"}
    assert importers == {"cli"}
    gradio = {f.stem for f in FILES if "gradio" in {m.split(".")[0] for m in modules_of(f)}}
    assert gradio == {"page", "tab", "editing_tab", "style_tab", "runs_tab"}


def test_the_configuration_knows_names_and_no_stage():
    for file in (SRC / "config").glob("*.py"):
        assert ours(file) <= {"config", "labels", "errors", "places", "threads"}
    assert ours(SRC / "hydra_app.py") <= {"errors", "config", "places", "records", "runs", "launching", "threads"}
    assert ours(SRC / "launching.py") <= {"errors", "records", "hydra_app"}


@pytest.mark.parametrize("file", [*FILES, *SCRIPTS], ids=shown)
def test_hydra_stays_at_the_edge(file):
    edge = {SRC / "config" / "reading.py", SRC / "build.py", SRC / "hydra_app.py", SRC / "launching.py", *SCRIPTS}
    uses = {m.split(".")[0] for m in modules_of(file)} & {"hydra", "omegaconf"}
    assert not uses or file in edge


@pytest.mark.parametrize("script", SCRIPTS, ids=shown)
def test_entry_scripts_are_thin(script):
    text = script.read_text()
    assert len(text.splitlines()) <= 40
    tree = ast.parse(text)
    assert ast.get_docstring(tree)
    assert "torch" not in {m.split(".")[0] for m in imported(tree)}
    assert not [n for n in ast.walk(tree) if isinstance(n, ast.For | ast.While)]


@pytest.mark.parametrize("script", SCRIPTS, ids=shown)
def test_importing_an_entry_script_loads_nothing_heavy(script):
    heavy = ("torch", "numpy", "cv2", "PIL", "pandas", "matplotlib", "pydantic")
    code = f"import sys, {script.stem}; print([m for m in {heavy} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"

"""Imports point one way, Hydra stays at the edge, and the entry scripts stay thin."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SRC = ROOT / "src" / "semfacediff"
BASE = {
    "errors",
    "labels",
    "colours",
    "types",
    "places",
    "seeding",
    "threads",
    "weight_files",
    "folders",
    "downloads",
    "hub",
    "plugins",
    "sweep_cache",
    "config",
    "controls",
}
"""What every part may import. ``config`` holds the settings as plain models."""
MAY_IMPORT = {
    "faces": set(),
    "data": set(),
    "parsing": {"data", "faces"},
    "regions": {"data", "faces", "parsing"},
    "synthesis": {"data", "parsing", "metrics"},
    "editing": {"data", "faces", "parsing", "regions", "synthesis"},
    "metrics": {"faces"},
    "records": {"metrics"},
    "tables": {"metrics", "records"},
    "report": {"metrics", "records", "tables"},
    "engine": {"data", "records"},
}
"""Part -> the parts that it may import beside the base: earlier stages; the engine knows no task."""
STAGES = set(MAY_IMPORT)
MAY_IMPORT |= {
    "tasks.parsing": STAGES | {"tasks"},
    "tasks.editing": STAGES | {"tasks"},
    "tasks.synthesis": STAGES | {"tasks", "tasks.editing", "tasks.parsing"},
    "tasks.training": STAGES | {"tasks", "tasks.parsing", "tasks.synthesis"},
    "tasks": STAGES | {f"tasks.{name}" for name in ("editing", "parsing", "synthesis", "training")},
}
TASKS = {name for name in MAY_IMPORT if name.startswith("tasks")}
MAY_IMPORT |= {
    "hydra_app": {"hydra_mistakes", "launching", "records", "script_help", "tables", "tasks"},
    "hydra_mistakes": set(),
    "script_help": set(),
    "launching": {"hydra_app", "records"},
    "scripts": {"cli", "hydra_app", "tasks"},
    "api": STAGES | TASKS,
    "testing": STAGES,
    "commands": STAGES | TASKS | {"hydra_app", "web"},
    "web": STAGES | TASKS | {"commands"},
    "cli": {"commands", "scripts"},
    "__init__": {"api"},
}
MODEL_CODE = {"data", "parsing", "regions", "editing", "synthesis"}
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


def part_of(parts):
    """``tasks.<name>`` for a task's package, else the first name below ``semfacediff``."""
    first, *rest = parts
    return f"tasks.{rest[0]}" if first == "tasks" and rest and (SRC / "tasks" / rest[0]).is_dir() else first


def place(file):
    return part_of(file.relative_to(SRC).with_suffix("").parts)


def ours(file):
    """Parts that a file imports, its own excepted."""
    names = [m.split(".")[1:] for m in modules_of(file) if m.startswith("semfacediff.")]
    there = [n for n in names if (SRC / n[0]).is_dir() or (SRC / f"{n[0]}.py").is_file()]
    return {part_of(n) for n in there} - {place(file)}


def shown(file):
    return str(file.relative_to(ROOT))


def test_every_module_has_its_place():
    assert {place(f) for f in FILES} <= BASE | MAY_IMPORT.keys()


@pytest.mark.parametrize("file", FILES, ids=shown)
def test_imports_point_one_way(file):
    own = place(file)
    if own in BASE:
        assert ours(file) <= BASE
        return
    assert ours(file) <= BASE | MAY_IMPORT[own]


@pytest.mark.parametrize(
    "file", [f for f in FILES if place(f) in ("metrics", "records", "tables", "report")], ids=shown
)
def test_what_measures_knows_no_model(file):
    """Scores must not be able to depend on how an edit was made."""
    assert not ours(file) & MODEL_CODE


def test_the_configuration_knows_names_and_no_stage():
    for file in (SRC / "config").glob("*.py"):
        assert ours(file) <= {"labels", "errors", "places", "plugins", "threads", "controls"}


def test_the_page_stands_at_the_edge():
    """Nothing but its command imports the page, and a visitor's session knows no page."""
    importers = {shown(f) for f in FILES if "web" in ours(f)}
    assert importers == {"src/semfacediff/commands/web.py"}
    gradio = {f.stem for f in FILES if "gradio" in {m.split(".")[0] for m in modules_of(f)}}
    assert gradio == {"page", "tab", "editing_tab", "style_tab", "runs_tab"}


@pytest.mark.parametrize("file", sorted((SRC / "commands").glob("*/__init__.py")), ids=shown)
def test_arguments_are_stated_without_what_takes_seconds_to_load(file):
    """``semfacediff --help`` reads these files."""
    top = {m for node in ast.parse(file.read_text()).body for m in imported(ast.Module([node], []))
           if isinstance(node, ast.Import | ast.ImportFrom)}  # fmt: skip
    known = {"argparse", "sys", "pathlib", "pathlib.Path"}
    assert {m for m in top if not m.startswith(("semfacediff.errors", "semfacediff.commands.arguments"))} <= known


@pytest.mark.parametrize("file", [*FILES, *SCRIPTS], ids=shown)
def test_hydra_stays_at_the_edge(file):
    names = ("config/reading", "hydra_app", "hydra_mistakes", "launching", "scripts")
    edge = {*(SRC / f"{name}.py" for name in names), *SCRIPTS}
    uses = {m.split(".")[0] for m in modules_of(file)} & {"hydra", "omegaconf"}
    assert not uses or file in edge


def code_lines(node):
    """Lines of a function without its docstring; ruff counts its arguments."""
    doc = node.body[0].end_lineno - node.body[0].lineno + 1 if ast.get_docstring(node) else 0
    return node.end_lineno - node.lineno + 1 - doc


def test_files_and_functions_are_short():
    functions = [
        (shown(file), node.name, code_lines(node))
        for file in FILES
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert [one for one in functions if one[2] > 50] == []
    assert [shown(file) for file in FILES if len(file.read_text().splitlines()) > 400] == []


def test_the_command_line_is_short():
    assert len((SRC / "cli.py").read_text().splitlines()) <= 60


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

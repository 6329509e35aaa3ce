"""The notebook in examples/ is committed as it was executed, and still runs."""

import json
import re

import pytest

NOTEBOOK = "examples/first_steps.ipynb"
MAX_BYTES = 1_000_000


@pytest.fixture(scope="module")
def committed(repository):
    return json.loads((repository / NOTEBOOK).read_text("utf-8"))


def code(notebook) -> list[dict]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def kinds(cell) -> list[tuple[str, ...]]:
    """What a cell put out: texts, pictures, tables."""
    return [(o["output_type"], *sorted(o.get("data", {}))) for o in cell["outputs"]]


def test_it_was_executed_from_top_to_bottom(repository, committed):
    assert [cell["execution_count"] for cell in code(committed)] == list(range(1, len(code(committed)) + 1))
    outputs = [output for cell in code(committed) for output in cell["outputs"]]
    assert "error" not in {o["output_type"] for o in outputs}
    assert [o["text"] for o in outputs if o.get("name") == "stderr"] == []
    assert (repository / NOTEBOOK).stat().st_size < MAX_BYTES


def test_it_names_no_folder_of_a_machine(repository):
    text = (repository / NOTEBOOK).read_text("utf-8")
    assert re.findall(r"/(?:tmp|home|root|mnt|opt|var|Users)/[^\s\"]*", text) == []


@pytest.mark.more
def test_every_cell_runs_and_puts_out_what_is_committed(repository, committed, tmp_path, monkeypatch):
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("PYTHONPATH", str(repository / "src"))
    notebook = nbformat.read(repository / NOTEBOOK, as_version=4)
    executed = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert [kinds(cell) for cell in code(executed)] == [kinds(cell) for cell in code(committed)]
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"

"""The first notebook is committed as it was executed, the one of the first real table empty; both run."""

import json
import re

import pytest

NOTEBOOK = "examples/first_steps.ipynb"
REAL = "examples/first_real_table.ipynb"
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


class TestTheFirstRealTable:
    @pytest.fixture
    def cells(self, repository) -> list[dict]:
        return code(json.loads((repository / REAL).read_text("utf-8")))

    def test_five_cells_without_outputs_and_without_an_address(self, repository, cells):
        assert len(cells) == 5
        assert [(cell["execution_count"], cell["outputs"]) for cell in cells] == [(None, [])] * 5
        text = (repository / REAL).read_text("utf-8")
        assert not re.search(r"https?:", text), "the project has no public address yet"
        assert "<!-- A badge that opens this notebook" in text

    @pytest.mark.more
    def test_it_runs_on_twins_of_the_weights(
        self, repository, published_parser, tiny_sdxl, hub_cache, tmp_path, monkeypatch
    ):
        import nbformat
        from nbclient import NotebookClient

        from semfacediff.data.toy_official import write_official

        hub_cache("jonathandinu/face-parsing", published_parser)
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setenv("PYTHONPATH", str(repository / "src"))
        write_official(tmp_path / "photos", [0, 1], 64, 32, groups=(2, 2))
        words = f"weights.root={tiny_sdxl} runtime.device=cpu runtime.workers=0 working_size=64 editor.native_size=64"
        words += " editor.steps=2 strips=0 attributes=[hair,skin] metrics=no_weights metrics.columns=[ssim,iou,seam]"
        notebook = nbformat.read(repository / REAL, as_version=4)
        first = code(notebook)[0]
        first.source = first.source.replace("N = 20", "N = 1").replace("WORDS = []", f"WORDS = {words.split()}")
        executed = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
        outputs = [kinds(cell) for cell in code(executed)]
        pictures = [[kind for kind in cell if "image/png" in kind] for cell in outputs]
        assert [len(found) for found in pictures] == [0, 1, 0, 1, 0]
        assert ("display_data", "text/markdown", "text/plain") in outputs[-1]
        assert (tmp_path / "first_real_table" / "thesis_real.zip").is_file()

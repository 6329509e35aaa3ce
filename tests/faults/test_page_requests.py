"""Requests to the page that no page of ours would send."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest


@pytest.fixture
def tab(attack, page):
    return attack.Tab(page.port)


@pytest.fixture
def beside(page) -> Path:
    """A file of another program in the temporary folder."""
    file = page.temporary / "other program" / "notes.txt"
    file.parent.mkdir(exist_ok=True)
    file.write_text("mine")
    return file


class TestPathsThatAreNoUpload:
    """A handler reads and removes what the server itself has named, and nothing else."""

    def test_the_folder_of_uploads(self, tab, page, beside, attack):
        """Its parent would be the temporary folder."""
        kept = tab.upload(attack.png())
        for path in (page.files.root, page.files.root / "x.jpg", page.files.root / "." / "x.jpg"):
            assert "x 64 px" not in tab.load(str(path))
            assert beside.read_text() == "mine"
            assert Path(kept).exists()

    @pytest.mark.parametrize("name", ["..", "../..", "../../x.jpg", "../x.jpg"])
    def test_upwards(self, tab, beside, attack, name):
        kept = tab.upload(attack.png())
        tab.load(f"{Path(kept).parent}/{name}")
        assert beside.read_text() == "mine"
        assert Path(kept).exists()

    def test_a_link(self, tab, page, beside, attack):
        """In place of the upload, and of its folder."""
        kept = Path(tab.upload(attack.png()))
        kept.unlink()
        kept.symlink_to(beside)
        assert "x 64 px" not in tab.load(str(kept))
        kept = Path(tab.upload(attack.png()))
        kept.parent.rename(page.files.root / "moved")
        kept.parent.symlink_to(beside.parent)
        assert "x 64 px" not in tab.load(str(kept))
        assert beside.read_text() == "mine"

    @pytest.mark.parametrize("path", ["/etc/hostname", "/dev/zero", "", "\0", "x" * 5000, 7, None, "~/x.png"])
    def test_files_of_the_computer(self, tab, path, page):
        assert "x 64 px" not in tab.load(path)
        assert not list(page.files.root.rglob("hostname"))

    def test_a_file_that_was_read_already(self, tab, attack):
        kept = tab.upload(attack.png())
        assert "x.png: 64 x 64 px" in tab.load(kept)
        assert not Path(kept).parent.exists()
        assert "expected a photo that was uploaded just now; load it again" in tab.load(kept)

    def test_another_pages_photo(self, tab, page, attack):
        """Its folder is known to that page alone; neighbours of one's own are no way to it."""
        other = attack.Tab(page.port)
        theirs, mine = Path(other.upload(attack.png(), "theirs.png")), Path(tab.upload(attack.png(), "mine.png"))
        assert theirs.parent != mine.parent
        for path in (mine.parent / theirs.name, mine.parent / ".." / "theirs.png", page.files.root / "theirs.png"):
            tab.load(str(path))
        assert "theirs.png: 64 x 64 px" in other.load(str(theirs))

    def test_paths_in_place_of_words(self, tab, page, beside):
        """Whatever looks like a file is copied by Gradio from its own folder alone."""
        file = {"path": str(beside), "meta": {"_type": "gradio.FileData"}}
        tab.run("prompt", "change", ["hair", file, "recolor", 1, 42, ""])
        assert not list(page.files.root.rglob("notes.txt"))

    @pytest.mark.parametrize("session", ["../../../evil", "/evil", "x/../../evil", ".."])
    def test_a_page_with_a_path_for_a_name(self, page, beside, attack, session):
        tab = attack.Tab(page.port, session)
        assert "x 64 px" in tab.load(tab.upload(attack.png()))
        assert {p.name for p in page.temporary.iterdir()} == {"other program", page.files.root.name}


def test_twenty_loads_of_one_photo(page, attack):
    tabs = [attack.Tab(page.port) for _ in range(20)]
    with ThreadPoolExecutor(20) as pool:
        paths = list(pool.map(lambda tab: tab.upload(attack.png()), tabs))
        said = list(pool.map(lambda tab, path: tab.load(path), tabs, paths))
    assert len(set(paths)) == 20
    assert sum("x.png: 64 x 64 px" in words for words in said) == 20

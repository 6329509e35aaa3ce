"""Requests to the page that no page of ours would send."""

import http.client
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from semfacediff.errors import UserError
from semfacediff.web import server
from semfacediff.web.jobs import StoppedError


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
        assert "expected a photo that was just uploaded; load it again" in tab.load(kept)

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


class TestOtherSites:
    """Only the page's own pages are answered, whatever the route."""

    ROUTES = (
        ("GET", "/"),
        ("GET", "/config"),
        ("GET", "/gradio_api/info"),
        ("GET", "/gradio_api/heartbeat/x"),
        ("GET", "/gradio_api/file=/etc/hostname"),
        ("GET", "/gradio_api/upload_progress?upload_id=1"),
        ("GET", "/nowhere"),
        ("HEAD", "/"),
        ("POST", "/gradio_api/queue/join"),
        ("POST", "/gradio_api/upload"),
        ("OPTIONS", "/gradio_api/upload"),
        ("DELETE", "/"),
    )

    @pytest.mark.parametrize(("method", "path"), ROUTES)
    def test_a_name_or_an_origin_of_another(self, tab, page, method, path):
        own = f"127.0.0.1:{page.port}"
        preflight = ("Access-Control-Request-Method", "POST")
        for name, value in (
            ("Host", "evil.example"),
            ("Host", f"evil.example:{page.port}"),
            ("Host", f"{own}.evil.example"),
            ("Host", "127.0.0.1"),
            ("Host", f"127.0.0.1:{page.port + 1}"),
            ("Host", ""),
            ("Host", None),
            ("Origin", "http://evil.example"),
            ("Origin", f"http://evil.example:{page.port}"),
            ("Origin", f"https://{own}"),
            ("Origin", f"http://127.0.0.1:{page.port + 1}"),
            ("Origin", "null"),
            ("Origin", ""),
        ):
            status, answer = tab.request(method, path, headers=((name, value), preflight))
            refused = 400 if value is None else 403  # without any, the HTTP parser refuses it
            assert status == refused, (name, value)
            assert b"hostname" not in answer

    def test_an_upload_leaves_nothing(self, tab, page, attack):
        before = sorted(page.files.root.rglob("*"))
        for header in (("Host", "evil.example"), ("Origin", "http://evil.example")):
            assert tab.send(attack.png(), headers=(header,))[0] == 403
        assert sorted(page.files.root.rglob("*")) == before

    def test_its_own_pages_are_answered(self, tab, page, attack):
        for host in (f"127.0.0.1:{page.port}", f"localhost:{page.port}"):
            own = (("Host", host), ("Origin", f"http://{host}"))
            assert tab.request("GET", "/", headers=own)[0] == 200
            assert tab.send(attack.png(), headers=own)[0] == 200

    def test_more_than_a_photo_is_not_read(self, tab):
        headers = (("Content-Length", str(10**9)),)
        assert tab.request("POST", "/gradio_api/upload", headers=headers)[0] == 413
        headers = (("Transfer-Encoding", "chunked"), ("Content-Length", None))
        assert tab.request("POST", "/gradio_api/upload", b"0\r\n\r\n", headers)[0] == 413


class TestNothingIsDownloaded:
    def test_a_url_for_a_photo(self, tab, attempts):
        assert "x 64 px" not in tab.load("http://example.org/x.png")
        assert tab.load("https://example.org:8000/x.png")
        assert set(attempts) == {"refused"}

    def test_an_editor_whose_weights_are_not_there(self, page, attempts, monkeypatch):
        from semfacediff.web.model_store import EditForm

        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        for editor in ("sdxl_inpaint", "inpaint"):
            with pytest.raises(UserError):
                page.store.tools(EditForm("hair", "red hair", editor, 1.0))
        assert attempts == []

    def test_whatever_is_configured(self, attempts):
        with pytest.raises(OSError, match="semfacediff web downloads nothing"):
            socket.create_connection(("192.0.2.1", 80))
        with pytest.raises(OSError, match="semfacediff web downloads nothing"):
            socket.getaddrinfo("example.org", 443)
        assert len(attempts) == 2

    @pytest.fixture(scope="class")
    def hook(self):
        """The server's own, in force while ``told`` is there: an audit hook stays for good."""
        found = SimpleNamespace(told=None)

        def hook(event, arguments):
            if found.told is not None:
                try:
                    server._block_outgoing_connections(event, arguments)
                except OSError:
                    found.told.append("refused")
                    raise

        sys.addaudithook(hook)
        return found

    @pytest.fixture
    def attempts(self, hook):
        """Of reaching another computer; all are refused."""
        hook.told = []
        yield hook.told
        hook.told = None


def test_twenty_loads_of_one_photo(page, attack):
    tabs = [attack.Tab(page.port) for _ in range(20)]
    with ThreadPoolExecutor(20) as pool:
        paths = list(pool.map(lambda tab: tab.upload(attack.png()), tabs))
        said = list(pool.map(lambda tab, path: tab.load(path), tabs, paths))
    assert len(set(paths)) == 20
    assert sum("x.png: 64 x 64 px" in words for words in said) == 20


def test_a_page_that_was_closed_leaves_nothing(page, attack):
    """Neither its pictures nor its edits in memory; nor does a load that ends afterwards write any."""
    tab = attack.Tab(page.port, "closing")
    before = set(page.files.root.glob("page-*"))
    open_page = http.client.HTTPConnection("127.0.0.1", page.port)
    open_page.request("GET", "/gradio_api/heartbeat/closing")
    alive = open_page.getresponse()
    alive.readline()
    assert "64 x 64 px" in tab.load(tab.upload(attack.png()))
    assert set(page.files.root.glob("page-*")) - before
    late = page.files.page("closing")
    open_page.sock.shutdown(socket.SHUT_RDWR)
    open_page.close()
    until = time.monotonic() + 60
    while set(page.files.root.glob("page-*")) - before and time.monotonic() < until:
        time.sleep(0.05)
    assert not set(page.files.root.glob("page-*")) - before
    with pytest.raises(StoppedError, match="The page was closed"):
        late.write("mask", "mask.jpg", b"")


@pytest.mark.slow
def test_the_whole_attack_finds_nothing(page, attack):
    """As by hand (``python tests/faults/attack_page.py``), where the real server and parser are attacked."""
    found = attack.Attack(page.port, page.files.root).run()
    assert found.broke == []
    assert set(found.tried) == {"paths", "sites", "files", "uploads", "sessions"}
    assert sum(found.tried.values()) > 350

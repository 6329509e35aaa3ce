"""``semfacediff web``: mistakes are one sentence and exit code 2; Ctrl-C ends it whatever runs."""

import os
import signal
import socket
import subprocess
import sys

import pytest

from semfacediff import cli


@pytest.fixture
def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def said(capsys, *words):
    assert cli.main(["web", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_port_in_use(capsys):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        line = said(capsys, "--port", port)
    assert line == (f"error: --port {port}: cannot serve there (Address already in use); give another --port")


@pytest.mark.parametrize(
    ("words", "start"),
    [
        (("--port", "70000"), "error: --port: expected a number up to 65535, got 70000"),
        (("--editor", "paintbrush"), "error: --editor: expected one of flux_fill, flux_kontext, identity, "),
        (("--editor", "precomputed"), "error: --editor: expected one of flux_fill, flux_kontext, identity, "),
    ],
)
def test_mistakes(capsys, words, start):
    assert said(capsys, *words).startswith(start)


def test_without_gradio_the_extra_is_named(capsys, monkeypatch, free_port):
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.delitem(sys.modules, "semfacediff.web.page", raising=False)
    line = said(capsys, "--port", free_port)
    assert line == "error: semfacediff web needs Gradio, which is not installed: pip install 'semfacediff[web]'"


def test_a_port_must_be_a_number(capsys):
    with pytest.raises(SystemExit):
        cli.main(["web", "--port", "http"])
    assert "expected a whole number of at least 1, got 'http'" in capsys.readouterr().err


def test_a_model_that_is_not_there_is_named(capsys, free_port, tmp_path):
    pytest.importorskip("gradio", reason="needs Gradio: pip install 'semfacediff[web]'")
    line = said(capsys, "--port", free_port, "--synthesis", str(tmp_path / "run"))
    assert line.startswith(f"error: --synthesis: nothing is at {tmp_path}/run; expected a run of train_synthesis.py")


RUNNING = """
import sys, threading, time
from types import SimpleNamespace
import torch
from semfacediff.web import server

def compute():
    x = torch.randn(400, 400)
    while True:
        x = torch.tanh(x @ x)

def run(_):
    threading.Thread(target=compute, daemon=True).start()
    fake.started = True
    while not fake.should_exit:
        time.sleep(0.01)

fake = SimpleNamespace(run=run, started=False, should_exit=False)
server._page_module = lambda: SimpleNamespace(build_page=lambda *_: None, server=lambda *_: fake)
server.ModelStore = lambda *_: None
server.serve(int(sys.argv[1]), "recolor", None, None, None, "cpu")
"""
"""The server without a page, under which a thread computes that nothing stops."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "numbers",
    [
        [signal.SIGINT, signal.SIGTERM],
        pytest.param([signal.SIGTERM], marks=pytest.mark.slow),
        pytest.param([signal.SIGHUP], marks=pytest.mark.slow),
    ],
)
def test_it_ends_cleanly_while_something_computes(numbers, free_port, repository, tmp_path):
    """And removes what a server left that was killed."""
    environment = os.environ | {"PYTHONPATH": str(repository / "src"), "TMPDIR": str(tmp_path)}
    (tmp_path / "semfacediff-web-left" / "page-1").mkdir(parents=True)
    words = [sys.executable, "-c", RUNNING, free_port]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as process:
        line = process.stdout.readline()
        assert line == f"http://127.0.0.1:{free_port}/ (Ctrl-C to stop)\n", line or process.stderr.read()
        (folder,) = tmp_path.glob("semfacediff-web-*")
        assert folder.name != "semfacediff-web-left"
        for number in numbers:
            process.send_signal(number)
        try:
            out, err = process.communicate(timeout=120)
        finally:
            process.kill()  # leaving the block waits for it
    assert process.returncode == 0
    assert (out, err) == ("", "")
    assert list(tmp_path.iterdir()) == []

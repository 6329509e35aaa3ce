"""``semfacediff web``: mistakes are one sentence and exit code 2."""

import socket
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
    assert line == (
        f"error: --host 127.0.0.1 --port {port}: cannot serve there (Address already in use); give another --port"
    )


@pytest.mark.parametrize(
    ("words", "start"),
    [
        (("--port", "70000"), "error: --port: expected a number up to 65535, got 70000"),
        (("--host", "no such host"), "error: --host no such host --port 7860: cannot serve there ("),
        (("--editor", "paintbrush"), "error: --editor: expected one of identity, inpaint, recolor, "),
        (("--editor", "precomputed"), "error: --editor: expected one of identity, inpaint, recolor, "),
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

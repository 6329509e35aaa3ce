"""``semfacediff web``: serves the page until Ctrl-C; nothing of a visitor outlives it."""

import contextlib
import importlib
import os
import signal
import socket
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

from semfacediff import config
from semfacediff.errors import UserError
from semfacediff.web.desk import Desk, offered
from semfacediff.web.styling import StyleModel
from semfacediff.web.uploads import MAX_UPLOAD_MB

_LOCAL = ("127.0.0.1", "localhost", "::1")
_PATIENCE_S = 10
"""So long may a job take to its next step, at which it ends, when the server is interrupted."""
_SESSIONS = 64
"""Visitors whose photos are kept in memory at once; the oldest give way."""


@dataclass(frozen=True)
class Place:
    """Where and with what the page is served, as the command line says."""

    host: str
    port: int
    editor: str
    parser: str | None
    weights: str | None
    synthesis: str | None
    device: str


def serve(place: Place) -> int:
    """Serve the page until it is interrupted; returns 0, or ends the process with it where a job does not stop.

    Raises:
        UserError: Gradio is not installed, the address cannot be used, no such editor, no parser, or no SCA-DM.
    """
    if place.editor not in offered():
        raise UserError(f"--editor: expected one of {', '.join(offered())}, got '{place.editor}'")
    _check_free(place.host, place.port)
    # Before Gradio is imported: it asks for these while it is.
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}
    with tempfile.TemporaryDirectory(prefix="semfacediff-web-", ignore_cleanup_errors=True) as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        page_module = _page_module()
        desk = Desk(place.parser, place.weights, place.device)
        model = StyleModel(place.synthesis, desk) if place.synthesis else None
        roots = [config.results(config.repository()) / "runs", Path("outputs").resolve()]
        page = page_module.build_page(desk, model, Path(folder).resolve(), roots, place.editor)
        _until_interrupted(page, page_module, place)
        all_ended = desk.jobs.end(_PATIENCE_S)
        page.close(verbose=False)
    if not all_ended:
        # Python would take itself down under a thread that computes, and be aborted.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
    return 0


def _page_module():
    try:
        return importlib.import_module("semfacediff.web.page")
    except ModuleNotFoundError as e:
        if (e.name or "").partition(".")[0] != "gradio":
            raise
        raise UserError("semfacediff web needs Gradio, which is not installed: pip install 'semfacediff[web]'") from e


def _check_free(host: str, port: int) -> None:
    if port > 65_535:
        raise UserError(f"--port: expected a number up to 65535, got {port}")
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as e:
        raise UserError(f"--host {host} --port {port}: cannot serve there ({e.strerror}); give another --port") from e


def _until_interrupted(page, page_module, place: Place) -> None:
    page.queue(max_size=page_module.MAX_WAITING)
    _, url, _ = page.launch(
        server_name=place.host,
        server_port=place.port,
        share=False,
        inbrowser=False,
        quiet=True,
        prevent_thread_lock=True,
        show_error=False,
        max_file_size=MAX_UPLOAD_MB * 1_000_000,
        state_session_capacity=_SESSIONS,
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        theme=page_module.theme(),
        css=page_module.css(),
    )
    if place.host not in _LOCAL:
        print(f"everyone who reaches {place.host} can use this page; it asks for no password", file=sys.stderr)
    numbers = (signal.SIGINT, signal.SIGTERM)
    with contextlib.suppress(KeyboardInterrupt):
        for number in numbers:  # also where a shell has the first ignored
            signal.signal(number, signal.default_int_handler)
        print(f"{url} (Ctrl-C ends it)", flush=True)
        threading.Event().wait()
    for number in numbers:  # what follows takes a moment, and another Ctrl-C must not cut it short
        signal.signal(number, signal.SIG_IGN)

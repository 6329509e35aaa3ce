"""``semfacediff web``: serves the page on this computer until Ctrl-C, then deletes all photos."""

import contextlib
import errno
import importlib
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from semfacediff import config
from semfacediff.errors import UserError
from semfacediff.threads import use_threads
from semfacediff.web.files import Files
from semfacediff.web.model_store import ModelStore, editor_names
from semfacediff.web.styling import StyleModel

if TYPE_CHECKING:
    from uvicorn import Server

_HOST = "127.0.0.1"
_LOOPBACK = (_HOST, "localhost", "::1", "0.0.0.0", None)


def serve(
    port: int, editor: str, parser: str | None, weights: str | None, synthesis: str | None, device: str
) -> NoReturn:
    """Serve the page until the process is interrupted, which it ends at once, with code 0, whatever still computes.

    Raises:
        UserError: Gradio is missing, the port cannot be used, or editor, parser or SCA-DM cannot be opened.
    """
    if editor not in editor_names():
        raise UserError(f"--editor: expected one of {', '.join(editor_names())}, got '{editor}'")
    with _listening_socket(port) as listening, _ends_on_signals() as signals, contextlib.closing(Files()) as files:
        # Before Gradio is imported, because it reads these on import.
        os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1", "GRADIO_TEMP_DIR": str(files.root)}
        page_module = _page_module()
        use_threads()
        store = ModelStore(parser, weights, device)
        model = StyleModel(synthesis, store) if synthesis else None
        roots = [config.results(config.repository()) / "runs", Path("outputs").resolve()]
        page = page_module.build_page(store, model, files, roots, editor)
        sys.addaudithook(_block_outgoing_connections)
        with running(page_module.server(page, files, port), listening) as thread:
            print(f"http://{_HOST}:{port}/ (Ctrl-C to stop)", flush=True)
            # With a limit, because another thread may receive the signal, and the exception may be lost in a finaliser.
            while thread.is_alive() and not signals:
                thread.join(0.2)
    # A normal exit would abort while a thread still computes.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _block_outgoing_connections(event: str, arguments: tuple) -> None:
    """Audit hook: connections to other computers fail as without a network, whatever is configured."""
    if event == "socket.getaddrinfo":
        host = arguments[0]
    elif event in ("socket.connect", "socket.sendto") and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    else:
        return
    if host not in _LOOPBACK:
        raise OSError(errno.ENETUNREACH, "semfacediff web downloads nothing")


def _page_module():
    try:
        return importlib.import_module("semfacediff.web.page")
    except ModuleNotFoundError as e:
        if (e.name or "").partition(".")[0] != "gradio":
            raise
        raise UserError("semfacediff web needs Gradio, which is not installed: pip install 'semfacediff[web]'") from e


def _listening_socket(port: int) -> socket.socket:
    if port > 65_535:
        raise UserError(f"--port: expected a number up to 65535, got {port}")
    try:
        return socket.create_server((_HOST, port))
    except OSError as e:
        raise UserError(f"--port {port}: cannot serve there ({os.strerror(e.errno or 0)}); give another --port") from e


def _ignore_signal(*_: object) -> None:
    """Handler for further signals while the process is ending."""


@contextlib.contextmanager
def _ends_on_signals() -> Iterator[list[int]]:
    """Ctrl-C, SIGTERM and SIGHUP end the block, once: later signals must not interrupt the clean-up.

    The list holds the signal as soon as it is handled.
    """
    # SIGINT is handled even if the shell ignores it; SIGHUP is not under nohup.
    numbers = [signal.SIGINT, signal.SIGTERM]
    numbers += [signal.SIGHUP] if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN else []

    received: list[int] = []

    def end(number: int, _frame: object) -> None:
        received.append(number)
        for other in numbers:
            signal.signal(other, _ignore_signal)  # not SIG_IGN: Python complains about pending signals
        raise KeyboardInterrupt

    before = {number: signal.signal(number, end) for number in numbers}
    try:
        yield received
    except KeyboardInterrupt:
        pass  # the process is about to end
    except BaseException:
        for number, handler in before.items():
            signal.signal(number, handler)
        raise


@contextlib.contextmanager
def running(server: "Server", listening: socket.socket) -> Iterator[threading.Thread]:
    """The thread in which ``server`` (a ``uvicorn.Server``) answers, until this is left."""
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    try:
        while thread.is_alive() and not server.started:
            time.sleep(0.02)
        yield thread
    finally:
        # Connections of open pages never end by themselves; closing them is not an error.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        server.should_exit = server.force_exit = True
        thread.join(1)  # do not wait for a running computation, which may take long

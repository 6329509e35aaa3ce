"""A server on this machine that gives files like a mirror or the model hub, and can be told to misbehave."""

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants

from semfacediff import downloads, hub

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Site:
    """What the server has and what it was asked.

    Attributes:
        files: path -> content. asked: method, path and range of every request for one of them.
        commit: of all its repositories.
        faults: for the next requests of content, one each: ``fault(handler, content)`` answers in the server's place.
    """

    def __init__(self, address: str):
        self.address, self.files, self.asked, self.faults, self.commit = address, {}, [], [], COMMIT

    def repository(self, id_: str, files: dict[str, bytes]) -> None:
        """A model repository at :attr:`commit`; ``.safetensors`` and ``.bin`` are large files with a digest."""
        listed = []
        for name, content in files.items():
            self.files[f"/{id_}/resolve/{self.commit}/{name}"] = self.files[f"/{id_}/resolve/main/{name}"] = content
            digest = hashlib.sha256(content).hexdigest()
            large = {"lfs": {"oid": digest, "sha256": digest, "size": len(content), "pointerSize": 130}}
            entry = {"rfilename": name, "path": name, "type": "file", "size": len(content)}
            entry |= {"oid": digest[:40], "blobId": digest[:40]}
            listed.append(entry | (large if name.endswith((".safetensors", ".bin")) else {}))
        info = {"id": id_, "sha": self.commit, "siblings": listed}
        for revision in ("", "/revision/main", f"/revision/{self.commit}"):
            self.files[f"/api/models/{id_}{revision}"] = json.dumps(info).encode()
        self.files[f"/api/models/{id_}/tree/{self.commit}"] = json.dumps(listed).encode()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, body: bool):
        path, asked = self.path.partition("?")[0], self.headers.get("Range")
        site = self.server.site
        content = site.files.get(path)
        if not path.startswith("/api/"):
            site.asked.append((self.command, path, asked))
            if body and site.faults:
                return site.faults.pop(0)(self, content)
        if content is None:
            return self.give(b"no such file", status=404, kind="text/plain")
        if asked:
            start = int(asked.removeprefix("bytes=").partition("-")[0])
            if start >= len(content):
                return self.give(b"", status=416)
            ranged = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
            return self.give(content[start:], status=206, **ranged)
        self.give(content, body=body, kind="application/json" if path.startswith("/api/") else None)

    def give(self, content: bytes, status: int = 200, kind: str | None = None, body: bool = True, **headers):
        """Answer; ``sent`` of the content, or all of it."""
        sent = headers.pop("sent", len(content))
        digest = hashlib.sha256(content).hexdigest()
        self.send_response(status)
        for name, value in {
            "Content-Type": kind or "application/octet-stream",
            "Content-Length": len(content),
            "ETag": f'"{digest}"',
            "X-Repo-Commit": self.server.site.commit,
            "Accept-Ranges": "bytes",
            **headers,
        }.items():
            self.send_header(name, str(value))
        self.end_headers()
        if body:
            self.wfile.write(content[:sent])
        if sent < len(content):
            self.close_connection = True


class Faults:
    """Ways to misbehave, each for one request of content."""

    @staticmethod
    def drop(after: int) -> Callable:
        """The connection ends after so many bytes of what was asked for."""

        def fault(handler, content):
            start = int((handler.headers.get("Range") or "bytes=0-").removeprefix("bytes=")[:-1])
            rest = content[start:]
            headers = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if start else {}
            handler.give(rest, status=206 if start else 200, sent=after, **headers)

        return fault

    @staticmethod
    def half(handler, content):
        """Half of the file, announced as if it were all."""
        handler.give(content[: len(content) // 2])

    @staticmethod
    def other(handler, content):
        """Another file of the same size."""
        handler.give(bytes(len(content)))

    @staticmethod
    def page(handler, content):
        """What a proxy's login page looks like."""
        handler.give(b"<html>please log in</html>", kind="text/html; charset=utf-8")

    @staticmethod
    def no_ranges(handler, content):
        """From the beginning, whatever was asked for."""
        handler.give(content)

    @staticmethod
    def status(code: int) -> Callable:
        return lambda handler, content: handler.give(b"", status=code)

    @staticmethod
    def slow(handler, content):
        """All of it, in pieces with pauses."""
        handler.give(content, sent=0)
        for start in range(0, len(content), len(content) // 4 + 1):
            time.sleep(0.05)
            handler.wfile.write(content[start : start + len(content) // 4 + 1])
            handler.wfile.flush()

    @staticmethod
    def silent(handler, content):
        """A promise, and then nothing for longer than a client waits."""
        handler.give(content, sent=0)
        time.sleep(0.6)


@pytest.fixture(scope="session")
def faults() -> type[Faults]:
    return Faults


@pytest.fixture
def site() -> Iterator[Site]:
    """An empty server in a thread of this process."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.site = Site(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server.site
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def own_caches(tmp_path, monkeypatch) -> Path:
    """Empty caches of all libraries, no network but this machine's, and no pauses."""
    import torch

    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(downloads, "_PAUSE_S", 0)
    monkeypatch.setattr(downloads, "TIMEOUT_S", 0.3)
    monkeypatch.setattr(hub, "TIMEOUT_S", 2)
    for proxy in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    return tmp_path

"""Attack a page that runs: ``python tests/faults/attack_page.py`` starts ``semfacediff web`` and prints counts.

Requests are written byte by byte as no browser would send them. What survives is everything beside the page: files of
other programs in the temporary folder, other pages' photos, and the server itself.
"""

import http.client
import io
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import numpy as np
from PIL import Image

API = "/gradio_api"
PATIENCE_S = 300


def png(side: int = 64) -> bytes:
    """A photo of noise."""
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(side).integers(0, 256, (side, side, 3), np.uint8)).save(file, "png")
    return file.getvalue()


class Tab:
    """An open page, as far as the server can tell.

    Args:
        session: name that a browser gives itself.
    """

    def __init__(self, port: int, session: str | None = None):
        self.port, self.session = port, session or secrets.token_hex(5)

    def request(self, method: str, path: str, body: bytes = b"", headers: tuple = ()) -> tuple[int, bytes]:
        """(status, body) of an answer; ``headers`` replace those that a browser would send."""
        plain = {"Host": f"127.0.0.1:{self.port}", "Content-Length": str(len(body))}
        given = {**plain, **dict(headers)}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in given.items():
                if value is not None:
                    connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def post(self, path: str, facts: dict, headers: tuple = ()) -> tuple[int, bytes]:
        return self.request("POST", path, json.dumps(facts).encode(), (("Content-Type", "application/json"), *headers))

    def send(self, data: bytes, name: str = "x.png", headers: tuple = ()) -> tuple[int, bytes]:
        """The answer to an upload."""
        head = f'--cut\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
        body = head.encode() + data + b"\r\n--cut--\r\n"
        kind = ("Content-Type", "multipart/form-data; boundary=cut")
        return self.request("POST", f"{API}/upload", body, (kind, *headers))

    def upload(self, data: bytes, name: str = "x.png") -> str:
        """Path that the server gives the file."""
        status, answer = self.send(data, name)
        assert status == 200, answer
        return json.loads(answer)[0]

    def load(self, path: object) -> str:
        """What the page says when it is told that a photo lies there."""
        file = {"path": path, "orig_name": "x.png", "meta": {"_type": "gradio.FileData"}}
        return self.run("upload", "upload", [file, "hair"])

    def run(self, element: str, event: str, data: list) -> str:
        """All that an event's handler answers."""
        config = json.loads(self.request("GET", "/config")[1])
        (of,) = [c["id"] for c in config["components"] if c["props"].get("elem_id") == element]
        *_, index = (d["id"] for d in config["dependencies"] if [of, event] in [list(t) for t in d["targets"]])
        asked = {"data": data, "fn_index": index, "session_hash": self.session}
        status, answer = self.post(f"{API}/queue/join", asked)
        if status != 200:
            return answer.decode()
        return self._told(json.loads(answer)["event_id"])

    def _told(self, event: str) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            connection.request("GET", f"{API}/queue/data?session_hash={quote(self.session)}")
            answer = connection.getresponse()
            while line := answer.readline():
                said = json.loads(line[5:]) if line.startswith(b"data:") else {}
                if said.get("event_id") == event and said["msg"] == "process_completed":
                    return json.dumps(said["output"])
        finally:
            connection.close()
        return "the stream ended"


class Attack:
    """Counts of what was tried and survived; ``broke`` says what did not."""

    def __init__(self, port: int, root: Path):
        self.port, self.root, self.tried, self.broke = port, root, Counter(), []
        self.canary = root.parent / "another program" / "notes.txt"
        self.canary.parent.mkdir(exist_ok=True)
        self.canary.write_text("mine")
        self.beside = set(root.parent.iterdir())

    def expect(self, kind: str, what: object, holds: bool) -> None:
        """One try; everything beside the page must have survived it, too."""
        self.tried[kind] += 1
        intact = self.canary.read_text() == "mine" and set(self.root.parent.iterdir()) == self.beside
        if not (holds and intact and Tab(self.port).request("GET", "/config")[0] == 200):
            self.broke.append((kind, what))

    def paths(self) -> None:
        """Of photos that are no upload, or another tab's."""
        tab, other = Tab(self.port), Tab(self.port)
        theirs, mine = Path(other.upload(png(), "theirs.png")), Path(tab.upload(png(), "mine.png"))
        base = self.root
        for path in (
            *(
                base,
                base / "x.jpg",
                base / ".",
                base / "..",
                base / "uploads",
                base / "uploads" / "x.jpg",
                "",
                "/",
                ".",
            ),
            *(mine.parent, mine.parent / "..", mine.parent / "../..", mine.parent / "../x", mine.parent / "../../../x"),
            *(mine.parent / theirs.name, mine.parent / "../theirs.png", base / "uploads" / ("0" * 32) / "theirs.png"),
            *("/etc/passwd", "/dev/zero", "/proc/self/environ", self.canary, self.canary.parent, "\0", "x" * 9999, 7),
            *(None, [], {}, "~/x", "file:///etc/passwd", "http://127.0.0.1:1/x.png", "http://192.0.2.1/x.png"),
        ):
            path = str(path) if isinstance(path, Path) else path
            self.expect("paths", path, "x 64 px" not in tab.load(path) and theirs.exists() and mine.exists())
        self.expect("paths", "own", "mine.png: 64 x 64 px" in tab.load(str(mine)) and not mine.exists())
        self.expect("paths", "twice", "load it again" in tab.load(str(mine)))
        self.expect("paths", "theirs", "theirs.png: 64 x 64 px" in other.load(str(theirs)))

    def sites(self) -> None:
        """Other names of this computer, and pages of other sites."""
        own = f"127.0.0.1:{self.port}"
        names = (
            "evil.example",
            f"evil.example:{self.port}",
            f"{own}.evil.example",
            f"x@{own}",
            "127.0.0.1",
            "",
            "[::1]",
        )
        forged = [("Host", name) for name in names]
        forged += [("Origin", f"{scheme}{name}") for scheme in ("http://", "https://") for name in names]
        forged += [("Origin", "null"), ("Origin", f"https://{own}"), ("Origin", f"http://{own}/"), ("Origin", own)]
        tab = Tab(self.port)
        for method, path in (
            *(("GET", "/"), ("GET", "/config"), ("GET", "/theme.css"), ("GET", f"{API}/info"), ("GET", "/nowhere")),
            *(("GET", f"{API}/queue/data?session_hash=x"), ("GET", f"{API}/heartbeat/x"), ("OPTIONS", f"{API}/upload")),
            *(("POST", f"{API}/queue/join"), ("POST", f"{API}/run/predict"), ("POST", f"{API}/upload")),
        ):
            for header in forged:
                status, _ = tab.request(method, path, headers=(header,))
                self.expect("sites", (method, path, header), status == 403)

    def files(self) -> None:
        """Files that are asked for by their paths."""
        tab = Tab(self.port)
        for path in (
            self.canary,
            "/etc/passwd",
            f"{self.root}/../another program/notes.txt",
            self.root,
            "/proc/self/maps",
        ):
            for route in (f"{API}/file=", f"{API}/file/", "/static/", "/assets/", "/svelte/", f"{API}/proxy=http://"):
                for text in (str(path), str(path).replace("/", "%2f"), f"../../../../../..{path}"):
                    status, body = tab.request("GET", route + text.replace(" ", "%20"))
                    self.expect("files", route + text, status >= 300 and b"mine" not in body and b"root:" not in body)

    def uploads(self) -> None:
        """Names and bodies of uploads."""
        tab = Tab(self.port)
        for name in (
            "../../x.png",
            "/etc/x",
            "..",
            "",
            "\\0",
            "a/b",
            "x" * 300 + ".png",
            "<img src=x>.png",
            ".ssh",
            "CON",
        ):
            status, body = tab.send(png(), name)
            inside = status != 200 or all(Path(p).parents[1] == self.root / "uploads" for p in json.loads(body))
            self.expect("uploads", name, inside)
        for data in (b"", b"<html>", b"%!PS-Adobe-3.0 EPSF-3.0\n{ } loop\n", b"GIF89a", png()[:80]):
            self.expect("uploads", data[:20], "x 64 px" not in tab.load(tab.upload(data)))
        for length in (str(10**12), "-1", "x"):
            status, _ = tab.request("POST", f"{API}/upload", headers=(("Content-Length", length),))
            self.expect("uploads", length, status in (400, 413))
        strip = io.BytesIO()
        Image.new("L", (32, 60_000)).save(strip, "png")
        self.expect("uploads", "strip", "crop it" in tab.load(tab.upload(strip.getvalue())))

    def sessions(self) -> None:
        """Names of tabs, and twenty tabs at once."""
        for name in ("../../../evil", "/evil", "..", "x/../../evil", "", "x" * 9999, "\0"):
            tab = Tab(self.port, name or None)
            self.expect("sessions", name, isinstance(tab.load(tab.upload(png())), str))
        tabs = [Tab(self.port) for _ in range(20)]
        with ThreadPoolExecutor(20) as pool:
            loaded = list(pool.map(lambda tab: tab.load(tab.upload(png())), tabs))
        for i, said in enumerate(loaded):
            self.expect("sessions", f"tab {i} of 20", "x.png: 64 x 64 px" in said)

    def run(self) -> "Attack":
        for part in (self.paths, self.sites, self.files, self.uploads, self.sessions):
            part()
        return self

    def report(self) -> str:
        """One line a kind, then what broke."""
        lost = Counter(kind for kind, _ in self.broke)
        lines = [f"{kind}: {n} tried, {n - lost[kind]} survived" for kind, n in self.tried.items()]
        return "\n".join([*lines, *(f"BROKE {kind}: {what!r}"[:300] for kind, what in self.broke)])


def main() -> int:
    with tempfile.TemporaryDirectory() as temporary, socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
        probe.close()
        words = [sys.executable, "-c", "import sys; from semfacediff import cli; sys.exit(cli.main(sys.argv[1:]))"]
        words += ["web", "--device", "cpu", "--port", str(port)]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, env=os.environ | {"TMPDIR": temporary})
        try:
            assert process.stdout.readline(), "the page did not start"
            (root,) = Path(temporary).resolve().glob("semfacediff-web-*")
            attack = Attack(port, root).run()
        finally:
            process.send_signal(signal.SIGHUP)
            code = process.wait(60)
        print(attack.report())
        print(f"SIGHUP: exit code {code}, {'nothing' if not root.exists() else 'A FOLDER'} left")
        return 1 if attack.broke or code or root.exists() else 0


if __name__ == "__main__":
    sys.exit(main())

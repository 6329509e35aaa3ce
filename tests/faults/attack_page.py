"""Attack a page that runs: ``python tests/faults/attack_page.py`` starts ``semfacediff web`` and prints counts.

Requests are written byte by byte as no browser would send them. What survives is everything beside the page: files of
other programs in the temporary folder, other pages' photos, and the server itself.
"""

import http.client
import io
import json
import secrets

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
        index = next(d["id"] for d in config["dependencies"] if [of, event] in [list(t) for t in d["targets"]])
        asked = {"data": data, "fn_index": index, "session_hash": self.session}
        status, answer = self.post(f"{API}/queue/join", asked)
        if status != 200:
            return answer.decode()
        return self._told(json.loads(answer)["event_id"])

    def _told(self, event: str) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            connection.request("GET", f"{API}/queue/data?session_hash={self.session}")
            answer = connection.getresponse()
            while line := answer.readline():
                said = json.loads(line[5:]) if line.startswith(b"data:") else {}
                if said.get("event_id") == event and said["msg"] == "process_completed":
                    return json.dumps(said["output"])
        finally:
            connection.close()
        return "the stream ended"

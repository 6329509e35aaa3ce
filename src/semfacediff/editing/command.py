"""``editor=command``: any program makes the edits, one call an edit or, with ``serve``, one program for all of them."""

import contextlib
import hashlib
import json
import os
import queue
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
import weakref
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from torch import Tensor

from semfacediff.data.reading import Blob, decode_photo
from semfacediff.editing.base import Editor, EditRequest
from semfacediff.errors import UserError, printable
from semfacediff.types import to_tensor, to_uint8
from semfacediff.weight_files import file_digest

GRACE_S = 2.0
"""Between SIGTERM and SIGKILL, for a program that is over its time."""
STDERR_BYTES = 2000
"""The end of what a program says on stderr that is kept with a failed edit."""
_REPLY_BYTES = 65536
_PLACEHOLDERS = ("photo", "mask", "prompt", "negative", "seed", "attribute", "out")


@dataclass(frozen=True)
class Options:
    """Options of ``editor=command``.

    Attributes:
        command: the program and its arguments; one string is split as a POSIX shell would, and never given to one.
            ``{photo}``, ``{mask}``, ``{out}`` (files), ``{prompt}``, ``{negative}``, ``{seed}`` and ``{attribute}`` are
            filled in anywhere in an argument.
        timeout_s: for one edit; of a served program its start included. retries: after a failed try.
        serve: the program reads one JSON line an edit on stdin, with the keys above, and answers each by one JSON line:
            ``{}``, or ``{"error": "why"}``.
    """

    command: list[str] | str
    timeout_s: float = 600.0
    retries: int = 0
    serve: bool = False

    def __post_init__(self):
        words = self.command
        if isinstance(words, str):
            try:
                words = shlex.split(words)
            except ValueError as e:
                raise ValueError(f"{e} in {words!r}; close the quotes, or give a list") from e
            object.__setattr__(self, "command", words)
        lacking = [] if self.serve else [f"{{{k}}}" for k in ("photo", "out") if f"{{{k}}}" not in " ".join(words)]
        if not words or lacking:
            raise ValueError(f"expected a program and its arguments with {' and '.join(lacking) or 'serve'}")
        if not self.timeout_s > 0 or self.retries < 0:
            raise ValueError("expected timeout_s over 0 and retries of at least 0")


class Command(Editor):
    """Photo and mask go to the program as PNG files, its edit comes back as an image file of the photo's size.

    The photo is 8-bit RGB. The mask is 8-bit grey, 255 = may be repainted (``masks.generation``). The program runs in
    the current folder, in a process group of its own, all of which is ended with the edit: at once after the program
    ended, and by SIGTERM, then SIGKILL, when its time is up. It may write any format that photos are read from.

    Raises:
        UserError: the program is not there. On :meth:`edit`: it failed, was too slow, or wrote nothing of use; the
            message ends with the last :data:`STDERR_BYTES` of its stderr.
    """

    name = "command"

    def __init__(self, command: list[str], timeout_s: float = 600.0, retries: int = 0, serve: bool = False):
        if shutil.which(os.path.expanduser(command[0])) is None:
            raise UserError(f"editor.command: '{command[0]}' is no program on this machine; correct the first word")
        self.command, self.timeout_s, self.retries, self.serve = command, timeout_s, retries, serve
        self._served: _Program | None = None

    def facts(self) -> dict[str, object]:
        """``digest`` of the command line and of the files that it names; a file counts by its name and contents."""
        words = [[p.name, file_digest(p)] if (p := Path(w).expanduser()).is_file() else w for w in self.command]
        return {"digest": hashlib.sha256(json.dumps(words).encode()).hexdigest(), "numerics": None}

    def reads_negatives(self) -> bool:
        return self.serve or any("{negative}" in word for word in self.command)

    def edit(self, requests: list[EditRequest]) -> list[Tensor]:
        """float32 ``[3, H, W]`` in [0, 1], rounded to 8 bits."""
        return [self._tried(request) for request in requests]

    def _tried(self, request: EditRequest) -> Tensor:
        for left in range(self.retries, -1, -1):
            try:
                with tempfile.TemporaryDirectory(prefix="semfacediff-") as folder:
                    return self._edited(request, Path(folder))
            except UserError as e:
                if not left:
                    tries = f" (tried {self.retries + 1} times)" if self.retries else ""
                    raise UserError(f"editor.command{tries}: {e}") from e
        raise AssertionError("a try returns or raises")

    def _edited(self, request: EditRequest, folder: Path) -> Tensor:
        from PIL import Image

        photo = to_uint8(request.photo)
        files = {name: str(folder / f"{name}.png") for name in ("photo", "mask", "out")}
        Image.fromarray(photo).save(files["photo"], compress_level=1)
        mask = request.masks.generation[0].mul(255).round().byte().cpu().numpy()
        Image.fromarray(mask).save(files["mask"], compress_level=1)
        told = {"prompt": request.prompt, "negative": request.negative_prompt or "", "seed": request.seed}
        told |= {"attribute": request.attribute, **files}
        program = self._serve(told) if self.serve else self._call(told)
        if not Path(files["out"]).exists():
            raise program.failed("it reported no error, but wrote no {out}; write the edit to that file")
        edit = decode_photo(Blob(Path(files["out"]), "{out}").read(), "{out}")
        if edit.shape != photo.shape:
            (h, w), (height, width) = edit.shape[:2], photo.shape[:2]
            raise program.failed(f"{{out}} is {w}x{h} px, its photo {width}x{height}; an edit keeps the size")
        return to_tensor(edit)

    def _call(self, told: dict[str, object]) -> "_Program":
        filled = re.compile(r"\{(" + "|".join(_PLACEHOLDERS) + r")\}")
        words = [filled.sub(lambda found: str(told[found[1]]), word) for word in self.command]
        program = _Program(words, served=False)
        try:
            code = program.process.wait(self.timeout_s)
        except subprocess.TimeoutExpired:
            program.end(GRACE_S)
            raise program.failed(f"not done after {self.timeout_s:g} s and ended; set editor.timeout_s") from None
        finally:
            program.end(0)
        if code:
            raise program.failed(_ended(code))
        return program

    def _serve(self, told: dict[str, object]) -> "_Program":
        if self._served is None:
            self._served = _Program(self.command, served=True)
            weakref.finalize(self, self._served.end, 0)  # at the latest when Python ends
        program, done = self._served, False
        try:
            reply = program.asked(told, self.timeout_s)
            done = True
        finally:
            if not done:  # another answer would be taken for that of the next edit
                self._served = None
                program.end(0)
        if reply.get("error"):
            raise program.failed(str(reply["error"]))
        return program


class _Program:
    """A running program, the leader of a process group. A thread reads its stderr, so that it never has to wait."""

    def __init__(self, words: list[str], served: bool):
        pipe = subprocess.PIPE if served else subprocess.DEVNULL
        words = [os.path.expanduser(words[0]), *words[1:]]
        try:
            self.process = subprocess.Popen(
                words, stdin=pipe, stdout=pipe, stderr=subprocess.PIPE, start_new_session=True, bufsize=0
            )
        except (OSError, ValueError) as e:  # ValueError: a NUL in an argument
            raise UserError(f"'{words[0]}' cannot be started ({e}); correct editor.command") from e
        self._over = False
        self._said: deque[int] = deque(maxlen=STDERR_BYTES)
        self._replies: queue.Queue[bytes] = queue.Queue(maxsize=2)
        self._readers = [threading.Thread(target=self._listen, args=(self.process.stderr,), daemon=True)]
        if served:
            self._readers.append(threading.Thread(target=self._read_replies, daemon=True))
        for reader in self._readers:
            reader.start()

    def _listen(self, stderr: IO[bytes]) -> None:
        with contextlib.suppress(OSError, ValueError):  # closed
            while part := stderr.read(65536):
                self._said.extend(part[-STDERR_BYTES:])

    def _read_replies(self) -> None:
        out = os.fdopen(os.dup(self.process.stdout.fileno()), "rb")  # type: ignore[union-attr]
        with out, contextlib.suppress(OSError):
            for line in iter(lambda: out.readline(_REPLY_BYTES), b""):
                self._heard(line)
        self._heard(b"")

    def _heard(self, line: bytes) -> None:
        with contextlib.suppress(queue.Full):  # two lines at once are already one too many
            self._replies.put_nowait(line)

    def asked(self, told: dict[str, object], timeout_s: float) -> dict:
        """The answer to one line; a :class:`UserError` if there is none of use."""
        early = not self._replies.empty()
        if not early:
            with contextlib.suppress(BrokenPipeError):  # the end of its answers tells
                self.process.stdin.write(json.dumps(told).encode() + b"\n")  # type: ignore[union-attr]
        try:
            line = self._replies.get(timeout=timeout_s)
        except queue.Empty:
            self.end(GRACE_S)
            raise self.failed(f"no answer after {timeout_s:g} s, so it was ended; set editor.timeout_s") from None
        if not line:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(GRACE_S)
            code = self.process.poll()
            raise self.failed("it closed its stdout" if code is None else f"it {_ended(code)} without an answer")
        try:
            reply = json.loads(line)
        except ValueError:
            reply = None
        if early or not isinstance(reply, dict):
            shown = printable(line[:80].decode(errors="replace").strip())
            raise self.failed(f"expected one JSON object a line on stdout, got '{shown}'; print other text to stderr")
        return reply

    def end(self, grace_s: float) -> None:
        """End the whole group: by SIGTERM if there is time for it, then by SIGKILL."""
        if self._over:
            return
        self._over = True
        if grace_s:
            self._signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(grace_s)
        self._signal(signal.SIGKILL)
        self.process.wait()
        self._readers[0].join(1)  # longer only if a process has left the group and keeps stderr open
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)

    def failed(self, why: str) -> UserError:
        """With the end of stderr."""
        self._readers[0].join(0.2)
        said = " | ".join(bytes(self._said).decode(errors="replace").split("\n")).strip(" |")
        return UserError(f"{why}; stderr: {said}" if said else f"{why}; stderr is empty")


def _ended(code: int) -> str:
    return f"ended with exit code {code}" if code >= 0 else f"was ended by signal {-code}"


EDITOR = Command

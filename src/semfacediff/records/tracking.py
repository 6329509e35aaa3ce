"""Mirrors a run's record to Weights & Biases (``tracking=wandb``) without the run noticing, or later.

The record in the run's folder is the truth. The mirror (:mod:`semfacediff.records.mirroring`) reads it, after it was
written, in a process of its own: W&B may be absent, refuse, raise or hang, and the run still writes the same files at
the same speed; it says one sentence about it on stderr. What was not mirrored can be sent later (:func:`sync`).
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from semfacediff.config import WandbTracking
from semfacediff.errors import UserError
from semfacediff.records.folder import RunFolder, read_run
from semfacediff.records.mirroring import CONSOLE, NOTHING_LOST, is_new
from semfacediff.records.wandb_login import OFFLINE, ONLINE, agent_run, destination, logged_in, mode, server

WAIT_S = 10.0
"""How long a run that is over waits for its mirror."""
# Its crash reports would be a network call that nobody asked for; host name, paths and hardware stay here too.
_QUIET = {"WANDB_ERROR_REPORTING": "false"}


@contextlib.contextmanager
def tracked(record: RunFolder, options: Mapping[str, object], name: str) -> Iterator[Callable[[], None]]:
    """Mirror ``record`` while the block lasts, as the ``tracking`` options say; results are sent when it is left.

    Args:
        record: opened; a finished one is mirrored again only for an agent of a W&B sweep, under the agent's id.
        options: the ``tracking`` group of the configuration.
        name: W&B group where the options name none.

    Yields:
        To be called when the record has grown, to have it looked at sooner than in a few seconds; returns at once and
        never raises.
    """
    first_process = os.environ.get("RANK", "0") == "0"
    if options["name"] == "none" or not first_process or (record.finished and not agent_run()):
        yield lambda: None
        return
    chosen = WandbTracking.model_validate({**options, "group": options["group"] or name})
    _say(_where(chosen, record.path))
    with _copied_output(record.path / CONSOLE) if chosen.console else contextlib.nullcontext():
        mirror = _Mirror(record.path, chosen)
        try:
            yield mirror.notify
        finally:
            mirror.close()


def _where(options: WandbTracking, folder: Path) -> str:
    """Where the copy goes, in one line."""
    chosen = mode(options.mode)
    if chosen == ONLINE:
        of_agent = f", run {agent_run()} of sweep {os.environ['WANDB_SWEEP_ID']}" if agent_run() else ""
        return f"W&B online, project {destination(options.entity, options.project)}{of_agent}"
    if chosen != OFFLINE:
        return f"W&B is {chosen}"
    why = "" if logged_in() else f" (no login for {urlsplit(server()).netloc})"
    return f"W&B offline{why}, in {folder / 'wandb'}; send it with: semfacediff track sync --mode online {folder}"


class _Copied:
    """A stream whose text a file gets too."""

    def __init__(self, stream: IO[str], file: IO[str]):
        self._stream, self._file = stream, file

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):  # a full disk, or closed when the run was over
            self._file.write(text)
        return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def _copied_output(file: Path) -> Iterator[None]:
    """Append to ``file`` what Python prints in the block."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        copy = open(file, "a", buffering=1, errors="replace")  # noqa: SIM115  closed below
    except OSError as e:
        _say(f"the console is not copied ({e.strerror}); {NOTHING_LOST}")
        yield
        return
    with copy:
        out, err = (_Copied(stream, copy) for stream in (sys.stdout, sys.stderr))
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            yield


class _Mirror:
    """The process that mirrors ``folder``. A line on its stdin is news, the end of its stdin the end of the run."""

    def __init__(self, folder: Path, options: WandbTracking):
        self._process: subprocess.Popen[bytes] | None = None
        self._complained = False
        try:
            self._process = subprocess.Popen(
                _command(folder, options),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C ends the run; the mirror then sends what there is
                env={**_QUIET, **os.environ},
            )
            for pipe in _pipes(self._process):
                os.set_blocking(pipe.fileno(), False)
        except OSError as e:
            _say(f"no process for W&B ({e}); {NOTHING_LOST}")

    def notify(self) -> None:
        """Tell the mirror that the record has grown."""
        if self._process is not None:
            with contextlib.suppress(OSError):  # gone, or so far behind that its pipe is full
                os.write(_pipes(self._process)[0].fileno(), b"\n")
            self._relay(self._process)

    def close(self) -> None:
        """Wait a little for the mirror's end, and leave it to itself if that is not enough."""
        if self._process is None:
            return
        news, complaints = _pipes(self._process)
        news.close()
        try:
            self._process.wait(WAIT_S)
        except subprocess.TimeoutExpired:
            _say(f"W&B is still busy after {WAIT_S:g} s and goes on in the background; {NOTHING_LOST}")
        self._relay(self._process)
        if self._process.returncode and not self._complained:
            _say(f"W&B ended with code {self._process.returncode}; {NOTHING_LOST}")
        complaints.close()

    def _relay(self, process: subprocess.Popen[bytes]) -> None:
        """Print what the mirror says: that it goes on elsewhere, or why it ended."""
        with contextlib.suppress(OSError):
            for line in os.read(_pipes(process)[1].fileno(), 4096).decode(errors="replace").splitlines():
                self._complained = True
                _say(line)


def _pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes]]:
    """Its stdin and stdout."""
    if process.stdin is None or process.stdout is None:
        raise ValueError("expected a process that was started with pipes")
    return process.stdin, process.stdout


def _say(text: str) -> None:
    print(f"tracking: {text}", file=sys.stderr)


def _command(folder: Path, options: WandbTracking) -> list[str]:
    # -P: the mirror must find wandb, not a folder of that name where the command was typed.
    return [sys.executable, "-P", "-m", "semfacediff.records.mirroring", str(folder), options.model_dump_json()]


def sync(folder: Path, options: WandbTracking) -> bool:
    """Send the record in ``folder`` to W&B; ``False`` if it was sent before and has not changed.

    The W&B run has the same id whenever and from wherever it is sent, so that it is never there twice.

    Args:
        options: of a configuration.

    Raises:
        UserError: no run's record, or W&B is absent or refuses.
    """
    read_run(folder)
    if mode(options.mode) == ONLINE:
        options = options.model_copy(update={"mode": ONLINE})  # a refusal is an error here, no reason to stay offline
    if not is_new(folder, options):
        return False
    done = subprocess.run(
        _command(folder, options),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**_QUIET, **os.environ},
    )
    if done.returncode:
        reason = done.stdout.strip().removesuffix(f"; {NOTHING_LOST}") or f"W&B ended with code {done.returncode}"
        raise UserError(f"{folder}: {reason}; nothing is lost, repeat the command to try again")
    return True

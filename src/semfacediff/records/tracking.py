"""Mirrors a run's record to Weights & Biases (``tracking=wandb``) without the run noticing, or later.

The record in the run's folder is the truth. The mirror (:mod:`semfacediff.records.mirroring`) reads it, after it was
written, in a process of its own: W&B may be absent, refuse, raise or hang, and the run still writes the same files at
the same speed; it says one sentence about it on stderr. What was not mirrored can be sent later (:func:`sync`).
"""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO

from semfacediff.config import WandbTracking
from semfacediff.errors import UserError
from semfacediff.records.folder import RunFolder, read_run
from semfacediff.records.mirroring import NOTHING_LOST, is_new

WAIT_S = 10.0
"""How long a run that is over waits for its mirror."""
# Its crash reports would be a network call that nobody asked for; host name, paths and hardware stay here too.
_QUIET = {"WANDB_ERROR_REPORTING": "false"}


@contextlib.contextmanager
def tracked(record: RunFolder, options: Mapping[str, object], name: str) -> Iterator[Callable[[], None]]:
    """Mirror ``record`` while the block lasts, as the ``tracking`` options say; results are sent when it is left.

    Args:
        record: opened; a finished one is not mirrored again.
        options: the ``tracking`` group of the configuration.
        name: W&B group where the options name none.

    Yields:
        To be called when the record has grown, to have it looked at sooner than in a few seconds; returns at once and
        never raises.
    """
    first_process = os.environ.get("RANK", "0") == "0"
    if options["name"] == "none" or record.finished or not first_process:
        yield lambda: None
        return
    mirror = _Mirror(record.path, {**options, "group": options["group"] or name})
    try:
        yield mirror.notify
    finally:
        mirror.close()


class _Mirror:
    """The process that mirrors ``folder``. A line on its stdin is news, the end of its stdin the end of the run."""

    def __init__(self, folder: Path, options: Mapping[str, object]):
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
        """Print what the mirror complains about: one sentence, for it ends with it."""
        with contextlib.suppress(OSError):
            if text := os.read(_pipes(process)[1].fileno(), 4096):
                self._complained = True
                _say(text.decode(errors="replace"))


def _pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes]]:
    """Its stdin and stdout."""
    if process.stdin is None or process.stdout is None:
        raise ValueError("expected a process that was started with pipes")
    return process.stdin, process.stdout


def _say(text: str) -> None:
    print(f"tracking: {text}", file=sys.stderr)


def _command(folder: Path, options: Mapping[str, object]) -> list[str]:
    # -P: the mirror must find wandb, not a folder of that name where the command was typed.
    return [sys.executable, "-P", "-m", "semfacediff.records.mirroring", str(folder), json.dumps(dict(options))]


def sync(folder: Path, options: WandbTracking) -> bool:
    """Send the record in ``folder`` to W&B; ``False`` if it was sent before and has not changed.

    The W&B run has the same id whenever and from wherever it is sent, so that it is never there twice.

    Args:
        options: of a configuration.

    Raises:
        UserError: no run's record, or W&B is absent or refuses.
    """
    read_run(folder)
    if not is_new(folder, options):
        return False
    done = subprocess.run(
        _command(folder, options.model_dump()),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**_QUIET, **os.environ},
    )
    if done.returncode:
        reason = done.stdout.removesuffix(f"; {NOTHING_LOST}") or f"W&B ended with code {done.returncode}"
        raise UserError(f"{folder}: {reason}; nothing is lost, repeat the command to try again")
    return True

"""What runs for visitors, and how it ends: when it is done, at the visitor's wish, or with the server."""

import contextlib
import threading
from collections.abc import Iterator

from semfacediff.errors import UserError

_AT_A_WISH = "Stopped; everything is as it was before"


class StoppedError(UserError):
    """The visitor, or the end of the server, has ended the job."""


class Stop:
    """Ends a job from another thread.

    Args:
        of: what the job works on.
    """

    def __init__(self, of: object = None):
        self.of, self._why = of, _AT_A_WISH
        self._event = threading.Event()

    def now(self, why: str = _AT_A_WISH) -> None:
        """Ask for the end; the job ends at its next step, and the visitor is told ``why``."""
        self._why = why
        self._event.set()

    def check(self) -> None:
        """Raises :class:`StoppedError` if the end was asked for."""
        if self._event.is_set():
            raise StoppedError(self._why)


class Jobs:
    """The jobs that run now. Safe to be used by several threads."""

    def __init__(self):
        self._changed = threading.Condition()
        self._running: list[Stop] = []
        self._closed = False

    @contextlib.contextmanager
    def running(self, stop: Stop | None = None) -> Iterator[Stop]:
        """A job that ``stop`` ends; :class:`StoppedError` if it was ended before it could begin."""
        stop = stop or Stop()
        with self._changed:
            if self._closed:
                stop.now()
            self._running.append(stop)
        try:
            stop.check()
            yield stop
        finally:
            with self._changed:
                self._running.remove(stop)
                self._changed.notify_all()

    def end(self, patience_s: float) -> bool:
        """Stop all jobs and let no other begin; whether none is left after ``patience_s`` seconds at most."""
        with self._changed:
            self._closed = True
            for stop in self._running:
                stop.now()
            return self._changed.wait_for(lambda: not self._running, patience_s)

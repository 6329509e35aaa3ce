"""Early end of a job: by the Stop button, or because its page was closed."""

import threading
from collections.abc import Callable

from semfacediff.errors import UserError


class StoppedError(UserError):
    """The job was stopped."""


class Stop:
    """Request to stop a job, from another thread."""

    def __init__(self):
        self._event = threading.Event()

    def request(self) -> None:
        """Stop the job at its next step."""
        self._event.set()

    def check(self) -> None:
        """Raises :class:`StoppedError` if a stop was requested."""
        if self._event.is_set():
            raise StoppedError("Stopped; nothing was changed")

    def after_step(self, on_step: Callable[[int, int], None] | None) -> Callable[[int, int], None]:
        """Callback for a job, called with (steps taken, total steps): stops the job or forwards to ``on_step``."""

        def callback(step: int, of: int) -> None:
            self.check()
            if on_step:
                on_step(step, of)

        return callback

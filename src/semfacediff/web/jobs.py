"""How what is made on a page ends before it is done: by its button, or because the page was closed."""

import threading
from collections.abc import Callable

from semfacediff.errors import UserError


class StoppedError(UserError):
    """The job was ended from outside."""


class Stop:
    """Ends a job from another thread."""

    def __init__(self):
        self._event = threading.Event()

    def now(self) -> None:
        """EditForm for the end; the job ends at its next step."""
        self._event.set()

    def check(self) -> None:
        """Raises :class:`StoppedError` if the end was asked for."""
        if self._event.is_set():
            raise StoppedError("Stopped; everything is as it was before")

    def after_step(self, on_step: Callable[[int, int], None] | None) -> Callable[[int, int], None]:
        """What a job calls with (steps taken, of how many): it is then told to ``on_step``, or ended."""

        def told(step: int, of: int) -> None:
            self.check()
            if on_step:
                on_step(step, of)

        return told

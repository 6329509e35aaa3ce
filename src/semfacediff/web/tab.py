"""What the tabs on which something is made have in common: one long job at a time, and its Stop."""

import sys
import traceback
from functools import wraps

import gradio as gr

from semfacediff.errors import UserError
from semfacediff.web import wording
from semfacediff.web.files import Files, PageFiles
from semfacediff.web.jobs import Stop

IDLE_S = 3600
"""So long is a photo kept of a visitor who does nothing."""
PRIVATE = {"api_visibility": "private"}
QUIET = {**PRIVATE, "show_progress": "hidden"}


def told(handler):
    """A tab's handler whose mistakes become a sentence on the page; a defect's traceback goes to the terminal alone."""

    @wraps(handler)
    def telling(self, *args):
        try:
            return handler(self, *args)
        except UserError as e:
            return {self.message: wording.refused(str(e))}
        except Exception as e:
            traceback.print_exc(file=sys.stderr)
            text = f"Something failed here ({type(e).__name__}); the terminal says what"
            return {self.message: wording.refused(text)}

    return telling


class Tab:
    """A tab with a message, and a job that is begun by one button and ended by another.

    Args:
        files: of the server. name: begins the ids of elements.
    """

    def __init__(self, files: Files, name: str = ""):
        self.server_files, self.name = files, name
        # There while a job waits or runs. Whoever leaves ends it. No time limit: a synthesis may take over an hour.
        self.stop = gr.State(None, delete_callback=lambda stop: stop and stop.now())

    def _own(self, request: gr.Request) -> PageFiles:
        """To be asked for before anything is computed: what is made for a page that was closed is then not written."""
        return self.server_files.page(request.session_hash)

    def _message(self, text: str) -> None:
        self.message = gr.HTML(wording.said(text), elem_id=f"{self.name}message")

    def _buttons(self, label: str) -> None:
        plain = {"interactive": False, "min_width": 80}
        self.go = gr.Button(label, variant="primary", elem_id=f"{self.name}go", **plain)
        self.cancel = gr.Button("Stop", elem_id=f"{self.name}cancel", **plain)

    def _job(self, triggers: list, do, asked: list, left: list, outputs: list, shown_on: gr.Blocks) -> None:
        """``do(stop, *asked)`` on any of ``triggers``, unless one runs, then ``_end(stop, *left)``.

        Both fill ``outputs``. The first of ``left`` is what the job works on.
        """

        @wraps(do)
        def run(stop: Stop | None, *args):
            # None for who left before their turn, or pressed Enter again at the moment of the end.
            return gr.skip() if stop is None else do(stop, *args)

        buttons = [self.stop, self.go, self.cancel]
        begun = gr.on(triggers, self._begin, [self.stop, left[0]], buttons, queue=False, **QUIET)
        made = begun.then(
            run,
            [self.stop, *asked],
            outputs,
            concurrency_limit=1,
            concurrency_id="making",
            show_progress_on=[shown_on],
            **PRIVATE,
        )
        for after in (made.then, made.failure):  # the latter where the queue is full
            after(self._end, [self.stop, *left], [*buttons, *outputs], queue=False, **QUIET)
        self.cancel.click(self._stop, self.stop, self.cancel, queue=False, **QUIET)

    def _enabled_after(self, loaded: gr.events.Dependency, ready: gr.State) -> None:
        """The button as soon as ``ready`` holds something, unless a job runs."""
        loaded.then(self._enable, [self.stop, ready], self.go, queue=False, **QUIET)

    def _begin(self, stop: Stop | None, of):
        if stop is not None:  # Enter in a text box, which stays in use
            return gr.skip()
        return {self.stop: Stop(of), self.go: gr.Button(interactive=False), self.cancel: gr.Button(interactive=True)}

    def _end(self, stop: Stop | None, ready):
        return {
            self.stop: None,
            self.go: gr.Button(interactive=ready is not None),
            self.cancel: gr.Button(interactive=False),
        }

    def _enable(self, stop: Stop | None, ready):
        return gr.skip() if stop is not None else gr.Button(interactive=ready is not None)

    def _stop(self, stop: Stop | None):
        """Ends the job at its next step; says nothing, for its words may come after those of the job's end."""
        if stop is not None:
            stop.now()
        return gr.Button(interactive=False)

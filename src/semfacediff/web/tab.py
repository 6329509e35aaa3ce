"""What the tabs on which something is made have in common: one long job at a time, and its Stop."""

import sys
import traceback
from collections.abc import Callable
from functools import wraps
from typing import TypeVar

import gradio as gr

from semfacediff.errors import UserError
from semfacediff.web import wording
from semfacediff.web.files import Files, Folder, safe_name
from semfacediff.web.jobs import Stop
from semfacediff.web.model_store import ModelStore

PRIVATE = {"api_visibility": "private"}
QUIET = {**PRIVATE, "show_progress": "hidden"}
LIVE = {**QUIET, "trigger_mode": "always_last"}
PROGRESS = gr.Progress()
Loaded = TypeVar("Loaded")


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
        files: of the server. name: begins the ids of elements, and names the queue: one after the other of all pages.
    """

    def __init__(self, store: ModelStore, files: Files, name: str = ""):
        self.store, self._server_files, self.name = store, files, name
        self.turns = {"concurrency_limit": 1, "concurrency_id": f"{name}making", **PRIVATE}
        # There while a job waits or runs. A page that is closed ends it. No time limit: a synthesis may take hours.
        self.stop = gr.State(None, delete_callback=lambda stop: stop and stop.now())

    def _own(self, request: gr.Request) -> Folder:
        """To be asked for before anything is computed: what is made for a page that was closed is then not written."""
        return self._server_files.page(request.session_hash)

    def _told(self, progress: gr.Progress, what: str) -> Callable[[int, int], None]:
        """What is called after each step."""
        progress(0, desc=what)
        return lambda step, of: progress((step, of), desc=what, unit="steps")

    def _opened(self, path: str | None, opened: Callable[..., Loaded], own: Folder) -> Loaded:
        """What ``opened`` (bytes, name, store, before each parse) makes of an upload."""
        if path is None:
            raise UserError("Load a photo first")
        return opened(self._server_files.uploads.take("photo", path), safe_name(path), self.store, own.check)

    def _loads(
        self, upload: gr.File, load: Callable, inputs: list, outputs: list, ready: gr.State, **turns: object
    ) -> None:
        """``load(*inputs)`` of what is uploaded, which is then forgotten; the button as soon as one can be made."""
        loaded = upload.upload(load, inputs, outputs, **self.turns | turns)
        loaded.then(self._forget, [self.stop, ready], [upload, self.go], queue=False, **QUIET)

    def _forget(self, stop: Stop | None, ready: object) -> tuple:
        return None, gr.skip() if stop is not None else gr.Button(interactive=ready is not None)

    def _message(self, text: str) -> None:
        self.message = gr.HTML(wording.said(text), elem_id=f"{self.name}message")

    def _buttons(self, label: str) -> None:
        plain = {"interactive": False, "min_width": 80}
        self.go = gr.Button(label, variant="primary", elem_id=f"{self.name}go", **plain)
        self.cancel = gr.Button("Stop", elem_id=f"{self.name}cancel", **plain)

    def _job(
        self, triggers: list, do: Callable, ready: gr.State, asked: list, outputs: list, shown_on: gr.Blocks
    ) -> None:
        """``do(stop, *asked)`` on any of ``triggers``, unless one runs; ``ready`` holds something if one can."""

        @wraps(do)
        def run(stop: Stop | None, *args: object) -> dict:
            # None where the page was closed before its turn, or Enter pressed again at the moment of the end.
            return gr.skip() if stop is None else do(stop, *args)

        buttons = [self.stop, self.go, self.cancel]
        begun = gr.on(triggers, self._begin, self.stop, buttons, queue=False, **QUIET)
        made = begun.then(run, [self.stop, *asked], outputs, show_progress_on=[shown_on], **self.turns)
        for after in (made.then, made.failure):  # the latter where an input is not what its element allows
            after(self._end, ready, buttons, queue=False, **QUIET)
        self._stopped_by(self.cancel.click)

    def _stopped_by(self, trigger: Callable) -> None:
        trigger(self._stop, self.stop, self.cancel, queue=False, **QUIET)

    def _begin(self, stop: Stop | None) -> dict:
        if stop is not None:  # Enter in a text box, which stays in use
            return gr.skip()
        return {self.stop: Stop(), self.go: gr.Button(interactive=False), self.cancel: gr.Button(interactive=True)}

    def _end(self, ready: object) -> dict:
        return {
            self.stop: None,
            self.go: gr.Button(interactive=ready is not None),
            self.cancel: gr.Button(interactive=False),
        }

    def _stop(self, stop: Stop | None) -> gr.Button:
        """Ends the job at its next step; says nothing, for its words may come after those of the job's end."""
        if stop is not None:
            stop.now()
        return gr.Button(interactive=False)

"""Base of the tabs with a job: one job at a time, and its Stop button."""

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


def with_message(handler):
    """Decorator of a tab's handlers: shows errors on the page and prints tracebacks of defects to stderr."""

    @wraps(handler)
    def wrapped(self, *args):
        try:
            return handler(self, *args)
        except UserError as e:
            return {self.message: wording.error_message(str(e))}
        except Exception as e:
            traceback.print_exc(file=sys.stderr)
            text = f"Internal error ({type(e).__name__}); see the terminal for details"
            return {self.message: wording.error_message(text)}

    return wrapped


class Tab:
    """A tab with a message, and a job with a start and a stop button.

    Args:
        files: of the server. name: prefix of element ids and of the queue, in which jobs of all pages run one by one.
    """

    def __init__(self, store: ModelStore, files: Files, name: str = ""):
        self.store, self._server_files, self.name = store, files, name
        self.turns = {"concurrency_limit": 1, "concurrency_id": f"{name}making", **PRIVATE}
        # Set while a job waits or runs. Closing the page stops the job. No time limit: a synthesis may take hours.
        self.stop = gr.State(None, delete_callback=lambda stop: stop and stop.request())

    def _page_folder(self, request: gr.Request) -> Folder:
        """The page's folder. Get it before computing, so that nothing is written for a page that was closed."""
        return self._server_files.page(request.session_hash)

    def _on_step(self, progress: gr.Progress, what: str) -> Callable[[int, int], None]:
        """Callback that shows the progress after each step."""
        progress(0, desc=what)
        return lambda step, of: progress((step, of), desc=what, unit="steps")

    def _open_upload(self, path: str | None, opened: Callable[..., Loaded], own: Folder) -> Loaded:
        """Open an upload with ``opened`` (bytes, name, store, callback before each parse)."""
        if path is None:
            raise UserError("Load a photo first")
        return opened(self._server_files.uploads.take("photo", path), safe_name(path), self.store, own.check)

    def _on_upload(
        self,
        trigger: Callable,
        load: Callable,
        inputs: list,
        outputs: list,
        ready: gr.State,
        upload: gr.File,
        **turns: object,
    ) -> None:
        """Call ``load(*inputs)`` on ``trigger``, then clear the upload element and enable the start button if ready."""
        loaded = trigger(load, inputs, outputs, **self.turns | turns)
        loaded.then(self._clear_upload, [self.stop, ready], [upload, self.go], queue=False, **QUIET)

    def _clear_upload(self, stop: Stop | None, ready: object) -> tuple:
        return None, gr.skip() if stop is not None else gr.Button(interactive=ready is not None)

    def _message(self, text: str) -> None:
        self.message = gr.HTML(wording.status_message(text), elem_id=f"{self.name}message")

    def _buttons(self, label: str) -> None:
        plain = {"interactive": False, "min_width": 80}
        self.go = gr.Button(label, variant="primary", elem_id=f"{self.name}go", **plain)
        self.cancel = gr.Button("Stop", elem_id=f"{self.name}cancel", **plain)

    def _job(
        self, triggers: list, do: Callable, ready: gr.State, asked: list, outputs: list, shown_on: gr.Blocks
    ) -> None:
        """Run ``do(stop, *asked)`` on any of ``triggers`` unless a job runs; ``ready`` is set once a job can start."""

        @wraps(do)
        def run(stop: Stop | None, *args: object) -> dict:
            # None if the page was closed before the job started, or Enter was pressed again just as it ended.
            return gr.skip() if stop is None else do(stop, *args)

        buttons = [self.stop, self.go, self.cancel]
        begun = gr.on(triggers, self._begin, self.stop, buttons, queue=False, **QUIET)
        made = begun.then(run, [self.stop, *asked], outputs, show_progress_on=[shown_on], **self.turns)
        for after in (made.then, made.failure):  # the latter if an input is invalid for its element
            after(self._end, ready, buttons, queue=False, **QUIET)
        self._stop_on(self.cancel.click)

    def _stop_on(self, trigger: Callable) -> None:
        trigger(self._stop, self.stop, self.cancel, queue=False, **QUIET)

    def _begin(self, stop: Stop | None) -> dict:
        if stop is not None:  # Enter in a text box, which stays enabled
            return gr.skip()
        return {self.stop: Stop(), self.go: gr.Button(interactive=False), self.cancel: gr.Button(interactive=True)}

    def _end(self, ready: object) -> dict:
        return {
            self.stop: None,
            self.go: gr.Button(interactive=ready is not None),
            self.cancel: gr.Button(interactive=False),
        }

    def _stop(self, stop: Stop | None) -> gr.Button:
        """Stop the job at its next step; shows no message, because it could arrive after the job's final one."""
        if stop is not None:
            stop.request()
        return gr.Button(interactive=False)

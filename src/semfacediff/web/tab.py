"""What the tabs on which something is made have in common: one long job at a time, and its Stop."""

from pathlib import Path

import gradio as gr

from semfacediff.web import wording
from semfacediff.web.jobs import Stop
from semfacediff.web.visits import told

IDLE_S = 3600
"""So long is a photo kept of a visitor who does nothing."""
PRIVATE = {"api_visibility": "private"}
QUIET = {**PRIVATE, "show_progress": "hidden"}


class Tab:
    """A tab with a message, and a job that is begun by one button and ended by another.

    Args:
        folder: where files of visitors lie, below a folder each. name: begins the ids of elements.
    """

    def __init__(self, folder: Path, name: str = ""):
        self.folder, self.name = folder, name
        # Whoever leaves ends what runs for them. No time limit: a synthesis may take more than an hour.
        self.stop = gr.State(None, delete_callback=lambda stop: stop and stop.now())

    def _message(self, text: str) -> None:
        self.message = gr.HTML(wording.said(text), elem_id=f"{self.name}message")

    def _buttons(self, label: str) -> None:
        plain = {"interactive": False, "min_width": 80}
        self.go = gr.Button(label, variant="primary", elem_id=f"{self.name}go", **plain)
        self.cancel = gr.Button("Stop", elem_id=f"{self.name}cancel", **plain)

    def _job(self, triggers: list, do, ready: gr.State, asked: list, outputs: list, shown_on: gr.Blocks) -> None:
        """``do(stop, *asked)`` on any of ``triggers``; the button waits for ``ready`` to hold something."""
        begun = gr.on(triggers, self._begin, None, [self.stop, self.go, self.cancel], queue=False, **QUIET)
        made = begun.then(
            do,
            [self.stop, *asked],
            outputs,
            concurrency_limit=1,
            concurrency_id="making",
            show_progress_on=[shown_on],
            **PRIVATE,
        )
        made.then(self._end, ready, [self.go, self.cancel], queue=False, **QUIET)
        self.cancel.click(self._stop, self.stop, self.message, queue=False, **QUIET)

    def _begin(self):
        return {self.stop: Stop(), self.go: gr.Button(interactive=False), self.cancel: gr.Button(interactive=True)}

    def _end(self, ready):
        return {self.go: gr.Button(interactive=ready is not None), self.cancel: gr.Button(interactive=False)}

    @told
    def _stop(self, stop: Stop | None):
        if stop is not None:
            stop.now()
        return {self.message: wording.said("Stopping after this step.")}

"""The tab on which a photo is edited. Whatever belongs to a visitor lies in ``gr.State``."""

import json
from pathlib import Path

import gradio as gr

from semfacediff.errors import UserError
from semfacediff.labels import ATTRIBUTES
from semfacediff.runs.edit_rows import encoded_png
from semfacediff.web import portrait as session
from semfacediff.web import wording
from semfacediff.web.desk import Ask, Desk, offered
from semfacediff.web.files import MAX_MEGAPIXELS, MAX_UPLOAD_MB, Files, PageFiles, safe_name
from semfacediff.web.jobs import Stop
from semfacediff.web.pictures import mask_picture, parse_picture, shown
from semfacediff.web.portrait import Portrait
from semfacediff.web.tab import IDLE_S, PRIVATE, QUIET, Tab, told

_WELCOME = (
    f"Load a portrait (at most {MAX_UPLOAD_MB} MB and {MAX_MEGAPIXELS} megapixels). It stays on the computer that "
    f"serves this page and is deleted when you leave."
)
_GONE = "Load a photo first"
_OUTDATED = "Another photo was loaded, or an edit undone, while this edit was made, so it is dropped; edit again"


class EditingTab(Tab):
    """One photo, edited from words again and again.

    Args:
        editor: chosen at first.
    """

    def __init__(self, desk: Desk, files: Files, editor: str):
        super().__init__(files)
        self.desk = desk
        # The latter is the page after an edit, from the end of the edit until it is shown.
        self.portrait, self.made = (gr.State(None, time_to_live=IDLE_S) for _ in range(2))
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                self._controls(editor)
            with gr.Column(scale=3, min_width=320):
                self._pictures()
        self._wire()

    def _controls(self, editor: str) -> None:
        self._message(_WELCOME)
        self.upload = gr.File(label="Photo", height=150, elem_id="upload")
        self.attribute = gr.Radio(list(ATTRIBUTES), value="hair", label="Region", elem_id="attribute")
        self.prompt = gr.Textbox(label="What it shall look like", placeholder="copper red hair", elem_id="prompt")
        with gr.Row():
            self.editor = gr.Dropdown(offered(), value=editor, label="Editor", elem_id="editor")
            own = self.desk.strength(editor)
            self.strength = gr.Slider(0.05, 1, value=own or 1, step=0.05, label="Strength", elem_id="strength")
        with gr.Accordion("Seed and negative prompt", open=False):
            self.seed = gr.Number(42, label="Seed", precision=0, minimum=0, elem_id="seed")
            self.negative = gr.Textbox(label="Negative prompt", placeholder="made from the prompt", elem_id="negative")
        self.words = gr.HTML(elem_id="words")
        with gr.Row():
            self._buttons("Edit")
            self.undo = gr.Button("Undo", interactive=False, elem_id="undo", min_width=80)
        self.history = gr.HTML(elem_id="history")
        self.files = gr.File(label="The edit and its record", interactive=False, visible=False, elem_id="files")

    def _pictures(self) -> None:
        plain = {"interactive": False, "buttons": ["fullscreen"], "type": "filepath", "show_label": False}
        with gr.Row():
            with gr.Column(min_width=200):
                gr.Markdown("**Parse.** A click chooses the region.")
                self.parse = gr.Image(label="Parse", alt_text="The photo's parse", elem_id="parse", **plain)
            with gr.Column(min_width=200):
                gr.Markdown("**Mask.** What is dark stays as it is.")
                self.mask = gr.Image(label="Mask", alt_text="The photo, dark where it stays", elem_id="mask", **plain)
        self.legend = gr.HTML(elem_id="legend")
        gr.Markdown("**Photo and edit.**")
        self.compare = gr.ImageSlider(
            label="Photo and edit", interactive=False, elem_id="compare", type="filepath", show_label=False
        )
        self.edge = gr.Slider(0, 100, value=50, step=1, label="Where the edit begins, %", elem_id="edge")

    def _wire(self) -> None:
        shown = [self.portrait, self.upload, self.message, self.parse, self.mask, self.legend, self.compare]
        shown += [self.history, self.files, self.undo]
        asked = [self.attribute, self.prompt, self.editor, self.strength, self.seed, self.negative]
        loading = {"concurrency_limit": 1, "concurrency_id": "loading", **PRIVATE}
        loaded = self.upload.upload(self._load, [self.upload, self.attribute], shown, **loading)
        self._enabled_after(loaded, self.portrait)
        self.parse.select(self._click, self.portrait, [self.attribute, self.message], **QUIET)
        self.attribute.change(self._show_mask, [self.portrait, self.attribute], [self.mask, self.message], **QUIET)
        self.editor.change(self._choose_editor, self.editor, [self.strength, self.message], **QUIET)
        triggers = [c.change for c in (self.attribute, self.editor, self.prompt, self.negative)]
        gr.on(triggers, self._audit, asked, [self.words, self.message], trigger_mode="always_last", **QUIET)
        begin = [self.go.click, self.prompt.submit]
        left = [self.portrait, self.made]
        self._job(begin, self._edit, asked, left, [self.made, *shown], self.compare)
        self.portrait.change(self._outdate, [self.stop, self.portrait], queue=False, **QUIET)
        self.undo.click(self._undo, [self.portrait, self.attribute], shown, **QUIET)
        self.edge.input(
            lambda x: gr.ImageSlider(slider_position=x),
            self.edge,
            self.compare,
            queue=False,
            trigger_mode="always_last",
            **QUIET,
        )

    @told
    def _load(self, path: str | None, attribute: str, request: gr.Request):
        if path is None:
            raise UserError(_GONE)
        own = self._own(request)
        try:
            with self.desk.jobs.running():
                portrait = session.opened(self.server_files.take(path), safe_name(path), self.desk)
        except UserError as e:
            return {self.upload: None, self.message: wording.refused(str(e))}
        return self._view(portrait, attribute, wording.portrait(portrait), own) | {self.upload: None}

    @told
    def _click(self, portrait: Portrait | None, event: gr.SelectData):
        at = self._present(portrait)
        height, width = shown(at.now).shape[:2]
        name, attribute = session.class_at(at, event.index[0] / width, event.index[1] / height, self.desk)
        if attribute is None:
            raise UserError(f"'{name}' is no region that can be edited; choose one of {', '.join(ATTRIBUTES)}")
        return {self.attribute: attribute, self.message: wording.said(f"{name}: the region is '{attribute}'.")}

    @told
    def _show_mask(self, portrait: Portrait | None, attribute: str, request: gr.Request):
        return {self.mask: self._mask(portrait, attribute, self._own(request)) if portrait else None}

    @told
    def _choose_editor(self, editor: str):
        own = self.desk.strength(editor)
        return {self.strength: gr.Slider(value=own or 1, interactive=own is not None)}

    @told
    def _audit(self, *asked):
        ask = Ask(*asked)
        return {self.words: wording.words(session.audit(ask, self.desk)) if ask.prompt.strip() else ""}

    @told
    def _edit(
        self,
        stop: Stop,
        attribute: str,
        prompt: str,
        editor: str,
        strength: float,
        seed: int,
        negative: str,
        request: gr.Request,
        progress=gr.Progress(),  # noqa: B008 - how Gradio passes it
    ):
        def on_step(step: int, of: int) -> None:
            progress((step, of), desc="Editing", unit="steps")

        progress(0, desc="Editing")
        own = self._own(request)
        ask = Ask(attribute, prompt, editor, strength, seed, negative)
        with self.desk.jobs.running(stop):
            made = session.edit(self._present(stop.of), ask, self.desk, stop, on_step)
        return {self.made: self._view(made, attribute, f"Edited the {attribute}.", own)}

    def _outdate(self, stop: Stop | None, portrait: Portrait | None) -> None:
        """Ends an edit of what is there no more at its next step."""
        if _outdated(stop, portrait):
            stop.now(_OUTDATED)

    def _end(self, stop: Stop | None, portrait: Portrait | None, made: dict | None):
        """Shows the edit, unless another photo was loaded, or an edit undone, while it was made."""
        view = made or {}
        if _outdated(stop, portrait):
            view = {self.message: wording.said(wording.portrait(portrait)) + wording.refused(_OUTDATED)}
        return super()._end(stop, portrait) | {self.made: None} | view

    @told
    def _undo(self, portrait: Portrait | None, attribute: str, request: gr.Request):
        return self._view(session.undone(self._present(portrait)), attribute, "Undone.", self._own(request))

    def _present(self, portrait: Portrait | None) -> Portrait:
        if portrait is None:
            raise UserError(_GONE)
        return portrait

    def _view(self, portrait: Portrait, attribute: str, text: str, own: PageFiles) -> dict:
        """Everything that shows the portrait."""
        before = own.picture("before", shown(portrait.photo))
        after = own.picture("after", shown(portrait.now)) if portrait.steps else before
        return {
            self.portrait: portrait,
            self.message: wording.said(text),
            self.parse: own.picture("parse", parse_picture(portrait.now, portrait.labels_now, self.desk.space)),
            self.mask: self._mask(portrait, attribute, own),
            self.legend: wording.legend(portrait, self.desk.space),
            self.compare: (before, after),
            self.history: wording.history(portrait),
            self.files: gr.File(self._downloads(portrait, own), visible=bool(portrait.steps)),
            self.undo: gr.Button(interactive=bool(portrait.steps)),
        }

    def _mask(self, portrait: Portrait, attribute: str, own: PageFiles) -> str:
        return own.picture("mask", mask_picture(portrait.now, session.masks(portrait, attribute, self.desk)))

    def _downloads(self, portrait: Portrait, own: PageFiles) -> list[str] | None:
        if not portrait.steps:
            return None
        record = json.dumps(session.record(portrait, self.desk), indent=1, ensure_ascii=False) + "\n"
        return own.downloads("edit", f"{Path(portrait.name).stem}_edit", encoded_png(portrait.now), record)


def _outdated(stop: Stop | None, portrait: Portrait | None) -> bool:
    """Whether a job works on something else than the portrait that is there."""
    return stop is not None and portrait is not None and stop.of is not portrait

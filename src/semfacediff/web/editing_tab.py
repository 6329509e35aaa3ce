"""The tab that edits a photo. The state of each open page is kept in ``gr.State``."""

import json
from pathlib import Path
from typing import Any

import gradio as gr

from semfacediff.commands.edit.one_photo import WITHOUT_WEIGHTS
from semfacediff.errors import UserError
from semfacediff.labels import ATTRIBUTES, in_words
from semfacediff.tasks.editing.sample_row import encoded_png
from semfacediff.web import portrait as session
from semfacediff.web import wording
from semfacediff.web.examples import EXAMPLES
from semfacediff.web.files import Files, Folder, safe_name
from semfacediff.web.jobs import Stop
from semfacediff.web.model_store import EditForm, ModelStore, editor_names
from semfacediff.web.pictures import mask_picture, parse_picture, shown
from semfacediff.web.portrait import MAX_MEGAPIXELS, Portrait
from semfacediff.web.tab import LIVE, PROGRESS, QUIET, Tab, with_message

_WELCOME = f"Load a portrait (at most {MAX_MEGAPIXELS} megapixels). It stays on this computer until the page is closed."
_BRUSHES = ["off", "brush", "eraser"]


class EditingTab(Tab):
    """Repeated edits of one photo from text prompts.

    Args:
        editor: initial choice.
    """

    def __init__(self, store: ModelStore, files: Files, editor: str):
        super().__init__(store, files)
        self.portrait = gr.State(None)
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                self._controls(editor)
            with gr.Column(scale=3, min_width=320):
                self._pictures()
        self._connect_events()

    def _controls(self, editor: str) -> None:
        self._message(_WELCOME)
        self.upload = gr.File(label="Photo", height=150, elem_id="upload")
        with gr.Row():
            self.examples = {name: gr.Button(f"Example: {name}", size="sm", min_width=80) for name in EXAMPLES}
        self.attribute = gr.Radio(list(ATTRIBUTES), value="hair", label="Region", elem_id="attribute")
        self.prompt = gr.Textbox(label="Prompt", placeholder="copper red hair", elem_id="prompt")
        with gr.Row():
            known = [name for name in editor_names() if name in WITHOUT_WEIGHTS or name == editor]
            self.editor = gr.Dropdown(known, value=editor, label="Editor", elem_id="editor")
            own = self.store.strength(editor)
            self.strength = gr.Slider(0.05, 1, value=own or 1, step=0.05, label="Strength", elem_id="strength")
        with gr.Accordion("Seed and negative prompt", open=False):
            self.seed = gr.Number(42, label="Seed", precision=0, minimum=0, elem_id="seed")
            self.negative = gr.Textbox(label="Negative prompt", placeholder="default: automatic", elem_id="negative")
        self.words = gr.HTML(elem_id="words")
        with gr.Row():
            self._buttons("Edit")
            self.undo = gr.Button("Undo", interactive=False, elem_id="undo", min_width=80)
            self.redo = gr.Button("Redo", interactive=False, elem_id="redo", min_width=80)
        self.history = gr.HTML(elem_id="history")
        self.files = gr.File(label="Edit and record", interactive=False, visible=False, elem_id="files")

    def _pictures(self) -> None:
        plain = {"interactive": False, "buttons": ["fullscreen"], "type": "filepath", "show_label": False}
        with gr.Row():
            with gr.Column(min_width=200):
                gr.Markdown("**Parse.** Click a region to select it.")
                self.parse = gr.Image(label="Parse", alt_text="The photo's parse", elem_id="parse", **plain)
            with gr.Column(min_width=200):
                gr.Markdown("**Mask.** Only the outlined area changes.")
                self.mask = gr.Image(label="Mask", alt_text="The photo with its mask", elem_id="mask", **plain)
        scripted = {"interactive": True}  # read by the page's script alone
        with gr.Row():
            self.brush = gr.Radio(
                _BRUSHES, value="off", label="Paint the mask", elem_id="brush", min_width=200, **scripted
            )
            self.size = gr.Slider(
                1, 30, value=5, step=1, label="Brush, % of the photo", elem_id="size", min_width=140, **scripted
            )
            self.own_mask = gr.UploadButton("Use my mask", size="sm", elem_id="own-mask", min_width=120)
            self.reset = gr.Button("Reset the mask", size="sm", elem_id="reset", min_width=120)
        self.stroke = gr.Textbox(visible="hidden", elem_id="stroke")
        self.legend = gr.HTML(elem_id="legend")
        gr.Markdown("**Photo and edit.**")
        self.compare = gr.ImageSlider(
            label="Photo and edit", interactive=False, elem_id="compare", type="filepath", show_label=False
        )
        self.edge = gr.Slider(0, 100, value=50, step=1, label="Slider position, %", elem_id="edge")

    def _connect_events(self) -> None:
        shown = [self.portrait, self.message, self.parse, self.mask, self.legend, self.compare]
        shown += [self.history, self.files, self.undo, self.redo]
        asked = [self.attribute, self.prompt, self.editor, self.strength, self.seed, self.negative]
        examples = [button.click for button in self.examples.values()]
        for change in (self.upload.upload, self.undo.click, self.redo.click, *examples):
            self._stop_on(change)  # registered first: the browser sends the change after it, and the change is queued
        self._on_upload(
            self.upload.upload, self._load, [self.upload, self.attribute], shown, self.portrait, self.upload
        )
        for name, click in zip(self.examples, examples, strict=True):
            self._on_upload(click, self._example, [gr.State(name), self.attribute], shown, self.portrait, self.upload)
        self.parse.select(self._click, self.portrait, [self.attribute, self.message], **QUIET)
        self.attribute.change(self._show_mask, [self.portrait, self.attribute], [self.mask, self.message], **QUIET)
        self.editor.change(self._choose_editor, self.editor, [self.strength, self.message], **QUIET)
        triggers = [c.change for c in (self.attribute, self.editor, self.prompt, self.negative)]
        gr.on(triggers, self._audit, asked, [self.words, self.message], **LIVE)
        begin = [self.go.click, self.prompt.submit]
        self._job(begin, self._edit, self.portrait, [self.portrait, *asked], shown, self.compare)
        at = [self.portrait, self.attribute]
        hidden = {"show_progress": "hidden", **self.turns}
        self.undo.click(self._undo, at, shown, **hidden)
        self.redo.click(self._redo, at, shown, **hidden)
        drawn = [self.portrait, self.mask, self.message]
        self.stroke.change(self._paint, [*at, self.stroke], drawn, trigger_mode="multiple", **hidden)
        self.own_mask.upload(self._use_mask, [*at, self.own_mask], drawn, **hidden)
        self.reset.click(self._reset_mask, at, drawn, **hidden)
        self.edge.input(lambda x: gr.ImageSlider(slider_position=x), self.edge, self.compare, queue=False, **LIVE)

    @with_message
    def _load(self, path: str | None, attribute: str, request: gr.Request) -> dict:
        own = self._page_folder(request)
        portrait = self._open_upload(path, session.open_portrait, own)
        return self._view(portrait, attribute, wording.portrait(portrait), own)

    @with_message
    def _example(self, name: str, attribute: str, request: gr.Request) -> dict:
        own = self._page_folder(request)
        portrait = session.open_portrait(EXAMPLES[name](), f"{name.replace(' ', '_')}.png", self.store, own.check)
        return self._view(portrait, attribute, wording.portrait(portrait), own)

    @with_message
    def _click(self, portrait: Portrait | None, event: gr.SelectData) -> dict:
        at = _loaded(portrait)
        height, width = shown(at.now).shape[:2]
        name, attribute = session.class_at(at, event.index[0] / width, event.index[1] / height, self.store)
        if attribute is None:
            raise UserError(f"'{in_words(name)}' cannot be edited; choose one of {', '.join(ATTRIBUTES)}")
        return {
            self.attribute: attribute,
            self.message: wording.status_message(f"Region '{attribute}' selected ({in_words(name)})."),
        }

    @with_message
    def _show_mask(self, portrait: Portrait | None, attribute: str, request: gr.Request) -> dict:
        return {self.mask: self._mask(portrait, attribute, self._page_folder(request)) if portrait else None}

    @with_message
    def _paint(self, portrait: Portrait | None, attribute: str, stroke: str, request: gr.Request) -> dict:
        own = self._page_folder(request)
        return self._drawn(session.painted(_loaded(portrait), attribute, stroke, self.store), attribute, own)

    @with_message
    def _use_mask(self, portrait: Portrait | None, attribute: str, path: str, request: gr.Request) -> dict:
        own, data = self._page_folder(request), self._server_files.uploads.take("photo", path)
        return self._drawn(session.with_mask(_loaded(portrait), attribute, data, safe_name(path)), attribute, own)

    @with_message
    def _reset_mask(self, portrait: Portrait | None, attribute: str, request: gr.Request) -> dict:
        return self._drawn(session.without_mask(_loaded(portrait), attribute), attribute, self._page_folder(request))

    def _drawn(self, portrait: Portrait, attribute: str, own: Folder) -> dict:
        whose = "your own" if attribute in portrait.drawn else "the parse's"
        text = wording.status_message(f"The mask of '{attribute}' is {whose}.")
        return {self.portrait: portrait, self.mask: self._mask(portrait, attribute, own), self.message: text}

    def offer_editors(self) -> gr.Dropdown:
        """All editors, once the page is open, as it takes seconds: those that can run first; the others say so."""
        lacking = [name for name in editor_names() if self.store.lacks(name)]
        ready = [(name, name) for name in editor_names() if name not in lacking]
        return gr.Dropdown([*ready, *((f"{name} (weights not there)", name) for name in lacking)])

    @with_message
    def _choose_editor(self, editor: str) -> dict:
        own, why = self.store.strength(editor), self.store.lacks(editor)
        strength = gr.Slider(value=own or 1, interactive=own is not None)
        said = wording.error_message(why) if why else wording.status_message(f"Editor '{editor}' selected.")
        return {self.strength: strength, self.message: said}

    @with_message
    def _audit(self, *asked: Any) -> dict:
        form = EditForm(*asked)
        return {self.words: wording.audit_facts(session.audit(form, self.store)) if form.prompt.strip() else ""}

    @with_message
    def _edit(  # noqa: PLR0913  Gradio passes each input by itself
        self,
        stop: Stop,
        at: Portrait | None,
        attribute: str,
        prompt: str,
        editor: str,
        strength: float,
        seed: int,
        negative: str,
        request: gr.Request,
        progress: gr.Progress = PROGRESS,
    ) -> dict:
        own, form = self._page_folder(request), EditForm(attribute, prompt, editor, strength, seed, negative)
        made = session.edit(_loaded(at), form, self.store, stop, self._on_step(progress, "Editing"))
        view = self._view(made, attribute, f"Edited the {attribute}.", own)
        stop.check()
        return view

    @with_message
    def _undo(self, portrait: Portrait | None, attribute: str, request: gr.Request) -> dict:
        return self._view(session.undo(_loaded(portrait)), attribute, "Undone.", self._page_folder(request))

    @with_message
    def _redo(self, portrait: Portrait | None, attribute: str, request: gr.Request) -> dict:
        return self._view(session.redo(_loaded(portrait)), attribute, "Redone.", self._page_folder(request))

    def _view(self, portrait: Portrait, attribute: str, text: str, own: Folder) -> dict:
        """Values of all elements that show the portrait."""
        before = own.picture("before", shown(portrait.photo))
        after = own.picture("after", shown(portrait.now)) if portrait.steps else before
        return {
            self.portrait: portrait,
            self.message: wording.status_message(text),
            self.parse: own.picture("parse", parse_picture(portrait.now, portrait.labels_now, self.store.space)),
            self.mask: self._mask(portrait, attribute, own),
            self.legend: wording.legend(portrait, self.store.space),
            self.compare: (before, after),
            self.history: wording.history(portrait),
            self.files: gr.File(self._downloads(portrait, own), visible=bool(portrait.steps)),
            self.undo: gr.Button(interactive=bool(portrait.steps)),
            self.redo: gr.Button(interactive=bool(portrait.undone)),
        }

    def _mask(self, portrait: Portrait, attribute: str, own: Folder) -> str:
        return own.picture("mask", mask_picture(portrait.now, session.masks(portrait, attribute, self.store)))

    def _downloads(self, portrait: Portrait, own: Folder) -> list[str] | None:
        if not portrait.steps:
            return None
        record = json.dumps(session.record(portrait, self.store), indent=1, ensure_ascii=False) + "\n"
        files = own.downloads("edit", f"{Path(portrait.name).stem}_edit", encoded_png(portrait.now), record)
        return files + [own.write(name, name, png) for name, png in session.mask_files(portrait).items()]


def _loaded(portrait: Portrait | None) -> Portrait:
    if portrait is None:
        raise UserError("Load a photo first")
    return portrait

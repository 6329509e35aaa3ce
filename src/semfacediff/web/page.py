"""The page: components and what their events do. Whatever belongs to a visitor lies in ``gr.State``."""

import json
import secrets
import shutil
import sys
import traceback
from collections.abc import Sequence
from functools import wraps
from importlib import resources
from pathlib import Path

import gradio as gr
import numpy as np

from semfacediff.errors import UserError
from semfacediff.labels import ATTRIBUTES
from semfacediff.runs.edit_rows import encoded_png
from semfacediff.web import portrait as session
from semfacediff.web import wording
from semfacediff.web.desk import Ask, Desk, offered
from semfacediff.web.pictures import encoded, mask_picture, parse_picture, shown
from semfacediff.web.portrait import Portrait, Stop
from semfacediff.web.run_list import chosen_run, runs_below, summary_table
from semfacediff.web.uploads import MAX_MEGAPIXELS, MAX_UPLOAD_MB, safe_name

TITLE = "SemFaceDiff"
MAX_WAITING = 16
"""Edits in the queue; whoever comes then is told to try again."""
_IDLE_S = 3600
_FONTS = ["system-ui", "sans-serif"], ["ui-monospace", "monospace"]
_WELCOME = (
    f"Load a portrait (at most {MAX_UPLOAD_MB} MB and {MAX_MEGAPIXELS} megapixels). It stays on the computer that "
    f"serves this page and is deleted when you leave."
)
_GONE = "Load a photo first"


def theme() -> gr.themes.Base:
    """The default one with the system's fonts: nothing is fetched."""
    return gr.themes.Default(font=_FONTS[0], font_mono=_FONTS[1])


def css() -> str:
    return (resources.files("semfacediff.web") / "page.css").read_text(encoding="utf-8")


def build_page(desk: Desk, folder: Path, roots: Sequence[Path], editor: str) -> gr.Blocks:
    """The page, not yet served.

    Args:
        folder: where files of visitors lie, below a folder each; Gradio's own cache.
        roots: folders of runs. editor: chosen at first.
    """
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(600, _IDLE_S), fill_width=True) as page:
        gr.Markdown(f"# {TITLE}")
        with gr.Tab("Edit a photo"):
            _Editing(desk, folder, editor)
        with gr.Tab("Runs"):
            _runs_tab(roots)

        def leave(request: gr.Request) -> None:
            page.state_holder.delete_state(request.session_hash)
            shutil.rmtree(_own(folder, request), ignore_errors=True)

        page.unload(leave)
        page.load(None, js=(resources.files("semfacediff.web") / "page.js").read_text(encoding="utf-8"))
    return page


def _own(folder: Path, request: gr.Request) -> Path:
    """A visitor's folder."""
    return folder / f"visit-{request.session_hash}"


def _told(handler):
    """What goes wrong becomes a sentence on the page; a defect's traceback goes to the terminal alone."""

    @wraps(handler)
    def told(self, *args):
        try:
            return handler(self, *args)
        except UserError as e:
            return {self.message: wording.refused(str(e))}
        except Exception as e:
            traceback.print_exc(file=sys.stderr)
            return {
                self.message: wording.refused(f"Something failed here ({type(e).__name__}); the terminal says what")
            }

    return told


class _Editing:
    """The tab on which a photo is edited."""

    def __init__(self, desk: Desk, folder: Path, editor: str):
        self.desk, self.folder = desk, folder
        self.portrait = gr.State(None, time_to_live=_IDLE_S)
        self.stop = gr.State(None, time_to_live=_IDLE_S)
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                self._controls(editor)
            with gr.Column(scale=3, min_width=320):
                self._pictures()
        self._wire()

    def _controls(self, editor: str) -> None:
        self.message = gr.HTML(wording.said(_WELCOME), elem_id="message")
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
            self.go = gr.Button("Edit", variant="primary", interactive=False, elem_id="go", min_width=80)
            self.cancel = gr.Button("Stop", interactive=False, elem_id="cancel", min_width=80)
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
        quiet = {"api_visibility": "private", "show_progress": "hidden"}
        shown = [self.portrait, self.upload, self.message, self.parse, self.mask, self.legend, self.compare]
        shown += [self.history, self.files, self.go, self.undo]
        asked = [self.attribute, self.prompt, self.editor, self.strength, self.seed, self.negative]
        self.upload.upload(
            self._load, [self.upload, self.attribute], shown, concurrency_limit=1, api_visibility="private"
        )
        self.parse.select(self._click, self.portrait, [self.attribute, self.message], **quiet)
        self.attribute.change(self._show_mask, [self.portrait, self.attribute], [self.mask, self.message], **quiet)
        self.editor.change(self._choose_editor, self.editor, [self.strength, self.message], **quiet)
        triggers = [c.change for c in (self.attribute, self.editor, self.prompt, self.negative)]
        gr.on(triggers, self._audit, asked, [self.words, self.message], trigger_mode="always_last", **quiet)
        begun = gr.on(
            [self.go.click, self.prompt.submit],
            self._begin,
            None,
            [self.stop, self.go, self.cancel],
            queue=False,
            **quiet,
        )
        edited = begun.then(
            self._edit,
            [self.portrait, self.stop, *asked],
            shown,
            concurrency_limit=1,
            show_progress_on=[self.compare],
            api_visibility="private",
        )
        edited.then(self._end, self.portrait, [self.go, self.cancel], queue=False, **quiet)
        self.cancel.click(self._stop, self.stop, self.message, queue=False, **quiet)
        self.undo.click(self._undo, [self.portrait, self.attribute], shown, **quiet)
        self.edge.input(
            lambda x: gr.ImageSlider(slider_position=x),
            self.edge,
            self.compare,
            queue=False,
            trigger_mode="always_last",
            **quiet,
        )

    @_told
    def _load(self, path: str | None, attribute: str, request: gr.Request):
        if path is None:
            raise UserError(_GONE)
        try:
            portrait = session.opened(_taken(Path(path)), safe_name(Path(path).name), self.desk)
        except UserError as e:
            return {self.upload: None, self.message: wording.refused(str(e))}
        n = len(portrait.faces.shares) if portrait.faces else 0
        seen = {0: "no face: whatever is parsed is edited", 1: "one face"}.get(n, f"{n} faces: the largest is edited")
        text = f"{portrait.name}: {portrait.photo.shape[1]} x {portrait.photo.shape[0]} px, {seen}."
        return self._view(portrait, attribute, text, request) | {self.upload: None}

    @_told
    def _click(self, portrait: Portrait | None, event: gr.SelectData):
        at = self._present(portrait)
        height, width = shown(at.now).shape[:2]
        name, attribute = session.class_at(at, event.index[0] / width, event.index[1] / height, self.desk)
        if attribute is None:
            raise UserError(f"'{name}' is no region that can be edited; choose one of {', '.join(ATTRIBUTES)}")
        return {self.attribute: attribute, self.message: wording.said(f"{name}: the region is '{attribute}'.")}

    @_told
    def _show_mask(self, portrait: Portrait | None, attribute: str, request: gr.Request):
        return {self.mask: self._mask(portrait, attribute, request)} if portrait else {self.mask: None}

    @_told
    def _choose_editor(self, editor: str):
        own = self.desk.strength(editor)
        return {self.strength: gr.Slider(value=own or 1, interactive=own is not None)}

    @_told
    def _audit(self, *asked):
        ask = Ask(*asked)
        return {self.words: wording.words(session.audit(ask, self.desk)) if ask.prompt.strip() else ""}

    def _begin(self):
        return {self.stop: Stop(), self.go: gr.Button(interactive=False), self.cancel: gr.Button(interactive=True)}

    @_told
    def _edit(
        self,
        portrait: Portrait | None,
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
        ask = Ask(attribute, prompt, editor, strength, seed, negative)
        made = session.edit(self._present(portrait), ask, self.desk, stop, on_step)
        return self._view(made, attribute, f"Edited the {attribute}.", request)

    def _end(self, portrait: Portrait | None):
        return {self.go: gr.Button(interactive=portrait is not None), self.cancel: gr.Button(interactive=False)}

    @_told
    def _stop(self, stop: Stop | None):
        if stop is not None:
            stop.now()
        return {self.message: wording.said("Stopping after this step.")}

    @_told
    def _undo(self, portrait: Portrait | None, attribute: str, request: gr.Request):
        return self._view(session.undone(self._present(portrait)), attribute, "Undone.", request)

    def _present(self, portrait: Portrait | None) -> Portrait:
        if portrait is None:
            raise UserError(_GONE)
        return portrait

    def _view(self, portrait: Portrait, attribute: str, text: str, request: gr.Request) -> dict:
        """Everything that shows the portrait."""
        own = _own(self.folder, request)
        before = self._picture(shown(portrait.photo), own)
        after = self._picture(shown(portrait.now), own) if portrait.steps else before
        return {
            self.portrait: portrait,
            self.message: wording.said(text),
            self.parse: self._picture(parse_picture(portrait.now, portrait.labels_now, self.desk.space), own),
            self.mask: self._mask(portrait, attribute, request),
            self.legend: wording.legend(portrait, self.desk.space),
            self.compare: (before, after),
            self.history: wording.history(portrait),
            self.files: gr.File(self._files(portrait, own), visible=bool(portrait.steps)),
            self.go: gr.Button(interactive=True),
            self.undo: gr.Button(interactive=bool(portrait.steps)),
        }

    def _mask(self, portrait: Portrait, attribute: str, request: gr.Request) -> str:
        masks = session.masks(portrait, attribute, self.desk)
        return self._picture(mask_picture(portrait.now, masks), _own(self.folder, request))

    def _picture(self, picture: np.ndarray, own: Path) -> str:
        return _written(own / f"{secrets.token_hex(8)}.jpg", encoded(picture))

    def _files(self, portrait: Portrait, own: Path) -> list[str] | None:
        if not portrait.steps:
            return None
        stem, at = f"{Path(portrait.name).stem}_edit", own / secrets.token_hex(8)
        text = json.dumps(session.record(portrait, self.desk), indent=1, ensure_ascii=False) + "\n"
        edit = _written(at / f"{stem}.png", encoded_png(portrait.now))
        return [edit, _written(at / f"{stem}.json", text.encode())]


def _taken(upload: Path) -> bytes:
    """Bytes of an uploaded file, which is then gone.

    Gradio names its folder by its content: whoever uploads the same file at the same moment may find it gone.
    """
    try:
        return upload.read_bytes()
    except FileNotFoundError as e:
        raise UserError("The file was gone before it was read; load it again") from e
    finally:
        shutil.rmtree(upload.parent, ignore_errors=True)


def _written(file: Path, data: bytes) -> str:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    return str(file)


def _runs_tab(roots: Sequence[Path]) -> None:
    """Records of runs, without pictures."""
    names = list(runs_below(roots))
    with gr.Row():
        run = gr.Dropdown(names, value=None, label="Run", elem_id="run", scale=4)
        again = gr.Button("Look again", elem_id="again", scale=1)
    facts = gr.HTML(
        "<p>Choose a run.</p>" if names else "<p>No run in results/runs or outputs yet.</p>", elem_id="facts"
    )
    table = gr.Dataframe(interactive=False, label="Summary", elem_id="summary", wrap=True)

    def show(name: str | None):
        if not name:
            return "", None
        try:
            record = chosen_run(name, roots)
        except UserError as e:
            return wording.refused(str(e)), None
        return wording.run_facts(record), summary_table(record)

    quiet = {"api_visibility": "private", "show_progress": "hidden"}
    run.change(show, run, [facts, table], **quiet)
    again.click(lambda: gr.Dropdown(list(runs_below(roots)), value=None), None, run, **quiet)

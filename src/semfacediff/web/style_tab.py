"""The tab that generates a face from two photos. The state of each open page is kept in ``gr.State``."""

from pathlib import Path

import gradio as gr

from semfacediff.errors import UserError
from semfacediff.labels import in_words
from semfacediff.synthesis.sampling import SamplingOptions
from semfacediff.tasks.editing.sample_row import encoded_png
from semfacediff.web import styling, wording
from semfacediff.web.files import Files
from semfacediff.web.jobs import Stop
from semfacediff.web.model_store import ModelStore
from semfacediff.web.pictures import photo_and_parse, row
from semfacediff.web.portrait import MAX_MEGAPIXELS
from semfacediff.web.styling import STEPS, TASKS, Face, StyleForm, StyleModel
from semfacediff.web.tab import PROGRESS, QUIET, Tab, with_message

WITHOUT = """This tab generates a face from the layout of one photo and the style of another. It needs a trained model
(SCA-DM), and this server was started without one. *Training* in `docs/synthesis.md` says how to get one; then start
the server with it:

    semfacediff web --synthesis RUN
"""
_WELCOME = (
    f"Load a first photo for the layout and a second one for the style (at most {MAX_MEGAPIXELS} megapixels each). "
    f"They stay on this computer until the page is closed."
)
_FORMS = {
    "none": None,
    "code: null + s (cond - null)": "code",
    "paper: cond + s (cond - null)": "paper",
}


class StyleTab(Tab):
    """Generates a face from the layout of a first and the style of a second photo."""

    def __init__(self, store: ModelStore, files: Files, model: StyleModel):
        super().__init__(store, files, "style-")
        self.model, self.first, self.second = model, gr.State(None), gr.State(None)
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                self._controls()
            with gr.Column(scale=3, min_width=320):
                self._pictures()
        self._connect_events()

    def _controls(self) -> None:
        self._message(_WELCOME)
        gr.HTML(wording.style_model(self.model), elem_id="style-model")
        with gr.Row():
            self.upload_first = gr.File(label="First: layout", height=150, elem_id="first", min_width=140)
            self.upload_second = gr.File(label="Second: style", height=150, elem_id="second", min_width=140)
        choices = [(task.label, name) for name, task in TASKS.items()]
        self.task = gr.Radio(choices, value="swap_parts", label="Task", elem_id="task")
        parts = [(in_words(name), name) for name in self.model.parts]
        self.parts = gr.CheckboxGroup(parts, value=["hair"], label="Parts", elem_id="parts")
        with gr.Row():
            self.steps = gr.Dropdown(list(STEPS), value=50, label="Steps", elem_id="steps", min_width=120)
            self.seed = gr.Number(42, label="Seed", precision=0, minimum=0, elem_id="style-seed", min_width=120)
        with gr.Accordion("Guidance", open=False):
            self.form = gr.Dropdown(list(_FORMS), value="none", label="Form", elem_id="form")
            self.guidance = gr.Number(1.2, label="s", elem_id="guidance", interactive=False)
        with gr.Row():
            self._buttons("Generate")
        self.files = gr.File(label="Result and record", interactive=False, visible=False, elem_id="made")

    def _pictures(self) -> None:
        plain = {"interactive": False, "buttons": ["fullscreen"], "type": "filepath", "show_label": False}
        with gr.Row():
            with gr.Column(min_width=200):
                gr.Markdown("**First photo and its parse.**")
                self.seen_first = gr.Image(alt_text="The first photo and its parse", elem_id="seen-first", **plain)
                self.legend_first = gr.HTML(elem_id="legend-first")
            with gr.Column(min_width=200):
                gr.Markdown("**Second photo and its parse.**")
                self.seen_second = gr.Image(alt_text="The second photo and its parse", elem_id="seen-second", **plain)
                self.legend_second = gr.HTML(elem_id="legend-second")
        self.about = gr.HTML("<p><b>Result.</b> None yet.</p>", elem_id="about")
        self.result = gr.Image(alt_text="The photos and the result", elem_id="result", **plain)

    def _connect_events(self) -> None:
        for which in ("first", "second"):
            upload, *shown = self._elements(which)
            inputs, turn = [gr.State(which), upload], "loading"  # also while a face is generated, which may take long
            self._on_upload(
                upload.upload, self._load, inputs, [*shown, self.message], self.first, upload, concurrency_id=turn
            )
        self.task.change(self._choose_task, self.task, [self.parts, self.message], **QUIET)
        self.form.change(self._choose_form, self.form, [self.guidance, self.message], **QUIET)
        asked = [self.first, self.second, self.task, self.parts, self.steps, self.seed, self.form, self.guidance]
        shown = [self.message, self.about, self.result, self.files]
        self._job([self.go.click], self._make, self.first, asked, shown, self.result)

    def _elements(self, which: str) -> list:
        """Upload, state, picture and legend elements of the ``first`` or ``second`` photo."""
        if which == "first":
            return [self.upload_first, self.first, self.seen_first, self.legend_first]
        return [self.upload_second, self.second, self.seen_second, self.legend_second]

    @with_message
    def _load(self, which: str, path: str | None, request: gr.Request) -> dict:
        _, state, seen, legend = self._elements(which)
        own = self._page_folder(request)
        face = self._open_upload(path, styling.open_face, own)
        picture = photo_and_parse(face.sample.photo, face.sample.label_map, self.store.space)
        return {
            state: face,
            seen: own.picture(which, picture),
            legend: wording.face_legend(face, which, self.store.space),
            self.message: wording.status_message(f"{which.capitalize()} photo: {wording.face(face)}"),
        }

    @with_message
    def _choose_task(self, task: str) -> dict:
        return {self.parts: gr.CheckboxGroup(interactive=TASKS[task].parts)}

    @with_message
    def _choose_form(self, form: str) -> dict:
        return {self.guidance: gr.Number(interactive=_FORMS[form] is not None)}

    @with_message
    def _make(  # noqa: PLR0913  Gradio passes each input by itself
        self,
        stop: Stop,
        first: Face,
        second: Face | None,
        task: str,
        parts: list[str],
        steps: int,
        seed: int,
        form: str,
        guidance: float,
        request: gr.Request,
        progress: gr.Progress = PROGRESS,
    ) -> dict:
        own, wanted = (
            self._page_folder(request),
            StyleForm(task, tuple(parts), _options(steps, seed, _FORMS[form], guidance)),
        )
        made = styling.make(first, second, wanted, self.model, stop, self._on_step(progress, "Generating"))
        faces = styling.comparison(made, first, second if TASKS[task].second else None, self.model.size)
        stem = f"{Path(first.name).stem}_{task}"
        record = styling.record_text(made, self.model)
        files = own.downloads("face", stem, encoded_png(styling.picture(made)), record)
        return {
            self.message: wording.status_message("Done."),
            self.about: wording.style_result(made, self.model.size),
            self.result: own.picture("result", row(faces)),
            self.files: gr.File(files, visible=True),
        }


def _options(steps: int, seed: int | None, form: str | None, guidance: float | None) -> SamplingOptions:
    if seed is None:
        raise UserError("Seed: expected a whole number, got none; enter one")
    if form is None:
        return SamplingOptions(steps, seed=seed)
    if guidance is None:
        raise UserError("Guidance: expected a number for s, got none; enter one, or choose the form 'none'")
    return SamplingOptions(steps, seed=seed, guidance=guidance, guidance_form=form)

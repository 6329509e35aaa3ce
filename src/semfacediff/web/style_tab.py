"""The tab on which a face is made of two photos. Whatever belongs to one open page lies in ``gr.State``."""

from pathlib import Path

import gradio as gr

from semfacediff.errors import UserError
from semfacediff.synthesis.sampling import SamplingOptions
from semfacediff.tasks.editing.sample_row import encoded_png
from semfacediff.web import styling, wording
from semfacediff.web.files import Files
from semfacediff.web.jobs import Stop
from semfacediff.web.model_store import ModelStore
from semfacediff.web.pictures import parsed_beside, row
from semfacediff.web.portrait import MAX_MEGAPIXELS
from semfacediff.web.styling import STEPS, TASKS, Face, StyleAsk, StyleModel
from semfacediff.web.tab import PROGRESS, QUIET, Tab, told

WITHOUT = """A trained SCA-DM makes a face from the layout of one photo and the style of another; this page has none,
so train one (a tiny one of drawn faces takes a processor some minutes) and serve the page with `--synthesis RUN`:

    python train_synthesis.py experiment=sca_dm/tiny stage=first hydra.run.dir=FIRST
    python train_synthesis.py experiment=sca_dm/tiny first_stage.checkpoint=FIRST hydra.run.dir=RUN
    semfacediff web --synthesis RUN
"""
_WELCOME = (
    f"Load a first photo, which gives the layout, and a second one, which gives style (at most {MAX_MEGAPIXELS} "
    f"megapixels each). They stay on this computer until the page is closed."
)
_FORMS = {
    "none": None,
    "code: null + s (cond - null)": "code",
    "paper: cond + s (cond - null)": "paper",
}


class StyleTab(Tab):
    """Two photos, and a face made of the layout of the first and the style of the second."""

    def __init__(self, store: ModelStore, files: Files, model: StyleModel):
        super().__init__(store, files, "style-")
        self.model, self.first, self.second = model, gr.State(None), gr.State(None)
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                self._controls()
            with gr.Column(scale=3, min_width=320):
                self._pictures()
        self._wire()

    def _controls(self) -> None:
        self._message(_WELCOME)
        gr.HTML(wording.style_model(self.model), elem_id="style-model")
        with gr.Row():
            self.upload_first = gr.File(label="First: layout", height=150, elem_id="first", min_width=140)
            self.upload_second = gr.File(label="Second: style", height=150, elem_id="second", min_width=140)
        choices = [(task.label, name) for name, task in TASKS.items()]
        self.task = gr.Radio(choices, value="swap_parts", label="What is made", elem_id="task")
        self.parts = gr.CheckboxGroup(self.model.parts, value=["hair"], label="Parts", elem_id="parts")
        with gr.Row():
            self.steps = gr.Dropdown(list(STEPS), value=50, label="Steps", elem_id="steps", min_width=120)
            self.seed = gr.Number(42, label="Seed", precision=0, minimum=0, elem_id="style-seed", min_width=120)
        with gr.Accordion("Guidance", open=False):
            self.form = gr.Dropdown(list(_FORMS), value="none", label="Form", elem_id="form")
            self.guidance = gr.Number(1.2, label="s", elem_id="guidance", interactive=False)
        with gr.Row():
            self._buttons("Make")
        self.files = gr.File(label="What was made, and its record", interactive=False, visible=False, elem_id="made")

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
        self.about = gr.HTML("<p><b>What was made.</b> Nothing yet.</p>", elem_id="about")
        self.result = gr.Image(alt_text="The photos and what was made of them", elem_id="result", **plain)

    def _wire(self) -> None:
        for which in ("first", "second"):
            upload, *shown = self._of(which)
            inputs, turn = [gr.State(which), upload], "loading"  # also while a face is made, which may take long
            self._loads(upload, self._load, inputs, [*shown, self.message], self.first, concurrency_id=turn)
        self.task.change(self._choose_task, self.task, [self.parts, self.message], **QUIET)
        self.form.change(self._choose_form, self.form, [self.guidance, self.message], **QUIET)
        asked = [self.first, self.second, self.task, self.parts, self.steps, self.seed, self.form, self.guidance]
        shown = [self.message, self.about, self.result, self.files]
        self._job([self.go.click], self._make, self.first, asked, shown, self.result)

    def _of(self, which: str) -> list:
        """Upload, state, picture and legend of the ``first`` or ``second`` photo."""
        if which == "first":
            return [self.upload_first, self.first, self.seen_first, self.legend_first]
        return [self.upload_second, self.second, self.seen_second, self.legend_second]

    @told
    def _load(self, which: str, path: str | None, request: gr.Request) -> dict:
        _, state, seen, legend = self._of(which)
        own = self._own(request)
        face = self._opened(path, styling.opened, own)
        picture = parsed_beside(face.sample.photo, face.sample.label_map, self.store.space)
        return {
            state: face,
            seen: own.picture(which, picture),
            legend: wording.face_legend(face, which, self.store.space),
            self.message: wording.said(f"{which.capitalize()} photo: {wording.face(face)}"),
        }

    @told
    def _choose_task(self, task: str) -> dict:
        return {self.parts: gr.CheckboxGroup(interactive=TASKS[task].parts)}

    @told
    def _choose_form(self, form: str) -> dict:
        return {self.guidance: gr.Number(interactive=_FORMS[form] is not None)}

    @told
    def _make(
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
        own, wanted = self._own(request), StyleAsk(task, tuple(parts), _options(steps, seed, _FORMS[form], guidance))
        made = styling.make(first, second, wanted, self.model, stop, self._told(progress, "Making"))
        faces = styling.compared(made, first, second if TASKS[task].second else None, self.model.size)
        stem = f"{Path(first.name).stem}_{task}"
        record = styling.record_text(made, self.model)
        files = own.downloads("face", stem, encoded_png(styling.picture(made)), record)
        return {
            self.message: wording.said("Made."),
            self.about: wording.made(made, self.model.size),
            self.result: own.picture("result", row(faces)),
            self.files: gr.File(files, visible=True),
        }


def _options(steps: int, seed: int | None, form: str | None, guidance: float | None) -> SamplingOptions:
    if seed is None:
        raise UserError("Seed: expected a whole number, got none")
    if form is None:
        return SamplingOptions(steps, seed=seed)
    if guidance is None:
        raise UserError("Guidance: expected a number for s, got none; choose the form 'none' to go without")
    return SamplingOptions(steps, seed=seed, guidance=guidance, guidance_form=form)

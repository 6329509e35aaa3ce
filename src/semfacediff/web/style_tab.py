"""The tab on which a face is made of two photos. Whatever belongs to a visitor lies in ``gr.State``."""

from pathlib import Path

import gradio as gr

from semfacediff.errors import UserError
from semfacediff.runs.edit_rows import encoded_png
from semfacediff.synthesis.sampling import SamplingOptions
from semfacediff.web import styling, wording
from semfacediff.web.desk import Desk
from semfacediff.web.files import MAX_MEGAPIXELS, MAX_UPLOAD_MB, Files, safe_name
from semfacediff.web.jobs import Stop
from semfacediff.web.pictures import parsed_beside, row
from semfacediff.web.styling import STEPS, TASKS, Face, StyleAsk, StyleModel
from semfacediff.web.tab import IDLE_S, PRIVATE, QUIET, Tab, told

WITHOUT = """A trained SCA-DM makes a face from the layout of one photo and the style of another; this page has none,
so train one (a tiny one of drawn faces takes a processor some minutes) and serve the page with `--synthesis RUN`:

    python train_synthesis.py experiment=sca_dm/tiny stage=first hydra.run.dir=FIRST
    python train_synthesis.py experiment=sca_dm/tiny first_stage.checkpoint=FIRST hydra.run.dir=RUN
    semfacediff web --synthesis RUN
"""
_WELCOME = (
    f"Load a first photo, which gives the layout, and a second one, which gives style (at most {MAX_UPLOAD_MB} MB and "
    f"{MAX_MEGAPIXELS} megapixels each). They stay on the computer that serves this page, until you leave."
)
_FORMS = {
    "none": None,
    "code: null + s (cond - null)": "code",
    "paper: cond + s (cond - null)": "paper",
}


class StyleTab(Tab):
    """Two photos, and a face made of the layout of the first and the style of the second."""

    def __init__(self, desk: Desk, files: Files, model: StyleModel):
        super().__init__(files, "style-")
        self.desk, self.model = desk, model
        self.first, self.second = (gr.State(None, time_to_live=IDLE_S) for _ in range(2))
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
        loading = {"concurrency_limit": 1, "concurrency_id": "loading", **PRIVATE}
        into = {which: [*self._of(which), self.message] for which in ("first", "second")}
        loaded = self.upload_first.upload(self._load_first, self.upload_first, into["first"], **loading)
        self._enabled_after(loaded, self.first)
        self.upload_second.upload(self._load_second, self.upload_second, into["second"], **loading)
        self.task.change(self._choose_task, self.task, [self.parts, self.message], **QUIET)
        self.form.change(self._choose_form, self.form, [self.guidance, self.message], **QUIET)
        asked = [self.first, self.second, self.task, self.parts, self.steps, self.seed, self.form, self.guidance]
        shown = [self.message, self.about, self.result, self.files]
        self._job([self.go.click], self._make, asked, [self.first], shown, self.result)

    @told
    def _load_first(self, path: str | None, request: gr.Request):
        return self._loaded(path, "first", request)

    @told
    def _load_second(self, path: str | None, request: gr.Request):
        return self._loaded(path, "second", request)

    def _of(self, which: str) -> list:
        """Upload, state, picture and legend of the ``first`` or ``second`` photo."""
        if which == "first":
            return [self.upload_first, self.first, self.seen_first, self.legend_first]
        return [self.upload_second, self.second, self.seen_second, self.legend_second]

    def _loaded(self, path: str | None, which: str, request: gr.Request) -> dict:
        upload, state, seen, legend = self._of(which)
        if path is None:
            raise UserError("Load a photo first")
        own = self._own(request)
        try:
            with self.desk.jobs.running():
                face = styling.opened(self.server_files.take(path), safe_name(path), self.desk)
        except UserError as e:
            return {upload: None, self.message: wording.refused(str(e))}
        picture = parsed_beside(face.sample.photo, face.sample.labels, self.desk.space)
        return {
            upload: None,
            state: face,
            seen: own.picture(which, picture),
            legend: wording.face_legend(face, which, self.desk.space),
            self.message: wording.said(f"{which.capitalize()} photo: {wording.face(face)}"),
        }

    @told
    def _choose_task(self, task: str):
        return {self.parts: gr.CheckboxGroup(interactive=TASKS[task].parts)}

    @told
    def _choose_form(self, form: str):
        return {self.guidance: gr.Number(interactive=_FORMS[form] is not None)}

    @told
    def _make(
        self,
        stop: Stop,
        first: Face | None,
        second: Face | None,
        task: str,
        parts: list[str],
        steps: int,
        seed: int,
        form: str,
        guidance: float,
        request: gr.Request,
        progress=gr.Progress(),  # noqa: B008 - how Gradio passes it
    ):
        def on_step(step: int, of: int) -> None:
            progress((step, of), desc="Making", unit="steps")

        progress(0, desc="Making")
        own = self._own(request)
        ask = StyleAsk(task, tuple(parts), _options(steps, seed, _FORMS[form], guidance))
        with self.desk.jobs.running(stop):
            made = styling.make(first, second, ask, self.model, stop, on_step)
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

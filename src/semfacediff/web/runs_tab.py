"""The tab that shows records of runs, without pictures."""

from collections.abc import Sequence
from pathlib import Path

import gradio as gr
import pandas as pd

from semfacediff.errors import UserError
from semfacediff.web import wording
from semfacediff.web.run_list import chosen_run, runs_below, summary_table
from semfacediff.web.tab import QUIET


def runs_tab(roots: Sequence[Path]) -> None:
    """Build the tab for runs below ``roots``."""
    names = list(runs_below(roots))
    with gr.Row():
        run = gr.Dropdown(names, value=None, label="Run", elem_id="run", scale=4)
        refresh = gr.Button("Refresh", elem_id="again", scale=1)
    facts = gr.HTML(
        "<p>Choose a run.</p>" if names else "<p>No runs in results/runs or outputs yet.</p>", elem_id="facts"
    )
    table = gr.Dataframe(interactive=False, label="Summary", elem_id="summary", wrap=True)

    def show(name: str | None) -> tuple[str, pd.DataFrame | None]:
        if not name:
            return "", None
        try:
            record = chosen_run(name, roots)
        except UserError as e:
            return wording.error_message(str(e)), None
        return wording.run_facts(record), summary_table(record)

    run.change(show, run, [facts, table], **QUIET)
    refresh.click(lambda: gr.Dropdown(list(runs_below(roots)), value=None), None, run, **QUIET)

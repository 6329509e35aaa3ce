"""The page: its tabs, how it looks, and what happens when a visitor leaves."""

import shutil
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import gradio as gr

from semfacediff.web.desk import Desk
from semfacediff.web.editing_tab import EditingTab
from semfacediff.web.runs_tab import runs_tab
from semfacediff.web.style_tab import WITHOUT, StyleTab
from semfacediff.web.styling import StyleModel
from semfacediff.web.tab import IDLE_S
from semfacediff.web.visits import own_folder

TITLE = "SemFaceDiff"
MAX_WAITING = 16
"""Edits in the queue; whoever comes then is told to try again."""
_FONTS = ["system-ui", "sans-serif"], ["ui-monospace", "monospace"]


def theme() -> gr.themes.Base:
    """The default one with the system's fonts: nothing is fetched."""
    return gr.themes.Default(font=_FONTS[0], font_mono=_FONTS[1])


def css() -> str:
    return _resource("page.css")


def build_page(desk: Desk, model: StyleModel | None, folder: Path, roots: Sequence[Path], editor: str) -> gr.Blocks:
    """The page, not yet served.

    Args:
        model: makes faces of two photos; ``None`` = its tab says how to get one.
        folder: where files of visitors lie, below a folder each; Gradio's own cache.
        roots: folders of runs. editor: chosen at first.
    """
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(600, IDLE_S), fill_width=True) as page:
        gr.Markdown(f"# {TITLE}")
        with gr.Tab("Edit a photo"):
            EditingTab(desk, folder, editor)
        with gr.Tab("Two photos"):
            if model is None:
                gr.Markdown(WITHOUT, elem_id="without")
            else:
                StyleTab(desk, folder, model)
        with gr.Tab("Runs"):
            runs_tab(roots)

        def leave(request: gr.Request) -> None:
            page.state_holder.delete_state(request.session_hash)
            shutil.rmtree(own_folder(folder, request.session_hash), ignore_errors=True)

        page.unload(leave)
        page.load(None, js=_resource("page.js"))
    return page


def _resource(name: str) -> str:
    return (resources.files("semfacediff.web") / name).read_text(encoding="utf-8")

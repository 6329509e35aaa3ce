"""The page: its tabs, theme, clean-up on close, and server."""

from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import gradio as gr
import uvicorn
from fastapi import FastAPI
from starlette.middleware import Middleware

from semfacediff.web.access import MAX_UPLOAD_MB, OwnPagesOnly, upload_routes
from semfacediff.web.editing_tab import EditingTab
from semfacediff.web.files import Files
from semfacediff.web.model_store import ModelStore
from semfacediff.web.runs_tab import runs_tab
from semfacediff.web.style_tab import WITHOUT, StyleTab
from semfacediff.web.styling import StyleModel
from semfacediff.web.tab import QUIET

_PAGES = 8
"""Open pages whose photos are kept in memory; beyond this number the least recently used is dropped."""
_THEME = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
"""System fonts: none is downloaded."""


def build_page(
    store: ModelStore, model: StyleModel | None, files: Files, roots: Sequence[Path], editor: str
) -> gr.Blocks:
    """Build the page without serving it.

    Args:
        model: generates faces from two photos; ``None`` = its tab explains how to get one.
        roots: folders of runs. editor: initial choice.
    """
    with gr.Blocks(title="SemFaceDiff", analytics_enabled=False, fill_width=True) as page:
        gr.Markdown("# SemFaceDiff")
        with gr.Tab("Edit a photo"):
            editing = EditingTab(store, files, editor)
        with gr.Tab("Two photos"):
            if model is None:
                gr.Markdown(WITHOUT, elem_id="without")
            else:
                StyleTab(store, files, model)
        with gr.Tab("Runs"):
            runs_tab(roots)

        def leave(request: gr.Request) -> None:
            page.state_holder.delete_state(request.session_hash)  # stops its jobs
            page.state_holder.session_data.pop(request.session_hash, None)
            files.close_page(request.session_hash)

        page.unload(leave)
        page.load(None, js=_resource("page.js"))
        page.load(editing.offer_editors, None, editing.editor, **QUIET)
    return page


def server(page: gr.Blocks, files: Files, port: int) -> uvicorn.Server:
    """Server of the page at ``port``."""
    page.state_session_capacity = _PAGES
    page.has_launched = True  # otherwise Gradio accepts any path as an upload
    app = gr.mount_gradio_app(
        FastAPI(openapi_url=None, routes=upload_routes(files), middleware=[Middleware(OwnPagesOnly, port=port)]),
        page,
        path="",
        show_error=False,
        max_file_size=MAX_UPLOAD_MB * 1_000_000,
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        ssr_mode=False,
        mcp_server=False,
        theme=_THEME,
        css=_resource("page.css"),
    )
    return uvicorn.Server(uvicorn.Config(app, log_level="warning", ws="none", proxy_headers=False))


def _resource(name: str) -> str:
    return (resources.files("semfacediff.web") / name).read_text(encoding="utf-8")

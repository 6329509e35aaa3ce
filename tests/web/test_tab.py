"""What a tab makes one at a time: nothing else begins meanwhile, and Stop is not lost."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

pytest.importorskip("gradio", reason="needs the extra 'web'")

import gradio as gr
from gradio.state_holder import SessionState

from semfacediff.web import editing_tab, portrait
from semfacediff.web.editing_tab import EditingTab
from semfacediff.web.jobs import StoppedError
from semfacediff.web.style_tab import StyleTab
from semfacediff.web.styling import StyleModel

ASKED = ("hair", "bright green", "recolor", 1.0, 42, "")


def in_a_loop(coroutine):
    """Its result; from a thread of its own, since in this one Playwright may have left a loop running."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, coroutine).result()


class Visit:
    """A tab on an open page, and its state on the server."""

    def __init__(self, make):
        with gr.Blocks() as self.page:
            self.tab = make()
        self.state = SessionState(self.page)

    def event(self, name):
        """The first event that this handler handles."""
        return next(f for f in self.page.fns.values() if f.name == name and not f.trigger_only_on_failure)

    def run(self, name, *values):
        """What the page is told by element, of that handler; ``values`` of the inputs behind those that are states."""
        event, values = self.event(name), list(values)
        given = [None if isinstance(block, gr.State) else values.pop(0) for block in event.inputs]
        request = gr.Request(session_hash="me")
        done = in_a_loop(self.page.process_api(event, given, self.state, request=request))
        return dict(zip(event.outputs, done["data"], strict=True))

    def __getitem__(self, state):
        return self.state[state._id]

    def __setitem__(self, state, value):
        self.state[state._id] = value


@pytest.fixture(autouse=True)
def _own_cache_of_pictures(monkeypatch, files):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(files.root))


@pytest.fixture
def editing(store, files):
    return Visit(lambda: EditingTab(store, files, "recolor"))


@pytest.fixture
def style(store, files, tiny_synthesis):
    return Visit(lambda: StyleTab(store, files, StyleModel(str(tiny_synthesis), store)))


@pytest.fixture
def photo(store, face):
    return portrait.open_portrait(face(), "face.png", store)


def enabled(told, button):
    """``None`` = it stays as it is."""
    return told[button].get("interactive")


def test_a_job_that_runs_keeps_its_stop(editing):
    tab = editing.tab
    told = editing.run("_begin")
    stop = editing[tab.stop]
    assert (enabled(told, tab.go), enabled(told, tab.cancel)) == (False, True)
    told = editing.run("_begin")
    assert editing[tab.stop] is stop
    assert (enabled(told, tab.go), enabled(told, tab.cancel)) == (None, None)
    told = editing.run("_stop")
    assert list(told) == [tab.cancel], "words of Stop could come after those of the end"
    assert enabled(told, tab.cancel) is False
    with pytest.raises(StoppedError):
        stop.check()


def test_after_the_end_another_begins(editing, photo):
    tab = editing.tab
    editing.run("_begin")
    first, editing[tab.portrait] = editing[tab.stop], photo
    told = editing.run("_end")
    assert editing[tab.stop] is None
    assert (enabled(told, tab.go), enabled(told, tab.cancel)) == (True, False)
    editing.run("_begin")
    assert editing[tab.stop] not in (None, first)


@pytest.mark.parametrize("which", ["editing", "style"])
def test_what_was_not_begun_does_not_run(which, request):
    """As Enter at the moment at which a job ends comes to it."""
    visit = request.getfixturevalue(which)
    asked = {"editing": ASKED, "style": ("generate", [], 10, 42, "none", 1.2)}[which]
    told = visit.run({"editing": "_edit", "style": "_make"}[which], *asked)
    assert not isinstance(told[visit.tab.message], str)


def test_the_end_comes_also_where_an_input_is_refused(editing):
    """Gradio runs what is chained by ``then`` after a success alone."""
    edit = editing.event("_edit")
    after = [f for f in editing.page.fns.values() if f.trigger_after == edit._id]
    assert [(f.name, f.trigger_only_on_failure) for f in after] == [("_end", False), ("_end", True)]


def test_an_edit_is_shown(editing, photo):
    tab = editing.tab
    editing[tab.portrait] = photo
    editing.run("_begin")
    assert "Edited the hair." in editing.run("_edit", *ASKED)[tab.message]
    assert [step.form.prompt for step in editing[tab.portrait].steps] == ["bright green"]
    assert enabled(editing.run("_end"), tab.go) is True


def test_an_edit_that_changes_nothing_says_why(editing, photo):
    tab = editing.tab
    editing[tab.portrait] = photo
    editing.run("_begin")
    told = editing.run("_edit", "hair", "glossy", "recolor", 1.0, 42, "")[tab.message]
    assert "Nothing changed: the prompt names no colour" in told
    assert "Edited" not in told
    assert editing[tab.portrait] is photo


def test_the_brush_paints_and_reset_takes_it_back(editing, photo):
    tab = editing.tab
    editing[tab.portrait] = photo
    stroke = json.dumps({"points": [[0.1, 0.1]], "radius": 0.1, "erase": False})
    assert "The mask of &#x27;hair&#x27; is your own" in editing.run("_paint", "hair", stroke)[tab.message]
    assert list(editing[tab.portrait].drawn) == ["hair"]
    assert "is the parse&#x27;s" in editing.run("_reset_mask", "hair")[tab.message]
    assert not editing[tab.portrait].drawn


def test_an_example_is_loaded_as_a_photo_is(editing):
    tab = editing.tab
    assert "drawing_1.png: 512 x 512 px, " in editing.run("_example", "hair")[tab.message]
    assert editing[tab.portrait].name == "drawing_1.png"


def test_only_editors_that_can_run_are_offered_as_ready(editing, monkeypatch):
    """At first those without weights; then all, and what others lack is said before the click."""
    tab = editing.tab
    assert [value for _, value in tab.editor.choices] == ["identity", "recolor"]
    monkeypatch.setattr(editing_tab, "editor_names", lambda: ["sdxl_inpaint", "recolor", "identity"])
    offered = tab.offer_editors().choices
    assert [label for label, _ in offered] == ["recolor", "identity", "sdxl_inpaint (weights not there)"]
    assert [value for _, value in offered] == ["recolor", "identity", "sdxl_inpaint"]
    assert "cannot run: its weights" in tab._choose_editor("sdxl_inpaint")[tab.message]


def test_what_changes_the_photo_ends_an_edit_and_waits_for_its_end(editing):
    """One after the other, so that neither shows what the other replaced."""
    tab, fns = editing.tab, editing.page.fns.values()
    clicked = (tab.undo, tab.redo, *tab.examples.values())
    for target in ((tab.upload._id, "upload"), *((button._id, "click") for button in clicked)):
        stops, changes = sorted((f for f in fns if target in f.targets), key=lambda f: f.queue)
        assert (stops.name, stops.queue) == ("_stop", False)
        assert stops._id < changes._id, "a browser begins one after the other, when the one before has ended"
        assert changes.concurrency_id == editing.event("_edit").concurrency_id
        assert changes.concurrency_limit == 1


def test_an_edit_that_was_ended_while_it_was_shown_is_dropped(editing, photo, monkeypatch):
    """Else it could replace the photo that ended it."""
    tab = editing.tab
    editing[tab.portrait] = photo
    editing.run("_begin")
    stop = editing[tab.stop]
    view = EditingTab._view
    monkeypatch.setattr(EditingTab, "_view", lambda *given: (view(*given), stop.request())[0])
    assert "Stopped" in editing.run("_edit", *ASKED)[tab.message]
    assert editing[tab.portrait] is photo


def test_a_stopped_edit_leaves_the_photo(editing, photo):
    tab = editing.tab
    editing[tab.portrait] = photo
    editing.run("_begin")
    editing.run("_stop")
    assert "Stopped" in editing.run("_edit", *ASKED)[tab.message]
    told = editing.run("_end")
    assert (editing[tab.portrait], enabled(told, tab.go)) == (photo, True)


@pytest.mark.parametrize("which", ["editing", "style"])
def test_a_load_enables_the_button_unless_a_job_runs(which, request):
    visit = request.getfixturevalue(which)
    tab, ready = visit.tab, {"editing": "portrait", "style": "first"}[which]
    assert enabled(visit.run("_clear_upload"), tab.go) is False
    visit[getattr(tab, ready)] = SimpleNamespace()
    assert enabled(visit.run("_clear_upload"), tab.go) is True
    visit.run("_begin")
    assert enabled(visit.run("_clear_upload"), tab.go) is None
    loads = [f for f in visit.page.fns.values() if f.name.startswith("_load")]
    assert not [f for f in loads if tab.go in f.outputs]

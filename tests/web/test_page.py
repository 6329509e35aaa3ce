"""The page's tabs, and what happens when it is closed; without a browser, and without a server."""

from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("gradio", reason="needs the extra 'web'")

from gradio.state_holder import StateHolder

from semfacediff.web.jobs import Stop, StoppedError
from semfacediff.web.page import build_page
from semfacediff.web.styling import StyleModel


@pytest.fixture
def page(store, files):
    """``page(model)``, built and holding states as the server does."""

    def build(model=None):
        built = build_page(store, model, files, [], "recolor")
        built.state_session_capacity = 4
        StateHolder().set_blocks(built)
        return built

    return build


def leave(page, visit):
    (left,) = [f for f in page.fns.values() if any(event == "unload" for _, event in f.targets)]
    left.fn(SimpleNamespace(session_hash=visit))


def stops(page):
    """Ids of the states that hold a Stop, one a tab."""
    return {f.inputs[0]._id for f in page.fns.values() if f.name == "_begin"}


def test_a_page_that_is_closed_ends_its_jobs_and_no_others(page, store, tiny_synthesis, files):
    built = page(StyleModel(str(tiny_synthesis), store))
    mine, others = [Stop(), Stop()], [Stop(), Stop()]
    for visit, own in (("me", mine), ("you", others)):
        for i, stop in zip(stops(built), own, strict=True):
            built.state_holder[visit][i] = stop
    shown = {visit: Path(files.page(visit).write("mask", "mask.jpg", b"")) for visit in ("me", "you")}
    leave(built, "me")
    for stop in mine:
        with pytest.raises(StoppedError):
            stop.check()
    for stop in others:
        stop.check()
    assert list(built.state_holder.session_data) == ["you"]
    assert not shown["me"].exists()
    assert shown["you"].exists()


def test_a_page_on_which_nothing_was_done_can_be_closed(page):
    built = page()
    for i in stops(built):
        assert built.state_holder["me"][i] is None
    leave(built, "me")
    leave(built, "never came")


def test_without_a_model_its_tab_says_how_to_get_one(page):
    built = page()
    (text,) = [b.value for b in built.blocks.values() if getattr(b, "elem_id", None) == "without"]
    assert "semfacediff web --synthesis RUN" in text
    assert not [b for b in built.blocks.values() if getattr(b, "elem_id", None) == "style-go"]

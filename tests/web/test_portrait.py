"""What happens to a photo: edits, cascades, undo, what is understood, and the record."""

import json
import shlex
import threading

import numpy as np
import pytest
from PIL import Image

from semfacediff import cli
from semfacediff.errors import UserError
from semfacediff.web import portrait as session
from semfacediff.web.jobs import Stop, StoppedError
from semfacediff.web.model_store import EditForm, ModelStore

GREEN = EditForm("hair", "green hair", "recolor", 0.9)
BLUE = EditForm("lips", "blue lips", "recolor", 0.75)


@pytest.fixture
def portrait(face, store):
    return session.open_portrait(face(), "ada.png", store)


def test_a_photo_is_parsed_once_it_is_there(portrait):
    assert portrait.photo.shape == (96, 96, 3)
    assert len(portrait.faces.shares) == 1
    assert portrait.now is portrait.photo


def test_an_edit_changes_its_region_alone(portrait, store):
    made = session.edit(portrait, GREEN, store)
    inside = session.masks(portrait, "hair", store).blend[0].numpy() > 0
    assert (made.now != portrait.photo)[inside].any()
    assert np.array_equal(made.now[~inside], portrait.photo[~inside])
    assert np.array_equal(made.touched, inside)
    assert session.outside_scores(made) == {"psnr_outside": "inf", "max_abs_outside": 0}


def test_no_portrait_is_ever_changed(portrait, store):
    before = portrait.photo.copy()
    made = session.edit(portrait, GREEN, store)
    assert portrait.steps == ()
    assert np.array_equal(portrait.photo, before)
    assert made.photo is portrait.photo


def test_a_cascade_edits_what_the_edit_before_it_left(portrait, store):
    one = session.edit(portrait, GREEN, store)
    two = session.edit(one, BLUE, store)
    assert [s.form.attribute for s in two.steps] == ["hair", "lips"]
    hair = one.touched & ~session.masks(one, "lips", store).blend[0].numpy().astype(bool)
    assert np.array_equal(two.now[hair], one.now[hair])
    assert (two.touched >= one.touched).all()
    assert [s.facts["stage"] for s in two.steps] == [1, 2]


def test_undo_brings_the_very_photo_back(portrait, store):
    one = session.edit(portrait, GREEN, store)
    two = session.edit(one, BLUE, store)
    for undone, before in ((session.undo(two), one), (session.undo(session.undo(two)), portrait)):
        for name in ("now", "labels_now", "touched"):
            assert np.array_equal(getattr(undone, name), getattr(before, name))
        assert undone.steps == before.steps
    with pytest.raises(UserError, match="Nothing to undo"):
        session.undo(portrait)


def test_the_page_makes_what_the_command_makes(face, store, tmp_path, monkeypatch):
    """The record's command, run on the same file, gives the same bytes."""
    (tmp_path / "ada.png").write_bytes(face())
    monkeypatch.chdir(tmp_path)
    portrait = session.open_portrait(face(), "ada.png", store)
    for form in (EditForm("hair", "curly", "recolor", 0.5), GREEN, BLUE):
        portrait = session.edit(portrait, form, store)
    words = shlex.split(session.command(portrait))
    assert words[:2] == ["semfacediff", "edit"]
    assert cli.main([*words[1:], "--parser", "ckpt", "--out", "out"]) == 0
    with Image.open("out/ada.png") as image:
        assert np.array_equal(np.asarray(image), portrait.now)
    stages = json.loads((tmp_path / "out" / "ada" / "edit.json").read_text())["stages"]
    for kind in ("semantic", "generation", "blend"):
        assert [s[f"mask_{kind}"] for s in stages] == [s.facts[f"mask_{kind}"] for s in portrait.steps]


def test_the_record_holds_what_repeats_the_edit(portrait, store):
    facts = json.loads(json.dumps(session.record(session.edit(portrait, GREEN, store), store), allow_nan=False))
    (edit,) = facts["edits"]
    assert (edit["prompt"], edit["prompt_source"], edit["strength"]) == ("green hair", "user", 0.9)
    assert edit["editor"]["name"] == "recolor"
    assert edit["max_abs_outside"] == 0
    assert all(len(edit[f"mask_{kind}"]) == 16 for kind in ("semantic", "generation", "blend"))
    assert facts["parser"] == {"name": "by_colour", "digest": "d" * 64, "label_space": "celebamask"}
    assert len(facts["photo_sha256"]) == 64
    assert facts["outside_all_edits"]["max_abs_outside"] == 0


def test_edits_that_no_single_command_makes_have_none(portrait, store):
    two = session.edit(session.edit(portrait, GREEN, store), EditForm("lips", "blue", "recolor", 0.9, seed=7), store)
    assert session.command(two) is None


@pytest.mark.parametrize(
    ("x", "y", "name", "attribute"),
    [
        (0.3, 0.5, "skin", "skin"),
        (0.5, 0.1, "hair", "hair"),
        (0.5, 0.74, "u_lip", "lips"),
        (0.0, 1.0, "background", None),
    ],
)
def test_the_class_under_a_click(portrait, store, x, y, name, attribute):
    assert session.class_at(portrait, x, y, store) == (name, attribute)


def test_words_that_recolor_understands(store):
    audit = session.audit(EditForm("hair", "Curly copper red hair, shiny", "recolor", 0.9), store)
    assert audit.problem is None
    assert audit.understood == ["copper red"]
    assert audit.unused == ("Curly", "hair", "shiny")


@pytest.mark.parametrize(
    ("form", "why"),
    [
        (EditForm("hair", "...", "recolor", 0.9), "has no words"),
        (EditForm("hair", "brown", "paintbrush", 0.9), "editor: expected one of flux_fill, flux_kontext, identity, "),
        (EditForm("beard", "brown", "recolor", 0.9), "unknown attribute 'beard'"),
        (EditForm("hair", "brown", "recolor", 2.0), "strength"),
        (EditForm("hair", "brown", "recolor", 0.9, negative="blue"), "editor 'recolor' reads none"),
        (EditForm("hair", "brown", "inpaint", 0.9), "recolor, which needs no weights"),
    ],
)
def test_what_cannot_be_asked_for_is_said_before_the_edit_and_by_it(portrait, store, form, why):
    assert why in session.audit(form, store).problem
    with pytest.raises(UserError, match=why):
        session.edit(portrait, form, store)


def test_a_region_that_is_not_there(portrait, store):
    with pytest.raises(UserError, match=r"The parse shows no hat \(0.00 % of the photo"):
        session.edit(portrait, EditForm("hat", "red", "recolor", 0.9), store)


def test_edits_take_little_memory(face, store):
    """Nine bytes a pixel, and what the edits changed: all the rest is zeros, which take next to nothing."""
    portrait = session.open_portrait(face(600, 600), "ada.png", store)
    for attribute in ("hair", "nose", "eyes", "skin"):
        portrait = session.edit(portrait, EditForm(attribute, "bright green", "recolor", 0.9), store)
    arrays = (portrait.photo, portrait.now, portrait.labels_now, portrait.touched, portrait.faces.owner)
    assert sum(array.nbytes for array in arrays) == 9 * 600 * 600
    assert sum(len(change) for step in portrait.steps for change in step.undo) < 600 * 600


def test_a_photo_takes_so_many_edits(portrait, store, monkeypatch):
    monkeypatch.setattr(session, "MAX_EDITS", 1)
    one = session.edit(portrait, GREEN, store)
    with pytest.raises(UserError, match="Expected at most 1 edits of a photo; undo one"):
        session.edit(one, BLUE, store)


def test_a_stopped_edit_leaves_everything_as_it_was(portrait, store):
    stop = Stop()
    stop.request()
    with pytest.raises(StoppedError, match="nothing was changed"):
        session.edit(portrait, GREEN, store, stop)


def test_two_pages_at_once_get_what_each_would_alone(face, store):
    asks = [GREEN, EditForm("hair", "purple hair", "recolor", 0.5)]
    alone = [session.edit(session.open_portrait(face(), "a.png", store), form, store).now for form in asks]
    found = {}

    def visit(i: int) -> None:
        found[i] = session.edit(session.open_portrait(face(), "a.png", store), asks[i], store).now

    threads = [threading.Thread(target=visit, args=(i,)) for i in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(found[i], alone[i]) for i in (0, 1))


def test_without_a_face_whatever_is_parsed_is_edited(face, store):
    assert session.open_portrait(face(64, 64, 9.0), "sky.png", store).faces is None


class TestDiffusion:
    """The tiny pipeline: steps, and tokens."""

    @pytest.fixture
    def slow(self, tiny_sdxl, monkeypatch):
        store = ModelStore(parser="ckpt", weights=str(tiny_sdxl), device="cpu")
        base = store._base("sdxl_inpaint")
        base["editor"] |= {"native_size": 64, "steps": 4}
        return store

    def test_every_step_is_told_and_any_may_be_the_last(self, portrait, slow):
        seen, stop = [], Stop()
        form = EditForm("hair", "straight hair", "sdxl_inpaint", 1.0)
        session.edit(portrait, form, slow, stop, lambda *step: seen.append(step))
        assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]

        def second(step, of):
            if step == 2:
                stop.request()
            seen.append(step)

        seen.clear()
        with pytest.raises(StoppedError):
            session.edit(portrait, form, slow, stop, second)
        assert seen == [1, 2]

    def test_what_the_tokenizers_would_lose_is_shown(self, slow):
        audit = session.audit(EditForm("hair", "lovely hair " * 60 + "at last", "sdxl_inpaint", 1.0), slow)
        assert [r.limit for r in audit.readings] == [77, 77]
        assert audit.readings[0].lost.endswith("at last")
        assert "would lose" in audit.problem
        short = session.audit(EditForm("hair", "straight hair", "sdxl_inpaint", 1.0), slow)
        assert short.problem is None
        assert "curly hair" in short.negative

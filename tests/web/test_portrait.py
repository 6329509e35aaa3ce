"""What happens to a photo: edits, cascades, undo, what is understood, and the record."""

import io
import json
import re
import shlex
import threading

import cv2
import numpy as np
import pytest
from PIL import Image

from semfacediff import cli
from semfacediff.data import reading
from semfacediff.errors import UserError
from semfacediff.tasks.editing.sample_row import encoded_png as _png
from semfacediff.web import model_store, wording
from semfacediff.web import portrait as session
from semfacediff.web.examples import EXAMPLES
from semfacediff.web.jobs import Stop, StoppedError
from semfacediff.web.model_store import EditForm, ModelStore
from semfacediff.web.pictures import mask_picture

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
    for form in (EditForm("hair", "brown", "recolor", 0.05), GREEN, BLUE):
        portrait = session.edit(portrait, form, store)
    words = shlex.split(session.command(portrait))
    assert words[:2] == ["semfacediff", "edit"]
    assert cli.main([*words[1:], "--parser", "ckpt", "--out", "out"]) == 0
    with Image.open("out/ada.png") as image:
        assert np.array_equal(np.asarray(image), portrait.now)
    stages = json.loads((tmp_path / "out" / "ada" / "edit.json").read_text())["stages"]
    for kind in ("semantic", "generation", "blend"):
        assert [s[f"mask_{kind}"] for s in stages] == [s.facts[f"mask_{kind}"] for s in portrait.steps]


@pytest.mark.parametrize(
    ("form", "why"),
    [
        (EditForm("hair", "glossy", "recolor", 0.9), "Nothing changed: the prompt names no colour; name one, such as"),
        (EditForm("hair", "red", "identity", 1.0), "Nothing changed: the editor returned the photo as it was"),
    ],
)
def test_an_edit_that_changes_no_pixel_is_none(portrait, store, form, why):
    with pytest.raises(UserError, match=why):
        session.edit(portrait, form, store)


def test_redo_brings_back_what_undo_took(portrait, store):
    one = session.edit(portrait, GREEN, store)
    two = session.edit(one, BLUE, store)
    undone = session.undo(session.undo(two))
    for redone, before in ((session.redo(undone), one), (session.redo(session.redo(undone)), two)):
        for name in ("now", "labels_now", "touched"):
            assert np.array_equal(getattr(redone, name), getattr(before, name))
        assert redone.steps == before.steps
    with pytest.raises(UserError, match="Nothing to redo"):
        session.redo(two)
    with pytest.raises(UserError, match="Nothing to redo"):
        session.redo(session.edit(session.undo(two), BLUE, store))


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
        (EditForm("hair", "", "recolor", 0.9), "The prompt is empty; describe the edit, such as: copper red hair"),
        (EditForm("hair", "brown", "recolor", 2.0), "The strength is not between 0 and 1"),
        (EditForm("hair", "brown", "recolor", 0.9, seed=None), "The seed is no whole number from 0; enter one"),
        (
            EditForm("hair", "brown", "recolor", 0.9, negative="blue"),
            "The editor 'recolor' reads no negative prompt; leave it empty",
        ),
        (EditForm("hair", "brown", "recolor", 0.9, negative="x" * 2001), "The negative prompt has 2001 characters"),
        (
            EditForm("hair", "brown", "inpaint", 0.9),
            "'inpaint' cannot run: it opens a model of your own, and none is named",
        ),
        (EditForm("hair", "brown", "sdxl_lcm", 0.9), "are not there; fetch them with 'semfacediff fetch sdxl_inpaint'"),
    ],
)
def test_what_cannot_be_asked_for_is_said_before_the_edit_and_by_it(portrait, store, form, why):
    problem = session.audit(form, store).problem
    assert why in problem
    assert not re.search(r"--\w|\w=|cascade|editor\.|weights\.", problem), "the page has no flags and no keys"
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


class TestPhotosOfAnySize:
    """Whatever a camera or a scanner writes becomes a result or one sentence."""

    @pytest.fixture
    def small_limits(self, monkeypatch):
        """A hundredth of a megapixel is the working size, two the largest that is accepted."""
        monkeypatch.setattr(session, "WORKING_MEGAPIXELS", 0.01)
        monkeypatch.setattr(session, "MAX_MEGAPIXELS", 0.02)

    @pytest.mark.parametrize("kind", ["png", "jpeg", "tiff", "gif", "webp", "bmp"])
    def test_a_large_one_is_scaled_down_with_a_note(self, face, store, small_limits, kind):
        with Image.open(io.BytesIO(face(100, 160))) as image:
            file = io.BytesIO()
            (image.convert("CMYK") if kind == "tiff" else image).save(file, kind)
        portrait = session.open_portrait(file.getvalue(), f"a.{kind}", store)
        assert (portrait.own_size, portrait.photo.shape) == ((100, 160), (79, 126, 3))
        assert f"a.{kind}: 160 x 100 px, scaled down to 126 x 79 px, one face." in wording.portrait(portrait)
        made = session.edit(portrait, GREEN, store)
        facts = session.record(made, store)
        assert (facts["scaled_from"], facts["command"]) == ([100, 160], None)

    def test_one_that_fits_stays_as_it_is(self, face, store, small_limits):
        portrait = session.open_portrait(face(80, 120), "a.png", store)
        assert not portrait.scaled
        with Image.open(io.BytesIO(face(80, 120))) as image:
            assert np.array_equal(portrait.photo, np.asarray(image))

    def test_one_that_is_too_large_is_a_sentence(self, face, store, small_limits):
        with pytest.raises(UserError, match=r"a.png: 160x130 px is over the limit of"):
            session.open_portrait(face(130, 160), "a.png", store)

    def test_a_heic_without_its_decoder_is_a_sentence(self, store, monkeypatch):
        monkeypatch.setattr(reading, "_formats", lambda: reading.FORMATS)
        with pytest.raises(UserError, match=r"a.heic: HEIC is read with pi-heif alone: pip install"):
            session.open_portrait(b"\0\0\0\x18ftypheic" + bytes(64), "a.heic", store)

    @pytest.mark.slow
    def test_a_phone_photo_of_108_megapixels(self, face, store):
        with Image.open(io.BytesIO(face(900, 1200))) as image:
            file = io.BytesIO()
            exif = Image.Exif()
            exif[0x0112] = 6
            image.resize((12_000, 9_000)).rotate(90, expand=True).save(file, "jpeg", quality=90, exif=exif)
        portrait = session.open_portrait(file.getvalue(), "phone.jpg", store)
        assert portrait.own_size == (9_000, 12_000)
        height, width = portrait.photo.shape[:2]
        assert height / width == pytest.approx(3 / 4, abs=1 / 3_000)
        assert 15_990_000 < height * width <= 16_000_000
        assert len(portrait.faces.shares) == 1


class TestOwnMask:
    @staticmethod
    def stroke(*points, radius=0.1, erase=False):
        return json.dumps({"points": points, "radius": radius, "erase": erase})

    @staticmethod
    def region(portrait, store, attribute="hair"):
        return session.masks(portrait, attribute, store).semantic[0].numpy() > 0

    def test_the_brush_adds_and_the_eraser_takes(self, portrait, store):
        hair = self.region(portrait, store)
        more = session.painted(portrait, "hair", self.stroke([0.1, 0.9], [0.4, 0.9]), store)
        added = self.region(more, store) & ~hair
        assert added.sum() > 0
        rows, columns = np.nonzero(added)
        assert rows.min() >= 96 * 0.8 - 2
        assert columns.max() <= 96 * 0.5 + 2
        assert (self.region(more, store) | added == self.region(more, store)).all()
        again = session.painted(more, "hair", self.stroke([0.1, 0.9], [0.4, 0.9], erase=True), store)
        assert np.array_equal(self.region(again, store), hair & ~added)
        assert np.array_equal(self.region(session.without_mask(again, "hair"), store), hair)
        assert np.array_equal(self.region(more, store, "lips"), self.region(portrait, store, "lips"))

    def test_a_dot_is_a_circle(self, portrait, store):
        none = session.with_mask(portrait, "hair", _png(np.zeros((96, 96), np.uint8)), "m.png")
        dot = session.painted(none, "hair", self.stroke([0.5, 0.5], radius=0.125), store)
        y, x = np.mgrid[:96, :96]
        assert abs(self.region(dot, store).astype(int) - (np.hypot(y - 48, x - 48) <= 12)).sum() <= 16

    @pytest.mark.parametrize(
        "text",
        ["", "[]", "{}", '{"points": [], "radius": 0.1}', '{"points": [[0, NaN]], "radius": 0.1}', "[" * 100_000]
        + ['{"points": [[0, 1e999]], "radius": 0.1}', '{"points": [[0, 0]], "radius": 9}', '{"points": [[1]]}']
        + ['{"points": [["a", "b"]], "radius": 0.1}', '{"points": [[0, 0]], "radius": null}', " " * 300_000],
    )
    def test_what_is_no_stroke_is_a_sentence(self, portrait, store, text):
        with pytest.raises(UserError, match="The stroke cannot be read; draw it again"):
            session.painted(portrait, "hair", text, store)

    def test_the_edit_is_that_of_the_command_with_the_downloaded_mask(self, face, store, tmp_path, monkeypatch):
        (tmp_path / "ada.png").write_bytes(face())
        monkeypatch.chdir(tmp_path)
        portrait = session.open_portrait(face(), "ada.png", store)
        portrait = session.painted(portrait, "hair", self.stroke([0.1, 0.9], [0.4, 0.9]), store)
        made = session.edit(portrait, GREEN, store)
        assert made.steps[0].facts["own_mask"] is True
        for name, png in session.mask_files(made).items():
            (tmp_path / name).write_bytes(png)
        words = shlex.split(session.command(made))
        assert words[-2:] == ["--mask", "ada_mask_1.png"]
        assert cli.main([*words[1:], "--parser", "ckpt", "--out", "out"]) == 0
        with Image.open("out/ada.png") as image:
            assert np.array_equal(np.asarray(image), made.now)
        two = session.edit(made, BLUE, store)
        assert session.command(two) is None
        assert list(session.mask_files(two)) == ["ada_mask_1.png"]

    def test_a_mask_of_another_photo_or_an_empty_one_is_a_sentence(self, portrait, store):
        with pytest.raises(UserError, match=r"m.png: the mask is 40x96 px, its photo 96x96"):
            session.with_mask(portrait, "hair", _png(np.zeros((96, 40), np.uint8)), "m.png")
        empty = session.with_mask(portrait, "hair", _png(np.zeros((96, 96), np.uint8)), "m.png")
        with pytest.raises(UserError, match=r"Your mask is almost empty \(0.00 % of the photo"):
            session.edit(empty, GREEN, store)


@pytest.mark.parametrize("grey", [0, 255])
def test_the_mask_is_seen_on_black_and_on_white(portrait, store, grey):
    plain = np.full_like(portrait.photo, grey)
    region = session.masks(portrait, "hair", store)
    seen = np.abs(mask_picture(plain, region).astype(int) - plain).max(2)
    inside, around = (region.blend[0].numpy() >= 0.5).astype(np.uint8), np.ones((7, 7))
    core, reach = cv2.erode(inside, around), cv2.dilate(inside, around)
    assert core.any()
    assert (seen[core > 0] >= 90).all(), "tinted"
    border = inside - cv2.erode(inside, np.ones((3, 3)))
    assert (cv2.dilate(seen.astype(np.uint8), around)[border > 0] == 255).all(), "outlined"
    far = cv2.dilate((region.blend[0].numpy() > 0).astype(np.uint8), around) + reach == 0
    assert (seen[far] == 0).all()


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_is_a_photo(name, store):
    data = EXAMPLES[name]()
    assert min(session.open_portrait(data, "a.png", store).photo.shape[:2]) >= 256


def test_editors_of_one_kind_are_each_opened(store, monkeypatch):
    """Those of one kind differ in their settings."""
    opened = []
    monkeypatch.setattr(model_store, "editor_of", lambda settings: opened.append(settings.editor) or (object(), {}))
    monkeypatch.setattr(ModelStore, "lacks", lambda *_: None)
    for name in ("sdxl_inpaint", "sdxl_lcm", "sdxl_lcm"):
        store.tools(EditForm("hair", "brown", name, 0.9))
    assert [(one.name, one.steps) for one in opened] == [("sdxl_inpaint", opened[0].steps), ("sdxl_inpaint", 5)]
    assert opened[0].steps != 5


class TestDiffusion:
    """The tiny pipeline: steps, and tokens."""

    @pytest.fixture
    def slow(self, tiny_sdxl, monkeypatch):
        store = ModelStore(parser="ckpt", weights=str(tiny_sdxl), device="cpu")
        base = store._base("sdxl_inpaint")
        base["editor"] |= {"native_size": 64, "steps": 4}
        return store

    def test_what_has_its_weights_lacks_nothing(self, slow):
        names = ("recolor", "sdxl_inpaint", "sd_inpaint", "inpaint", "sdxl_lcm", "flux_kontext")
        lacking = {name: slow.lacks(name) for name in names}
        assert [name for name in names if lacking[name] is None] == list(names[:4])
        assert "a part of its weights is missing" in lacking["sdxl_lcm"]
        assert "(black-forest-labs/FLUX.1-Kontext-dev) are not there" in lacking["flux_kontext"]

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

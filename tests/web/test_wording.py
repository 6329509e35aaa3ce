"""What the page says: nothing that a visitor or a record wrote becomes markup."""

import re

import numpy as np
import pytest

from semfacediff.labels import CELEBAMASK, in_words, palette
from semfacediff.web import portrait as session
from semfacediff.web import styling, wording
from semfacediff.web.model_store import EditForm

EVIL = "<img src=x onerror=alert(1)> green"


def tags(html: str) -> set[str]:
    return set(re.findall(r"<\s*/?\s*(\w+)", html))


def test_hostile_words_stay_words(face, store):
    portrait = session.edit(
        session.open_portrait(face(), "a.png", store), EditForm("hair", EVIL, "recolor", 0.9), store
    )
    for html in (
        wording.history(portrait),
        wording.error_message(EVIL),
        wording.status_message(EVIL),
        wording.audit_facts(session.audit(EditForm("hair", EVIL, "recolor", 0.9), store)),
        wording.audit_facts(session.Audit(problem=EVIL, expanded=EVIL, negative=EVIL)),
    ):
        assert "img" not in tags(html)
        assert "&lt;img" in html or "img" not in html


def test_the_legend_names_every_class_that_is_seen(face, store):
    html = wording.legend(session.open_portrait(face(), "a.png", store), store.space)
    names = re.findall(r"</span>([\w ]+) <small>", html)
    assert names[0] == "background"
    assert set(names) == {"background", "hair", "skin", "left eye", "right eye", "nose", "upper lip"}
    assert "→ lips" in html


@pytest.mark.parametrize("which", ["first", "second"])
def test_each_of_two_photos_has_a_legend_in_the_colours_of_its_parse(face, store, which):
    found = styling.open_face(face(96, 128), "a.png", store)
    html = wording.face_legend(found, which, store.space)
    assert f"Classes of the {which} photo&#x27;s parse" in html
    listed = dict(re.findall(r'background:#(\w{6})"></span>([\w ]+) <small>', html))
    shown = np.unique(found.sample.labels)
    colours = palette(store.space)
    assert listed == {bytes(colours[c]).hex(): in_words(store.space.classes[c]) for c in shown}
    assert sum(map(float, re.findall(r"<small>([\d.]+) %", html))) == pytest.approx(100, abs=0.1 * len(shown))
    assert "→ lips" in html


def test_a_refusal_is_a_sentence_that_is_read_out():
    assert (
        wording.error_message("Load a photo first") == '<p role="alert" class="message error">Load a photo first.</p>'
    )


@pytest.mark.parametrize(("prompt", "says"), [("red", "Recognised"), ("curly", "nothing: the region stays unchanged")])
def test_what_is_understood(store, prompt, says):
    assert says in wording.audit_facts(session.audit(EditForm("hair", prompt, "recolor", 0.9), store))


def test_no_name_of_a_class_is_shown_raw():
    """Those that are words stay; the others have underscores or are cut short."""
    assert [in_words(c) for c in ("l_lip", "neck_l", "cloth", "eye_g")] == [
        "lower lip",
        "necklace",
        "upper body clothing",
        "glasses",
    ]
    assert not [c for c in CELEBAMASK.classes if "_" in in_words(c)]
    assert len({in_words(c) for c in CELEBAMASK.classes}) == CELEBAMASK.n

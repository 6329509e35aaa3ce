"""The lexicon's file, negations, and how a vague prompt is completed."""

import copy

import pytest
import yaml

from semfacediff.config import repository
from semfacediff.editing.prompts.lexicon import asked, expanded, lexicon, phrase
from semfacediff.errors import UserError
from semfacediff.labels import ATTRIBUTES


@pytest.fixture
def plain():
    return yaml.safe_load((repository() / "conf" / "lexicon.yaml").read_text())


def test_every_attribute_has_its_part(words):
    assert list(words) == list(ATTRIBUTES)
    for region in words.values():
        assert region.noun
        assert len(region.aspects) >= 2
        assert all(len(phrases) >= 2 for phrases in region.aspects.values())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda p: p.pop("nose"), "file: expected the attributes hair, .*, got hair, "),
        (lambda p: p.update(beard={}), "file: expected the attributes"),
        (lambda p: p["hair"].pop("noun"), "file: hair: not as the file's opening comment says .KeyError: 'noun'"),
        (lambda p: p["hair"]["colours"].update(red="reddish"), "file: hair: not as .*ValueError"),
        (lambda p: p["hair"]["aspects"]["length"].update(short="short"), "file: hair: not as .*length is no list"),
        (lambda p: p["hair"].update(nouns="hair"), "file: hair: unknown key 'nouns'; known are noun, "),
        (lambda p: p["hair"]["completed"].update(mood="calm"), "file: hair: unknown key 'mood'"),
    ],
)
def test_a_mistake_in_the_file_is_named(plain, change, said):
    broken = copy.deepcopy(plain)
    change(broken)
    with pytest.raises(UserError, match=said):
        lexicon(broken, "file")


@pytest.mark.parametrize("broken", [None, [], "x"])
def test_another_shape_is_refused(broken):
    with pytest.raises(UserError, match="file: expected the attributes"):
        lexicon(broken, "file")


@pytest.mark.parametrize(
    ("prompt", "wanted", "refused"),
    [
        ("curly hair", ("curly hair",), ()),
        ("no curls", (), ("curly hair",)),
        ("hair without any big curls", (), ("curly hair",)),
        ("no hat, curls", ("curly hair",), ()),
        ("straight rather than curly", ("straight hair",), ("curly hair",)),
        ("isn’t curly", (), ("curly hair",)),
        ("pin-straight", ("straight hair",), ()),
        ("pin, straight up", ("straight hair",), ()),
    ],
)
def test_negations(words, prompt, wanted, refused):
    found = asked(prompt, words["hair"])["texture"]
    assert (found.wanted, found.refused) == (wanted, refused)


def test_words_are_found_whole_and_within_a_clause():
    said = phrase("Cat-eye frames, flat, ironed")
    assert said.places("cat eye") == [0]
    assert said.places("flat ironed") == []
    assert said.places("fram") == []
    assert phrase("").places("cat") == []


@pytest.mark.parametrize(
    ("prompt", "attribute", "result"),
    [
        ("brown", "hair", "brown hair, natural strands, soft shine"),
        ("black irises", "eyes", "black irises, clear and bright"),
        ("nice", "hair", "nice hair, natural strands, soft shine"),
        ("straight hair", "hair", "straight hair, soft shine"),
        ("curly brown hairs", "hair", None),
        ("natural brown hair, smooth and shiny", "hair", None),
        ("red beanie", "hat", None),
        ("beret", "hat", "beret, plain fabric"),
        ("茶色の髪", "hair", None),
        ("🔥", "hair", None),
    ],
)
def test_only_vague_prompts_are_completed(words, prompt, attribute, result):
    assert expanded(prompt, attribute, words) == result


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_a_completed_prompt_begins_with_the_users_words(words, attribute):
    made = expanded("lovely", attribute, words)
    assert made.startswith(f"lovely {words[attribute].noun}, ")
    assert set(words[attribute].completed.values()) <= set(made.split(", "))

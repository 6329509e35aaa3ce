"""Which colours a prompt names, and what it does not ask for."""

import re

import numpy as np
import pytest
from matplotlib.colors import CSS4_COLORS, XKCD_COLORS

from semfacediff.colours.grammar import find_colours, named_colour
from semfacediff.colours.names import LEXICON
from semfacediff.colours.oklab import oklab_to_rgb, rgb_to_oklab

XKCD = {name.removeprefix("xkcd:"): value for name, value in XKCD_COLORS.items()}


def roles(prompt: str, attribute: str | None = None) -> list[tuple[str, str]]:
    return [(c.name, c.role) for c in find_colours(prompt, attribute)]


def test_every_table_name_is_found_with_its_own_value():
    tables = {name.replace("gray", "grey"): value for name, value in CSS4_COLORS.items()} | XKCD
    wrong = []
    for name, value in tables.items():
        for prompt in (name, name.upper(), name.replace(" ", "-")):
            found = find_colours(prompt)
            if len(found) != 1 or found[0].rgb != tuple(bytes.fromhex(value[1:])) or found[0].role != "main":
                wrong.append((prompt, value, found))
    assert len(tables) > 1000
    assert not wrong


def test_every_lexicon_word_is_found():
    for name, value in LEXICON.items():
        assert [c.rgb for c in find_colours(name)] == [tuple(bytes.fromhex(value))], name


def test_lexicon_overrides_no_table():
    assert not set(LEXICON) & (set(XKCD) | set(CSS4_COLORS))


@pytest.mark.parametrize(
    ("attribute", "prompt", "expected"),
    [
        ("hair", "natural brown hair, smooth and shiny", [("brown", "main")]),
        ("lips", "natural pink lipstick, glossy finish", [("pink", "main")]),
        ("skin", "smooth skin, even complexion", []),
        ("eyes", "natural eye color, clear and bright", []),
        ("eyebrows", "well-defined dark eyebrows", [("dark", "main")]),
    ],
)
def test_evaluation_prompts(attribute, prompt, expected):
    assert roles(prompt, attribute) == expected


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("purple hair with silver highlights", [("purple", "main"), ("silver", "highlights")]),
        ("pink hair streaked with blue", [("pink", "main"), ("blue", "highlights")]),
        ("dark hair with blonde highlights", [("dark", "main"), ("blonde", "highlights")]),
        ("ombre from brown to blonde", [("brown", "main"), ("blonde", "ends")]),
        ("ombre hair from dark brown to honey blonde", [("dark brown", "main"), ("honey blonde", "ends")]),
        ("platinum blonde hair with pink tips", [("platinum blonde", "main"), ("pink", "ends")]),
        ("blue and green hair", [("blue", "main"), ("green", "second")]),
        ("blue & green hair", [("blue", "main"), ("green", "second")]),
        ("red or blue hair", [("red", "main"), ("blue", "other")]),
        ("silver highlights", [("silver", "highlights")]),
    ],
)
def test_roles(prompt, expected):
    assert roles(prompt, "hair") == expected


@pytest.mark.parametrize("prompt", ["not red", "no red", "hair without red or orange", "never blue", "no dark red"])
def test_negated_colours_do_not_count(prompt):
    assert roles(prompt) == []


@pytest.mark.parametrize("prompt", ["blue hair, not red", "blue instead of red hair", "blue rather than black"])
def test_negation_ends(prompt):
    assert roles(prompt) == [("blue", "main")]


@pytest.mark.parametrize(
    "prompt", ["change her black hair to brown", "turn hair from black to brown", "brown hair, blue eyes"]
)
def test_old_colours_and_other_regions_do_not_count(prompt):
    assert roles(prompt, "hair") == [("brown", "main")]


@pytest.mark.parametrize(
    ("prompt", "attribute", "name"),
    [
        ("dusty-rose lips", "lips", "dusty rose"),
        ("lightblue eyes", "eyes", "lightblue"),
        ("light blue eyes", "eyes", "light blue"),
        ("Gray eyes", "eyes", "grey"),
        ("a blonde woman with blue eyes", "eyes", "blue"),
        ("wine lips", "lips", "wine"),
        ("cream-coloured skin", "skin", "cream"),
        ("she rose up in blue hair", "hair", "blue"),
        ("sand and sea, long brown hair", "hair", "brown"),
        ("golden hour light, brown hair", "hair", "brown"),
        ("hair the color of wine", "hair", "wine"),
    ],
)
def test_main_colour(prompt, attribute, name):
    assert find_colours(prompt, attribute)[0].name == name


@pytest.mark.parametrize("prompt", ["holding a rose", "she rose up", "a wine glass", "blackberry", "soft light", ""])
def test_things_are_no_colours(prompt):
    assert roles(prompt) == []


@pytest.mark.parametrize(("word", "sign"), [("dark", -1), ("darker", -1), ("light", 1), ("lighter", 1)])
def test_bare_shades_only_shift_lightness(word, sign):
    (colour,) = find_colours(f"{word} eyebrows", "eyebrows")
    assert colour.shift * sign > 0
    (named,) = find_colours(f"{word} auburn eyebrows", "eyebrows")
    assert named.shift == 0


def test_modifiers_change_lightness_in_their_direction():
    lightness = [
        rgb_to_oklab(np.array(find_colours(p)[0].rgb) / 255)[0] for p in ("deep auburn", "auburn", "light auburn")
    ]
    assert lightness == sorted(lightness)
    assert len(set(lightness)) == 3


def test_start_is_the_position_in_the_prompt():
    prompt = "Long hair: dusty-rose, with SILVER highlights"
    for colour in find_colours(prompt, "hair"):
        written = re.sub("-", " ", prompt[colour.start :].lower())
        assert written.startswith(colour.name)


def test_oklab_agrees_with_published_values_and_inverts():
    """Red as in CSS Color 4: oklab(0.628 0.225 0.126)."""
    white, red = rgb_to_oklab(np.ones(3)), rgb_to_oklab(np.array([1.0, 0, 0]))
    np.testing.assert_allclose(white, [1, 0, 0], atol=1e-3)
    np.testing.assert_allclose(red, [0.62796, 0.22486, 0.12585], atol=1e-3)
    rgb = np.random.default_rng(0).random((3, 500))
    np.testing.assert_allclose(oklab_to_rgb(rgb_to_oklab(rgb)), rgb, atol=1e-6)


@pytest.mark.parametrize(
    ("prompt", "attribute", "name"),
    [
        ("red hair", "hair", "red"),
        ("Wavy dusty-rose hair", "hair", "dusty rose"),
        ("blue hair with green tips", "hair", "blue"),
        ("green eyes, red hair", "hair", "red"),
    ],
)
def test_the_main_colour_of_the_tables(prompt, attribute, name):
    assert named_colour(prompt, attribute) == tuple(bytes.fromhex(XKCD[name][1:]))


@pytest.mark.parametrize(
    "prompt",
    ["blonde hair", "ash brown hair", "ashbrown hair", "strawberry blonde hair", "red blonde hair", "dark hair",
     "curly hair", "blue eyes", "not red", "blonde and red hair"],
)  # fmt: skip
def test_words_of_the_lexicon_and_shades_are_no_colour_of_the_tables(prompt):
    """Although "strawberry" and "red" are in the tables: "strawberry blonde" is neither of them."""
    assert named_colour(prompt, "hair") is None


def test_a_modifier_and_two_names_side_by_side_stay_colours_of_the_tables():
    auburn, deep = (np.array(named_colour(p, "hair")) for p in ("auburn hair", "deep auburn hair"))
    assert deep.sum() < auburn.sum()
    assert named_colour("chestnut brown hair", "hair") is not None

"""What opposes a prompt: the phrases it leaves out, never one that it asks for."""

import pytest

from semfacediff.editing.prompts.audit import fits
from semfacediff.editing.prompts.negatives import negative_terms
from semfacediff.labels import ATTRIBUTES

GENERIC = ["distorted", "blurry"]


def terms(prompt, attribute, words, mode="attribute_aware", generic=()):
    return negative_terms(mode, prompt, attribute, words, generic)


@pytest.mark.parametrize(
    ("attribute", "prompt", "opposed", "kept"),
    [
        ("eyes", "pitch-black irises", {"blue eyes", "brown eyes", "green eyes"}, set()),
        ("eyes", "blue eyes", {"brown eyes", "green eyes"}, {"blue eyes"}),
        ("hair", "straight hair", {"curly hair", "wavy hair", "coily hair"}, {"straight hair"}),
        ("hair", "curly brown hairs", {"straight hair", "blonde hair", "black hair"}, {"curly hair", "brown hair"}),
        ("hair", "not curly, without bangs", {"curly hair"}, set()),
        ("hair", "black hair, not red", {"red hair", "blonde hair"}, {"black hair"}),
        ("hair", "blue instead of black", {"black hair"}, set()),
        ("hair", "not straight but wavy", {"straight hair", "curly hair"}, {"wavy hair"}),
        ("hair", "bald head", {"long hair", "wig"}, {"bald patches"}),
        ("lips", "lipstick", {"bare lips", "smeared lipstick"}, {"painted lips"}),
        ("lips", "matte dusty-rose lipstick", {"glossy lips", "bare lips", "red lips"}, {"matte lips"}),
        ("eyebrows", "well-defined dark eyebrows", {"light eyebrows", "untidy eyebrows"}, {"well-defined eyebrows"}),
        ("hat", "red beanie", {"baseball cap", "black hat"}, {"beanie", "red hat"}),
        ("glasses", "thin frames", {"thick frames", "rimless glasses"}, {"thin frames"}),
        ("nose", "small straight nose", {"large nose", "hooked nose"}, {"small nose", "straight nose"}),
    ],
)
def test_what_the_prior_would_do_instead_is_opposed(words, attribute, prompt, opposed, kept):
    made = set(terms(prompt, attribute, words))
    assert opposed <= made
    assert not kept & made


def test_what_is_not_spoken_of_is_not_opposed(words):
    assert terms("natural eye color", "eyes", words) == list(words["eyes"].always)


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_every_phrase_opposes_the_others_of_its_aspect_and_not_itself(words, attribute):
    for phrases in words[attribute].aspects.values():
        for name, asks in phrases.items():
            for text in asks:
                made = terms(f"{text} {words[attribute].noun}", attribute, words)
                assert name not in made
                wanted = [other for other, said in phrases.items() if text in said]
                assert len(wanted) > 1 or any(other in made for other in phrases), (name, text)


def test_modes(words):
    assert terms("straight hair", "hair", words, "none", GENERIC) == []
    assert terms("straight hair", "hair", words, "generic", GENERIC) == GENERIC
    assert terms("straight hair", "hair", words, "attribute_aware", GENERIC)[:2] == GENERIC


def test_a_generic_word_that_is_asked_for_is_left_out(words):
    assert terms("blurry glamour shot", "hair", words, "generic", GENERIC) == ["distorted"]
    assert terms("not blurry", "hair", words, "generic", GENERIC) == GENERIC


@pytest.mark.parametrize("prompt", ["", "!!!", "茶色の髪", "короткие волосы", "🔥💇", "शॉर्ट", "\u200b", "word " * 500])
def test_any_text_has_negatives(words, prompt):
    assert terms(prompt, "hair", words) == list(words["hair"].always)


def test_the_thesis_prompts_fit(words, tokenizer):
    generic = "distorted, artefact, unnatural, blurry, low quality, disfigured, malformed".split(", ")
    for attribute, prompt in (
        ("hair", "natural brown hair, smooth and shiny"),
        ("lips", "natural pink lipstick, glossy finish"),
        ("skin", "smooth skin, even complexion"),
        ("eyes", "natural eye color, clear and bright"),
        ("eyebrows", "well-defined dark eyebrows"),
    ):
        assert fits(", ".join(terms(prompt, attribute, words, generic=generic)), [tokenizer])

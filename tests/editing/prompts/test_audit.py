"""No prompt is cut in silence: tokens are counted as the editor's tokenizer counts them."""

import re
from types import SimpleNamespace

import open_clip
import pytest

from semfacediff.editing.prompts.audit import fits, fitted, lost_words, refuse_long, token_count
from semfacediff.errors import UserError


@pytest.mark.parametrize(
    "text", ["", "curly brown hair", "Dusty-rose, MATTE lipstick!", "茶色の髪", "🔥💇🏽", "naïve café"]
)
def test_tokens_are_those_of_clip(tokenizer, text):
    theirs = open_clip.tokenize([text])[0]
    assert token_count(text, tokenizer) == int((theirs != 0).sum())


def test_the_limit_is_exact(tokenizer):
    refuse_long("the prompt", "hair " * 75, [tokenizer])
    with pytest.raises(UserError, match="has 78 tokens"):
        refuse_long("the prompt", "hair " * 76, [tokenizer])


def test_the_sentence_has_everything(tokenizer):
    text = " ".join(f"red{i % 10}" for i in range(500))
    with pytest.raises(UserError) as caught:
        refuse_long("the prompt for 'hair'", text, [tokenizer, tokenizer])
    said = str(caught.value)
    found = token_count(text, tokenizer)
    assert re.fullmatch(
        rf"the prompt for 'hair': 'red0 .* \(and 488 more words\)' has {found} tokens, tokenizer 1 of 2 "
        r"\(CLIPTokenizer\) reads 77 \(its begin and end marks included\) and would lose 'red.*'; shorten it",
        said,
    )
    assert "\n" not in said


@pytest.mark.parametrize("word", ["hair", "extraordinarily", "髪型"])
def test_the_lost_words_are_all_that_is_not_read(tokenizer, word):
    text = " ".join([word] * 90)
    lost = lost_words(text, tokenizer)
    kept = text[: len(text) - len(lost)]
    assert text.endswith(lost)
    assert lost.split()[0] == word
    assert token_count(kept, tokenizer) <= 77 < token_count(f"{kept} {word}", tokenizer)


def test_a_word_without_spaces_is_cut_where_reading_ends(tokenizer):
    text = "髪" * 100
    assert lost_words(text, tokenizer) in text
    assert 0 < len(lost_words(text, tokenizer)) < 100


def test_every_tokenizer_counts(tokenizer):
    def short(text, **_):
        return {"input_ids": [0] * 9, "offset_mapping": [(0, 1)] * 9}

    other = type("Short", (), {"model_max_length": 8, "num_special_tokens_to_add": lambda self: 2})
    other.__call__ = staticmethod(short)
    with pytest.raises(UserError, match=r"tokenizer 2 of 2 \(Short\) reads 8"):
        refuse_long("the prompt", "red hair", [tokenizer, other()])
    assert not fits("red hair", [tokenizer, other()])


def test_a_tokenizer_without_a_limit_reads_everything(tokenizer):
    unlimited = SimpleNamespace(model_max_length=10**30)
    refuse_long("the prompt", "hair " * 5000, [unlimited])
    refuse_long("the prompt", "hair " * 5000, [])


def test_terms_are_left_out_whole_and_named(tokenizer):
    terms = [f"{w} hair" for w in "red blue green black white grey pink".split()] * 6
    text, left_out = fitted(terms, [tokenizer])
    kept = text.split(", ")
    assert kept == terms[: len(kept)]
    assert left_out == terms[len(kept) :]
    assert token_count(text, tokenizer) <= 77 < token_count(f"{text}, {left_out[0]}", tokenizer)
    assert fitted(terms[:3], [tokenizer]) == (", ".join(terms[:3]), [])
    assert fitted([], [tokenizer]) == ("", [])

"""Does every prompt fit into every tokenizer? A prompt that is cut in silence loses its last words, often the style."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from semfacediff.errors import UserError

_NO_LIMIT = 1_000_000
"""transformers writes a huge number where a tokenizer knows no limit."""
_SHOWN_WORDS, _SHOWN_LETTERS = 12, 120


def token_count(text: str, tokenizer: Any) -> int:
    """Tokens of ``text`` under a transformers tokenizer, its begin and end marks included."""
    return len(tokenizer(text, truncation=False, verbose=False)["input_ids"])


def fits(text: str, tokenizers: Sequence) -> bool:
    """Whether every tokenizer reads all of ``text``."""
    return all(token_count(text, t) <= t.model_max_length for t in tokenizers)


@dataclass(frozen=True)
class Reading:
    """What one tokenizer makes of a text: its ``tokens``, how many it reads (``limit``), and the words it loses."""

    tokenizer: str
    tokens: int
    limit: int | None
    lost: str


def readings(text: str, tokenizers: Sequence) -> list[Reading]:
    """What every tokenizer of an editor makes of ``text``; refuses nothing."""
    found = []
    for tokenizer in tokenizers:
        tokens, limit = token_count(text, tokenizer), tokenizer.model_max_length
        limit = None if limit >= _NO_LIMIT else limit
        lost = lost_words(text, tokenizer) if limit is not None and tokens > limit else ""
        found.append(Reading(type(tokenizer).__name__, tokens, limit, lost))
    return found


def refuse_long(what: str, text: str, tokenizers: Sequence) -> None:
    """Check one text against every tokenizer of an editor, before anything is computed.

    Args:
        what: names the text in the message, e.g. ``prompts.hair``.

    Raises:
        UserError: one of them would not read all of it; the sentence holds the words it would lose.
    """
    for i, tokenizer in enumerate(tokenizers, 1):
        limit = tokenizer.model_max_length
        if limit < _NO_LIMIT and (found := token_count(text, tokenizer)) > limit:
            raise UserError(
                f"{what}: '{_shortened(text)}' has {found} tokens, tokenizer {i} of {len(tokenizers)} "
                f"({type(tokenizer).__name__}) reads {limit} (its begin and end marks included) and would lose "
                f"'{_shortened(lost_words(text, tokenizer))}'; shorten it"
            )


def lost_words(text: str, tokenizer: Any) -> str:
    """The end of ``text`` that a tokenizer does not read, from the beginning of the first word it loses part of."""
    marks = tokenizer.num_special_tokens_to_add()
    room = tokenizer.model_max_length - marks
    offsets = tokenizer(text, add_special_tokens=False, truncation=False, return_offsets_mapping=True, verbose=False)
    start = offsets["offset_mapping"][room][0]
    whole = max((i + 1 for i, letter in enumerate(text[:start]) if letter.isspace()), default=start)
    return text[whole:]


def fitted(terms: Sequence[str], tokenizers: Sequence) -> tuple[str, list[str]]:
    """(negative prompt, terms left out): as many ``terms``, in their order, as every tokenizer reads whole."""
    kept: list[str] = []
    left_out = []
    for term in terms:
        if fits(", ".join([*kept, term]), tokenizers):
            kept.append(term)
        else:
            left_out.append(term)
    return ", ".join(kept), left_out


def _shortened(text: str) -> str:
    words = text.split()
    if len(words) > _SHOWN_WORDS:
        return f"{' '.join(words[:_SHOWN_WORDS])} ... (and {len(words) - _SHOWN_WORDS} more words)"
    return text if len(text) <= _SHOWN_LETTERS else f"{text[:_SHOWN_LETTERS]}... ({len(text)} letters)"

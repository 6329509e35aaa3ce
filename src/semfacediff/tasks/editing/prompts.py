"""From what is asked for to what an editor is told: expansion, negative prompts, and the count of tokens."""

import functools
import sys
from collections.abc import Iterable
from dataclasses import dataclass

import yaml

from semfacediff import config
from semfacediff.editing.base import Editor
from semfacediff.editing.prompts.audit import fitted, refuse_long
from semfacediff.editing.prompts.lexicon import Lexicon, expanded, lexicon
from semfacediff.editing.prompts.negatives import negative_terms
from semfacediff.editing.prompts.words import Words
from semfacediff.errors import UserError
from semfacediff.tables.text import published_editing

_LEXICON = "conf/lexicon.yaml"


@dataclass(frozen=True)
class PromptRules:
    """How prompts are completed and opposed; the fields are keys of an editing run's configuration.

    Attributes:
        negatives: ``none``, ``empty`` (the empty text), ``generic`` or ``attribute_aware``.
        negative_words: generic terms, parted by commas.
    """

    negatives: str
    negative_words: str
    prompt_expansion: bool

    @classmethod
    def of(cls, settings: config.EditingEvaluation) -> "PromptRules":
        return cls(settings.negatives, settings.negative_words, settings.prompt_expansion)


@dataclass(frozen=True)
class ResolvedPrompt:
    """What an editor is told of one edit, and the terms of its negative prompt that found no room."""

    attribute: str
    words: Words
    left_out: list[str]

    def facts(self) -> dict[str, object]:
        """For a record."""
        words = self.words
        source = prompt_source(self.attribute, words.prompt)
        facts: dict[str, object] = {"attribute": self.attribute, "prompt": words.prompt, "prompt_source": source}
        facts |= {"expanded_prompt": words.expanded_prompt, "negative_prompt": words.negative_prompt}
        return facts | ({"negative_terms_left_out": self.left_out} if self.left_out else {})


def resolve_prompt(
    attribute: str, prompt: str, own_negative: str | None, rules: PromptRules, editor: Editor, place: str
) -> ResolvedPrompt:
    """The words of one edit, checked against the editor's tokenizers before anything is computed.

    Args:
        own_negative: the user's negative prompt, taken as it is; ``None`` = what ``rules`` make.
        place: tells in messages whose prompt it is, e.g. ``for 'hair'``.

    Raises:
        UserError: a prompt is longer than a tokenizer reads, or the editor reads no negative prompt and one is given.
    """
    tokenizers = editor.tokenizers()
    longer = expanded(prompt, attribute, read_lexicon()) if rules.prompt_expansion else None
    refuse_long(f"the prompt {place}", longer or prompt, tokenizers)
    if own_negative is not None:
        if not editor.reads_negatives():
            raise UserError(
                f"the negative prompt {place}: editor '{editor.name}' reads none; leave it out or take an editor with "
                f"text encoders, such as sdxl_inpaint, and editor.guidance over 1"
            )
        refuse_long(f"the negative prompt {place}", own_negative, tokenizers)
        return ResolvedPrompt(attribute, Words(prompt, longer, own_negative), [])
    if not editor.reads_negatives():
        return ResolvedPrompt(attribute, Words(prompt, longer), [])
    if rules.negatives == "empty":
        return ResolvedPrompt(attribute, Words(prompt, longer, ""), [])
    generic = [term for text in rules.negative_words.split(",") if (term := text.strip())]
    terms = negative_terms(rules.negatives, longer or prompt, attribute, read_lexicon(), generic)
    negative, left_out = fitted(terms, tokenizers)
    return ResolvedPrompt(attribute, Words(prompt, longer, negative or None), left_out)


def show(each: Iterable[ResolvedPrompt]) -> None:
    """Say on stderr what the editor is told beyond the prompts themselves."""
    for one in each:
        if longer := one.words.expanded_prompt:
            print(f"{one.attribute}: '{one.words.prompt}' is expanded to: {longer}", file=sys.stderr)
        if negative := one.words.negative_prompt:
            print(f"{one.attribute}: negative prompt: {negative}", file=sys.stderr)
        if one.left_out:
            print(
                f"{one.attribute}: left out of the negative prompt, which is full: {', '.join(one.left_out)}",
                file=sys.stderr,
            )


@functools.cache
def read_lexicon() -> Lexicon:
    """``conf/lexicon.yaml``; a :class:`UserError` says what is wrong with it."""
    file = config.repository() / _LEXICON
    try:
        plain = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as e:
        raise UserError(f"{_LEXICON} cannot be read ({type(e).__name__}); restore it from the repository") from e
    return lexicon(plain, _LEXICON)


@functools.cache
def _registered() -> tuple[dict[str, str], frozenset[str]]:
    """The evaluation prompts, and the attributes whose prompt is the thesis's: those of its table 6.1."""
    prompts = yaml.safe_load((config.repository() / "conf" / "prompts" / "evaluation.yaml").read_text("utf-8"))
    published = published_editing(config.repository())
    return prompts, frozenset() if published is None else frozenset(published.index)


def prompt_source(attribute: str, prompt: str) -> str:
    """``thesis`` or ``ours`` for an evaluation prompt of ``conf/prompts``, ``user`` for any other."""
    prompts, of_thesis = _registered()
    if prompts.get(attribute) != prompt:
        return "user"
    return "thesis" if attribute in of_thesis else "ours"

"""What a prompt says of a region, by a small lexicon: aspects, and the phrases that a prompt may ask for in each."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from semfacediff.colours.grammar import find_colours
from semfacediff.colours.text import REGION_NOUNS
from semfacediff.errors import UserError
from semfacediff.labels import ATTRIBUTES

_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?")
_BREAK = re.compile(r"[,.;:!?|\n()]")
_CLAUSE_WORDS = ("but", "with")
_NEGATIONS = frozenset("not no without never non isn't aren't avoid nor".split())
_NEGATING_PAIRS = frozenset({("instead", "of"), ("rather", "than"), ("free", "of")})
_REACH = 3
"""A negation holds for this many words after it, at most to the end of its clause."""


@dataclass(frozen=True)
class Region:
    """One attribute's part of the lexicon (``conf/lexicon.yaml`` says what each key means)."""

    noun: str
    colours: Mapping[str, str]
    aspects: Mapping[str, Mapping[str, tuple[str, ...]]]
    always: tuple[str, ...]
    completed: Mapping[str, str]


Lexicon = Mapping[str, Region]


@dataclass(frozen=True)
class Asked:
    """What a prompt says of one aspect: the phrases it asks for, and those it refuses by name ("no curls")."""

    wanted: tuple[str, ...]
    refused: tuple[str, ...]


def lexicon(plain: Mapping, source: str) -> Lexicon:
    """The lexicon from its YAML.

    Args:
        source: names the file in messages.

    Raises:
        UserError: an attribute is missing or unknown, or one of its keys is missing, unknown or of another shape.
    """
    if not isinstance(plain, Mapping) or set(plain) != set(ATTRIBUTES):
        got = ", ".join(map(str, plain)) if isinstance(plain, Mapping) else type(plain).__name__
        raise UserError(f"{source}: expected the attributes {', '.join(ATTRIBUTES)}, got {got}; correct the file")
    return {attribute: _region(plain[attribute], f"{source}: {attribute}") for attribute in ATTRIBUTES}


def _region(plain: Mapping, where: str) -> Region:
    try:
        region = Region(
            noun=str(plain["noun"]),
            colours={str(k): str(v) for k, v in plain["colours"].items()},
            aspects={
                aspect: {phrase: _texts(words, aspect) for phrase, words in phrases.items()}
                for aspect, phrases in plain["aspects"].items()
            },
            always=_texts(plain["always"], "always"),
            completed={aspect: str(words) for aspect, words in plain["completed"].items()},
        )
        for value in region.colours.values():
            _ = bytes.fromhex(value)
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        raise UserError(f"{where}: not as the file's opening comment says ({type(e).__name__}: {e}); correct it") from e
    unknown = [k for k in (*plain, *region.completed) if k not in (*Region.__dataclass_fields__, *region.aspects)]
    if unknown:
        raise UserError(f"{where}: unknown key '{unknown[0]}'; known are {', '.join(Region.__dataclass_fields__)}")
    return region


def _texts(plain: Iterable, key: str) -> tuple[str, ...]:
    if isinstance(plain, str) or not all(isinstance(text, str) for text in plain):
        raise TypeError(f"{key} is no list of words")
    return tuple(plain)


@dataclass(frozen=True)
class Phrase:
    """Words of a prompt in order, lower case, and the clause each stands in."""

    words: tuple[str, ...]
    clauses: tuple[int, ...]

    def places(self, wanted: str) -> list[int]:
        """Where the words of ``wanted`` begin; they never reach over a clause's end."""
        sought = tuple(_WORD.findall(wanted.lower()))
        n = len(sought)
        starts = range(len(self.words) - n + 1) if n else ()
        return [i for i in starts if self.words[i : i + n] == sought and len({*self.clauses[i : i + n]}) == 1]

    def negated(self, i: int) -> bool:
        """Whether a negation ("not", "without", "instead of") governs word ``i``."""
        first = max(0, i - _REACH)
        before = [k for k in range(first, i) if self.clauses[k] == self.clauses[i]]
        pairs = zip(self.words[first:i], self.words[first + 1 : i], strict=False)
        return any(self.words[k] in _NEGATIONS for k in before) or any(pair in _NEGATING_PAIRS for pair in pairs)


def phrase(prompt: str) -> Phrase:
    """The prompt's words; hyphens part words, commas and "but" part clauses."""
    words, clauses, clause, end = [], [], 0, 0
    text = prompt.lower().replace("’", "'")
    for match in _WORD.finditer(text):
        clause += bool(_BREAK.search(text[end : match.start()])) or match.group() in _CLAUSE_WORDS
        words.append(match.group())
        clauses.append(clause)
        end = match.end()
    return Phrase(tuple(words), tuple(clauses))


def asked(prompt: str, region: Region) -> dict[str, Asked]:
    """Aspect -> what the prompt says of it; aspects it says nothing of are left out."""
    said, words = {}, phrase(prompt)
    for aspect, phrases in region.aspects.items():
        places = {name: [i for text in asks for i in words.places(text)] for name, asks in phrases.items()}
        wanted = [name for name, found in places.items() if any(not words.negated(i) for i in found)]
        refused = [name for name, found in places.items() if found and name not in wanted]
        if wanted or refused:
            said[aspect] = Asked(tuple(wanted), tuple(refused))
    return said


def expanded(prompt: str, attribute: str, words: Lexicon) -> str | None:
    """A vague prompt completed from the lexicon; ``None`` where it is not vague.

    Vague is a prompt that speaks of fewer than two of the region's aspects, its colour being one of them. It keeps its
    own words; the region's noun follows a bare one, then words for the aspects it leaves open, after commas.
    """
    region = words[attribute]
    if not re.search(r"[a-z]", prompt.lower()):
        return None  # another script: nothing says what it leaves open
    said = asked(prompt, region)
    if len(said) + bool(find_colours(prompt, attribute)) >= 2:
        return None
    stem = prompt.strip().rstrip(",.;")
    if "," not in stem and not _names_region(stem, attribute, region):
        stem = f"{stem} {region.noun}"
    more = [text for aspect, text in region.completed.items() if aspect not in said and not phrase(stem).places(text)]
    result = ", ".join([stem, *more])
    return result if result != prompt else None


def _names_region(prompt: str, attribute: str, region: Region) -> bool:
    """Whether the prompt says what it speaks of: the region ("irises"), or a kind of it ("beanie", "choker")."""
    said = phrase(prompt)
    kinds = [text for asks in region.aspects.get("kind", {}).values() for text in asks]
    return any(said.places(text) for text in (region.noun, *REGION_NOUNS[attribute].split(), *kinds))

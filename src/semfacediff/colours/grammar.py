"""Colours named in a free-text prompt.

Vocabulary: matplotlib's CSS4 table, its XKCD table (what 200,000 people called the colours they saw) and the small
:data:`LEXICON` of hair and make-up words. Where CSS4 and XKCD spell a name alike, XKCD wins: CSS4 calls a red "brown".
Spaces, hyphens and joined spellings are alike ("dusty-rose", "lightblue"), so are "gray" and "grey".

Rules, in the order in which they apply:

1. The longest name wins; a name never reaches over a comma. Words in front of a name that is in no table
   ("deep auburn") adjust it, see :data:`MODIFIERS`; names side by side ("chestnut brown") are one colour half way.
2. Negated colours do not count: "not red", "without red or orange", "blue instead of black". Nor do colours that
   another region owns ("blue eyes" in a prompt for hair), nor the old colour of "change black hair to brown".
3. Names that are things before they are colours (:data:`OBJECT_NAMES`: rose, sand, wine) count beside a proper colour
   only when they stand before a region ("wine lips") or "-coloured"; alone they count unless used as a noun or a verb
   ("holding a rose", "rose up").
4. The first colour that stands before the region's noun is the main one, or else the first. A colour joined to it
   ("blue and green", "from brown to blonde") is the second; one bound to "highlights", "tips", "roots" has that role.
5. "dark", "light", "pale" and their comparatives are shades: they count only where no main colour is named.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import zip_longest

import numpy as np

from semfacediff.colours.names import HAIR_WORDS, OBJECT_NAMES, in_lexicon, longest
from semfacediff.colours.oklab import oklab_to_rgb, rgb_to_oklab
from semfacediff.colours.text import (
    ADJECTIVES,
    AS_THING_AFTER,
    AS_THING_BEFORE,
    CHANGES,
    ENDS,
    GRADIENTS,
    HIGHLIGHTS,
    MARKS,
    MODIFIERS,
    REGION_NOUNS,
    REGION_OF,
    ROLE_BEFORE,
    ROLE_OF,
    SHADES,
    STOPS,
    Text,
    rgb_of,
    words_of,
)

MAIN, SECOND, OTHER = "main", "second", "other"


@dataclass(frozen=True)
class Colour:
    """A colour that a prompt asks for.

    Attributes:
        name: as spelled in the prompt, lower case, single spaces, modifiers included.
        rgb: sRGB, 0..255.
        role: ``main``, ``second`` (beside the main one), ``highlights``, ``ends`` (tips, the far end of an ombre),
            ``roots``, or ``other`` (mentioned, e.g. "golden light"; nothing is painted with it).
        start: position of the first letter in the prompt.
        tabled: whether all of its names stand in CSS4 or XKCD, none in the lexicon.
        shift: 0 for a colour; for a shade the change of OKLab lightness it asks for (``rgb`` is then a stand-in).
    """

    name: str
    rgb: tuple[int, int, int]
    role: str
    start: int
    tabled: bool
    shift: float = 0.0


@dataclass(frozen=True)
class _Found:
    colour: Colour
    first: int  # index of its first word, modifiers included
    last: int  # index after its last word
    proper: bool  # False for OBJECT_NAMES without a region or "-coloured" behind
    region: str | None  # attribute whose noun follows


def find_colours(prompt: str, attribute: str | None = None) -> list[Colour]:
    """Colours that ``prompt`` asks for, main one first, then in the order of the text; see the module's rules.

    Args:
        prompt: free text.
        attribute: region to be painted; colours before another region's noun are then left out.
    """
    words = words_of(prompt)
    names = _scan(words)
    found = [f for f in names if not words.negated[f.first]]
    if attribute is not None:
        found = [f for f in found if f.region in (None, attribute) or _hair_on_brows(f, attribute)]
    found = _drop_sources(words, found)
    if any(f.proper for f in found):
        found = [f for f in found if f.proper]
    else:
        found = [f for f in found if not _used_as_thing(words, f)]
    colours = _assign_roles(words, found)
    return colours if any(c.role == MAIN for c in colours) else _shade(words, attribute, names) + colours


@lru_cache(maxsize=1024)
def named_colour(prompt: str, attribute: str) -> tuple[int, int, int] | None:
    """sRGB 0..255 of the main colour that ``prompt`` asks for, from the CSS4 and XKCD tables alone.

    ``None`` where it names none, or names it by a shade or by a word of the lexicon ("ash brown").
    """
    main = next((c for c in find_colours(prompt, attribute) if c.role == MAIN), None)
    return main.rgb if main is not None and main.tabled else None


def refused_colours(prompt: str, attribute: str) -> list[str]:
    """Names of the colours that ``prompt`` refuses for the region ("not red", "blue instead of black")."""
    words = words_of(prompt)
    found = [f for f in _scan(words) if words.negated[f.first] and f.region in (None, attribute)]
    return list(dict.fromkeys(f.colour.name for f in found))


def _scan(words: Text) -> list[_Found]:
    """All names in the text, longest first, without overlaps; names side by side ("chestnut brown") are one colour."""
    found: list[_Found] = []
    i, free = 0, 0
    while i < len(words):
        for n in range(min(longest(), len(words) - i), 0, -1):
            rgb = None if n == 1 and _is_plain_word(words, i) else rgb_of(words[i : i + n])
            if rgb is not None:
                new = _describe(words, i, i + n, rgb, free)
                if found and found[-1].last == new.first and words[new.first].joint == " ":
                    new = _merged(found.pop(), new)
                found.append(new)
                i = free = i + n
                break
        else:
            i += 1
    return found


def _is_plain_word(words: Text, i: int) -> bool:
    """Names of one word that mean no colour: shades, and nouns of regions ("lipstick") unless they are all there is."""
    return words[i].text in SHADES or (words[i].text in REGION_OF and len(words) > 1)


def _merged(a: _Found, b: _Found) -> _Found:
    """One colour, half way, of two names side by side; what follows the second one decides about the rest."""
    lab = [rgb_to_oklab(np.array(f.colour.rgb) / 255) for f in (a, b)]
    colour = replace(
        b.colour,
        name=f"{a.colour.name} {b.colour.name}",
        rgb=_to_8_bit((lab[0] + lab[1]) / 2),
        role=a.colour.role or b.colour.role,
        start=a.colour.start,
        tabled=a.colour.tabled and b.colour.tabled,
    )
    return _Found(colour, a.first, b.last, a.proper or b.proper, b.region or a.region)


def _to_8_bit(lab: np.ndarray) -> tuple[int, int, int]:
    """sRGB 0..255 of one OKLab colour; chroma gives way where the display has no such colour, the hue stays."""
    for keep in np.linspace(1, 0, 51):
        rgb = oklab_to_rgb(np.array([lab[0], lab[1] * keep, lab[2] * keep]))
        if rgb.min() > -0.002 and rgb.max() < 1.002:
            break
    red, green, blue = (int(v) for v in np.clip(np.round(rgb * 255), 0, 255))
    return red, green, blue


def _describe(words: Text, i: int, end: int, rgb: tuple, free: int) -> _Found:
    name = " ".join(w.text for w in words[i:end])
    is_object = end - i == 1 and name in OBJECT_NAMES
    noun, adjacent = _noun_after(words, end)
    region, role = REGION_OF.get(noun or ""), ROLE_OF.get(noun or "")
    if end < len(words) and words[end - 1].text in REGION_OF:
        region = region or REGION_OF[words[end - 1].text]
    if region is None and name in HAIR_WORDS:
        region = "hair"
    if i and words[i].joint != "," and words[i - 1].text in ("dyed", "tinted", "painted"):
        adjacent, noun = True, "dyed"
    first, rgb = _apply_modifiers(words, i, rgb, free)
    spelled = " ".join(w.text for w in words[first:end])
    colour = Colour(spelled, rgb, role or _role_before(words, first) or "", words[first].start, not in_lexicon(name))
    return _Found(colour, first, end, not is_object or (noun is not None and adjacent), region)


def _noun_after(words: Text, end: int) -> tuple[str | None, bool]:
    """The region's noun, role or mark that the words before ``end`` belong to; whether nothing foreign is between."""
    i = words.telling[end]
    for foreign in range(4):
        if i == len(words) or words[i].joint == ",":
            break
        text = words[i].text
        if text in REGION_OF or text in ROLE_OF or text in MARKS:
            in_name = text in MARKS and i + 1 < len(words) and words[i + 1].text in REGION_OF
            return (words[i + 1].text if in_name else text), foreign == 0
        if text in STOPS:
            break
        i = words.telling[i + 1]
    return None, False


def _role_before(words: Text, first: int) -> str | None:
    """``highlights`` for "highlights of X", "streaked with X", "a hint of X"."""
    if first >= 2 and words[first - 1].text in ("of", "in", "with") and words[first - 2].text in ROLE_BEFORE:
        return HIGHLIGHTS
    return None


def _apply_modifiers(words: Text, i: int, rgb: tuple, free: int) -> tuple[int, tuple[int, int, int]]:
    """Index of the first modifier before word ``i``, and the colour they make of ``rgb``."""
    lightness, chroma, first = 0.0, 1.0, i
    while first > free and words[first].joint != "," and words[first - 1].text in MODIFIERS:
        first -= 1
        delta, factor = MODIFIERS[words[first].text]
        more = 1.5 if first > free and words[first - 1].text == "very" else 1.0
        lightness, chroma = lightness + more * delta, chroma * (1 + more * (factor - 1))
    if first == i:
        return i, rgb
    lab = rgb_to_oklab(np.array(rgb) / 255)
    lab = np.array([np.clip(lab[0] + lightness, 0.08, 0.97), *(lab[1:] * chroma)])
    return first, _to_8_bit(lab)


def _hair_on_brows(f: _Found, attribute: str) -> bool:
    return attribute == "eyebrows" and f.region == "hair" and f.colour.name.split()[-1] in HAIR_WORDS


def _drop_sources(words: Text, found: list[_Found]) -> list[_Found]:
    """Without the old colour of "change black hair to brown"."""
    kept = []
    for f, after in zip_longest(found, found[1:]):
        _, end, clause = words.clause(f.first)
        between = {w.text for w in words[f.last : after.first]} if after and after.first < end else set()
        if not (clause & CHANGES and not clause & GRADIENTS and between & {"to", "into"}):
            kept.append(f)
    return kept


def _used_as_thing(words: Text, f: _Found) -> bool:
    before = words[f.first - 1].text if f.first and words[f.first].joint != "," else ""
    after = words[f.last].text if f.last < len(words) and words[f.last].joint != "," else ""
    return not f.proper and (before in AS_THING_BEFORE or after in AS_THING_AFTER)


def _assign_roles(words: Text, found: list[_Found]) -> list[Colour]:
    free = [f for f in found if not f.colour.role]
    bound = [f for f in free if f.region]
    main = next(iter(bound or free), None)
    if bound and main and (before := _joined_before(words, free, main)):
        main = before
    colours, previous = [], main
    for f in found:
        role = f.colour.role
        if f is main:
            role = MAIN
        elif not role and previous is not None:
            role = _joined(words, previous, f) or OTHER
            previous = f if role != OTHER else previous
        colours.append(replace(f.colour, role=role))
    colours.sort(key=lambda c: c.role != MAIN)
    return colours


def _joined_before(words: Text, free: list[_Found], main: _Found) -> _Found | None:
    """The first of a joined list that ends in ``main``: "from brown to blonde hair"."""
    for f in reversed(free[: next(i for i, f in enumerate(free) if f is main)]):
        if not _joined(words, f, main):
            break
        main = f
    return main


def _joined(words: Text, a: _Found, b: _Found) -> str | None:
    """Role of ``b`` if it is named in one breath with ``a``, as in "blue and green"."""
    start, _, clause = words.clause(b.first)
    if b.first < a.last or start >= a.last:
        return None
    foreign, towards = (counts[b.first] - counts[a.last] for counts in words.counted)
    if a.colour.rgb == b.colour.rgb or foreign:
        return None
    return ENDS if towards or clause & GRADIENTS else SECOND


def _shade(words: Text, attribute: str | None, found: list[_Found]) -> list[Colour]:
    """The first "dark" or "light" that is meant for the region and modifies no colour, as the main colour."""
    taken = {i for f in found for i in range(f.first, f.last)}
    for i, word in enumerate(words):
        if word.text in SHADES and i not in taken and not words.negated[i] and _is_shade(words, i, attribute):
            rgb = rgb_of([word]) or ((64, 64, 64) if SHADES[word.text] < 0 else (208, 208, 208))
            return [Colour(word.text, rgb, MAIN, word.start, False, SHADES[word.text])]
    return []


def _is_shade(words: Text, i: int, attribute: str | None) -> bool:
    """Whether the word speaks of the region and not, as "soft light" or "dark background", of the scene."""
    noun, _ = _noun_after(words, i + 1)
    region, role = REGION_OF.get(noun or ""), ROLE_OF.get(noun or "")
    if region or role:
        return role is None and attribute in (None, region)
    start, end, _ = words.clause(i)
    if end - start == 1 or noun in MARKS:
        return True
    regions = REGION_NOUNS if attribute is None else (attribute,)
    described = any(words.nouns.get((start, region), i) < i for region in regions)
    if i + 1 == end:
        return described or words[i].text.endswith(("er", "est", "ened"))
    predicate = words[i + 1].text in ADJECTIVES and SHADES[words[i].text] < 0
    return (described and words[i + 1].text in ADJECTIVES) or predicate

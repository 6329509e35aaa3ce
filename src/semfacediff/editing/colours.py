"""Colours named in a free-text prompt, and the perceptual space they are compared in.

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

import re
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import accumulate, zip_longest

import numpy as np

MAIN, SECOND, HIGHLIGHTS, ENDS, ROOTS, OTHER = "main", "second", "highlights", "ends", "roots", "other"


def _split(text: str) -> frozenset[str]:
    return frozenset(text.split())


LEXICON = {
    "blonde": "d0a070", "blond": "d0a070", "blondes": "d0a070", "blondish": "d0a070", "fair hair": "d0a070",
    "platinum": "e3dac6", "platinum blonde": "e3d8bd", "ash blonde": "b6a488", "golden blonde": "d6a45c",
    "honey blonde": "cc975a", "dirty blonde": "a08253", "strawberry blonde": "cf8f62", "sandy blonde": "c7a27a",
    "dark blonde": "94754a", "light blonde": "e0bf94", "brunette": "4a2f20", "ginger": "b5602a", "redhead": "983f20",
    "red haired": "983f20", "jet black": "0b0b0d", "raven black": "0c0c11", "raven": "0c0c11", "ebony": "1c1815",
    "espresso": "3b2419", "honey": "c58f3f", "ash": "9c968c", "ash brown": "6b5a4c", "salt and pepper": "88888a",
    "nude": "c98a76", "nude pink": "cc8f88", "rosy": "d9818a", "rose gold": "b9757c", "champagne": "dfc7a4",
    "olive skin": "ae8f6c", "olive complexion": "ae8f6c", "tanned": "b07d57", "bronzed": "9c6842",
}  # fmt: skip
"""Hair and make-up words that neither table has, as RGB hex; chosen by eye from photographs."""

HAIR_WORDS = _split("blonde blond blondes blondish platinum brunette ginger redhead raven") | {
    "red haired",
    "fair hair",
}
"""Words of the lexicon that speak of hair although no noun says so."""

MODIFIERS = {
    "light": (0.10, 0.85), "lighter": (0.07, 0.9), "lightest": (0.14, 0.8), "pale": (0.13, 0.6), "paler": (0.10, 0.7),
    "pastel": (0.15, 0.55), "dark": (-0.12, 0.9), "darker": (-0.09, 0.9), "darkest": (-0.17, 0.85),
    "deep": (-0.10, 1.1), "deeper": (-0.08, 1.1), "rich": (-0.04, 1.15), "bright": (0.06, 1.25),
    "vivid": (0.0, 1.3), "vibrant": (0.0, 1.3), "neon": (0.08, 1.5), "electric": (0.03, 1.4), "soft": (0.04, 0.75),
    "muted": (0.0, 0.6), "dusty": (0.02, 0.6), "dull": (-0.02, 0.6), "ashy": (0.0, 0.5), "subtle": (0.0, 0.75),
}  # fmt: skip
"""Word before a colour -> (change of OKLab lightness, factor of chroma). "very" takes half as much again."""

SHADES = {
    "dark": -0.13, "darker": -0.10, "darkest": -0.18, "darkened": -0.10,
    "light": 0.12, "lighter": 0.09, "lightest": 0.16, "lightened": 0.09, "pale": 0.12, "paler": 0.09, "fair": 0.10,
}  # fmt: skip
"""Word that changes lightness alone where no colour is named -> change of OKLab lightness."""


OBJECT_NAMES = _split(
    """dust tea cement spruce booger bland desert custard manilla bruise lichen butterscotch squash cinnamon cocoa swamp
    camo fern sapphire parchment straw topaz wintergreen leather canary mushroom grapefruit ice algae pinky dandelion
    ruby putty saffron twilight petrol royal butter leaf sunflower velvet carnation wisteria diarrhea bile spearmint
    heather mango shamrock bubblegum merlot apple heliotrope dusk kiwi seaweed pear sandy banana tomato sea buff fawn
    amethyst pea stone earth asparagus blueberry caramel gunmetal cherry midnight blood berry poo snot drab wheat
    watermelon mulberry celery strawberry adobe barney maize sandstone camel marine sepia coffee mocha cranberry melon
    amber pine shit dirt pistachio bordeaux ocean marigold steel blush lemon apricot denim forest avocado poop eggshell
    evergreen mahogany mud clay jade emerald sky orchid raspberry tangerine pumpkin charcoal cornflower chocolate grass
    moss vomit cobalt wine grape coral cream brick sage eggplant puke rust slate sand mint plum gold silver golden rose
    mustard peach lime olive tan salmon snow linen bisque seashell honeydew moccasin peru thistle gainsboro hazel
    chestnut copper bronze honey ash espresso champagne raven platinum nude ginger lipstick iris"""
)
"""Names of one word that are things, or ordinary words, before they are colours."""

REGION_NOUNS = {
    "hair": "hair hairs haired hairstyle haircut hairdo locks curls bangs fringe ponytail bun bob braids tresses waves",
    "lips": "lip lips lipstick lipsticks lipgloss lipcolor lipcolour mouth",
    "skin": "skin skintone complexion face",
    "eyes": "eye eyes eyed iris irises",
    "eyebrows": "eyebrow eyebrows brow brows",
    "glasses": "glasses eyeglasses sunglasses spectacles",
    "earrings": "earring earrings",
    "necklace": "necklace pendant",
    "hat": "hat cap beanie",
    "clothing": "clothing clothes shirt dress jacket top sweater blouse suit",
    "nose": "nose",
}
"""Words by which a prompt speaks of an attribute."""

_REGION_OF = {word: region for region, words in REGION_NOUNS.items() for word in words.split()}
_ROLE_OF = {
    **dict.fromkeys(_split("highlight highlights lowlights streaks streak strands balayage"), HIGHLIGHTS),
    **dict.fromkeys(_split("tip tips end ends"), ENDS),
    **dict.fromkeys(_split("root roots"), ROOTS),
}
_ROLE_BEFORE = _split("highlights streaks highlighted streaked hint hints touch tint lowlights")
_MARKS = _split("coloured colored colour color tone toned tones tint tinted shade shades hue hued")
_NEGATIONS = _split("not no without never non isn't aren't avoid nor")
_NEGATED_ON = _split("or nor any more a an the so too very hint hints of touch trace dyed dye colour color")
_STOPS = _split("with in on of to into from at for by over under near behind beside but is are has")
_ADJECTIVES = _split(
    "and long short curly wavy straight shiny glossy matte silky soft thick thin bold natural full satin smooth"
)
_GRADIENTS = _split("ombre ombré gradient fade fading faded fades dip sombre balayage")
_BREATH = _split("and to into with then plus fading hair")
"""Between two colours that are named in one breath."""
_TOWARDS = _split("to into fading")
_CHANGES = _split("change changed turn turned recolor recolour convert make switch")
_AS_THING_BEFORE = _split("a an the his her its their like as")
_AS_THING_AFTER = _split("up out glass petal petals water background")
_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*|&")
_BREAK = re.compile(r"[,.;:!?|\n]")


@dataclass(frozen=True)
class Colour:
    """A colour that a prompt asks for.

    Attributes:
        name: as spelled in the prompt, lower case, single spaces, modifiers included.
        rgb: sRGB, 0..255.
        role: ``main``, ``second`` (beside the main one), ``highlights``, ``ends`` (tips, the far end of an ombre),
            ``roots``, or ``other`` (mentioned, e.g. "golden light"; nothing is painted with it).
        start: position of the first letter in the prompt.
        shift: 0 for a colour; for a shade the change of OKLab lightness it asks for (``rgb`` is then a stand-in).
    """

    name: str
    rgb: tuple[int, int, int]
    role: str
    start: int
    shift: float = 0.0


@dataclass(frozen=True)
class _Word:
    text: str
    start: int
    joint: str  # what stands before it: " ", "/" or "," (a clause break)


class _Text(list["_Word"]):
    """The words of a prompt. What is asked about many of them is worked out once: the search takes linear time."""

    @cached_property
    def starts(self) -> list[int]:
        """Of each word's clause, the index of its first word."""

        def of_word(start: int, i: int) -> int:
            return i if self[i].joint == "," else start

        return list(accumulate(range(len(self)), of_word))

    @cached_property
    def clauses(self) -> dict[int, tuple[int, set[str]]]:
        """First word of a clause -> (index after its last word, its words)."""
        clauses: dict[int, tuple[int, set[str]]] = {}
        for i, (start, word) in enumerate(zip(self.starts, self, strict=True)):
            texts = clauses[start][1] if start in clauses else set()
            texts.add(word.text)
            clauses[start] = i + 1, texts
        return clauses

    def clause(self, i: int) -> tuple[int, int, set[str]]:
        """First index, index after the last, and words of the clause that word ``i`` stands in."""
        return self.starts[i], *self.clauses[self.starts[i]]

    @cached_property
    def coloured(self) -> list[bool]:
        return [_rgb([word]) is not None for word in self]

    @cached_property
    def negated(self) -> list[bool]:
        """Whether a negation reaches each word; over colours and their modifiers it reaches on."""
        found: list[bool] = []
        for i, word in enumerate(self):
            before = self[i - 1].text if i else ""
            if not i or word.joint == ",":
                found.append(False)
            elif before in _NEGATIONS or (i > 1 and f"{self[i - 2].text} {before}" in ("instead of", "rather than")):
                found.append(True)
            else:
                found.append((before in _NEGATED_ON or before in MODIFIERS or self.coloured[i - 1]) and found[i - 1])
        return found

    @cached_property
    def telling(self) -> list[int]:
        """Index of the next word, from each on, that says more than how something looks, or begins a clause."""
        found = [len(self)] * (len(self) + 1)
        for i in range(len(self) - 1, -1, -1):
            word = self[i]
            noun = any(word.text in known for known in (_REGION_OF, _ROLE_OF, _MARKS, _STOPS))
            looks = word.text in _ADJECTIVES or word.text in MODIFIERS or self.coloured[i]
            found[i] = i if noun or not looks or word.joint == "," else found[i + 1]
        return found

    @cached_property
    def counted(self) -> tuple[list[int], list[int]]:
        """How many words before each are not among :data:`_BREATH`, and how many among :data:`_TOWARDS`."""
        kinds = ([w.text not in _BREATH for w in self], [w.text in _TOWARDS for w in self])
        breath, towards = ([0, *accumulate(kind)] for kind in kinds)
        return breath, towards

    @cached_property
    def nouns(self) -> dict[tuple[int, str], int]:
        """(first word of a clause, region) -> index of the region's first noun in it."""
        found: dict[tuple[int, str], int] = {}
        for i, word in enumerate(self):
            if word.text in _REGION_OF:
                found.setdefault((self.starts[i], _REGION_OF[word.text]), i)
        return found


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
    words = _words(prompt)
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


def refused_colours(prompt: str, attribute: str) -> list[str]:
    """Names of the colours that ``prompt`` refuses for the region ("not red", "blue instead of black")."""
    words = _words(prompt)
    found = [f for f in _scan(words) if words.negated[f.first] and f.region in (None, attribute)]
    return list(dict.fromkeys(f.colour.name for f in found))


def rgb_to_oklab(rgb: np.ndarray) -> np.ndarray:
    """OKLab of sRGB, ``[3, ...]`` in [0, 1] -> L in [0, 1], a, b about [-0.4, 0.4] (Björn Ottosson, 2020)."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return np.tensordot(FROM_LMS, np.cbrt(np.tensordot(TO_LMS, linear, 1)), 1)


def oklab_to_rgb(lab: np.ndarray) -> np.ndarray:
    """sRGB of OKLab, ``[3, ...]``; not clipped: values outside [0, 1] have no sRGB colour."""
    linear = np.tensordot(_FROM_LMS_LINEAR, np.tensordot(_TO_LMS_ROOT, lab, 1) ** 3, 1)
    root = np.maximum(linear, 0.0031308) ** (1 / 2.4)
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * root - 0.055)


TO_LMS = np.array(
    [[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566],
     [0.0883024619, 0.2817188376, 0.6299787005]]
)  # fmt: skip
FROM_LMS = np.array(
    [[0.2104542553, 0.7936177850, -0.0040720468], [1.9779984951, -2.4285922050, 0.4505937099],
     [0.0259040371, 0.7827717662, -0.8086757660]]
)  # fmt: skip
_TO_LMS_ROOT, _FROM_LMS_LINEAR = np.linalg.inv(FROM_LMS), np.linalg.inv(TO_LMS)


def _words(prompt: str) -> _Text:
    text = prompt.lower().replace("’", "'")
    words, end = _Text(), 0
    for match in _WORD.finditer(text):
        gap = text[end : match.start()]
        joint = "," if _BREAK.search(gap) else "/" if "/" in gap else " "
        word = match.group().replace("gray", "grey")
        words.append(_Word("and" if word == "&" else word, match.start(), joint))
        end = match.end()
    return words


@cache
def _tables() -> tuple[dict[str, str], dict[str, str]]:
    """Name -> hex: as spelled, and with all separators removed."""
    from matplotlib.colors import CSS4_COLORS, XKCD_COLORS

    exact = {name.replace("gray", "grey"): value for name, value in CSS4_COLORS.items()}
    exact |= {name.removeprefix("xkcd:"): value for name, value in XKCD_COLORS.items()}
    exact |= {name: f"#{value}" for name, value in LEXICON.items()}
    joined: dict[str, str] = {}
    for name, value in exact.items():
        joined.setdefault(re.sub(r"[ '/]", "", name), value)
    return exact, joined


@cache
def _longest() -> int:
    return max(1 + name.count(" ") + name.count("/") for name in _tables()[0])


def _rgb(words: list[_Word]) -> tuple[int, int, int] | None:
    """The colour that exactly these words name."""
    if any(w.joint == "," for w in words[1:]):
        return None
    exact, joined = _tables()
    texts = [w.text for w in words]
    spelled = texts[0] + "".join(w.joint + w.text for w in words[1:])
    value = exact.get(spelled) or exact.get(" ".join(texts)) or joined.get("".join(texts).replace("'", ""))
    if not value:
        return None
    r, g, b = bytes.fromhex(value[1:])
    return r, g, b


def _scan(words: _Text) -> list[_Found]:
    """All names in the text, longest first, without overlaps; names side by side ("chestnut brown") are one colour."""
    found: list[_Found] = []
    i, free = 0, 0
    while i < len(words):
        for n in range(min(_longest(), len(words) - i), 0, -1):
            rgb = None if n == 1 and _is_plain_word(words, i) else _rgb(words[i : i + n])
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


def _is_plain_word(words: _Text, i: int) -> bool:
    """Names of one word that mean no colour: shades, and nouns of regions ("lipstick") unless they are all there is."""
    return words[i].text in SHADES or (words[i].text in _REGION_OF and len(words) > 1)


def _merged(a: _Found, b: _Found) -> _Found:
    """One colour, half way, of two names side by side; what follows the second one decides about the rest."""
    lab = [rgb_to_oklab(np.array(f.colour.rgb) / 255) for f in (a, b)]
    colour = replace(
        b.colour,
        name=f"{a.colour.name} {b.colour.name}",
        rgb=_to_8_bit((lab[0] + lab[1]) / 2),
        role=a.colour.role or b.colour.role,
        start=a.colour.start,
    )
    return _Found(colour, a.first, b.last, a.proper or b.proper, b.region or a.region)


def _to_8_bit(lab: np.ndarray) -> tuple[int, int, int]:
    """sRGB 0..255 of one OKLab colour; chroma gives way where the display has no such colour, the hue stays."""
    for keep in np.linspace(1, 0, 51):
        rgb = oklab_to_rgb(np.array([lab[0], lab[1] * keep, lab[2] * keep]))
        if rgb.min() > -0.002 and rgb.max() < 1.002:
            break
    r, g, b = (int(v) for v in np.clip(np.round(rgb * 255), 0, 255))
    return r, g, b


def _describe(words: _Text, i: int, end: int, rgb: tuple, free: int) -> _Found:
    name = " ".join(w.text for w in words[i:end])
    is_object = end - i == 1 and name in OBJECT_NAMES
    noun, adjacent = _noun_after(words, end)
    region, role = _REGION_OF.get(noun or ""), _ROLE_OF.get(noun or "")
    if end < len(words) and words[end - 1].text in _REGION_OF:
        region = region or _REGION_OF[words[end - 1].text]
    if region is None and name in HAIR_WORDS:
        region = "hair"
    if i and words[i].joint != "," and words[i - 1].text in ("dyed", "tinted", "painted"):
        adjacent, noun = True, "dyed"
    first, rgb = _apply_modifiers(words, i, rgb, free)
    spelled = " ".join(w.text for w in words[first:end])
    colour = Colour(spelled, rgb, role or _role_before(words, first) or "", words[first].start)
    return _Found(colour, first, end, not is_object or (noun is not None and adjacent), region)


def _noun_after(words: _Text, end: int) -> tuple[str | None, bool]:
    """The region's noun, role or mark that the words before ``end`` belong to; whether nothing foreign is between."""
    i = words.telling[end]
    for foreign in range(4):
        if i == len(words) or words[i].joint == ",":
            break
        text = words[i].text
        if text in _REGION_OF or text in _ROLE_OF or text in _MARKS:
            in_name = text in _MARKS and i + 1 < len(words) and words[i + 1].text in _REGION_OF
            return (words[i + 1].text if in_name else text), foreign == 0
        if text in _STOPS:
            break
        i = words.telling[i + 1]
    return None, False


def _role_before(words: _Text, first: int) -> str | None:
    """``highlights`` for "highlights of X", "streaked with X", "a hint of X"."""
    if first >= 2 and words[first - 1].text in ("of", "in", "with") and words[first - 2].text in _ROLE_BEFORE:
        return HIGHLIGHTS
    return None


def _apply_modifiers(words: _Text, i: int, rgb: tuple, free: int) -> tuple[int, tuple[int, int, int]]:
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


def _drop_sources(words: _Text, found: list[_Found]) -> list[_Found]:
    """Without the old colour of "change black hair to brown"."""
    kept = []
    for f, after in zip_longest(found, found[1:]):
        _, end, clause = words.clause(f.first)
        between = {w.text for w in words[f.last : after.first]} if after and after.first < end else set()
        if not (clause & _CHANGES and not clause & _GRADIENTS and between & {"to", "into"}):
            kept.append(f)
    return kept


def _used_as_thing(words: _Text, f: _Found) -> bool:
    before = words[f.first - 1].text if f.first and words[f.first].joint != "," else ""
    after = words[f.last].text if f.last < len(words) and words[f.last].joint != "," else ""
    return not f.proper and (before in _AS_THING_BEFORE or after in _AS_THING_AFTER)


def _assign_roles(words: _Text, found: list[_Found]) -> list[Colour]:
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
        elif not role and previous:
            role = _joined(words, previous, f) or OTHER
            previous = f if role != OTHER else previous
        colours.append(replace(f.colour, role=role))
    colours.sort(key=lambda c: c.role != MAIN)
    return colours


def _joined_before(words: _Text, free: list[_Found], main: _Found) -> _Found | None:
    """The first of a joined list that ends in ``main``: "from brown to blonde hair"."""
    for f in reversed(free[: next(i for i, f in enumerate(free) if f is main)]):
        if not _joined(words, f, main):
            break
        main = f
    return main


def _joined(words: _Text, a: _Found, b: _Found) -> str | None:
    """Role of ``b`` if it is named in one breath with ``a``, as in "blue and green"."""
    start, _, clause = words.clause(b.first)
    if b.first < a.last or start >= a.last:
        return None
    foreign, towards = (counts[b.first] - counts[a.last] for counts in words.counted)
    if a.colour.rgb == b.colour.rgb or foreign:
        return None
    return ENDS if towards or clause & _GRADIENTS else SECOND


def _shade(words: _Text, attribute: str | None, found: list[_Found]) -> list[Colour]:
    """The first "dark" or "light" that is meant for the region and modifies no colour, as the main colour."""
    taken = {i for f in found for i in range(f.first, f.last)}
    for i, word in enumerate(words):
        if word.text in SHADES and i not in taken and not words.negated[i] and _is_shade(words, i, attribute):
            rgb = _rgb([word]) or ((64, 64, 64) if SHADES[word.text] < 0 else (208, 208, 208))
            return [Colour(word.text, rgb, MAIN, word.start, SHADES[word.text])]
    return []


def _is_shade(words: _Text, i: int, attribute: str | None) -> bool:
    """Whether the word speaks of the region and not, as "soft light" or "dark background", of the scene."""
    noun, _ = _noun_after(words, i + 1)
    region, role = _REGION_OF.get(noun or ""), _ROLE_OF.get(noun or "")
    if region or role:
        return role is None and attribute in (None, region)
    start, end, _ = words.clause(i)
    if end - start == 1 or noun in _MARKS:
        return True
    regions = REGION_NOUNS if attribute is None else (attribute,)
    described = any(words.nouns.get((start, region), i) < i for region in regions)
    if i + 1 == end:
        return described or words[i].text.endswith(("er", "est", "ened"))
    predicate = words[i + 1].text in _ADJECTIVES and SHADES[words[i].text] < 0
    return (described and words[i + 1].text in _ADJECTIVES) or predicate

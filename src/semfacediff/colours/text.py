"""The words of a prompt, as the grammar of colours reads them."""

import re
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from semfacediff.colours.names import split, tables

HIGHLIGHTS, ENDS, ROOTS = "highlights", "ends", "roots"
"""Roles of a colour that a noun gives it."""

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

REGION_OF = {word: region for region, words in REGION_NOUNS.items() for word in words.split()}
ROLE_OF = {
    **dict.fromkeys(split("highlight highlights lowlights streaks streak strands balayage"), HIGHLIGHTS),
    **dict.fromkeys(split("tip tips end ends"), ENDS),
    **dict.fromkeys(split("root roots"), ROOTS),
}
ROLE_BEFORE = split("highlights streaks highlighted streaked hint hints touch tint lowlights")
MARKS = split("coloured colored colour color tone toned tones tint tinted shade shades hue hued")
_NEGATIONS = split("not no without never non isn't aren't avoid nor")
_NEGATED_ON = split("or nor any more a an the so too very hint hints of touch trace dyed dye colour color")
STOPS = split("with in on of to into from at for by over under near behind beside but is are has")
ADJECTIVES = split(
    "and long short curly wavy straight shiny glossy matte silky soft thick thin bold natural full satin smooth"
)
GRADIENTS = split("ombre ombré gradient fade fading faded fades dip sombre balayage")
_BREATH = split("and to into with then plus fading hair")
"""Between two colours that are named in one breath."""
_TOWARDS = split("to into fading")
CHANGES = split("change changed turn turned recolor recolour convert make switch")
AS_THING_BEFORE = split("a an the his her its their like as")
AS_THING_AFTER = split("up out glass petal petals water background")
_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*|&")
_BREAK = re.compile(r"[,.;:!?|\n]")


@dataclass(frozen=True)
class Word:
    text: str
    start: int
    joint: str  # what stands before it: " ", "/" or "," (a clause break)


class Text(list):
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
        return [rgb_of([word]) is not None for word in self]

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
            noun = any(word.text in known for known in (REGION_OF, ROLE_OF, MARKS, STOPS))
            looks = word.text in ADJECTIVES or word.text in MODIFIERS or self.coloured[i]
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
            if word.text in REGION_OF:
                found.setdefault((self.starts[i], REGION_OF[word.text]), i)
        return found


def words_of(prompt: str) -> Text:
    """The words of ``prompt``, lower case; "&" is "and", "gray" is "grey"."""
    text = prompt.lower().replace("’", "'")
    words, end = Text(), 0
    for match in _WORD.finditer(text):
        gap = text[end : match.start()]
        joint = "," if _BREAK.search(gap) else "/" if "/" in gap else " "
        word = match.group().replace("gray", "grey")
        words.append(Word("and" if word == "&" else word, match.start(), joint))
        end = match.end()
    return words


def rgb_of(words: list[Word]) -> tuple[int, int, int] | None:
    """The colour that exactly these words name."""
    if any(w.joint == "," for w in words[1:]):
        return None
    exact, joined = tables()
    texts = [w.text for w in words]
    spelled = texts[0] + "".join(w.joint + w.text for w in words[1:])
    value = exact.get(spelled) or exact.get(" ".join(texts)) or joined.get("".join(texts).replace("'", ""))
    if not value:
        return None
    red, green, blue = bytes.fromhex(value[1:])
    return red, green, blue

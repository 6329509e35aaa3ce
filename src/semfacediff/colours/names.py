"""Names of colours: matplotlib's CSS4 and XKCD tables, and the words of hair and make-up that neither has."""

import re
from functools import cache


def split(text: str) -> frozenset[str]:
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

HAIR_WORDS = split("blonde blond blondes blondish platinum brunette ginger redhead raven") | {
    "red haired",
    "fair hair",
}
"""Words of the lexicon that speak of hair although no noun says so."""

OBJECT_NAMES = split(
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


@cache
def tables() -> tuple[dict[str, str], dict[str, str]]:
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
def longest() -> int:
    return max(1 + name.count(" ") + name.count("/") for name in tables()[0])


@cache
def _joined_lexicon() -> frozenset[str]:
    return frozenset(name.replace(" ", "") for name in LEXICON)


def in_lexicon(name: str) -> bool:
    """Whether :data:`LEXICON` says what colour ``name`` is, however it is spelled."""
    return name.replace(" ", "") in _joined_lexicon()

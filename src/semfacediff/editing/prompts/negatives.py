"""Negative prompts that oppose what a generator would paint instead of what was asked for."""

from collections.abc import Sequence

import numpy as np

from semfacediff.colours.grammar import find_colours, refused_colours
from semfacediff.colours.oklab import rgb_to_oklab
from semfacediff.editing.prompts.lexicon import Lexicon, Region, asked, phrase

MODES = ("none", "generic", "attribute_aware")
ALIKE = 0.14
"""OKLab distance below which a colour of the lexicon is no opposite of one that the prompt asks for."""


def negative_terms(mode: str, prompt: str, attribute: str, words: Lexicon, generic: Sequence[str]) -> list[str]:
    """Terms of the negative prompt, the most useful first; their order is that in which they may be left out.

    ``generic`` gives the generic words. ``attribute_aware`` adds, in this order: what the prompt itself refuses ("no
    curls"), other colours than those it asks for, the other phrases of every aspect it speaks of, and how the region
    goes wrong whatever is asked. A term whose words the prompt asks for is never refused, nor is a fault whose first
    word it asks for ("bald patches" of a bald head).

    Args:
        mode: one of :data:`MODES`.
        generic: words against bad photos of any kind.
    """
    if mode == "none":
        return []
    terms, wanted = list(generic), _wanted_words(prompt)
    if mode == "attribute_aware":
        region = words[attribute]
        said = asked(prompt, region)
        terms += [name for aspect in said.values() for name in aspect.refused]
        terms += [f"{name} {region.noun}" for name in refused_colours(prompt, attribute)]
        terms += _other_colours(prompt, attribute, region)
        for aspect, found in said.items():
            if found.wanted:
                terms += [name for name in region.aspects[aspect] if name not in found.wanted]
        terms += [fault for fault in region.always if phrase(fault).words[0] not in wanted]
    return [term for term in dict.fromkeys(terms) if not set(phrase(term).words) <= wanted]


def _wanted_words(prompt: str) -> set[str]:
    said = phrase(prompt)
    return {word for i, word in enumerate(said.words) if not said.negated(i)}


def _other_colours(prompt: str, attribute: str, region: Region) -> list[str]:
    """Colours of the lexicon unlike every colour that the prompt mentions, or the opposite of its shade."""
    found = find_colours(prompt, attribute)
    shade = next((c.shift for c in found if c.shift), 0.0)
    if shade:
        return [f"{'light' if shade < 0 else 'dark'} {region.noun}"]
    mentioned = [_lab(bytes(c.rgb)) for c in found]
    unlike = [
        name
        for name, value in region.colours.items()
        if all(np.linalg.norm(_lab(bytes.fromhex(value)) - colour) > ALIKE for colour in mentioned)
    ]
    return unlike if mentioned else []


def _lab(rgb: bytes) -> np.ndarray:
    return rgb_to_oklab(np.frombuffer(rgb, np.uint8) / 255)

"""Controls: edits whose damage is known, and the order in which a metric must put them.

A metric claims to see something. A control does exactly that to a photo, so that the claim can be checked:
``editor=control editor.kind=shift_3px`` makes the edits, ``Metric.orders`` holds the claims.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence

PIXELS = (
    "nothing",
    "shift_1px",
    "shift_3px",
    "zoom_1pct",
    "jpeg_50",
    "resampled",
    "photo_noise",
    "colour_cast",
    "region_blur",
    "region_noise",
    "asked_colour",
    "wrong_colour",
    "other_face",
    "half_outside",
)
"""Kinds of ``editor=control`` that need no weights; what each does: :mod:`semfacediff.editing.control`."""
TRUE_MASK = "true_mask"
SYSTEM = ("vae_round_trip", "empty_prompt", "other_prompt", TRUE_MASK)
"""Kinds of ``editor=control`` that are of a diffusion editor: its autoencoder without diffusion, the empty prompt,
another attribute's prompt, the mask of the labels instead of the parser's."""

KEPT_OUTSIDE = "nothing = region_blur = region_noise = asked_colour = wrong_colour = other_face"
"""The order of a score that sees nothing but pixels outside the region."""

_RELATION = re.compile(r"\s*(<|=)\s*")


def relations(order: str) -> Iterator[tuple[str, str, str]]:
    """(control, ``<`` or ``=``, next control) of a chain such as ``nothing = region_blur < photo_noise``.

    Raises:
        ValueError: it is no chain of at least two known controls.
    """
    names = _RELATION.split(order)
    if len(names) < 3 or (strange := [n for n in names[::2] if n not in PIXELS + SYSTEM]):
        named = "at least two controls" if len(names) < 3 else f"known controls, got '{strange[0]}'"
        raise ValueError(f"order '{order}': expected {named} between '<' or '='; {', '.join(PIXELS + SYSTEM)}")
    yield from zip(names[:-2:2], names[1::2], names[2::2], strict=True)


def contradicted(orders: Sequence[str], means: Mapping[str, float]) -> tuple[list[str], int]:
    """(the relations of ``orders`` that ``means`` contradict, with their numbers; how many were checked).

    Equal means equal up to the rounding of a mean, 1e-9 of the larger number.

    Args:
        means: control -> mean of a column, infinite allowed; relations with a control that is absent or NaN are not
            checked.
    """
    wrong, checked = [], 0
    for order in orders:
        for first, sign, second in relations(order):
            a, b = (means.get(name, math.nan) for name in (first, second))
            if math.isnan(a) or math.isnan(b):
                continue
            checked += 1
            equal = math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12)
            if equal != (sign == "=") or (sign == "<" and a > b):
                wrong.append(f"{first} {sign} {second} ({a:.6g} and {b:.6g})")
    return wrong, checked

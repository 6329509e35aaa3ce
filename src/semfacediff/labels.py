"""Label spaces of the field, attribute groups and the palette. The only place that knows a class index.

Several orders of the same nineteen CelebAMask-HQ classes circulate; a map is only meaningful together with the name of
its space. Conversions go by class *name*, never by index.

Sources: CelebAMask-HQ (Lee et al., CVPR 2020) for ``celebamask``; SegFace (AAAI 2025) for ``segface``, ``lapa`` and
``helen``; the widely used BiSeNet face parser's order for ``zllrunning``.
"""

import difflib
import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np

from semfacediff.errors import UserError


@dataclass(frozen=True)
class LabelSpace:
    """A named, ordered set of classes.

    Attributes:
        name: key in :data:`SPACES`; stored in every checkpoint and run record.
        classes: class names, position = label value; position 0 is the background.
        paint_order: classes in the order in which part masks are painted; a later one overwrites an earlier one.
            Empty where the data set ships label maps and no parts.
    """

    name: str
    classes: tuple[str, ...]
    paint_order: tuple[str, ...] = ()

    @property
    def n(self) -> int:
        """Number of classes, background included."""
        return len(self.classes)

    def index(self, class_name: str) -> int:
        """Label value of ``class_name``; a :class:`UserError` lists the classes if there is none."""
        if class_name not in self.classes:
            raise UserError(
                f"label space '{self.name}' has no class '{class_name}'; its classes are {', '.join(self.classes)}"
            )
        return self.classes.index(class_name)

    @property
    def mirrored(self) -> np.ndarray:
        """int64 ``[n]``: value that each label takes when the photo is flipped left to right (an involution)."""
        swap = {a: b for left, right in LEFT_RIGHT_PAIRS for a, b in ((left, right), (right, left))}
        return np.array([self.classes.index(swap.get(c, c)) for c in self.classes], dtype=np.int64)


LEFT_RIGHT_PAIRS = (("l_eye", "r_eye"), ("l_brow", "r_brow"), ("l_ear", "r_ear"))

_CELEBAMASK = (
    "background skin nose eye_g l_eye r_eye l_brow r_brow l_ear r_ear "
    "mouth u_lip l_lip hair hat ear_r neck_l neck cloth"
).split()
_SEGFACE = (
    "background neck skin cloth l_ear r_ear l_brow r_brow l_eye r_eye "
    "nose mouth l_lip u_lip hair eye_g hat ear_r neck_l"
).split()
_ZLLRUNNING = (
    "background skin l_brow r_brow l_eye r_eye eye_g l_ear r_ear ear_r "
    "nose mouth u_lip l_lip neck neck_l cloth hair hat"
).split()
_ELEVEN = "background skin l_brow r_brow l_eye r_eye nose u_lip mouth l_lip hair".split()

CELEBAMASK = LabelSpace("celebamask", tuple(_CELEBAMASK), paint_order=tuple(_CELEBAMASK[1:]))

SpaceName = Literal["celebamask", "segface", "zllrunning", "lapa", "helen"]
"""Keys of :data:`SPACES`, as a configuration may name them."""

SPACES = MappingProxyType(
    {
        space.name: space
        for space in (
            CELEBAMASK,
            LabelSpace("segface", tuple(_SEGFACE), paint_order=tuple(_SEGFACE[1:])),
            LabelSpace("zllrunning", tuple(_ZLLRUNNING), paint_order=tuple(_ZLLRUNNING[1:])),
            LabelSpace("lapa", tuple(_ELEVEN)),
            LabelSpace("helen", tuple(_ELEVEN)),
        )
    }
)

ATTRIBUTES = MappingProxyType(
    {
        "hair": ("hair",),
        "lips": ("u_lip", "l_lip"),
        "skin": ("skin",),
        "eyes": ("l_eye", "r_eye"),
        "eyebrows": ("l_brow", "r_brow"),
        "glasses": ("eye_g",),
        "earrings": ("ear_r",),
        "necklace": ("neck_l",),
        "hat": ("hat",),
        "clothing": ("cloth",),
        "nose": ("nose",),
    }
)
"""The eleven editable attributes of the thesis: union of these classes."""

_WORDS = {
    "eye_g": "glasses",
    "l_eye": "left eye",
    "r_eye": "right eye",
    "l_brow": "left eyebrow",
    "r_brow": "right eyebrow",
    "l_ear": "left ear",
    "r_ear": "right ear",
    "u_lip": "upper lip",
    "l_lip": "lower lip",
    "ear_r": "earrings",
    "neck_l": "necklace",
    "cloth": "upper body clothing",
}

LONG_TAIL = ("eye_g", "hat", "ear_r", "neck_l")
"""Classes seen in a few per cent of the photos; their mean IoU is reported on its own."""

# matplotlib's "tab20", one fixed colour a class of the canonical order, so that figures of different runs agree.
_TAB20 = (
    "1f77b4 aec7e8 ff7f0e ffbb78 2ca02c 98df8a d62728 ff9896 9467bd c5b0d5 "
    "8c564b c49c94 e377c2 f7b6d2 7f7f7f c7c7c7 bcbd22 dbdb8d 17becf 9edae5"
).split()
_COLOUR_OF = {name: tuple(bytes.fromhex(_TAB20[i])) for i, name in enumerate(CELEBAMASK.classes)}


def in_words(class_name: str) -> str:
    """A class as people call it, e.g. ``lower lip`` of ``l_lip``."""
    return _WORDS.get(class_name, class_name)


def space(name: str) -> LabelSpace:
    """The label space called ``name``; a :class:`UserError` lists the known ones."""
    if name not in SPACES:
        raise UserError(f"unknown label space '{name}'; choose one of {', '.join(SPACES)}")
    return SPACES[name]


def _sided(letter: str, word: str, *parts: str) -> str:
    return " ".join(f"{letter}{part} {word}{part} {part}{word}" for part in parts)


_SPELLINGS = {
    "background": "bg",
    "skin": "face faceskin",
    "eye_g": "glasses eyeglass eyeglasses spectacles sunglasses",
    "l_eye": _sided("l", "left", "eye"),
    "r_eye": _sided("r", "right", "eye"),
    "l_brow": _sided("l", "left", "brow", "eyebrow"),
    "r_brow": _sided("r", "right", "brow", "eyebrow"),
    "l_ear": _sided("l", "left", "ear"),
    "r_ear": _sided("r", "right", "ear"),
    "mouth": "innermouth insidemouth imouth",
    "u_lip": "upperlip",
    "l_lip": "lowerlip",
    "ear_r": "earring earrings",
    "neck_l": "necklace",
    "cloth": "clothes clothing",
}
"""Class -> other names of it, as :func:`_squeezed` leaves them."""


def _squeezed(name: str) -> str:
    """``name`` in lower case, of letters and digits alone, without the suffix of a part's file."""
    return re.sub(r"[\W_]+", "", name.casefold().strip().removesuffix(".png"))


_CLASS_OF = {
    _squeezed(spelling): name for name in _CELEBAMASK for spelling in (name, *_SPELLINGS.get(name, "").split())
}


def class_named(name: str) -> str | None:
    """The class that a published model calls ``name`` (``left eye``, ``Upper_Lip``, ``ear_r.png``); ``None``: none."""
    return _CLASS_OF.get(_squeezed(name))


def attribute_classes(attribute: str) -> tuple[str, ...]:
    """Class names whose union is the region of ``attribute``; a :class:`UserError` lists the attributes."""
    if attribute not in ATTRIBUTES:
        close = difflib.get_close_matches(attribute, ATTRIBUTES, n=1)
        hint = f"did you mean '{close[0]}'? " if close else ""
        raise UserError(f"unknown attribute '{attribute}'; {hint}choose one of {', '.join(ATTRIBUTES)}")
    return ATTRIBUTES[attribute]


def attribute_indices(attribute: str, space: LabelSpace) -> tuple[int, ...]:
    """Label values of ``attribute`` in ``space``; a :class:`UserError` if the space lacks one of its classes."""
    return tuple(space.index(c) for c in attribute_classes(attribute))


def conversion(source: LabelSpace, target: LabelSpace) -> np.ndarray:
    """int64 ``[source.n]``: look-up table from labels of ``source`` to labels of ``target``, by class name.

    Raises:
        UserError: a class of ``source`` has no namesake in ``target``; converting would silently lose it.
    """
    missing = [c for c in source.classes if c not in target.classes]
    if missing:
        raise UserError(
            f"labels of space '{source.name}' cannot be converted to '{target.name}', which lacks "
            f"{', '.join(missing)}; use data and a parser of the same space"
        )
    return np.array([target.classes.index(c) for c in source.classes], dtype=np.int64)


def palette(space: LabelSpace) -> np.ndarray:
    """uint8 ``[n, 3]``: RGB colour of every class; the same class has the same colour in every space."""
    return np.array([_COLOUR_OF[c] for c in space.classes], dtype=np.uint8)

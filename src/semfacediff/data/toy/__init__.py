"""Drawn faces with exact labels: a data set that needs no download, for tests, the demo and public pictures.

A face is sampled once (:class:`traits.Face`) in coordinates that know nothing of pixels, then painted back to front on
a :class:`canvas.Canvas`, which writes the photo and the label map from one and the same coverage mask. Soft shading
(:mod:`fields`) is computed on a small grid and enlarged, so that it costs little and is the same drawing at every size.

Two frames: the *frame* of the picture, 0..1 from the top left corner, and the *head*, in which ``u`` points to the
viewer's right, ``v`` down, the eyes lie near v = -0.12 and the chin near v = 1.

Labels follow CelebAMask-HQ: ``l_*`` is the subject's left, on the viewer's right of the picture; ``eye_g`` covers the
lenses, but eyes and brows seen through clear glass keep their own labels; skin below the chin is ``neck``; beards are
``skin``; an earring is cut out of the ear and a necklace out of the neck; teeth and tongue are ``mouth``.
"""

import hashlib
from collections.abc import Iterator

import numpy as np

from semfacediff import config
from semfacediff.data.selection import Data, limit_of, not_empty, split_of
from semfacediff.data.subset import Subset
from semfacediff.data.toy.canvas import Canvas
from semfacediff.data.toy.features import (
    draw_brows,
    draw_ears,
    draw_eyes,
    draw_head,
    draw_mouth,
    draw_neck,
    draw_nose,
    skin_texture,
)
from semfacediff.data.toy.hair import draw_hair_back, draw_hair_front, hair_texture
from semfacediff.data.toy.scene import develop, draw_background
from semfacediff.data.toy.traits import drawn_attributes, sample_face
from semfacediff.data.toy.wear import draw_cloth, draw_earrings, draw_glasses, draw_hat
from semfacediff.errors import UserError
from semfacediff.labels import CELEBAMASK
from semfacediff.seeding import derive_seed
from semfacediff.types import FaceSample

__all__ = ["ToyFaces", "draw_face"]

MIN_SIZE_PX = 16
TOY_VERSION = 1
"""Raised whenever the drawings change, so that records of old drawings are told apart."""


class ToyFaces:
    """A map-style data set of drawn faces; face ``i`` depends on ``seed`` and ``first + i`` alone.

    Args:
        n: number of faces.
        size: side of photo and label map in pixels, at least 16.
        seed: another seed draws other people.
        first: index of the first face, so that disjoint ranges make disjoint splits.
    """

    label_space = CELEBAMASK

    def __init__(self, n: int, size: int = 256, seed: int = 0, first: int = 0):
        if n < 0 or first < 0:
            raise UserError(f"toy faces: expected n >= 0 and first >= 0, got n={n}, first={first}")
        _check_size(size)
        self.size, self.seed, self.first = size, seed, first
        self.ids = [f"{index:05d}" for index in range(first, first + n)]

    @classmethod
    def opened(cls, settings: config.ToyData, split: str, labels_needed: bool, limit: int | None) -> Data:
        """What the configuration describes; they always have labels."""
        every = cls(settings.count, settings.size, settings.seed)
        rule = split_of(settings, every.ids)
        chosen = [i for i, id_ in enumerate(every.ids) if rule.has(split, id_, i)]
        faces = Subset(every, chosen[: limit_of(settings.n, limit)])
        not_empty(faces, settings, split)
        facts = f"toy:{TOY_VERSION}:{settings.size}:{settings.seed}:{','.join(faces.ids)}"
        return Data(faces, hashlib.sha256(facts.encode()).hexdigest(), {}, len(faces))

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, i: int) -> FaceSample:
        """Face ``i``: photo uint8 ``[size, size, 3]`` RGB, labels uint8 ``[size, size]`` in 0..18, what was drawn."""
        index = range(self.first, self.first + len(self))[i]
        return FaceSample(f"{index:05d}", *draw_face(self.seed, index, self.size))

    def __iter__(self) -> Iterator[FaceSample]:
        return (self[i] for i in range(len(self)))


def draw_face(seed: int, index: int, size: int) -> tuple[np.ndarray, np.ndarray, dict[str, str | float | bool]]:
    """Paint face ``index`` of ``seed``; the same drawing at every ``size`` (px, at least 16), only the grain differs.

    Returns:
        photo: uint8 ``[size, size, 3]`` RGB.
        labels: uint8 ``[size, size]`` in 0..18, label space ``celebamask``.
        attributes: plain values. ``skin_tone`` is the individual typology angle (degrees, light is high), ``yaw`` and
            ``tilt`` are in degrees, positive towards the viewer's right.
    """
    _check_size(size)
    rng = np.random.default_rng(derive_seed("toy face", seed, index))
    face = sample_face(rng, seed, index)
    canvas = Canvas(size)
    skin, hair = skin_texture(face, size), hair_texture(face, size, rng)
    draw_background(canvas, face, rng)
    draw_hair_back(canvas, face, hair)
    draw_neck(canvas, face)
    draw_cloth(canvas, face, rng)
    draw_ears(canvas, face, skin)
    draw_head(canvas, face, skin, rng)
    draw_nose(canvas, face)
    draw_mouth(canvas, face)
    draw_eyes(canvas, face)
    draw_brows(canvas, face)
    draw_glasses(canvas, face)
    draw_earrings(canvas, face)
    draw_hair_front(canvas, face, hair)
    draw_hat(canvas, face)
    return develop(canvas.photo, face, rng), canvas.labels, drawn_attributes(face)


def _check_size(size: int) -> None:
    if size < MIN_SIZE_PX:
        raise UserError(f"toy faces: expected a size of at least {MIN_SIZE_PX} px, got {size}; give a larger size")


DATA = ToyFaces

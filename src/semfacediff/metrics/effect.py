"""Was the edit done at all, how much of the region did it change, and did it reach the colour of the prompt?"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np

from semfacediff.colours.grammar import named_colour
from semfacediff.metrics.base import NO_RESIZE, OURS, EditPair, Metric, declared, held_to
from semfacediff.metrics.cache import LRUCache, content
from semfacediff.metrics.ciede2000 import ciede2000
from semfacediff.metrics.cielab import cielab
from semfacediff.metrics.outside import box

NOTICEABLE_DE = 2.3
"""CIEDE2000 above which a pixel counts as changed: about one just noticeable difference."""
UNCHANGED_PCT = 1.0
"""Share of changed pixels, in %, below which an edit has the status ``unchanged``."""
ALREADY_THERE = 10.0
"""CIELAB distance from the colour asked below which the photo has it already."""
SIGMA_PX = 1.5
"""Of the Gaussian derivative, in a photo whose long side has :data:`_REFERENCE_PX`."""
_REFERENCE_PX = 1024
_LEAST_SIGMA = 0.7
"""A narrower Gaussian has no derivative on the grid of pixels."""
_NO_GRADIENT = 1e-3
"""Levels per pixel. A smaller gradient is rounding of floats: one level in one pixel makes more."""
_KEPT = 4
"""Regions of photos that are kept: an edit is scored after and before its composite."""


@dataclass(frozen=True)
class _Region:
    """What is measured inside the mask of one photo, of its N pixels.

    Attributes:
        lab: float32 ``[N, 3]``. x, y: gradient of the luma, float32 ``[N]``, levels per pixel.
    """

    lab: np.ndarray
    x: np.ndarray
    y: np.ndarray


class Effect(Metric):
    """Four columns, inside the semantic mask: the attribute's region in the parse of the photo.

    - ``change_de``: mean CIEDE2000 between photo and edit.
    - ``changed_pct``: share of pixels above :data:`NOTICEABLE_DE`, in %.
    - ``toward_prompt``: 1 - distance(edit, colour) / distance(photo, colour), Euclidean in CIELAB, of the region's mean
      colour and the main colour that the prompt names (:func:`semfacediff.colours.grammar.named_colour`). 1: reached,
      0: no nearer, negative: farther away. Missing where the prompt names no colour of CSS4 or XKCD, or where the photo
      is within :data:`ALREADY_THERE` of it.
    - ``structure_change``: 1 - sum(w |cos|) / sum(w), |cos| between the luma gradients of photo and edit, w the
      photo's gradient magnitude. 0 where a recolouring keeps every edge, 0.36 for directions that have nothing to do
      with the photo's, 1 where nothing is left of them. Missing where the region is flat: a mean gradient that
      rounding to 8 bits alone could make.

    All are missing where the mask is empty. The same under both protocols.
    """

    columns = ("change_de", "changed_pct", "toward_prompt", "structure_change")
    higher_is_better: ClassVar = {
        "change_de": None,
        "changed_pct": None,
        "toward_prompt": True,
        "structure_change": None,
    }
    orders: ClassVar = {
        "change_de": ("nothing < region_noise", "nothing < asked_colour", "nothing < wrong_colour"),
        "changed_pct": ("nothing < region_blur", "nothing < asked_colour", "nothing < other_face"),
        "toward_prompt": ("wrong_colour < nothing < asked_colour",),
        "structure_change": ("nothing < asked_colour < region_noise", "nothing < other_face"),
    }

    lab, difference = staticmethod(cielab), staticmethod(ciede2000)

    def __init__(self):
        self._photos: LRUCache[_Region] = LRUCache(_KEPT)

    def score(self, pair: EditPair) -> dict[str, float | None]:
        if not pair.before.any():
            return dict.fromkeys(self.columns)
        sigma = max(_LEAST_SIGMA, SIGMA_PX * max(pair.before.shape) / _REFERENCE_PX)
        around = box(pair.before, _radius(sigma))
        mask = pair.before[around]
        pixels = pair.photo[around], pair.edit[around]
        key = content(pixels[0]), content(mask), sigma
        photo = self._photos.get(key, lambda: _region(pixels[0], mask, sigma, self.lab))
        edit = photo if np.array_equal(*pixels) else _region(pixels[1], mask, sigma, self.lab)
        differences = self.difference(photo.lab, edit.lab)
        return {
            "change_de": float(differences.mean(dtype=np.float64)),
            "changed_pct": 100 * float((differences > NOTICEABLE_DE).mean()),
            "toward_prompt": toward(named_colour(pair.prompt, pair.attribute), photo.lab, edit.lab),
            "structure_change": _structure_change(photo, edit, sigma),
        }

    def identity(self) -> dict[str, object]:
        return declared(
            ", ".join(self.columns),
            **OURS,
            held_to=held_to("scikit-image", "2e-3 CIEDE2000"),
            bounds={
                "change_de": [0, None],
                "changed_pct": [0, 100],
                "toward_prompt": [None, 1],
                "structure_change": [0, 1],
            },
            unit={"change_de": "CIEDE2000", "changed_pct": "%", "toward_prompt": "1", "structure_change": "1"},
            higher_is_better=dict(self.higher_is_better),
            resize=NO_RESIZE,
            input="8-bit RGB to CIELAB (D65), luma (ITU-R 601-2), semantic mask",
            changed_above=f"CIEDE2000 {NOTICEABLE_DE}",
            colours=f"CSS4 and XKCD, missing within {ALREADY_THERE:g} of it",
            gradient=f"Gaussian derivative, sigma {SIGMA_PX} px at {_REFERENCE_PX}",
        )


def toward(rgb: tuple[int, int, int] | None, photo: np.ndarray, edit: np.ndarray) -> float | None:
    """``toward_prompt`` of the CIELAB pixels ``[N, 3]`` of photo and edit, and the sRGB colour that was asked."""
    if rgb is None:
        return None
    before, after = (_distance(lab, rgb) for lab in (photo, edit))
    return None if before < ALREADY_THERE else 1 - after / before


def source_distance(photo: np.ndarray, mask: np.ndarray, prompt: str, attribute: str) -> float | None:
    """Euclidean distance in CIELAB from a region's mean colour to the colour that the prompt names.

    Args:
        photo: uint8 ``[H, W, 3]``. mask: bool ``[H, W]``.

    Returns:
        ``None`` where the prompt names no colour of CSS4 or XKCD, or the region is empty.
    """
    rgb = named_colour(prompt, attribute)
    if rgb is None or not mask.any():
        return None
    around = box(mask, 0)
    return _distance(cielab(photo[around])[mask[around]], rgb)


def _distance(lab: np.ndarray, rgb: tuple[int, int, int]) -> float:
    """From the mean of CIELAB pixels ``[N, 3]`` to an sRGB colour."""
    return float(np.linalg.norm(lab.mean(0, dtype=np.float64) - cielab(np.array([[rgb]], np.uint8))[0, 0]))


def _region(
    photo: np.ndarray, mask: np.ndarray, sigma: float, lab: Callable[[np.ndarray], np.ndarray] = cielab
) -> _Region:
    luma = cv2.transform(photo.astype(np.float32), np.array([[0.299, 0.587, 0.114]], np.float32))
    smooth, slope = _kernels(sigma)
    x, y = (
        cv2.sepFilter2D(luma, cv2.CV_32F, across, down, borderType=cv2.BORDER_REFLECT)[mask]
        for across, down in ((slope, smooth), (smooth, slope))
    )
    return _Region(lab(photo)[mask], x, y)


def _radius(sigma: float) -> int:
    return int(4 * sigma + 0.5)


def _kernels(sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """A Gaussian whose sum is 1, cut at four sigmas, and its derivative, as OpenCV correlates them."""
    x = np.arange(-_radius(sigma), _radius(sigma) + 1)
    smooth = np.exp(-0.5 * (x / sigma) ** 2)
    smooth /= smooth.sum()
    return smooth.astype(np.float32), (smooth * x / sigma**2).astype(np.float32)


def _structure_change(photo: _Region, edit: _Region, sigma: float) -> float | None:
    steps = [np.hypot(region.x, region.y) for region in (photo, edit)]
    weight, there = (np.where(step > _NO_GRADIENT, step, 0) for step in steps)
    if weight.mean(dtype=np.float64) < 0.1 / sigma**2:  # rounding of a smooth surface alone makes 0.07 / sigma^2
        return None
    dot, cross = photo.x * edit.x + photo.y * edit.y, photo.x * edit.y - photo.y * edit.x
    product = weight * there
    # 1 - |cos| = sin^2 / (1 + |cos|), which is 0 to the bit where the two gradients are the same
    turned = np.divide(cross**2, product * (product + np.abs(dot)), out=np.ones_like(product), where=product > 0)
    return float(np.average(turned, weights=weight.astype(np.float64)))


METRIC = Effect

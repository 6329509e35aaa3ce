"""CIEDE2000: how different two colours look (CIE 142-2001; formulas as in Sharma, Wu and Dalal, 2005).

scikit-image's ``deltaE_ciede2000`` in a fraction of the time: torch's functions of floats are vectorised, numpy's are
not, and a photo's region has some 300,000 pixels.
"""

import math

import numpy as np
import torch
from torch import Tensor

_ROWS = 2**14
"""Colours at a time: what is computed of them stays in the processor's cache."""
_DEGREE = math.pi / 180


def ciede2000(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """float32 ``[N]``: differences of two float32 ``[N, 3]`` lists of CIELAB colours; 0 for equal ones."""
    out = torch.empty(len(first))
    pairs = (torch.from_numpy(np.ascontiguousarray(lab)).split(_ROWS) for lab in (first, second))
    for place, a, b in zip(out.split(_ROWS), *pairs, strict=True):
        place.copy_(_difference(a.T, b.T))
    return out.numpy()


def _difference(first: Tensor, second: Tensor) -> Tensor:
    """float32 ``[N]`` from two ``[3, N]``; primes and bars of the formulas are spelled out."""
    chromas = [torch.hypot(lab[1], lab[2]) for lab in (first, second)]
    stretch = 1.5 - 0.5 * _of_chroma((chromas[0] + chromas[1]) / 2)
    a1, a2 = first[1] * stretch, second[1] * stretch
    c1, c2 = torch.hypot(a1, first[2]), torch.hypot(a2, second[2])
    h1, h2 = (torch.atan2(b, a) % (2 * math.pi) for b, a in ((first[2], a1), (second[2], a2)))
    turn = h2 - h1
    around = turn.abs() > math.pi
    middle = (h1 + h2) / 2
    middle = torch.where(around, torch.where(middle < math.pi, middle + math.pi, middle - math.pi), middle)
    middle = torch.where(c1 * c2 == 0, h1 + h2, middle)  # a grey has no hue, so that the other one's counts
    turn = torch.where(around, turn - 2 * math.pi * torch.sign(turn), turn)
    lightness, chroma = (first[0] + second[0]) / 2 - 50, (c1 + c2) / 2
    hues = 1 - 0.17 * torch.cos(middle - 30 * _DEGREE) + 0.24 * torch.cos(2 * middle)
    hues += 0.32 * torch.cos(3 * middle + 6 * _DEGREE) - 0.20 * torch.cos(4 * middle - 63 * _DEGREE)
    blue = torch.exp(-(((middle / _DEGREE - 275) / 25) ** 2))
    light = (second[0] - first[0]) / (1 + 0.015 * lightness**2 / torch.sqrt(20 + lightness**2))
    colourful = (c2 - c1) / (1 + 0.045 * chroma)
    hue = 2 * torch.sqrt(c1 * c2) * torch.sin(turn / 2) / (1 + 0.015 * chroma * hues)
    rotation = -2 * _of_chroma(chroma) * torch.sin(60 * _DEGREE * blue)
    return torch.sqrt((light**2 + colourful**2 + hue**2 + rotation * colourful * hue).clamp(min=0))


def _of_chroma(chroma: Tensor) -> Tensor:
    """sqrt(C^7 / (C^7 + 25^7)), 0 for greys and near 1 for vivid colours."""
    power = (chroma / 25) ** 7
    return torch.sqrt(power / (power + 1))

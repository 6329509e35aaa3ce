"""Editor without weights: moves a region's colour toward the colour words of the prompt, keeps shading and texture.

Works in OKLab (Björn Ottosson, 2020), where equal steps look equal and mixing keeps the hue. The region's median
lightness moves part of the way to the target's; a smooth tone curve carries every other lightness along without ever
clipping, so that strands stay strands. The new lightness then decides the chroma: proportional to it in the shade, as
for a surface under less light, falling to zero toward white, as in a reflection of the lamp, and never beyond what sRGB
can show. What the photo's own chroma did around its median is kept in part.
"""

from dataclasses import replace

import cv2
import numpy as np
import torch
from torch import Tensor

from semfacediff.colours.grammar import MAIN, OTHER, SECOND, Colour, find_colours
from semfacediff.colours.oklab import FROM_LMS, TO_LMS, fast_oklab_to_rgb, rgb_to_oklab
from semfacediff.colours.text import ENDS, HIGHLIGHTS, ROOTS
from semfacediff.editing.base import Editor, EditRequest
from semfacediff.editing.recolor_region import Region, blur, smoothstep
from semfacediff.errors import UserError

NO_COLOUR = ("keep", "error")
NOTE_NO_COLOUR = "prompt names no colour: region kept"


_HAIR_PIGMENTS = {
    "pink": "e5739d",
    "brown": "5c3a25",
    "black": "17120f",
    "light brown": "8a6040",
    "grey": "8f8f8e",
    "orange": "c4622a",
    "red": "a3301c",
}
_SKIN_PIGMENTS = {
    "brown": "8d5a3c",
    "dark brown": "5f3a27",
    "light brown": "b98a66",
    "black": "4a2f24",
    "white": "f0d9cb",
}
_PIGMENTS = {
    "hair": _HAIR_PIGMENTS,
    "eyebrows": _HAIR_PIGMENTS,
    "lips": {"pink": "dd6d80", "red": "c4202f", "brown": "8a4f42"},
    "eyes": {"brown": "6b4423", "blue": "5d8fc0", "green": "6f9a5f", "grey": "8c979d", "hazel": "8a6d35"},
    "skin": _SKIN_PIGMENTS,
    "nose": _SKIN_PIGMENTS,
}
"""Plain colour words that mean a pigment in a region, as RGB hex: nobody's "blue eyes" are the blue of a paint box."""

_SEVERAL_COLOURS = ("hair", "clothing", "hat")
"""Attributes wide enough for a second colour, highlights or tips; elsewhere the main colour alone is painted."""

_TONES = 2048


class Recolor(Editor):
    """Recolours the region; deterministic, on the CPU, any size.

    Eyes: the iris only, found in each eye; the white, the pupil and catchlights stay. Eyebrows: the hairs, not the skin
    between them. Skin: gently. Bare "dark" or "light" changes lightness alone.

    Args:
        no_colour: what becomes of prompts that name no colour: ``keep`` returns the photo unchanged and
            :meth:`note` says so; ``error`` refuses them in :meth:`check`.
        strength: share of the new colour in the result, 0..1.
    """

    name = "recolor"
    native_size = None
    batchable = True

    def __init__(self, no_colour: str = "keep", strength: float = 0.9) -> None:
        if no_colour not in NO_COLOUR:
            raise UserError(f"editor.no_colour: expected one of {', '.join(NO_COLOUR)}, got '{no_colour}'")
        if not 0.0 <= strength <= 1.0:
            raise UserError(f"editor.strength: expected a number from 0 to 1, got {strength}")
        self.no_colour = no_colour
        self.strength = strength

    def check(self, attributes: dict[str, str]) -> None:
        """Under ``no_colour="error"`` refuse prompts (attribute -> prompt) without a colour, else nothing."""
        if self.no_colour == "keep":
            return
        for attribute, prompt in attributes.items():
            if not _palette(prompt, attribute):
                raise UserError(
                    f"editor 'recolor' finds no colour for '{attribute}' in the prompt '{prompt}'; name one, such as "
                    f"'auburn', 'dusty rose', 'light blue' or 'dark', or set editor.no_colour=keep to leave it as it is"
                )

    def understood(self, prompt: str, attribute: str) -> list[str]:
        """The colours that will be painted, as the prompt spells them."""
        return [colour.name for colour in _palette(prompt, attribute)]

    def note(self, request: EditRequest) -> str | None:
        """Why the photo is returned as it was, or ``None``."""
        return None if _palette(request.prompt, request.attribute) else NOTE_NO_COLOUR

    def edit(self, requests: list[EditRequest]) -> list[Tensor]:
        """Recoloured photos, float32 ``[3, H, W]`` in [0, 1]; bit-equal to the photo outside ``masks.generation``."""
        return [self._edit_one(request) for request in requests]

    def _edit_one(self, request: EditRequest) -> Tensor:
        colours = _palette(request.prompt, request.attribute)
        result = request.photo.to("cpu", torch.float32).clone()
        box = _bounding_box(request.masks.generation)
        strength = self.strength if request.strength is None else request.strength
        if not colours or box is None or strength == 0:
            return result
        crop = result[(slice(None), *box)]
        mask = request.masks.generation[(0, *box)].cpu().numpy() > 0.5
        region = Region(crop.numpy(), mask, request.attribute, max(result.shape[1:]))
        crop[:] = torch.from_numpy(_paint(region, colours, strength, request.seed))
        return result


def _palette(prompt: str, attribute: str) -> list[Colour]:
    """What will be painted, in order: at most one colour a role."""
    roles: dict[str, Colour] = {}
    for colour in find_colours(prompt, attribute):
        if colour.role != OTHER and (colour.role == MAIN or attribute in _SEVERAL_COLOURS):
            pigment = _PIGMENTS.get(attribute, {}).get(colour.name)
            red, green, blue = bytes.fromhex(pigment) if pigment else colour.rgb
            roles.setdefault(colour.role, replace(colour, rgb=(red, green, blue)))
    return list(roles.values())


def _bounding_box(mask: Tensor) -> tuple[slice, slice] | None:
    """Rows and columns around a ``[1, H, W]`` mask, with a margin for soft edges; ``None`` if it is empty."""
    on = mask[0] > 0.5
    height, width = on.shape
    margin = 2 + max(height, width) // 40
    rows, columns = on.any(1).nonzero(), on.any(0).nonzero()
    if not len(rows):
        return None
    return (
        slice(max(int(rows[0]) - margin, 0), min(int(rows[-1]) + 1 + margin, height)),
        slice(max(int(columns[0]) - margin, 0), min(int(columns[-1]) + 1 + margin, width)),
    )


def _paint(region: Region, colours: list[Colour], strength: float, seed: int) -> np.ndarray:
    """float32 ``[3, h, w]``: the box repainted; pixels of weight 0 keep their bits."""
    median = region.median()
    shares = _shares(region, [c.role for c in colours], seed)
    tone = np.minimum((region.lab[0] * (_TONES - 1) + 0.5).astype(np.int32), _TONES - 1)
    new = np.zeros_like(region.lab)
    if shares[MAIN] is not None and MAIN not in (c.role for c in colours):
        new += shares[MAIN] * region.lab
    for colour in colours:
        part = _repainted(region, colour, median, tone)
        new += part if shares[colour.role] is None else shares[colour.role] * part
    painted = fast_oklab_to_rgb(new)
    painted -= region.old
    painted *= region.weight * np.float32(strength * region.manner.opacity)
    painted += region.old
    region.flat[:, region.at] = painted
    return region.flat.reshape(3, *region.mask.shape)


def _repainted(region: Region, colour: Colour, median: np.ndarray, tone: np.ndarray) -> np.ndarray:
    """float32 ``[3, N]``: OKLab of the region in ``colour``; ``tone`` is the old lightness in steps of ``_TONES``."""
    if colour.shift:
        return _relit(region, colour.shift, median[0], tone)
    manner, old = region.manner, np.linspace(0, 1, _TONES)
    target = rgb_to_oklab(np.array(colour.rgb) / 255)
    aim = np.clip(target[0], manner.lowest, region.highest)
    share = manner.lighter if aim > median[0] else manner.darker
    lightness = _shift_tones(old, median[0], median[0] + share * (aim - median[0]))
    chroma = float(np.hypot(*target[1:]))
    hue = target[1:] / max(chroma, 1e-6)
    chroma = min(chroma, manner.chroma) + max(chroma - manner.chroma, 0) / 3
    reached = _chroma_curve(hue, chroma, aim, lightness)
    part = np.take(np.stack([lightness, *(hue[:, None] * reached)]).astype(np.float32), tone, axis=1)
    kept = 0.3 * min(1.0, chroma / max(float(np.hypot(*median[1:])), 1e-3))
    part[1:] += np.float32(kept) * (region.lab[1:] - median[1:, None])
    return part


def _relit(region: Region, shift: float, middle: float, tone: np.ndarray) -> np.ndarray:
    """float32 ``[3, N]``: OKLab of the region with its median lightness moved by ``shift``; hues stay."""
    lowest, highest = min(region.manner.lowest, middle), max(region.manner.highest, middle)
    old = np.linspace(0, 1, _TONES)
    lightness = _shift_tones(old, middle, float(np.clip(middle + shift, lowest, highest)))
    # A surface under more or less light keeps the ratio of chroma to lightness; more than that looks painted.
    ratio = (lightness / np.maximum(old, 0.02)).clip(0, 1.05)
    return np.stack(
        [
            lightness.astype(np.float32)[tone],
            region.lab[1] * ratio.astype(np.float32)[tone],
            region.lab[2] * ratio.astype(np.float32)[tone],
        ]
    )


def _chroma_curve(hue: np.ndarray, chroma: float, aim: float, lightness: np.ndarray) -> np.ndarray:
    """Chroma ``[K]`` at every ``lightness [K]`` of a surface that has ``chroma`` at lightness ``aim``."""
    shaded = np.minimum((lightness / aim).clip(0, 1.2), (1 - lightness) / (1 - max(aim, 0.65))).clip(0, 1.2)
    wanted, possible = chroma * shaded, 0.98 * _chroma_limit(hue, lightness)
    # A soft minimum: a hard one would draw a visible line where the display's gamut ends.
    return wanted * possible / np.maximum((wanted**6 + possible**6) ** (1 / 6), 1e-9)


def _shift_tones(old: np.ndarray, middle: float, new_middle: float) -> np.ndarray:
    """Monotone curve that takes ``middle`` to ``new_middle`` and bends before black and white instead of clipping.

    Contrast grows when a dark region becomes light and shrinks in the other direction, but less than in proportion:
    proportionally lightened black hair would be all noise.
    """
    slope = float(np.clip((max(new_middle, 0.05) / max(middle, 0.05)) ** 0.45, 0.65, 1.6))
    away = old - middle
    if new_middle > middle:
        # Near black one 8-bit step is a leap in lightness; lifted as it is, it would show as blocks.
        away = np.hypot(old, 0.06) - np.hypot(middle, 0.06)
    # Upward no steeper than before: a lightened region would shine, and its border with light skin would glow.
    up, down = min(slope, 1.0), slope
    room_up, room_down = max(0.98 - new_middle, 0.05), max(new_middle - 0.03, 0.05)
    above, below = room_up * np.tanh(up * away / room_up), room_down * np.tanh(down * away / room_down)
    return np.clip(new_middle + np.where(away > 0, above, below), 0, 1)


def _chroma_limit(hue: np.ndarray, lightness: np.ndarray) -> np.ndarray:
    """Largest OKLab chroma that sRGB shows at ``lightness [K]`` in the direction ``hue [2]``."""
    grid = np.linspace(0, 1, 65)
    low, high = np.zeros_like(grid), np.full_like(grid, 0.4)
    inverse_root, to_linear = np.linalg.inv(FROM_LMS), np.linalg.inv(TO_LMS)
    for _ in range(12):
        middle = (low + high) / 2
        linear = to_linear @ (inverse_root @ np.stack([grid, *(hue[:, None] * middle)])) ** 3
        fits = (linear.min(0) >= -1e-4) & (linear.max(0) <= 1 + 1e-4)
        low, high = np.where(fits, middle, low), np.where(fits, high, middle)
    return np.interp(lightness, grid, low)


def _shares(region: Region, roles: list[str], seed: int) -> dict[str, np.ndarray | None]:
    """Share ``[N]`` of every role at every pixel, summing to 1; ``None`` stands for 1 everywhere."""
    if roles == [MAIN]:
        return {MAIN: None}
    shares: dict[str, np.ndarray | None] = {}
    left = np.ones(region.at.size, np.float32)
    for role in (HIGHLIGHTS, ENDS, ROOTS, SECOND):
        if role in roles:
            share = left * _PATTERNS[role](region, seed)
            shares[role], left = share, left - share
    shares[MAIN] = left
    return shares


def _highlights(region: Region, seed: int) -> np.ndarray:
    """Streaks along the strands, rather on bright ones than on dark ones; about a third of the region."""
    streaks = _streaks(region, seed, width_px=6 * region.unit_px)
    fine = region.smooth(region.lab[0], 1.5 * region.unit_px) - region.smooth(region.lab[0], 12 * region.unit_px)
    score = streaks + 0.6 * (fine / max(float(fine.std()), 1e-4)).clip(-2, 2)
    threshold, spread = np.quantile(score, 0.72), max(float(score.std()), 1e-4)
    return 0.85 * smoothstep(score, threshold - 1.0 * spread, threshold + 1.0 * spread)


def _second(region: Region, seed: int) -> np.ndarray:
    """Broad strands, half of the region."""
    streaks = _streaks(region, seed, width_px=12 * region.unit_px)
    return smoothstep(streaks - np.median(streaks), -0.6, 0.6)


def _ends(region: Region, seed: int) -> np.ndarray:
    """The lower part, with a ragged border."""
    return smoothstep(_depth(region) + 0.07 * _streaks(region, seed, width_px=12 * region.unit_px), 0.40, 0.80)


def _roots(region: Region, seed: int) -> np.ndarray:
    """The uppermost part, with a ragged border."""
    return 1 - smoothstep(_depth(region) + 0.04 * _streaks(region, seed, width_px=12 * region.unit_px), 0.08, 0.3)


def _depth(region: Region) -> np.ndarray:
    """float32 ``[N]``: 0 at the region's top row, 1 at its bottom row."""
    rows = region.at // region.mask.shape[1]
    return ((rows - rows[0]) / max(int(rows[-1] - rows[0]), 1)).astype(np.float32)


_PATTERNS = {HIGHLIGHTS: _highlights, SECOND: _second, ENDS: _ends, ROOTS: _roots}


def _streaks(region: Region, seed: int, width_px: float) -> np.ndarray:
    """float32 ``[N]``, mean 0, deviation 1: noise drawn out along the direction of the strands.

    Line integral convolution (Cabral and Leedom, 1993) over the structure tensor's field, on a grid of a quarter of
    a 1024 px photo's side.
    """
    scale = max(4 * region.unit_px, 1.0)
    h, w = (max(round(n / scale), 1) for n in region.mask.shape)
    lightness = region.plane(region.lab[0], float(np.median(region.lab[0])))
    dx, dy = _along(cv2.resize(lightness, (w, h), interpolation=cv2.INTER_AREA), 3 * region.unit_px * 4 / scale)
    width = width_px / scale
    noise = blur(np.random.default_rng(seed).standard_normal((h, w), np.float32), width / 2)
    ys, xs = np.mgrid[0:h, 0:w].astype(np.float32)
    total = noise.copy()
    for sign in (2, -2):
        x, y = xs, ys
        for _ in range(12):
            x, y = (
                x + sign * cv2.remap(dx, x, y, cv2.INTER_NEAREST, None, cv2.BORDER_REPLICATE),
                y + sign * cv2.remap(dy, x, y, cv2.INTER_NEAREST, None, cv2.BORDER_REPLICATE),
            )
            total += cv2.remap(noise, x, y, cv2.INTER_LINEAR, None, cv2.BORDER_REFLECT)
    full = cv2.resize(total, region.mask.shape[::-1], interpolation=cv2.INTER_CUBIC).reshape(-1)[region.at]
    return (full - full.mean()) / max(float(full.std()), 1e-6)


def _along(lightness: np.ndarray, sigma_px: float) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors x, y ``[h, w]`` along the strands, downward where they can be; straight down on flat ground."""
    gx, gy = cv2.Sobel(lightness, cv2.CV_32F, 1, 0), cv2.Sobel(lightness, cv2.CV_32F, 0, 1)
    xx, yy, xy = (blur(p, sigma_px) for p in (gx * gx, gy * gy, gx * gy))
    angle = 0.5 * np.arctan2(2 * xy, xx - yy + 1e-5) + np.float32(np.pi / 2)
    dx, dy = np.cos(angle), np.sin(angle)
    down = np.where(dy < 0, np.float32(-1), np.float32(1))
    return dx * down, dy * down


EDITOR = Recolor

"""Hair: its texture, what lies behind neck and ears, and what falls before the face."""

from collections.abc import Iterator

import cv2
import numpy as np

from semfacediff.data.toy.canvas import Canvas
from semfacediff.data.toy.fields import GRID, enlarged, tinted
from semfacediff.data.toy.shapes import arc, ellipse, mirrored, smooth, stroke, turned
from semfacediff.data.toy.traits import HAIRLINE_U, STYLES, Face


def hair_texture(face: Face, size: int, rng: np.random.Generator) -> np.ndarray:
    """float32 ``[3, size, size]``: hair with strands that follow the style and a band of shine."""
    table = cv2.GaussianBlur(rng.standard_normal((24, 384), np.float32), (0, 0), sigmaX=1.1, sigmaY=1.0) * 2.2
    if face.hair_style == "bald":
        return np.zeros((3, size, size), np.float32)
    u, v = face.grid()
    kind = STYLES[face.hair_style].strands
    rise = np.minimum(v + 0.25, 0) * 0.85
    across, along = np.hypot(u, rise), v + 0.4 * u
    if kind == "radial":
        along, across = np.hypot(u, v + 0.2), np.arctan2(u, 0.6 - v) * 0.9
    elif face.hairline[3] > -0.6:  # a fringe falls over the forehead
        across = 0.9 * np.arctan2(u, np.maximum(0.6 - v, 0.5))
    elif kind == "wave":
        across = across + 0.035 * np.sin(9 * v + 3 * np.sign(u))
    elif kind == "curl":
        wobble = cv2.resize(rng.standard_normal((2, 18, 18), np.float32).transpose(1, 2, 0), (GRID, GRID))
        across, along = u * 0.5 + 0.10 * wobble[..., 0], v * 2.5 + 0.5 * wobble[..., 1]
    strands = cv2.remap(
        table,
        enlarged(np.abs(across * 170 + 100), size),
        enlarged(np.abs(along * 4 + 10), size),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    crown = np.hypot(u + 0.3 * face.light[0], np.minimum(v + 0.25, 0) * 0.95)
    shine = 0.35 * np.exp(-(((crown - 0.78 - 0.4 * face.volume) / 0.13) ** 2)) * np.clip(-v * 4, 0, 1)
    shade = 0.80 + 0.25 * (u * face.light[0] - v * 0.25) + shine - 0.18 * np.clip(v, 0, 1)
    base = enlarged(tinted(face.hair + np.float32(10), shade), size)
    base *= 1 + np.clip(strands, -2, 2.4) * np.float32(0.16)
    return base


def crown_outline(face: Face, reach: float, extra: float = 0.0) -> np.ndarray:
    """``[K, 2]`` head points along the outside of the hair, from ear over the top to ear; ``reach`` in degrees."""
    angle = np.radians(np.linspace(-reach, reach, 29))
    grow = face.volume + extra
    bumps = 1 + (0.035 * np.abs(np.sin(angle * 7.5)) if face.hair_style == "curly" else 0.0)
    return np.stack([(0.71 + 0.9 * grow) * bumps * np.sin(angle), -0.27 - (0.86 + grow) * bumps * np.cos(angle)], 1)


def draw_hair_back(canvas: Canvas, face: Face, hair: np.ndarray) -> None:
    """What of the hair lies behind neck and ears."""
    if face.hair_style == "bald":
        return
    end = STYLES[face.hair_style].end
    crown = crown_outline(face, 90, -0.02)
    wide = crown[-1, 0]
    if end > 0.5:
        right = [(wide + 0.04, 0.1), (wide + 0.06, 0.4 * end), (wide + 0.06, 0.75 * end), (wide - 0.12, end)]
    else:
        right = [(wide * 0.97, 0.05 + end), (wide * 0.8, 0.42 + end)]
    left = [(-u, v) for u, v in reversed(right)]
    outline = smooth(np.concatenate([crown, right, left]), 3)
    if face.hair_style == "curly":
        outline = crown_outline(face, 142, -0.02)
    canvas.fill(face.at(outline, 0.0), hair * np.float32(0.62), "hair")
    if face.hair_style == "bun":
        canvas.fill(face.at(ellipse(0.06, -1.33, 0.32, 0.27), 0.2), hair, "hair")


def _lock(face: Face, side: int, wide: float) -> np.ndarray:
    """``[K, 2]`` head points from the hair's outside at the ear round its lower end to the temple, on one side."""
    end = STYLES[face.hair_style].end
    if end < 0.5:
        points = [(wide * 0.97, -0.16), (0.715, 0.02 + max(end, 0)), (0.665, 0.03 + max(end, 0))]
        if end > 0.1 and not face.tucked[side > 0]:
            points = [(wide * 1.02, 0.0), (wide * 0.95, 0.38), (0.72, 0.42), (0.62, 0.2)]
        return mirrored(points, side)
    if face.tucked[side > 0]:
        points = [(wide + 0.02, -0.1), (0.74, -0.14), (0.67, -0.10)]
        return mirrored(points, side)
    sway = 0.05 if face.hair_style == "wavy" else 0.0
    points = [(wide + 0.04, 0.1), (wide + 0.07 - sway, 0.45), (wide + 0.09 + sway, 0.8 * min(end, 1.2))]
    tip = [(wide - 0.06, end), (0.60, end + 0.03)]
    inner = [(0.58 - sway, 0.75 * min(end, 1.1)), (0.60 + sway, 0.35), (0.63, 0.1)]
    return mirrored(points + tip + inner, side)


def draw_hair_front(canvas: Canvas, face: Face, hair: np.ndarray) -> None:
    """Hair above the hairline and the locks before ears and shoulders, with its shadow on the forehead."""
    if face.hair_style == "bald":
        return
    crown = crown_outline(face, 84)
    wide = crown[-1, 0]
    line = np.stack([turned(HAIRLINE_U, 0.55 * face.yaw), face.hairline], 1)
    outline = np.concatenate([crown, _lock(face, 1, wide), line[::-1], _lock(face, -1, wide)[::-1]])
    outline = smooth(outline, 4)
    ends = [stroke(arc([(u, v - 0.12), (u + 0.02, v), (u + 0.05, v + d)], 3), 0.07) for u, v, d in _tips(line)]
    shadow = face.skin * np.array([0.5, 0.36, 0.32], np.float32)
    on = ("skin", "l_brow", "r_brow")
    canvas.fill(face.at(stroke(arc(line + (0, 0.03)), 0.09), 0.0), shadow, alpha=0.22, within=on)
    canvas.fill([face.at(part, 0.0) for part in (outline, *ends)], hair, "hair")


def _tips(line: np.ndarray) -> Iterator[tuple[float, float, float]]:
    """Where strands leave the hairline ``[K, 2]``, and how far they hang down: further from a fringe."""
    for k, (u, v) in enumerate(arc(line, 3)[3:-3]):
        yield u, v, (0.05, 0.01, 0.08, 0.03, 0.0, 0.06, 0.02)[k * 3 % 7] * float(np.clip(v + 1.15, 0.2, 1))

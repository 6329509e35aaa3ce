"""Neck, ears, head, nose, mouth, eyes and brows."""

import cv2
import numpy as np

from semfacediff.data.toy.canvas import Canvas
from semfacediff.data.toy.colours import WHITE, mix, rgb
from semfacediff.data.toy.fields import bumps, enlarged, tinted
from semfacediff.data.toy.shapes import arc, ellipse, mirrored, smooth, stroke, turned
from semfacediff.data.toy.traits import Face

# Form of the face as light sees it: u, v, spread u, spread v, height
_RELIEF = (
    (-0.33, -0.17, 0.17, 0.10, -0.13),
    (0.33, -0.17, 0.17, 0.10, -0.13),
    (0.0, 0.02, 0.045, 0.24, 0.10),
    (0.0, 0.25, 0.07, 0.07, 0.14),
    (0.0, 0.40, 0.15, 0.05, -0.15),
    (0.0, 0.76, 0.14, 0.05, -0.12),
    (0.0, 0.91, 0.16, 0.08, 0.06),
    (-0.42, 0.17, 0.17, 0.14, 0.07),
    (0.42, 0.17, 0.17, 0.14, 0.07),
    (-0.30, 0.45, 0.05, 0.13, -0.06),
    (0.30, 0.45, 0.05, 0.13, -0.06),
    (0.0, -0.62, 0.30, 0.15, 0.05),
)


def skin_texture(face: Face, size: int) -> np.ndarray:
    """float32 ``[3, size, size]``: lit skin of the head, with blush and beard."""
    u, v = face.grid()
    nu, nv = u / 0.80, (v + 0.05) / 1.22
    nz = np.sqrt(np.maximum(1 - nu**2 - nv**2, 0.02))
    lit = nu * face.light[0] + nv * face.light[1] + nz * face.light[2]
    relief = np.array(_RELIEF, np.float32)
    relief[:, 0] = turned(relief[:, 0], face.yaw)
    nose = turned(np.zeros(1), face.yaw)[0]
    away = -1 if face.light[0] > 0 else 1
    side = (nose + away * 0.09, 0.08, 0.06, 0.20, -0.10 - 0.15 * abs(face.light[0]))
    shade = 0.66 + 0.40 * lit + bumps(u, v, np.vstack([relief, side]))
    shade -= 0.16 * np.clip((-v - 0.55) / 0.4, 0, 1)
    skin = tinted(face.skin, shade)
    cheeks = [(*turned(np.array([c]), face.yaw), 0.24, 0.18, 0.15, 1.0) for c in (-0.42, 0.42)]
    red = bumps(u, v, np.array([*cheeks, (nose, 0.25, 0.09, 0.08, 0.6)])) * face.blush
    skin += red[..., None] * np.array([0.05, -0.10, -0.08], np.float32) * face.skin
    if face.beard:
        beard = np.clip((v - 0.62 + 1.1 * (u - 0.5 * nose) ** 2) / 0.2, 0, 1)
        beard = np.maximum(beard, np.exp(-(((u - nose) / 0.26) ** 4) - ((v - 0.46) / 0.055) ** 2)) * (v > 0.05)
        skin += (face.hair * np.float32(0.75) - skin) * (face.beard * cv2.GaussianBlur(beard, (5, 5), 0.8))[..., None]
    return enlarged(skin, size)


def draw_neck(canvas: Canvas, face: Face) -> None:
    """Neck and what the garment leaves bare, in the chin's shadow; then a necklace."""
    u, v = face.grid()
    shade = 0.86 + 0.22 * (u * face.light[0]) - 0.18 * u**2
    shade += bumps(u, v, np.array([(face.yaw * 0.5, 0.98, 0.55, 0.22, -0.34), (0.0, 1.5, 0.3, 0.2, 0.05)]))
    wide = 0.40 * face.jaw
    right = [(wide, 0.3), (wide, 0.9), (wide + 0.05, 1.06), (wide + 0.3, 1.24), (1.1, 1.6), (1.1, 2.6)]
    outline = np.array(right + [(-a, b) for a, b in reversed(right)])
    canvas.fill(face.below(outline), enlarged(tinted(face.skin, shade), canvas.size), "neck")
    for side in (-1, 1):
        bone = mirrored([(0.06, 1.52), (0.3, 1.44), (0.55, 1.43)], side)
        canvas.fill(face.below(stroke(arc(bone), 0.05)), face.skin * np.float32(0.6), alpha=0.35)


def ear_centre(face: Face, side: int) -> float:
    """``u`` of the ear: the one that the head turns towards slides behind the face."""
    hidden = max(side * face.yaw, 0.0)
    return side * (0.725 - 0.6 * hidden + 0.04 * max(-side * face.yaw, 0.0))


def draw_ears(canvas: Canvas, face: Face, skin: np.ndarray) -> None:
    for side in (-1, 1):
        at = ear_centre(face, side)
        rim = [(-0.06, -0.20), (0.05, -0.22), (0.125, -0.12), (0.115, 0.03), (0.07, 0.17), (0.0, 0.25), (-0.07, 0.2)]
        outline = mirrored(smooth(np.array(rim) * (1, 1.02)), side) + (at, 0.06)
        canvas.fill(face.at(outline, 0.0), skin * np.float32(0.93), "l_ear" if side > 0 else "r_ear")
        fold = mirrored(arc([(-0.02, -0.13), (0.055, -0.14), (0.075, -0.03), (0.03, 0.09)]), side) + (at, 0.06)
        canvas.fill(face.at(stroke(fold, 0.035), 0.0), face.skin * np.float32(0.5), alpha=0.5)
        canvas.fill(
            face.at(ellipse(at - side * 0.005, 0.1, 0.03, 0.06, k=12), 0.0), face.skin * np.float32(0.4), alpha=0.45
        )


def draw_head(canvas: Canvas, face: Face, skin: np.ndarray, rng: np.random.Generator) -> None:
    """The head down to the chin; turning it moves the jaw more than the forehead."""
    half = np.array(
        [(0.34, -1.02), (0.58, -0.78), (0.69, -0.36), (0.69, 0.05), (0.615, 0.45), (0.44, 0.78), (0.2, 0.98)]
    )
    half *= np.stack(
        [np.where(half[:, 1] > 0, 1 + (face.jaw - 1) * half[:, 1] * 1.3, 1), np.where(half[:, 1] > 0, face.chin, 1)], 1
    )
    chin = (0.0, 1.015 * face.chin)
    points = np.array([(0, -1.08), *half, chin, *mirrored(half, -1)[::-1]])
    points[:, 0] += 0.5 * face.yaw * np.clip(points[:, 1] + 0.1, 0, 0.9)
    canvas.fill(face.at(smooth(points), 0.0), skin, "skin")
    if face.freckles:
        places = rng.normal((0, 0.15), (0.32, 0.11), (face.freckles, 2))
        spots = [face.at(ellipse(u, v, 0.012, 0.012, k=6)) for u, v in places]
        canvas.fill(spots, face.skin * np.float32(0.62), alpha=0.5, within=("skin",))


def draw_nose(canvas: Canvas, face: Face) -> None:
    wide, long = face.nose
    right = [
        (0.055, -0.12),
        (0.065, 0.05),
        (0.10 * wide, 0.19 * long),
        (0.155 * wide, 0.30 * long),
        (0.11 * wide, 0.37 * long),
    ]
    outline = smooth(np.array([*right, (0, 0.395 * long), *mirrored(right, -1)[::-1]]), 4)
    outline[:, 0] += 0.10 * face.yaw * np.clip(outline[:, 1] + 0.1, 0, 0.5)
    canvas.fill(face.at(outline), face.skin, "nose", alpha=0.06)
    dark = face.skin * np.array([0.46, 0.36, 0.34], np.float32)
    tip = 0.04 * face.yaw
    wing = stroke(arc(np.array([(0.115, 0.22), (0.16, 0.29), (0.115, 0.365)]) * (wide, long), 4), 0.028)
    hole = ellipse(0.065 * wide, 0.352 * long, 0.036 * wide, 0.018, k=12)
    canvas.fill([face.at(mirrored(wing, side) + (tip, 0)) for side in (-1, 1)], dark, alpha=0.42)
    canvas.fill([face.at(mirrored(hole, side) + (tip, 0)) for side in (-1, 1)], dark, alpha=0.75)
    lit = 1 if face.light[0] > 0 else -1
    canvas.fill(face.at(ellipse(lit * 0.02 + tip, 0.245 * long, 0.03, 0.035, k=12)), rgb(255, 248, 240), alpha=0.22)
    shadow = -lit
    ridge = arc(np.array([(shadow * 0.07, -0.14), (shadow * 0.06, 0.04), (shadow * 0.09, 0.2)]), 4)
    canvas.fill(face.at(stroke(ridge, 0.035)), dark, alpha=0.16)


def draw_mouth(canvas: Canvas, face: Face) -> None:
    """Lips about a line or an open mouth; a smile lifts and widens the corners."""
    wide, full = face.mouth
    wide, gap = wide * (1 + 0.5 * max(face.smile, 0) + 0.4 * face.open), face.open
    v, lift = 0.60 * face.chin, face.smile
    t = np.array([-1, -0.72, -0.38, 0, 0.38, 0.72, 1])
    bend = lift * (0.35 - t**2) * 1.1
    inner_top, inner_low = v + bend - 0.25 * gap * (1 - t**2), v + bend + 0.75 * gap * (1 - t**2)
    bow = np.array([0, 0.040, 0.068, 0.052, 0.068, 0.040, 0]) * full
    top = np.stack([wide * t, inner_top - bow], 1)
    low = np.stack([wide * t, inner_low + np.array([0, 0.05, 0.088, 0.10, 0.088, 0.05, 0]) * full * 0.95], 1)
    seam_top, seam_low = np.stack([wide * t, inner_top], 1), np.stack([wide * t, inner_low], 1)
    upper = np.concatenate([arc(top, 4), arc(seam_top, 4)[::-1]])
    lower = np.concatenate([arc(seam_low, 4), arc(low, 4)[::-1]])
    dark = face.lip * np.array([0.42, 0.3, 0.32], np.float32)
    if gap:
        inside = np.concatenate([arc(seam_top, 4), arc(seam_low, 4)[::-1]])
        canvas.fill(face.at(inside), rgb(70, 22, 26), "mouth")
        canvas.fill(
            face.at(ellipse(0, v + bend[3] + 0.72 * gap, wide * 0.5, 0.38 * gap, k=16)),
            rgb(186, 84, 88),
            within=("mouth",),
        )
        teeth = np.concatenate([seam_top, (seam_top + (0, 0.42 * gap + 0.012))[::-1]])
        canvas.fill(face.at(teeth * (0.92, 1)), rgb(240, 234, 224), within=("mouth",))
    canvas.fill(face.at(upper), face.lip * np.float32(0.86), "u_lip")
    canvas.fill(face.at(lower), face.lip, "l_lip")
    canvas.fill(
        face.at(
            ellipse(-0.25 * wide * np.sign(face.light[0] + 1e-6), low[3, 1] - 0.055 * full, 0.3 * wide, 0.02, k=12)
        ),
        rgb(255, 236, 232),
        alpha=0.28,
        within=("l_lip",),
    )
    if not gap:
        canvas.fill(face.at(stroke(arc(seam_top, 4), 0.022, 0.7)), dark, alpha=0.8)
    corner = stroke(arc([(wide * 0.97, inner_top[0] - 0.015), (wide * 1.06, inner_top[0] + 0.002)], 3), 0.03)
    canvas.fill(face.pair(corner), dark, alpha=0.5)


def draw_eyes(canvas: Canvas, face: Face) -> None:
    """White, iris, pupil, glints and lids of both eyes."""
    tall, centre, eyes = 0.074 * face.eye_open, (face.eye_gap, -0.12), ("l_eye", "r_eye")
    upper = [(-0.135, 0.018), (-0.07, -0.75 * tall), (0.01, -tall), (0.085, -0.62 * tall), (0.14, -0.008)]
    lower = [(0.14, -0.008), (0.07, 0.62 * tall), (-0.02, 0.75 * tall), (-0.09, 0.5 * tall), (-0.135, 0.018)]
    top, low = arc(upper, 4) + centre, arc(lower, 4) + centre
    for outline, label in zip(face.pair(np.concatenate([top, low])), ("r_eye", "l_eye"), strict=True):
        canvas.fill(outline, rgb(238, 232, 228), label)

    look = 0.045 * face.gaze[0] + 0.03 * face.yaw, -0.126 + 0.02 * face.gaze[1]

    def spots(du: float, dv: float, ru: float, rv: float) -> list[np.ndarray]:
        return [face.at(ellipse(s * face.eye_gap + look[0] + du, look[1] + dv, ru, rv, k=16)) for s in (-1, 1)]

    canvas.fill(spots(0, 0, 0.068, 0.068), face.iris * np.float32(0.45), within=eyes)
    canvas.fill(spots(0, 0, 0.058, 0.058), face.iris, within=eyes)
    canvas.fill(spots(0, 0, 0.030, 0.030), rgb(12, 10, 12), within=eyes)
    canvas.fill(spots(0, 0.035, 0.035, 0.016), face.iris * np.float32(1.5) + 20, alpha=0.6, within=eyes)
    dark = mix(face.skin * np.float32(0.3), rgb(24, 16, 16), 0.6)
    canvas.fill(face.pair(stroke(top + (0, 0.022), 0.04)), dark, alpha=0.4, within=eyes)
    canvas.fill(spots(-0.02, -0.022, 0.016, 0.016), WHITE, within=eyes)
    canvas.fill(face.pair(stroke(top, 0.034, 0.7)), dark, alpha=0.9)
    canvas.fill(face.pair(stroke(low, 0.014)), dark, alpha=0.4)
    lash = arc([top[-1], top[-1] + (0.035, -0.028)], 3)
    canvas.fill(face.pair(stroke(lash, 0.026, 0.8)), dark, alpha=0.8)
    crease = face.skin * np.array([0.55, 0.42, 0.4], np.float32)
    canvas.fill(face.pair(stroke(top + (0, -0.05), 0.018)), crease, alpha=0.45)


def draw_brows(canvas: Canvas, face: Face) -> None:
    thick, arch = face.brow
    line = arc(
        [(0.15, -0.325), (0.27, -0.355 - 0.5 * arch), (0.40, -0.365 - 0.8 * arch), (0.52, -0.30 - 0.3 * arch)], 5
    )
    t = np.linspace(0, 1, len(line))[:, None]
    down = np.array([[0.0, thick]])
    body = np.concatenate([line - down * (1 - 0.55 * t), (line + down * (1 - 0.9 * t))[::-1]])
    colour = mix(face.hair * np.float32(0.62), face.skin * np.float32(0.42), 0.4)
    for outline, label in zip(face.pair(body), ("r_brow", "l_brow"), strict=True):
        canvas.fill(outline, colour, label, alpha=0.78)
    hairs = [stroke([p + (0, 0.7 * thick), p + (0.05, -0.8 * thick)], 0.016, 0.5) for p in line[1:-3:2]]
    canvas.fill([side for h in hairs for side in face.pair(h)], colour * np.float32(0.6), alpha=0.4)

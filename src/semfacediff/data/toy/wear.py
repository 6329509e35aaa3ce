"""What a person wears: garment, necklace, glasses, earrings, hats."""

import numpy as np

from semfacediff.data.toy.canvas import Canvas
from semfacediff.data.toy.colours import WHITE, mix, rgb
from semfacediff.data.toy.features import ear_centre
from semfacediff.data.toy.fields import enlarged, noise_field, tinted
from semfacediff.data.toy.hair import crown_outline
from semfacediff.data.toy.shapes import arc, ellipse, mirrored, smooth, stroke
from semfacediff.data.toy.traits import Face


def draw_necklace(canvas: Canvas, face: Face) -> None:
    line = arc(np.array([(-0.43, 1.10), (-0.30, 1.23), (0.0, 1.30), (0.30, 1.23), (0.43, 1.10)]), 6)
    if face.necklace == "pearls":
        beads = [face.below(ellipse(u, v, 0.036, 0.036, k=12)) for u, v in line[1:-1]]
        glints = [face.below(ellipse(u - 0.012, v - 0.014, 0.014, 0.014, k=8)) for u, v in line[1:-1]]
        canvas.fill(beads, rgb(206, 196, 186), "neck_l")
        canvas.fill(glints, rgb(255, 252, 246))
        return
    gold = rgb(206, 160, 66) if face.accent[0] > 120 else rgb(186, 190, 198)
    canvas.fill(face.below(stroke(line, 0.042, 0.1)), gold * np.float32(0.8), "neck_l")
    canvas.fill(face.below(stroke(line - 0.006, 0.014, 0.1)), gold * np.float32(1.2))
    canvas.fill(face.below(ellipse(0, 1.37, 0.055, 0.075, k=16)), gold * np.float32(0.85), "neck_l")
    canvas.fill(face.below(ellipse(0, 1.37, 0.034, 0.05, k=12)), face.accent)


_NECKLINES = {
    "crew": [(-0.52, 1.10), (-0.36, 1.24), (0.0, 1.33), (0.36, 1.24), (0.52, 1.10)],
    "vneck": [(-0.58, 1.10), (-0.34, 1.34), (0.0, 1.72), (0.34, 1.34), (0.58, 1.10)],
    "collar": [(-0.50, 1.06), (-0.26, 1.28), (0.0, 1.52), (0.26, 1.28), (0.50, 1.06)],
    "turtleneck": [(-0.46, 0.98), (-0.25, 1.10), (0.0, 1.14), (0.25, 1.10), (0.46, 0.98)],
}


def draw_cloth(canvas: Canvas, face: Face, rng: np.random.Generator) -> None:
    """The garment, its pattern and its collar, and a necklace above it."""
    u, _ = face.grid()
    shade = 0.92 + 0.2 * u * face.light[0] + 0.07 * noise_field(rng, 9) - 0.12 * np.clip(abs(u) - 0.7, 0, 1)
    texture = enlarged(tinted(face.cloth, shade), canvas.size)
    neckline = arc(np.array(_NECKLINES[face.garment]), 5)
    right = arc([neckline[-1], (0.95, 1.22), (1.3, 1.40), (1.52, 1.85), (1.6, 3.0)], 4)[1:]
    outline = np.concatenate([neckline, right, mirrored(right, -1)[::-1]])
    canvas.fill(face.below(outline), texture, "cloth")
    if face.pattern != "plain":
        pitch = rng.uniform(0.16, 0.3)
        at = np.arange(-1.6, 1.6, pitch)
        flat = [np.array([(-1.7, a + 2.4), (1.7, a + 2.4)]) for a in at]
        bands = [face.below(stroke(line, pitch * 0.42, 0)) for line in flat]
        canvas.fill(bands, face.accent, alpha=0.45 if face.pattern == "plaid" else 0.8, within=("cloth",))
        if face.pattern == "plaid":
            upright = [np.array([(a, 0.8), (a * 1.1, 3.0)]) for a in at]
            bands = [face.below(stroke(line, pitch * 0.42, 0)) for line in upright]
            canvas.fill(bands, face.accent, alpha=0.45, within=("cloth",))
    dark = face.cloth * np.float32(0.55)
    if face.garment == "collar":
        for side in (-1, 1):
            flap = mirrored([(0.42, 0.96), (0.54, 1.10), (0.50, 1.46), (0.30, 1.62), (0.02, 1.50)], side)
            canvas.fill(face.below(flap + (0.0, 0.03)), dark, "cloth", alpha=0.6)
            canvas.fill(face.below(flap), texture, "cloth")
            canvas.fill(face.below(flap), WHITE, alpha=0.14)
        canvas.fill(face.below(stroke(np.array([(0.0, 1.52), (0.0, 2.6)]), 0.02, 0)), dark, alpha=0.7)
    else:
        hem = 0.09 if face.garment == "turtleneck" else 0.045
        canvas.fill(face.below(stroke(neckline + (0, 0.02), hem, 0)), dark, "cloth", alpha=0.55)
    if face.necklace:
        draw_necklace(canvas, face)


def draw_glasses(canvas: Canvas, face: Face) -> None:
    """Lenses, frames, bridge and arms; eyes stay visible, and labelled, behind clear glass."""
    if not face.glasses:
        return
    rim = mix(face.accent * np.float32(0.35), rgb(30, 26, 28), 0.6)
    power, ru, rv = (2.2, 0.215, 0.205) if face.glasses == "round" else (4.5, 0.235, 0.165)
    dark = face.glasses == "dark"
    keep = () if dark else ("l_eye", "r_eye", "l_brow", "r_brow")
    for side in (-1, 1):
        lens = ellipse(side * 0.335, -0.09, ru, rv, power, 32)
        glass = rgb(26, 24, 30) if dark else rgb(214, 228, 238)
        canvas.fill(face.at(lens), glass, "eye_g", alpha=0.93 if dark else 0.13, keep=keep)
        glint = np.array([(side * 0.335 - 0.12, 0.0), (side * 0.335 - 0.02, -0.2)])
        canvas.fill(face.at(stroke(arc(glint, 3), 0.05)), WHITE, alpha=0.22)
        loop = np.concatenate([lens, lens[:1]])
        canvas.fill(face.at(stroke(loop, 0.036, 0.0)), rim, "eye_g")
        arm = np.array([(side * (0.335 + ru), -0.13), (side * 0.74, -0.11)])
        if side * face.yaw < 0.22:
            canvas.fill(
                face.at(stroke(arm, 0.04, 0.0)), rim, "eye_g", within=("skin", "l_ear", "r_ear", "l_brow", "r_brow")
            )
    bridge = arc(np.array([(-0.125, -0.10), (0.0, -0.15), (0.125, -0.10)]), 5)
    canvas.fill(face.at(stroke(bridge, 0.04, 0.2)), rim, "eye_g")


def draw_earrings(canvas: Canvas, face: Face) -> None:
    metal = rgb(226, 184, 92) if face.cloth[2] < 128 else rgb(206, 210, 218)
    for side, bare in zip((-1, 1), face.bare_ears, strict=True):
        if not (face.earring and bare):
            continue
        u, v = ear_centre(face, side) + side * 0.035, 0.29
        if face.earring == "hoop":
            ring = ellipse(u, v + 0.13, 0.10, 0.13, k=24)
            canvas.fill(face.at(stroke(np.concatenate([ring, ring[:1]]), 0.042, 0.0), 0.0), metal, "ear_r")
            continue
        canvas.fill(face.at(ellipse(u, v, 0.05, 0.05, k=16), 0.0), metal, "ear_r")
        if face.earring == "drop":
            canvas.fill(
                face.at(smooth([(u, v), (u + 0.06, v + 0.22), (u, v + 0.31), (u - 0.06, v + 0.22)]), 0.0),
                face.accent,
                "ear_r",
            )
        canvas.fill(face.at(ellipse(u - 0.015, v - 0.015, 0.016, 0.016, k=8), 0.0), rgb(255, 255, 250))


def draw_hat(canvas: Canvas, face: Face) -> None:
    """A cap, a knitted hat or a hat with a brim, and its shadow on the forehead."""
    if not face.hat:
        return
    u, v = face.grid()
    shade = 0.88 + 0.35 * (u * face.light[0] - (v + 1.0) * 0.35) - 0.25 * u**2
    texture = enlarged(tinted(face.accent, shade), canvas.size)
    dark = face.accent * np.float32(0.5)
    shadow = ellipse(0.25 * face.yaw, -0.56, 0.66, 0.16)
    canvas.fill(
        face.at(shadow, 0.0), face.skin * np.float32(0.3), alpha=0.4, within=("skin", "l_brow", "r_brow", "hair")
    )
    crown = crown_outline(face, 76, 0.08)
    edge = arc(np.array([crown[-1], (0.4, -0.60), (0.0, -0.65), (-0.4, -0.60), crown[0]]), 5)
    _HATS[face.hat](canvas, face, texture, dark, crown, edge)


def _draw_cap(
    canvas: Canvas, face: Face, texture: np.ndarray, dark: np.ndarray, crown: np.ndarray, edge: np.ndarray
) -> None:
    canvas.fill(face.at(np.concatenate([crown, edge]), 0.0), texture, "hat")
    seams = [arc([(0.0, -1.2), (at * 0.8, -1.05), (at, -0.64)], 4) for at in (-0.4, 0.0, 0.4)]
    canvas.fill([face.at(stroke(seam, 0.02, 0), 0.6) for seam in seams], dark, alpha=0.6, within=("hat",))
    visor = smooth(
        [(-0.66, -0.56), (-0.3, -0.74), (0.3, -0.74), (0.66, -0.56), (0.45, -0.44), (0, -0.38), (-0.45, -0.44)]
    )
    canvas.fill(face.at(visor, 0.6), texture * np.float32(0.72), "hat")
    canvas.fill(face.at(stroke(arc([(-0.6, -0.56), (0, -0.72), (0.6, -0.56)]), 0.03), 0.6), dark, alpha=0.7)


def _draw_beanie(
    canvas: Canvas, face: Face, texture: np.ndarray, dark: np.ndarray, crown: np.ndarray, edge: np.ndarray
) -> None:
    canvas.fill(face.at(ellipse(0, -1.30, 0.17, 0.15), 0.0), mix(face.accent, WHITE, 0.3), "hat")
    canvas.fill(face.at(np.concatenate([crown, edge]), 0.0), texture, "hat")
    ribs = [arc([(at * 0.55, -1.16), (at * 0.95, -0.92), (at, -0.52)], 4) for at in np.linspace(-0.7, 0.7, 15)]
    canvas.fill([face.at(stroke(rib, 0.03), 0.0) for rib in ribs], dark, alpha=0.45, within=("hat",))
    cuff = np.concatenate([edge, (edge - (0, 0.17))[::-1]])
    canvas.fill(face.at(cuff, 0.0), texture, "hat")
    canvas.fill(face.at(cuff, 0.0), WHITE, alpha=0.25)
    canvas.fill(face.at(stroke(edge - (0, 0.17), 0.03, 0), 0.0), dark, alpha=0.6)


def _draw_brim(
    canvas: Canvas, face: Face, texture: np.ndarray, dark: np.ndarray, crown: np.ndarray, edge: np.ndarray
) -> None:
    dome = [(-0.64, -0.62), (-0.60, -1.1), (-0.42, -1.36), (0.0, -1.30), (0.42, -1.36), (0.60, -1.1), (0.64, -0.62)]
    canvas.fill(face.at(smooth(dome, 6), 0.2), texture, "hat")
    band = np.array([(-0.64, -0.78), (0.0, -0.72), (0.64, -0.78)])
    canvas.fill(face.at(stroke(arc(band), 0.15, 0), 0.2), dark * np.float32(0.7), within=("hat",))
    brim = smooth(
        [
            (-1.12, -0.66),
            (-0.6, -0.74),
            (0, -0.72),
            (0.6, -0.74),
            (1.12, -0.66),
            (0.6, -0.54),
            (0, -0.50),
            (-0.6, -0.54),
        ]
    )
    canvas.fill(face.at(brim, 0.2), texture * np.float32(0.85), "hat")
    canvas.fill(face.at(stroke(arc([(-0.62, -0.70), (0, -0.64), (0.62, -0.70)]), 0.03), 0.2), dark, alpha=0.6)


_HATS = {"cap": _draw_cap, "beanie": _draw_beanie, "brim": _draw_brim}

"""Drawn faces with exact labels: a data set that needs no download, for tests, the demo and public pictures.

A face is sampled once (:class:`_Face`) in coordinates that know nothing of pixels, then painted back to front on a
:class:`_Canvas`, which writes the photo and the label map from one and the same coverage mask. Soft shading is computed
on a small grid and enlarged, so that it costs little and is the same drawing at every size.

Two frames: the *frame* of the picture, 0..1 from the top left corner, and the *head*, in which ``u`` points to the
viewer's right, ``v`` down, the eyes lie near v = -0.12 and the chin near v = 1.

Labels follow CelebAMask-HQ: ``l_*`` is the subject's left, on the viewer's right of the picture; ``eye_g`` covers the
lenses, but eyes and brows seen through clear glass keep their own labels; skin below the chin is ``neck``; beards are
``skin``; an earring is cut out of the ear and a necklace out of the neck; teeth and tongue are ``mouth``.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache

import cv2
import numpy as np

from semfacediff.errors import UserError
from semfacediff.labels import CELEBAMASK
from semfacediff.seeding import derive_seed
from semfacediff.types import FaceSample

MIN_SIZE_PX = 16
_GRID = 64  # side of the shading fields
_SUBPIXEL_BITS = 4
_WHITE = np.full(3, 255, np.float32)
_L = {name: i for i, name in enumerate(CELEBAMASK.classes)}


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
    face = _sample_face(rng, seed, index)
    canvas = _Canvas(size)
    skin, hair = _skin_texture(face, size), _hair_texture(face, size, rng)
    _draw_background(canvas, face, rng)
    _draw_hair_back(canvas, face, hair)
    _draw_neck(canvas, face)
    _draw_cloth(canvas, face, rng)
    _draw_ears(canvas, face, skin)
    _draw_face(canvas, face, skin, rng)
    _draw_nose(canvas, face)
    _draw_mouth(canvas, face)
    _draw_eyes(canvas, face)
    _draw_brows(canvas, face)
    _draw_glasses(canvas, face)
    _draw_earrings(canvas, face)
    _draw_hair_front(canvas, face, hair)
    _draw_hat(canvas, face)
    return _develop(canvas.photo, face, rng), canvas.labels, _attributes(face)


def _check_size(size: int) -> None:
    if size < MIN_SIZE_PX:
        raise UserError(f"toy faces: expected a size of at least {MIN_SIZE_PX} px, got {size}; give a larger size")


# --------------------------------------------------------------------------------------------------------------------
# What a face is: sampled once, in the head's own units.

_SKIN = np.array(
    [(255, 226, 208), (246, 208, 182), (230, 182, 146), (202, 148, 108), (156, 104, 72), (112, 72, 50), (76, 48, 36)],
    np.float32,
)
_HAIR = {
    "black": (34, 28, 30),
    "dark_brown": (66, 44, 34),
    "brown": (112, 74, 48),
    "auburn": (136, 62, 36),
    "red": (188, 92, 44),
    "blond": (222, 182, 112),
    "grey": (150, 148, 148),
    "white": (226, 222, 216),
    "dyed": None,
}
_IRIS = ((84, 52, 30), (60, 38, 26), (116, 84, 44), (92, 116, 70), (78, 122, 164), (120, 136, 146))
# Hair styles: share, volume, lowest point, which drawing of strands, chance of a tucked ear
_STYLES = {
    "bald": (0.06, 0.0, 0.0, "radial", 1.0),
    "short": (0.20, 0.07, 0.0, "radial", 1.0),
    "crop": (0.14, 0.14, -0.05, "radial", 1.0),
    "bob": (0.15, 0.16, 0.75, "fall", 0.25),
    "long": (0.20, 0.13, 1.75, "fall", 0.4),
    "wavy": (0.11, 0.17, 1.55, "wave", 0.35),
    "curly": (0.08, 0.32, 0.2, "curl", 0.4),
    "bun": (0.06, 0.06, -0.05, "fall", 1.0),
}
# Height of the hairline at u = _HAIRLINE_U
_HAIRLINE_U = np.array([-0.67, -0.52, -0.26, 0.0, 0.26, 0.52, 0.67])
_HAIRLINES = {
    "back": (-0.12, -0.60, -0.78, -0.80, -0.78, -0.60, -0.12),
    "bangs": (-0.08, -0.40, -0.45, -0.43, -0.46, -0.41, -0.08),
    "swept": (-0.15, -0.64, -0.84, -0.74, -0.58, -0.42, -0.08),
    "parted": (-0.04, -0.44, -0.70, -0.92, -0.70, -0.44, -0.04),
}
# Step and rate: steps of equidistributed sequences, so that a rare thing turns up regularly instead of by luck
_RARE = {
    "hat": (2**0.5, 0.08),
    "glasses": ((5**0.5 + 1) / 2, 0.10),
    "earrings": (3**0.5, 0.17),
    "necklace": (7**0.5, 0.08),
}


@dataclass(frozen=True)
class _Face:
    """Everything about one face but its noise. Lengths in head units, angles in radians, colours float32 RGB 0..255."""

    centre: np.ndarray
    scale: float
    tilt: float
    yaw: float
    jaw: float
    chin: float
    skin: np.ndarray
    blush: float
    beard: float
    freckles: int
    light: np.ndarray
    gain: np.ndarray
    hair_style: str
    hair_colour: str
    hair: np.ndarray
    hairline: np.ndarray
    volume: float
    tucked: tuple[bool, bool]
    eye_gap: float
    eye_open: float
    iris: np.ndarray
    gaze: np.ndarray
    brow: tuple[float, float]
    nose: tuple[float, float]
    mouth: tuple[float, float]
    smile: float
    open: float
    lip: np.ndarray
    garment: str
    pattern: str
    cloth: np.ndarray
    accent: np.ndarray
    hat: str
    glasses: str
    earring: str
    necklace: str
    backdrop: str
    sharpness: float
    grain: float

    @property
    def bare_ears(self) -> tuple[bool, bool]:
        """Whether the ear at the viewer's left and right can be seen: not under hair, not turned away."""
        return self.tucked[0] and self.yaw > -0.22, self.tucked[1] and self.yaw < 0.22

    def at(self, points: np.ndarray, turn: float = 1.0) -> np.ndarray:
        """Frame coordinates float64 ``[K, 2]`` of head points ``[K, 2]``, turned with the head by ``turn * yaw``."""
        points = np.array(points, np.float64)
        if turn:
            points[:, 0] = _turned(points[:, 0], self.yaw * turn)
        return points @ self._axes + self.centre

    def pair(self, points: np.ndarray, turn: float = 1.0) -> list[np.ndarray]:
        """Frame coordinates of a shape given for the viewer's right, and of its mirror image."""
        return [self.at(_mirrored(points, side), turn) for side in (-1, 1)]

    def below(self, points: np.ndarray) -> np.ndarray:
        """Frame coordinates of body points, which follow the head's tilt only a little."""
        return (np.asarray(points, np.float64) + (0.25 * self.tilt, 0.0)) @ self._body_axes + self.centre

    @cached_property
    def _axes(self) -> np.ndarray:
        return _rotation(self.tilt) * self.scale

    @cached_property
    def _body_axes(self) -> np.ndarray:
        return _rotation(0.25 * self.tilt) * self.scale

    def grid(self) -> np.ndarray:
        """Head coordinates float32 ``[2, 64, 64]`` of the shading grid's points (not turned)."""
        x, y = _unit_grid() - self.centre[:, None, None].astype(np.float32)
        c, s = np.float32(np.cos(self.tilt) / self.scale), np.float32(np.sin(self.tilt) / self.scale)
        return np.stack([c * x + s * y, c * y - s * x])


def _rotation(angle: float) -> np.ndarray:
    """``[2, 2]`` for row vectors: turns clockwise on the screen."""
    return np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])


def _turned(u: np.ndarray, yaw: float) -> np.ndarray:
    """Where points at ``u`` of a round head go when it turns by ``yaw``; beyond the head's edge they stay."""
    s = u / 0.80
    depth = np.sqrt(np.maximum(1 - s * s, 0))
    return np.where(depth > 0, u * np.cos(yaw) + 0.66 * depth * np.sin(yaw), u)


def _sample_face(rng: np.random.Generator, seed: int, index: int) -> _Face:
    """Draw every trait; the order of the draws is part of what a seed means."""
    rare = {k: (index * step + derive_seed(seed, k) / 2**63) % 1 < rate for k, (step, rate) in _RARE.items()}
    tone = rng.uniform(0, len(_SKIN) - 1.001)
    skin = _mix(_SKIN[int(tone)], _SKIN[int(tone) + 1], tone % 1)
    pose = {
        "centre": np.array([rng.normal(0.5, 0.02), rng.normal(0.505, 0.015)]),
        "scale": rng.uniform(0.285, 0.345),
        "tilt": rng.normal(0, 0.09),
        "yaw": float(np.clip(rng.normal(0, 0.17), -0.42, 0.42)),
        "jaw": rng.normal(1, 0.06),
        "chin": rng.normal(1, 0.035),
    }
    traits = pose | _sample_hair(rng, tone, rare) | _sample_features(rng, skin) | _sample_wear(rng, rare)
    light = np.array([rng.normal(0, 0.6), rng.uniform(-0.6, 0.0), 0.9])
    exposure = rng.uniform(0.82, 1.08) + 0.05 * max(tone - 3, 0)
    return _Face(
        **traits,
        skin=skin,
        light=(light / np.linalg.norm(light)).astype(np.float32),
        gain=(exposure * (1 + rng.normal(0, 0.025, 3))).astype(np.float32),
        backdrop=str(rng.choice(["gradient", "bokeh", "stripes", "panels"])),
        sharpness=rng.uniform(0.0012, 0.0028),
        grain=rng.uniform(2, 9),
    )


def _sample_hair(rng: np.random.Generator, tone: float, rare: dict[str, bool]) -> dict:
    """Style, colour, hairline; jewellery and hats ask for hair that leaves room for them."""
    share = np.array([s[0] for s in _STYLES.values()])
    style = str(rng.choice(list(_STYLES), p=share / share.sum()))
    if rare["hat"] and style in ("curly", "bun"):
        style = "bob"
    _, volume, _, _, tuck = _STYLES[style]
    weights = np.array([4, 4, 3, 1.5, 1.2, 3, 1.2, 0.8, 1.2]) if tone < 3.2 else np.array([8, 5, 1, 1, 0, 1, 1, 1, 1])
    colour = str(rng.choice(list(_HAIR), p=weights / weights.sum()))
    base = _vivid(rng) * 0.85 if colour == "dyed" else np.array(_HAIR[colour], np.float32)
    lines = ["back", "swept"] if style in ("short", "crop", "bun", "curly") else list(_HAIRLINES)
    line = np.array(_HAIRLINES[rng.choice(lines)]) + rng.normal(0, 0.025)
    tucked = rng.random(2) < tuck
    return {
        "hair_style": style,
        "hair_colour": colour,
        "hair": np.clip(base * rng.uniform(0.85, 1.15) + rng.normal(0, 5, 3), 14, 245).astype(np.float32),
        "hairline": line[::-1] if rng.random() < 0.5 else line,
        "volume": 0.07 if rare["hat"] and volume else volume * rng.uniform(0.85, 1.25),
        "tucked": (True, True) if rare["earrings"] else (bool(tucked[0]), bool(tucked[1])),
        "beard": rng.uniform(0.3, 0.9)
        if style in ("bald", "short", "crop") and colour != "dyed" and rng.random() < 0.4
        else 0.0,
    }


def _sample_features(rng: np.random.Generator, skin: np.ndarray) -> dict:
    """Eyes, brows, nose and mouth."""
    lip = _mix(skin * np.float32(0.86), np.array([190, 70, 80], np.float32) * (0.35 + skin.mean() / 320), 0.55)
    if rng.random() < 0.3:
        lip = _mix(lip, np.array([(188, 24, 52), (206, 62, 96), (122, 28, 58), (214, 106, 88)][rng.integers(4)]), 0.75)
    return {
        "blush": rng.uniform(0.3, 1.2),
        "freckles": int(rng.integers(12, 30)) if rng.random() < 0.12 else 0,
        "eye_gap": rng.normal(0.33, 0.012),
        "eye_open": rng.uniform(0.8, 1.2),
        "iris": np.array(_IRIS[rng.integers(len(_IRIS))], np.float32),
        "gaze": rng.normal(0, 0.16, 2),
        "brow": (rng.uniform(0.022, 0.045), rng.uniform(-0.03, 0.05)),
        "nose": (rng.uniform(0.85, 1.25), rng.uniform(0.92, 1.08)),
        "mouth": (rng.uniform(0.21, 0.28), rng.uniform(0.85, 1.3)),
        "smile": rng.normal(0.065, 0.04),
        "open": rng.uniform(0.05, 0.17) if rng.random() < 0.5 else 0.0,
        "lip": lip.astype(np.float32),
    }


def _sample_wear(rng: np.random.Generator, rare: dict[str, bool]) -> dict:
    """Garment and accessories; an empty name means that there is none."""
    pick = {
        "hat": rng.choice(["cap", "beanie", "brim"]),
        "glasses": rng.choice(["round", "square", "dark"], p=[0.4, 0.4, 0.2]),
        "earring": rng.choice(["stud", "hoop", "drop"]),
        "necklace": rng.choice(["pearls", "chain"]),
        "garment": rng.choice(["crew", "vneck", "collar", "turtleneck"], p=[0.35, 0.25, 0.25, 0.15]),
        "pattern": rng.choice(["plain", "stripes", "plaid"], p=[0.6, 0.25, 0.15]),
    }
    pick = {k: str(v) for k, v in pick.items()}
    worn = {"hat": rare["hat"], "glasses": rare["glasses"], "earring": rare["earrings"], "necklace": rare["necklace"]}
    pick |= {k: "" for k, yes in worn.items() if not yes}
    if rare["necklace"]:
        pick["garment"] = "vneck"
    cloth = _vivid(rng) if rng.random() < 0.55 else np.full(3, rng.uniform(28, 235)) + rng.normal(0, 10, 3)
    return pick | {"cloth": cloth.astype(np.float32), "accent": _vivid(rng)}


def _attributes(face: _Face) -> dict[str, str | float | bool]:
    lab = cv2.cvtColor((face.skin / 255).reshape(1, 1, 3), cv2.COLOR_RGB2LAB)[0, 0].astype(float)
    return {
        "skin_tone": round(float(np.degrees(np.arctan2(lab[0] - 50, lab[2]))), 1),
        "yaw": round(float(np.degrees(face.yaw)), 1),
        "tilt": round(float(np.degrees(face.tilt)), 1),
        "hair_style": face.hair_style,
        "hair_colour": face.hair_colour,
        "beard": face.beard > 0,
        "mouth_open": face.open > 0,
        "hat": bool(face.hat),
        "eyeglasses": bool(face.glasses),
        "earrings": bool(face.earring),
        "necklace": bool(face.necklace),
        "garment": face.garment,
    }


def _rgb(red: float, green: float, blue: float) -> np.ndarray:
    return np.array([red, green, blue], np.float32)


def _vivid(rng: np.random.Generator) -> np.ndarray:
    """A random colour of some saturation, float32 RGB 0..255."""
    hsv = np.float32([[[rng.uniform(0, 360), rng.uniform(0.25, 0.8), rng.uniform(0.3, 0.95)]]])
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0] * 255


def _mix(a: np.ndarray, b: np.ndarray, share_of_b: float) -> np.ndarray:
    return (a + (b - a) * np.float32(share_of_b)).astype(np.float32)


# --------------------------------------------------------------------------------------------------------------------
# Painting: shapes, strokes and soft fields.


class _Canvas:
    """Photo float32 ``[3, S, S]`` 0..255 and labels uint8 ``[S, S]``, painted together.

    The photo is planar because that blends faster.
    """

    def __init__(self, size: int):
        self.size = size
        self.photo = np.zeros((3, size, size), np.float32)
        self.labels = np.zeros((size, size), np.uint8)

    def fill(
        self,
        outline: np.ndarray | list[np.ndarray],
        colour: np.ndarray,
        label: str | None = None,
        alpha: float = 1.0,
        within: tuple[str, ...] = (),
        keep: tuple[str, ...] = (),
    ) -> None:
        """Paint a polygon, or the union of several.

        Args:
            outline: ``[K, 2]`` frame coordinates, or a list of such; parts outside the frame are cut off.
            colour: RGB 0..255, or a texture float32 ``[3, S, S]`` of which the covered part is taken.
            label: class that the covered pixels get; ``None`` leaves the labels alone.
            alpha: opacity, 0..1.
            within: paint only on pixels that bear one of these labels now.
            keep: labels that show through, so that they are painted over but stay in the label map.
        """
        one = 1 << _SUBPIXEL_BITS
        outlines = outline if isinstance(outline, list) else [outline]
        fixed = [np.rint((points * self.size - 0.5) * one).astype(np.int32) for points in outlines]
        boxes = np.array([cv2.boundingRect(points) for points in fixed])
        (x0, y0) = np.maximum(boxes[:, :2].min(0) // one - 1, 0).tolist()
        (x1, y1) = np.minimum((boxes[:, :2] + boxes[:, 2:]).max(0) // one + 3, self.size).tolist()
        if x0 >= x1 or y0 >= y1:
            return
        cover = np.zeros((y1 - y0, x1 - x0), np.uint8)
        for points in fixed:
            cv2.fillPoly(cover, [points - np.int32([x0 * one, y0 * one])], 255, cv2.LINE_AA, _SUBPIXEL_BITS)
        photo, labels = self.photo[:, y0:y1, x0:x1], self.labels[y0:y1, x0:x1]
        if within:
            cover *= _member(within)[labels]
        colour = colour[:, y0:y1, x0:x1] if colour.ndim == 3 else colour[:, None, None]
        photo += (colour - photo) * (cover * np.float32(alpha / 255))
        if label is not None:
            top = cover > 127
            if keep:
                top &= _member(keep)[labels] == 0
            np.copyto(labels, _L[label], where=top)


@lru_cache
def _member(names: tuple[str, ...]) -> np.ndarray:
    """uint8 ``[19]``: 1 for the classes in ``names``."""
    return np.isin(np.arange(CELEBAMASK.n), [_L[name] for name in names]).astype(np.uint8)


@lru_cache
def _unit_grid() -> np.ndarray:
    """float32 ``[2, 64, 64]``: frame coordinates (x, y) of the shading grid."""
    axis = (np.arange(_GRID, dtype=np.float32) + 0.5) / _GRID
    return np.stack(np.meshgrid(axis, axis))


@lru_cache
def _spline_basis(steps: int) -> np.ndarray:
    """``[steps, 4]`` weights of a Catmull-Rom segment's four control points."""
    t = np.arange(steps) / steps
    return np.stack([-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2], 1) / 2


def _smooth(points: np.ndarray, steps: int = 6) -> np.ndarray:
    """``[K * steps, 2]``: closed smooth curve through ``[K, 2]`` control points."""
    points = np.asarray(points, np.float64)
    k = np.arange(len(points))
    quads = points[(k[:, None] + np.array([-1, 0, 1, 2])) % len(points)]
    return (_spline_basis(steps) @ quads).reshape(-1, 2)


def _arc(points: np.ndarray, steps: int = 6) -> np.ndarray:
    """``[(K - 1) * steps + 1, 2]``: open smooth curve through ``[K, 2]`` control points."""
    points = np.asarray(points, np.float64)
    padded = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    quads = padded[np.arange(len(points) - 1)[:, None] + np.arange(4)]
    return np.concatenate([(_spline_basis(steps) @ quads).reshape(-1, 2), points[-1:]])


def _stroke(line: np.ndarray, width: float, taper: float = 1.0) -> np.ndarray:
    """Outline ``[2K, 2]`` of a brush stroke along ``[K, 2]``: ``width`` in the middle, thinner at the ends by taper."""
    line = np.asarray(line, np.float64)
    ends = np.concatenate([line[:1], line, line[-1:]])
    along = ends[2:] - ends[:-2]
    reach = width / 2 / (np.sqrt((along * along).sum(1)) + 1e-9)
    half = along[:, ::-1] * (-1, 1) * (reach * (1 - taper * _across(len(line)) ** 2))[:, None]
    return np.concatenate([line + half, (line - half)[::-1]])


@lru_cache
def _across(k: int) -> np.ndarray:
    return np.linspace(-1, 1, k)


def _ellipse(u: float, v: float, ru: float, rv: float, power: float = 2.0, k: int = 24) -> np.ndarray:
    """``[k, 2]`` points of an ellipse about (u, v); ``power`` above 2 makes it squarer."""
    return _superellipse(k, power) * (ru, rv) + (u, v)


@lru_cache
def _superellipse(k: int, power: float) -> np.ndarray:
    angle = np.arange(k) * (2 * np.pi / k)
    circle = np.stack([np.cos(angle), np.sin(angle)], 1)
    return np.sign(circle) * abs(circle) ** (2 / power)


def _mirrored(points: np.ndarray, side: int) -> np.ndarray:
    """Points given for the viewer's right side, on the side asked for (-1 or 1)."""
    return np.asarray(points, np.float64) * (side, 1)


def _enlarged(field: np.ndarray, size: int) -> np.ndarray:
    """A shading field float32 ``[64, 64]`` as ``[size, size]``, or ``[64, 64, 3]`` as planar ``[3, size, size]``."""
    if field.ndim == 2:
        return cv2.resize(field.astype(np.float32, copy=False), (size, size), interpolation=cv2.INTER_LINEAR)
    planes = np.empty((3, size, size), np.float32)
    for plane, out in zip(cv2.split(field.astype(np.float32, copy=False)), planes, strict=True):
        cv2.resize(plane, (size, size), dst=out, interpolation=cv2.INTER_LINEAR)
    return planes


def _bumps(u: np.ndarray, v: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Sum of Gaussian bumps; rows of ``table`` are centre u, v, spread u, v and height."""
    t = np.asarray(table, np.float32)[:, :, None]
    gu = np.exp(-(((u.ravel() - t[:, 0]) / t[:, 2]) ** 2) - ((v.ravel() - t[:, 1]) / t[:, 3]) ** 2)
    return (t[:, 4, 0] @ gu).reshape(u.shape)


def _tinted(colour: np.ndarray, shade: np.ndarray) -> np.ndarray:
    """float32 ``[..., 3]``: ``colour`` under ``shade`` (1 = as it is), with shadows that turn warm."""
    return colour * (1 + (shade - 1)[..., None] * np.float32([0.86, 1.06, 1.14]))


def _noise_field(rng: np.random.Generator, cells: int) -> np.ndarray:
    """Smooth noise float32 ``[64, 64]`` of unit scale with about ``cells`` blotches a side."""
    return cv2.resize(rng.standard_normal((cells, cells), np.float32), (_GRID, _GRID), interpolation=cv2.INTER_CUBIC)


# --------------------------------------------------------------------------------------------------------------------
# Textures and the scene.

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


def _skin_texture(face: _Face, size: int) -> np.ndarray:
    """float32 ``[3, size, size]``: lit skin of the head, with blush and beard."""
    u, v = face.grid()
    nu, nv = u / 0.80, (v + 0.05) / 1.22
    nz = np.sqrt(np.maximum(1 - nu**2 - nv**2, 0.02))
    lit = nu * face.light[0] + nv * face.light[1] + nz * face.light[2]
    relief = np.array(_RELIEF, np.float32)
    relief[:, 0] = _turned(relief[:, 0], face.yaw)
    nose = _turned(np.zeros(1), face.yaw)[0]
    away = -1 if face.light[0] > 0 else 1
    side = (nose + away * 0.09, 0.08, 0.06, 0.20, -0.10 - 0.15 * abs(face.light[0]))
    shade = 0.66 + 0.40 * lit + _bumps(u, v, np.vstack([relief, side]))
    shade -= 0.16 * np.clip((-v - 0.55) / 0.4, 0, 1)
    skin = _tinted(face.skin, shade)
    cheeks = [(*_turned(np.array([c]), face.yaw), 0.24, 0.18, 0.15, 1.0) for c in (-0.42, 0.42)]
    red = _bumps(u, v, np.array([*cheeks, (nose, 0.25, 0.09, 0.08, 0.6)])) * face.blush
    skin += red[..., None] * np.float32([0.05, -0.10, -0.08]) * face.skin
    if face.beard:
        beard = np.clip((v - 0.62 + 1.1 * (u - 0.5 * nose) ** 2) / 0.2, 0, 1)
        beard = np.maximum(beard, np.exp(-(((u - nose) / 0.26) ** 4) - ((v - 0.46) / 0.055) ** 2)) * (v > 0.05)
        skin += (face.hair * np.float32(0.75) - skin) * (face.beard * cv2.GaussianBlur(beard, (5, 5), 0.8))[..., None]
    return _enlarged(skin, size)


def _hair_texture(face: _Face, size: int, rng: np.random.Generator) -> np.ndarray:
    """float32 ``[3, size, size]``: hair with strands that follow the style and a band of shine."""
    table = cv2.GaussianBlur(rng.standard_normal((24, 384), np.float32), (0, 0), sigmaX=1.1, sigmaY=1.0) * 2.2
    if face.hair_style == "bald":
        return np.zeros((3, size, size), np.float32)
    u, v = face.grid()
    kind = _STYLES[face.hair_style][3]
    rise = np.minimum(v + 0.25, 0) * 0.85
    across, along = np.hypot(u, rise), v + 0.4 * u
    if kind == "radial":
        along, across = np.hypot(u, v + 0.2), np.arctan2(u, 0.6 - v) * 0.9
    elif face.hairline[3] > -0.6:  # a fringe falls over the forehead
        across = 0.9 * np.arctan2(u, np.maximum(0.6 - v, 0.5))
    elif kind == "wave":
        across = across + 0.035 * np.sin(9 * v + 3 * np.sign(u))
    elif kind == "curl":
        wobble = cv2.resize(rng.standard_normal((2, 18, 18), np.float32).transpose(1, 2, 0), (_GRID, _GRID))
        across, along = u * 0.5 + 0.10 * wobble[..., 0], v * 2.5 + 0.5 * wobble[..., 1]
    strands = cv2.remap(
        table,
        _enlarged(np.abs(across * 170 + 100), size),
        _enlarged(np.abs(along * 4 + 10), size),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    crown = np.hypot(u + 0.3 * face.light[0], np.minimum(v + 0.25, 0) * 0.95)
    shine = 0.35 * np.exp(-(((crown - 0.78 - 0.4 * face.volume) / 0.13) ** 2)) * np.clip(-v * 4, 0, 1)
    shade = 0.80 + 0.25 * (u * face.light[0] - v * 0.25) + shine - 0.18 * np.clip(v, 0, 1)
    base = _enlarged(_tinted(face.hair + np.float32(10), shade), size)
    base *= 1 + np.clip(strands, -2, 2.4) * np.float32(0.16)
    return base


def _draw_background(canvas: _Canvas, face: _Face, rng: np.random.Generator) -> None:
    """An out-of-focus backdrop: gradient, lights, stripes or wall panels."""
    x, y = _unit_grid()
    a, b, c = (_mix(_vivid(rng), _rgb(226, 220, 212), rng.uniform(0, 0.7)) for _ in range(3))
    if face.backdrop in ("stripes", "panels"):
        b = _mix(a, b, 0.45)
    angle = rng.uniform(0, 2 * np.pi)
    t = np.clip(0.5 + (x - 0.5) * np.cos(angle) + (y - 0.5) * np.sin(angle), 0, 1)
    if face.backdrop == "stripes":
        t = 0.5 + 0.5 * np.clip(2.5 * np.sin(t * rng.uniform(14, 40)), -1, 1)
    elif face.backdrop == "panels":
        t = np.floor(t * rng.integers(2, 5) + 0.5) / 3
    field = a + (b - a) * t[..., None].astype(np.float32)
    if face.backdrop == "bokeh":
        for px, py, r, strength in rng.uniform((0, 0, 0.03, 0.2), (1, 1, 0.13, 0.8), (14, 4)):
            disc = np.clip((r - np.hypot(x - px, y - py)) * 40 + 0.5, 0, 1) * np.float32(strength)
            field += (c * np.float32(0.7) + np.float32(70) - field) * disc[..., None]
    field += (_noise_field(rng, 6) * 7)[..., None]
    canvas.photo = _enlarged(cv2.GaussianBlur(field, (5, 5), 0.9), canvas.size)


def _develop(photo: np.ndarray, face: _Face, rng: np.random.Generator) -> np.ndarray:
    """uint8 ``[S, S, 3]`` from the planar painting: falloff of the light, exposure, lens blur and grain."""
    size = photo.shape[1]
    x, y = _unit_grid() - 0.5
    falloff = _enlarged(1 + 0.22 * (face.light[0] * x + face.light[1] * y) - 0.25 * (x**2 + y**2), size)
    grain = rng.integers(0, 256, (size, size), np.uint8) * np.float32(face.grain / 127.5) - np.float32(face.grain)
    planes = []
    for plane, gain in zip(photo, face.gain, strict=True):
        plane = cv2.GaussianBlur(plane, (0, 0), max(face.sharpness * size, 0.2)) * (falloff * gain) + grain
        planes.append(np.clip(plane, 0, 255, out=plane).astype(np.uint8))
    return cv2.merge(planes)


# --------------------------------------------------------------------------------------------------------------------
# Parts, in painting order.


def _crown(face: _Face, reach: float, extra: float = 0.0) -> np.ndarray:
    """``[K, 2]`` head points along the outside of the hair, from ear over the top to ear; ``reach`` in degrees."""
    angle = np.radians(np.linspace(-reach, reach, 29))
    grow = face.volume + extra
    bumps = 1 + (0.035 * np.abs(np.sin(angle * 7.5)) if face.hair_style == "curly" else 0.0)
    return np.stack([(0.71 + 0.9 * grow) * bumps * np.sin(angle), -0.27 - (0.86 + grow) * bumps * np.cos(angle)], 1)


def _draw_hair_back(canvas: _Canvas, face: _Face, hair: np.ndarray) -> None:
    """What of the hair lies behind neck and ears."""
    if face.hair_style == "bald":
        return
    end = _STYLES[face.hair_style][2]
    crown = _crown(face, 90, -0.02)
    wide = crown[-1, 0]
    if end > 0.5:
        right = [(wide + 0.04, 0.1), (wide + 0.06, 0.4 * end), (wide + 0.06, 0.75 * end), (wide - 0.12, end)]
    else:
        right = [(wide * 0.97, 0.05 + end), (wide * 0.8, 0.42 + end)]
    left = [(-u, v) for u, v in reversed(right)]
    outline = _smooth(np.concatenate([crown, right, left]), 3)
    if face.hair_style == "curly":
        outline = _crown(face, 142, -0.02)
    canvas.fill(face.at(outline, 0.0), hair * np.float32(0.62), "hair")
    if face.hair_style == "bun":
        canvas.fill(face.at(_ellipse(0.06, -1.33, 0.32, 0.27), 0.2), hair, "hair")


def _draw_neck(canvas: _Canvas, face: _Face) -> None:
    """Neck and what the garment leaves bare, in the chin's shadow; then a necklace."""
    u, v = face.grid()
    shade = 0.86 + 0.22 * (u * face.light[0]) - 0.18 * u**2
    shade += _bumps(u, v, np.array([(face.yaw * 0.5, 0.98, 0.55, 0.22, -0.34), (0.0, 1.5, 0.3, 0.2, 0.05)]))
    wide = 0.40 * face.jaw
    right = [(wide, 0.3), (wide, 0.9), (wide + 0.05, 1.06), (wide + 0.3, 1.24), (1.1, 1.6), (1.1, 2.6)]
    outline = np.array(right + [(-a, b) for a, b in reversed(right)])
    canvas.fill(face.below(outline), _enlarged(_tinted(face.skin, shade), canvas.size), "neck")
    for side in (-1, 1):
        bone = _mirrored([(0.06, 1.52), (0.3, 1.44), (0.55, 1.43)], side)
        canvas.fill(face.below(_stroke(_arc(bone), 0.05)), face.skin * np.float32(0.6), alpha=0.35)


def _draw_necklace(canvas: _Canvas, face: _Face) -> None:
    line = _arc(np.array([(-0.43, 1.10), (-0.30, 1.23), (0.0, 1.30), (0.30, 1.23), (0.43, 1.10)]), 6)
    if face.necklace == "pearls":
        beads = [face.below(_ellipse(u, v, 0.036, 0.036, k=12)) for u, v in line[1:-1]]
        glints = [face.below(_ellipse(u - 0.012, v - 0.014, 0.014, 0.014, k=8)) for u, v in line[1:-1]]
        canvas.fill(beads, _rgb(206, 196, 186), "neck_l")
        canvas.fill(glints, _rgb(255, 252, 246))
        return
    gold = _rgb(206, 160, 66) if face.accent[0] > 120 else _rgb(186, 190, 198)
    canvas.fill(face.below(_stroke(line, 0.042, 0.1)), gold * np.float32(0.8), "neck_l")
    canvas.fill(face.below(_stroke(line - 0.006, 0.014, 0.1)), gold * np.float32(1.2))
    canvas.fill(face.below(_ellipse(0, 1.37, 0.055, 0.075, k=16)), gold * np.float32(0.85), "neck_l")
    canvas.fill(face.below(_ellipse(0, 1.37, 0.034, 0.05, k=12)), face.accent)


_NECKLINES = {
    "crew": [(-0.52, 1.10), (-0.36, 1.24), (0.0, 1.33), (0.36, 1.24), (0.52, 1.10)],
    "vneck": [(-0.58, 1.10), (-0.34, 1.34), (0.0, 1.72), (0.34, 1.34), (0.58, 1.10)],
    "collar": [(-0.50, 1.06), (-0.26, 1.28), (0.0, 1.52), (0.26, 1.28), (0.50, 1.06)],
    "turtleneck": [(-0.46, 0.98), (-0.25, 1.10), (0.0, 1.14), (0.25, 1.10), (0.46, 0.98)],
}


def _draw_cloth(canvas: _Canvas, face: _Face, rng: np.random.Generator) -> None:
    """The garment, its pattern and its collar, and a necklace above it."""
    u, _ = face.grid()
    shade = 0.92 + 0.2 * u * face.light[0] + 0.07 * _noise_field(rng, 9) - 0.12 * np.clip(abs(u) - 0.7, 0, 1)
    texture = _enlarged(_tinted(face.cloth, shade), canvas.size)
    neckline = _arc(np.array(_NECKLINES[face.garment]), 5)
    right = _arc([neckline[-1], (0.95, 1.22), (1.3, 1.40), (1.52, 1.85), (1.6, 3.0)], 4)[1:]
    outline = np.concatenate([neckline, right, _mirrored(right, -1)[::-1]])
    canvas.fill(face.below(outline), texture, "cloth")
    if face.pattern != "plain":
        pitch = rng.uniform(0.16, 0.3)
        at = np.arange(-1.6, 1.6, pitch)
        flat = [np.array([(-1.7, a + 2.4), (1.7, a + 2.4)]) for a in at]
        bands = [face.below(_stroke(line, pitch * 0.42, 0)) for line in flat]
        canvas.fill(bands, face.accent, alpha=0.45 if face.pattern == "plaid" else 0.8, within=("cloth",))
        if face.pattern == "plaid":
            upright = [np.array([(a, 0.8), (a * 1.1, 3.0)]) for a in at]
            bands = [face.below(_stroke(line, pitch * 0.42, 0)) for line in upright]
            canvas.fill(bands, face.accent, alpha=0.45, within=("cloth",))
    dark = face.cloth * np.float32(0.55)
    if face.garment == "collar":
        for side in (-1, 1):
            flap = _mirrored([(0.42, 0.96), (0.54, 1.10), (0.50, 1.46), (0.30, 1.62), (0.02, 1.50)], side)
            canvas.fill(face.below(flap + (0.0, 0.03)), dark, "cloth", alpha=0.6)
            canvas.fill(face.below(flap), texture, "cloth")
            canvas.fill(face.below(flap), _WHITE, alpha=0.14)
        canvas.fill(face.below(_stroke(np.array([(0.0, 1.52), (0.0, 2.6)]), 0.02, 0)), dark, alpha=0.7)
    else:
        hem = 0.09 if face.garment == "turtleneck" else 0.045
        canvas.fill(face.below(_stroke(neckline + (0, 0.02), hem, 0)), dark, "cloth", alpha=0.55)
    if face.necklace:
        _draw_necklace(canvas, face)


def _ear_centre(face: _Face, side: int) -> float:
    """``u`` of the ear: the one that the head turns towards slides behind the face."""
    hidden = max(side * face.yaw, 0.0)
    return side * (0.725 - 0.6 * hidden + 0.04 * max(-side * face.yaw, 0.0))


def _draw_ears(canvas: _Canvas, face: _Face, skin: np.ndarray) -> None:
    for side in (-1, 1):
        at = _ear_centre(face, side)
        rim = [(-0.06, -0.20), (0.05, -0.22), (0.125, -0.12), (0.115, 0.03), (0.07, 0.17), (0.0, 0.25), (-0.07, 0.2)]
        outline = _mirrored(_smooth(np.array(rim) * (1, 1.02)), side) + (at, 0.06)
        canvas.fill(face.at(outline, 0.0), skin * np.float32(0.93), "l_ear" if side > 0 else "r_ear")
        fold = _mirrored(_arc([(-0.02, -0.13), (0.055, -0.14), (0.075, -0.03), (0.03, 0.09)]), side) + (at, 0.06)
        canvas.fill(face.at(_stroke(fold, 0.035), 0.0), face.skin * np.float32(0.5), alpha=0.5)
        canvas.fill(
            face.at(_ellipse(at - side * 0.005, 0.1, 0.03, 0.06, k=12), 0.0), face.skin * np.float32(0.4), alpha=0.45
        )


def _draw_face(canvas: _Canvas, face: _Face, skin: np.ndarray, rng: np.random.Generator) -> None:
    """The head down to the chin; turning it moves the jaw more than the forehead."""
    half = np.array(
        [(0.34, -1.02), (0.58, -0.78), (0.69, -0.36), (0.69, 0.05), (0.615, 0.45), (0.44, 0.78), (0.2, 0.98)]
    )
    half *= np.stack(
        [np.where(half[:, 1] > 0, 1 + (face.jaw - 1) * half[:, 1] * 1.3, 1), np.where(half[:, 1] > 0, face.chin, 1)], 1
    )
    chin = (0.0, 1.015 * face.chin)
    points = np.array([(0, -1.08), *half, chin, *_mirrored(half, -1)[::-1]])
    points[:, 0] += 0.5 * face.yaw * np.clip(points[:, 1] + 0.1, 0, 0.9)
    canvas.fill(face.at(_smooth(points), 0.0), skin, "skin")
    if face.freckles:
        spots = rng.normal((0, 0.15), (0.32, 0.11), (face.freckles, 2))
        spots = [face.at(_ellipse(u, v, 0.012, 0.012, k=6)) for u, v in spots]
        canvas.fill(spots, face.skin * np.float32(0.62), alpha=0.5, within=("skin",))


def _draw_nose(canvas: _Canvas, face: _Face) -> None:
    wide, long = face.nose
    right = [
        (0.055, -0.12),
        (0.065, 0.05),
        (0.10 * wide, 0.19 * long),
        (0.155 * wide, 0.30 * long),
        (0.11 * wide, 0.37 * long),
    ]
    outline = _smooth(np.array([*right, (0, 0.395 * long), *_mirrored(right, -1)[::-1]]), 4)
    outline[:, 0] += 0.10 * face.yaw * np.clip(outline[:, 1] + 0.1, 0, 0.5)
    canvas.fill(face.at(outline), face.skin, "nose", alpha=0.06)
    dark = face.skin * np.float32([0.46, 0.36, 0.34])
    tip = 0.04 * face.yaw
    wing = _stroke(_arc(np.array([(0.115, 0.22), (0.16, 0.29), (0.115, 0.365)]) * (wide, long), 4), 0.028)
    hole = _ellipse(0.065 * wide, 0.352 * long, 0.036 * wide, 0.018, k=12)
    canvas.fill([face.at(_mirrored(wing, side) + (tip, 0)) for side in (-1, 1)], dark, alpha=0.42)
    canvas.fill([face.at(_mirrored(hole, side) + (tip, 0)) for side in (-1, 1)], dark, alpha=0.75)
    lit = 1 if face.light[0] > 0 else -1
    canvas.fill(face.at(_ellipse(lit * 0.02 + tip, 0.245 * long, 0.03, 0.035, k=12)), _rgb(255, 248, 240), alpha=0.22)
    shadow = -lit
    ridge = _arc(np.array([(shadow * 0.07, -0.14), (shadow * 0.06, 0.04), (shadow * 0.09, 0.2)]), 4)
    canvas.fill(face.at(_stroke(ridge, 0.035)), dark, alpha=0.16)


def _draw_mouth(canvas: _Canvas, face: _Face) -> None:
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
    upper = np.concatenate([_arc(top, 4), _arc(seam_top, 4)[::-1]])
    lower = np.concatenate([_arc(seam_low, 4), _arc(low, 4)[::-1]])
    dark = face.lip * np.float32([0.42, 0.3, 0.32])
    if gap:
        inside = np.concatenate([_arc(seam_top, 4), _arc(seam_low, 4)[::-1]])
        canvas.fill(face.at(inside), _rgb(70, 22, 26), "mouth")
        canvas.fill(
            face.at(_ellipse(0, v + bend[3] + 0.72 * gap, wide * 0.5, 0.38 * gap, k=16)),
            _rgb(186, 84, 88),
            within=("mouth",),
        )
        teeth = np.concatenate([seam_top, (seam_top + (0, 0.42 * gap + 0.012))[::-1]])
        canvas.fill(face.at(teeth * (0.92, 1)), _rgb(240, 234, 224), within=("mouth",))
    canvas.fill(face.at(upper), face.lip * np.float32(0.86), "u_lip")
    canvas.fill(face.at(lower), face.lip, "l_lip")
    canvas.fill(
        face.at(
            _ellipse(-0.25 * wide * np.sign(face.light[0] + 1e-6), low[3, 1] - 0.055 * full, 0.3 * wide, 0.02, k=12)
        ),
        _rgb(255, 236, 232),
        alpha=0.28,
        within=("l_lip",),
    )
    if not gap:
        canvas.fill(face.at(_stroke(_arc(seam_top, 4), 0.022, 0.7)), dark, alpha=0.8)
    corner = _stroke(_arc([(wide * 0.97, inner_top[0] - 0.015), (wide * 1.06, inner_top[0] + 0.002)], 3), 0.03)
    canvas.fill(face.pair(corner), dark, alpha=0.5)


def _draw_eyes(canvas: _Canvas, face: _Face) -> None:
    """White, iris, pupil, glints and lids of both eyes."""
    tall, centre, eyes = 0.074 * face.eye_open, (face.eye_gap, -0.12), ("l_eye", "r_eye")
    top = [(-0.135, 0.018), (-0.07, -0.75 * tall), (0.01, -tall), (0.085, -0.62 * tall), (0.14, -0.008)]
    low = [(0.14, -0.008), (0.07, 0.62 * tall), (-0.02, 0.75 * tall), (-0.09, 0.5 * tall), (-0.135, 0.018)]
    top, low = _arc(top, 4) + centre, _arc(low, 4) + centre
    for outline, label in zip(face.pair(np.concatenate([top, low])), ("r_eye", "l_eye"), strict=True):
        canvas.fill(outline, _rgb(238, 232, 228), label)

    look = 0.045 * face.gaze[0] + 0.03 * face.yaw, -0.126 + 0.02 * face.gaze[1]

    def spots(du: float, dv: float, ru: float, rv: float) -> list[np.ndarray]:
        return [face.at(_ellipse(s * face.eye_gap + look[0] + du, look[1] + dv, ru, rv, k=16)) for s in (-1, 1)]

    canvas.fill(spots(0, 0, 0.068, 0.068), face.iris * np.float32(0.45), within=eyes)
    canvas.fill(spots(0, 0, 0.058, 0.058), face.iris, within=eyes)
    canvas.fill(spots(0, 0, 0.030, 0.030), _rgb(12, 10, 12), within=eyes)
    canvas.fill(spots(0, 0.035, 0.035, 0.016), face.iris * np.float32(1.5) + 20, alpha=0.6, within=eyes)
    dark = _mix(face.skin * np.float32(0.3), _rgb(24, 16, 16), 0.6)
    canvas.fill(face.pair(_stroke(top + (0, 0.022), 0.04)), dark, alpha=0.4, within=eyes)
    canvas.fill(spots(-0.02, -0.022, 0.016, 0.016), _WHITE, within=eyes)
    canvas.fill(face.pair(_stroke(top, 0.034, 0.7)), dark, alpha=0.9)
    canvas.fill(face.pair(_stroke(low, 0.014)), dark, alpha=0.4)
    lash = _arc([top[-1], top[-1] + (0.035, -0.028)], 3)
    canvas.fill(face.pair(_stroke(lash, 0.026, 0.8)), dark, alpha=0.8)
    crease = face.skin * np.float32([0.55, 0.42, 0.4])
    canvas.fill(face.pair(_stroke(top + (0, -0.05), 0.018)), crease, alpha=0.45)


def _draw_brows(canvas: _Canvas, face: _Face) -> None:
    thick, arch = face.brow
    line = _arc(
        [(0.15, -0.325), (0.27, -0.355 - 0.5 * arch), (0.40, -0.365 - 0.8 * arch), (0.52, -0.30 - 0.3 * arch)], 5
    )
    t = np.linspace(0, 1, len(line))[:, None]
    down = np.array([[0.0, thick]])
    body = np.concatenate([line - down * (1 - 0.55 * t), (line + down * (1 - 0.9 * t))[::-1]])
    colour = _mix(face.hair * np.float32(0.62), face.skin * np.float32(0.42), 0.4)
    for outline, label in zip(face.pair(body), ("r_brow", "l_brow"), strict=True):
        canvas.fill(outline, colour, label, alpha=0.78)
    hairs = [_stroke([p + (0, 0.7 * thick), p + (0.05, -0.8 * thick)], 0.016, 0.5) for p in line[1:-3:2]]
    canvas.fill([side for h in hairs for side in face.pair(h)], colour * np.float32(0.6), alpha=0.4)


def _draw_glasses(canvas: _Canvas, face: _Face) -> None:
    """Lenses, frames, bridge and arms; eyes stay visible, and labelled, behind clear glass."""
    if not face.glasses:
        return
    rim = _mix(face.accent * np.float32(0.35), _rgb(30, 26, 28), 0.6)
    power, ru, rv = (2.2, 0.215, 0.205) if face.glasses == "round" else (4.5, 0.235, 0.165)
    dark = face.glasses == "dark"
    keep = () if dark else ("l_eye", "r_eye", "l_brow", "r_brow")
    for side in (-1, 1):
        lens = _ellipse(side * 0.335, -0.09, ru, rv, power, 32)
        glass = _rgb(26, 24, 30) if dark else _rgb(214, 228, 238)
        canvas.fill(face.at(lens), glass, "eye_g", alpha=0.93 if dark else 0.13, keep=keep)
        glint = np.array([(side * 0.335 - 0.12, 0.0), (side * 0.335 - 0.02, -0.2)])
        canvas.fill(face.at(_stroke(_arc(glint, 3), 0.05)), _WHITE, alpha=0.22)
        loop = np.concatenate([lens, lens[:1]])
        canvas.fill(face.at(_stroke(loop, 0.036, 0.0)), rim, "eye_g")
        arm = np.array([(side * (0.335 + ru), -0.13), (side * 0.74, -0.11)])
        if side * face.yaw < 0.22:
            canvas.fill(
                face.at(_stroke(arm, 0.04, 0.0)), rim, "eye_g", within=("skin", "l_ear", "r_ear", "l_brow", "r_brow")
            )
    bridge = _arc(np.array([(-0.125, -0.10), (0.0, -0.15), (0.125, -0.10)]), 5)
    canvas.fill(face.at(_stroke(bridge, 0.04, 0.2)), rim, "eye_g")


def _draw_earrings(canvas: _Canvas, face: _Face) -> None:
    metal = _rgb(226, 184, 92) if face.cloth[2] < 128 else _rgb(206, 210, 218)
    for side, bare in zip((-1, 1), face.bare_ears, strict=True):
        if not (face.earring and bare):
            continue
        u, v = _ear_centre(face, side) + side * 0.035, 0.29
        if face.earring == "hoop":
            ring = _ellipse(u, v + 0.13, 0.10, 0.13, k=24)
            canvas.fill(face.at(_stroke(np.concatenate([ring, ring[:1]]), 0.042, 0.0), 0.0), metal, "ear_r")
            continue
        canvas.fill(face.at(_ellipse(u, v, 0.05, 0.05, k=16), 0.0), metal, "ear_r")
        if face.earring == "drop":
            canvas.fill(
                face.at(_smooth([(u, v), (u + 0.06, v + 0.22), (u, v + 0.31), (u - 0.06, v + 0.22)]), 0.0),
                face.accent,
                "ear_r",
            )
        canvas.fill(face.at(_ellipse(u - 0.015, v - 0.015, 0.016, 0.016, k=8), 0.0), _rgb(255, 255, 250))


def _lock(face: _Face, side: int, wide: float) -> np.ndarray:
    """``[K, 2]`` head points from the hair's outside at the ear round its lower end to the temple, on one side."""
    end = _STYLES[face.hair_style][2]
    if end < 0.5:
        points = [(wide * 0.97, -0.16), (0.715, 0.02 + max(end, 0)), (0.665, 0.03 + max(end, 0))]
        if end > 0.1 and not face.tucked[side > 0]:
            points = [(wide * 1.02, 0.0), (wide * 0.95, 0.38), (0.72, 0.42), (0.62, 0.2)]
        return _mirrored(points, side)
    if face.tucked[side > 0]:
        points = [(wide + 0.02, -0.1), (0.74, -0.14), (0.67, -0.10)]
        return _mirrored(points, side)
    sway = 0.05 if face.hair_style == "wavy" else 0.0
    points = [(wide + 0.04, 0.1), (wide + 0.07 - sway, 0.45), (wide + 0.09 + sway, 0.8 * min(end, 1.2))]
    tip = [(wide - 0.06, end), (0.60, end + 0.03)]
    inner = [(0.58 - sway, 0.75 * min(end, 1.1)), (0.60 + sway, 0.35), (0.63, 0.1)]
    return _mirrored(points + tip + inner, side)


def _draw_hair_front(canvas: _Canvas, face: _Face, hair: np.ndarray) -> None:
    """Hair above the hairline and the locks before ears and shoulders, with its shadow on the forehead."""
    if face.hair_style == "bald":
        return
    crown = _crown(face, 84)
    wide = crown[-1, 0]
    line = np.stack([_turned(_HAIRLINE_U, 0.55 * face.yaw), face.hairline], 1)
    outline = np.concatenate([crown, _lock(face, 1, wide), line[::-1], _lock(face, -1, wide)[::-1]])
    outline = _smooth(outline, 4)
    ends = [_stroke(_arc([(u, v - 0.12), (u + 0.02, v), (u + 0.05, v + d)], 3), 0.07) for u, v, d in _tips(line)]
    shadow = face.skin * np.float32([0.5, 0.36, 0.32])
    on = ("skin", "l_brow", "r_brow")
    canvas.fill(face.at(_stroke(_arc(line + (0, 0.03)), 0.09), 0.0), shadow, alpha=0.22, within=on)
    canvas.fill([face.at(part, 0.0) for part in (outline, *ends)], hair, "hair")


def _tips(line: np.ndarray) -> Iterator[tuple[float, float, float]]:
    """Where strands leave the hairline ``[K, 2]``, and how far they hang down: further from a fringe."""
    for k, (u, v) in enumerate(_arc(line, 3)[3:-3]):
        yield u, v, (0.05, 0.01, 0.08, 0.03, 0.0, 0.06, 0.02)[k * 3 % 7] * float(np.clip(v + 1.15, 0.2, 1))


def _draw_hat(canvas: _Canvas, face: _Face) -> None:
    """A cap, a knitted hat or a hat with a brim, and its shadow on the forehead."""
    if not face.hat:
        return
    u, v = face.grid()
    shade = 0.88 + 0.35 * (u * face.light[0] - (v + 1.0) * 0.35) - 0.25 * u**2
    texture = _enlarged(_tinted(face.accent, shade), canvas.size)
    dark = face.accent * np.float32(0.5)
    shadow = _ellipse(0.25 * face.yaw, -0.56, 0.66, 0.16)
    canvas.fill(
        face.at(shadow, 0.0), face.skin * np.float32(0.3), alpha=0.4, within=("skin", "l_brow", "r_brow", "hair")
    )
    crown = _crown(face, 76, 0.08)
    edge = _arc(np.array([crown[-1], (0.4, -0.60), (0.0, -0.65), (-0.4, -0.60), crown[0]]), 5)
    _HATS[face.hat](canvas, face, texture, dark, crown, edge)


def _draw_cap(
    canvas: _Canvas, face: _Face, texture: np.ndarray, dark: np.ndarray, crown: np.ndarray, edge: np.ndarray
) -> None:
    canvas.fill(face.at(np.concatenate([crown, edge]), 0.0), texture, "hat")
    seams = [_arc([(0.0, -1.2), (at * 0.8, -1.05), (at, -0.64)], 4) for at in (-0.4, 0.0, 0.4)]
    canvas.fill([face.at(_stroke(seam, 0.02, 0), 0.6) for seam in seams], dark, alpha=0.6, within=("hat",))
    visor = _smooth(
        [(-0.66, -0.56), (-0.3, -0.74), (0.3, -0.74), (0.66, -0.56), (0.45, -0.44), (0, -0.38), (-0.45, -0.44)]
    )
    canvas.fill(face.at(visor, 0.6), texture * np.float32(0.72), "hat")
    canvas.fill(face.at(_stroke(_arc([(-0.6, -0.56), (0, -0.72), (0.6, -0.56)]), 0.03), 0.6), dark, alpha=0.7)


def _draw_beanie(
    canvas: _Canvas, face: _Face, texture: np.ndarray, dark: np.ndarray, crown: np.ndarray, edge: np.ndarray
) -> None:
    canvas.fill(face.at(_ellipse(0, -1.30, 0.17, 0.15), 0.0), _mix(face.accent, _WHITE, 0.3), "hat")
    canvas.fill(face.at(np.concatenate([crown, edge]), 0.0), texture, "hat")
    ribs = [_arc([(at * 0.55, -1.16), (at * 0.95, -0.92), (at, -0.52)], 4) for at in np.linspace(-0.7, 0.7, 15)]
    canvas.fill([face.at(_stroke(rib, 0.03), 0.0) for rib in ribs], dark, alpha=0.45, within=("hat",))
    cuff = np.concatenate([edge, (edge - (0, 0.17))[::-1]])
    canvas.fill(face.at(cuff, 0.0), texture, "hat")
    canvas.fill(face.at(cuff, 0.0), _WHITE, alpha=0.25)
    canvas.fill(face.at(_stroke(edge - (0, 0.17), 0.03, 0), 0.0), dark, alpha=0.6)


def _draw_brim(
    canvas: _Canvas, face: _Face, texture: np.ndarray, dark: np.ndarray, crown: np.ndarray, edge: np.ndarray
) -> None:
    dome = [(-0.64, -0.62), (-0.60, -1.1), (-0.42, -1.36), (0.0, -1.30), (0.42, -1.36), (0.60, -1.1), (0.64, -0.62)]
    canvas.fill(face.at(_smooth(dome, 6), 0.2), texture, "hat")
    band = np.array([(-0.64, -0.78), (0.0, -0.72), (0.64, -0.78)])
    canvas.fill(face.at(_stroke(_arc(band), 0.15, 0), 0.2), dark * np.float32(0.7), within=("hat",))
    brim = _smooth(
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
    canvas.fill(face.at(_stroke(_arc([(-0.62, -0.70), (0, -0.64), (0.62, -0.70)]), 0.03), 0.2), dark, alpha=0.6)


_HATS = {"cap": _draw_cap, "beanie": _draw_beanie, "brim": _draw_brim}

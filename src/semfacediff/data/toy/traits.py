"""What a face is: sampled once, in the head's own units, before any pixel is known."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import cv2
import numpy as np

from semfacediff.data.toy.colours import mix, vivid
from semfacediff.data.toy.fields import unit_grid
from semfacediff.data.toy.shapes import mirrored, rotation, turned
from semfacediff.seeding import derive_seed

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


class Style(NamedTuple):
    """A hair style: how often, how much hair, and which way it falls.

    ``share`` is relative; ``volume`` and ``end`` (lowest point) are head units; ``strands`` names the drawing of the
    texture; ``tuck`` is the chance that an ear shows.
    """

    share: float
    volume: float
    end: float
    strands: str
    tuck: float


STYLES = {
    "bald": Style(0.06, 0.0, 0.0, "radial", 1.0),
    "short": Style(0.20, 0.07, 0.0, "radial", 1.0),
    "crop": Style(0.14, 0.14, -0.05, "radial", 1.0),
    "bob": Style(0.15, 0.16, 0.75, "fall", 0.25),
    "long": Style(0.20, 0.13, 1.75, "fall", 0.4),
    "wavy": Style(0.11, 0.17, 1.55, "wave", 0.35),
    "curly": Style(0.08, 0.32, 0.2, "curl", 0.4),
    "bun": Style(0.06, 0.06, -0.05, "fall", 1.0),
}
# Height of the hairline at u = HAIRLINE_U
HAIRLINE_U = np.array([-0.67, -0.52, -0.26, 0.0, 0.26, 0.52, 0.67])
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
class Face:
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
            points[:, 0] = turned(points[:, 0], self.yaw * turn)
        return points @ self._axes + self.centre

    def pair(self, points: np.ndarray, turn: float = 1.0) -> list[np.ndarray]:
        """Frame coordinates of a shape given for the viewer's right, and of its mirror image."""
        return [self.at(mirrored(points, side), turn) for side in (-1, 1)]

    def below(self, points: np.ndarray) -> np.ndarray:
        """Frame coordinates of body points, which follow the head's tilt only a little."""
        return (np.asarray(points, np.float64) + (0.25 * self.tilt, 0.0)) @ self._body_axes + self.centre

    @cached_property
    def _axes(self) -> np.ndarray:
        return rotation(self.tilt) * self.scale

    @cached_property
    def _body_axes(self) -> np.ndarray:
        return rotation(0.25 * self.tilt) * self.scale

    def grid(self) -> np.ndarray:
        """Head coordinates float32 ``[2, 64, 64]`` of the shading grid's points (not turned)."""
        x, y = unit_grid() - self.centre[:, None, None].astype(np.float32)
        c, s = np.float32(np.cos(self.tilt) / self.scale), np.float32(np.sin(self.tilt) / self.scale)
        return np.stack([c * x + s * y, c * y - s * x])


def sample_face(rng: np.random.Generator, seed: int, index: int) -> Face:
    """Draw every trait; the order of the draws is part of what a seed means."""
    rare = {k: (index * step + derive_seed(seed, k) / 2**63) % 1 < rate for k, (step, rate) in _RARE.items()}
    tone = rng.uniform(0, len(_SKIN) - 1.001)
    skin = mix(_SKIN[int(tone)], _SKIN[int(tone) + 1], tone % 1)
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
    return Face(
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
    share = np.array([s.share for s in STYLES.values()])
    style = str(rng.choice(list(STYLES), p=share / share.sum()))
    if rare["hat"] and style in ("curly", "bun"):
        style = "bob"
    volume, tuck = STYLES[style].volume, STYLES[style].tuck
    weights = np.array([4, 4, 3, 1.5, 1.2, 3, 1.2, 0.8, 1.2]) if tone < 3.2 else np.array([8, 5, 1, 1, 0, 1, 1, 1, 1])
    colour = str(rng.choice(list(_HAIR), p=weights / weights.sum()))
    base = vivid(rng) * 0.85 if colour == "dyed" else np.array(_HAIR[colour], np.float32)
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
    lip = mix(skin * np.float32(0.86), np.array([190, 70, 80], np.float32) * (0.35 + skin.mean() / 320), 0.55)
    if rng.random() < 0.3:
        lip = mix(lip, np.array([(188, 24, 52), (206, 62, 96), (122, 28, 58), (214, 106, 88)][rng.integers(4)]), 0.75)
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
    cloth = vivid(rng) if rng.random() < 0.55 else np.full(3, rng.uniform(28, 235)) + rng.normal(0, 10, 3)
    return pick | {"cloth": cloth.astype(np.float32), "accent": vivid(rng)}


def drawn_attributes(face: Face) -> dict[str, str | float | bool]:
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

"""Behind the person, and the camera: backdrop, light falloff, lens and grain."""

import cv2
import numpy as np

from semfacediff.data.toy.canvas import Canvas
from semfacediff.data.toy.colours import mix, rgb, vivid
from semfacediff.data.toy.fields import enlarged, noise_field, unit_grid
from semfacediff.data.toy.traits import Face


def draw_background(canvas: Canvas, face: Face, rng: np.random.Generator) -> None:
    """An out-of-focus backdrop: gradient, lights, stripes or wall panels."""
    x, y = unit_grid()
    a, b, c = (mix(vivid(rng), rgb(226, 220, 212), rng.uniform(0, 0.7)) for _ in range(3))
    if face.backdrop in ("stripes", "panels"):
        b = mix(a, b, 0.45)
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
    field += (noise_field(rng, 6) * 7)[..., None]
    canvas.photo = enlarged(cv2.GaussianBlur(field, (5, 5), 0.9), canvas.size)


def develop(photo: np.ndarray, face: Face, rng: np.random.Generator) -> np.ndarray:
    """uint8 ``[S, S, 3]`` from the planar painting: falloff of the light, exposure, lens blur and grain."""
    size = photo.shape[1]
    x, y = unit_grid() - 0.5
    falloff = enlarged(1 + 0.22 * (face.light[0] * x + face.light[1] * y) - 0.25 * (x**2 + y**2), size)
    grain = rng.integers(0, 256, (size, size), np.uint8) * np.float32(face.grain / 127.5) - np.float32(face.grain)
    planes = []
    for plane, gain in zip(photo, face.gain, strict=True):
        plane = cv2.GaussianBlur(plane, (0, 0), max(face.sharpness * size, 0.2)) * (falloff * gain) + grain
        planes.append(np.clip(plane, 0, 255, out=plane).astype(np.uint8))
    return cv2.merge(planes)

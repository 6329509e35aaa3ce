"""The pixels of a region that is recoloured: their colours, and how far each of them is meant."""

from dataclasses import dataclass

import cv2
import numpy as np

from semfacediff.colours.oklab import fast_rgb_to_oklab


@dataclass(frozen=True)
class Manner:
    """How one attribute is painted.

    Attributes:
        opacity: share of the new colour, multiplied by the editor's ``strength``.
        lighter, darker: how far the median lightness moves to a lighter or darker target's, 0..1.
        lowest, highest: lightness that real regions of this kind have; targets beyond are drawn in.
        chroma: OKLab chroma up to which the target's is taken on in full; what lies above counts a third.
        edge_px: width of the soft inner edge for a photo of 1024 px; never below 2 px of the photo.
    """

    opacity: float = 1.0
    lighter: float = 0.85
    darker: float = 0.85
    lowest: float = 0.14
    highest: float = 0.92
    chroma: float = 0.15
    edge_px: float = 3.0


MANNERS = {
    "hair": Manner(lighter=0.85, darker=0.94, lowest=0.18, highest=0.90, chroma=0.12, edge_px=6),
    "lips": Manner(lighter=0.6, darker=0.65, lowest=0.28, highest=0.78, chroma=0.13, edge_px=5),
    "skin": Manner(opacity=0.7, lighter=0.5, darker=0.5, lowest=0.35, highest=0.85, chroma=0.08, edge_px=12),
    "nose": Manner(opacity=0.7, lighter=0.5, darker=0.5, lowest=0.35, highest=0.85, chroma=0.08, edge_px=12),
    "eyes": Manner(opacity=0.95, lighter=0.65, darker=0.65, lowest=0.22, highest=0.70, chroma=0.07, edge_px=2),
    "eyebrows": Manner(lighter=0.75, darker=0.85, lowest=0.20, highest=0.75, chroma=0.07, edge_px=6),
}


class Region:
    """The region's pixels, N of them, and where they lie.

    Attributes:
        flat: float32 ``[3, h * w]`` in [0, 1], a copy of the photo inside the bounding box.
        mask: bool ``[h, w]``.
        at: int64 ``[N]``, positions of the mask's pixels in the flattened box.
        old: float32 ``[3, N]``, sRGB in [0, 1].
        lab: float32 ``[3, N]``, OKLab.
        highest: lightness that a target may have here; brows stay darker than the skin around them.
        weight: float32 ``[N]`` in [0, 1]: soft inner edge times what of the region is meant (iris, brow hairs).
        unit_px: size in this photo of one pixel of a 1024 px photo.
    """

    def __init__(self, rgb: np.ndarray, mask: np.ndarray, attribute: str, side: int) -> None:
        self.flat, self.mask, self.manner = rgb.reshape(3, -1).copy(), mask, MANNERS.get(attribute, Manner())
        self.at = np.flatnonzero(mask)
        self.old = self.flat[:, self.at]
        self.lab = fast_rgb_to_oklab(self.old)
        self.unit_px = side / 1024
        self.weight = _inner_edge(mask, max(self.manner.edge_px * self.unit_px, 2.0))[self.at]
        self.highest = self.manner.highest
        if attribute == "eyes":
            self.weight *= self._irises()
        elif attribute == "eyebrows":
            self.weight *= self._brow_hairs()
        elif attribute == "hair":
            self.weight *= self._own_pixels()

    def plane(self, values: np.ndarray, fill: float = 0.0) -> np.ndarray:
        """float32 ``[h, w]`` with ``values [N]`` at the mask's pixels and ``fill`` elsewhere."""
        plane = np.full(self.mask.size, fill, np.float32)
        plane[self.at] = values
        return plane.reshape(self.mask.shape)

    def smooth(self, values: np.ndarray, sigma_px: float) -> np.ndarray:
        """``values [N]`` averaged over the neighbours within the mask."""
        weight = blur(self.mask.astype(np.float32), sigma_px).reshape(-1)[self.at]
        return blur(self.plane(values), sigma_px).reshape(-1)[self.at] / np.maximum(weight, 1e-6)

    def median(self) -> np.ndarray:
        """float32 ``[3]``: robust mean of the pixels that will be painted."""
        few = np.s_[:: 1 + self.at.size // 20_000]
        lab, weight = self.lab[:, few], self.weight[few]
        return np.median(lab[:, weight >= 0.5 * weight.max()], axis=1)

    def _irises(self) -> np.ndarray:
        """float32 ``[N]``: 1 on the iris, 0 on the white of the eye, lids and catchlights."""
        lightness = self.plane(self.lab[0])
        disc = np.zeros_like(lightness)
        n, parts, boxes, _ = cv2.connectedComponentsWithStats(self.mask.astype(np.uint8))
        for part in range(1, n):
            x, y, w, h, area = boxes[part]
            if area >= 12:
                inside = np.s_[y : y + h, x : x + w]
                disc[inside] = np.maximum(disc[inside], _iris_disc(lightness[inside], parts[inside] == part))
        disc = disc.reshape(-1)[self.at]
        core = self.lab[0][disc > 0.5]
        if not core.size:
            return disc
        white = np.quantile(self.lab[0], 0.95)
        middle = np.median(core)
        bright = middle + 0.55 * max(white - middle, 0.08)
        return disc * (1 - smoothstep(self.lab[0], bright - 0.06, bright + 0.06))

    def _brow_hairs(self) -> np.ndarray:
        """float32 ``[N]``: 1 on dark hairs, low on skin as light as the lightest of the region."""
        hair, skin = np.quantile(self.lab[0], [0.25, 0.97])
        skin = max(skin, hair + 0.1)
        self.highest = min(self.highest, skin - 0.06)
        return 1 - smoothstep(self.lab[0], hair + 0.35 * (skin - hair), skin)

    def _own_pixels(self) -> np.ndarray:
        """float32 ``[N]``: near 0 where skin or background shows along the border of the hair, 1 elsewhere."""
        away = np.abs(self.lab[0] - np.float32(self.median()[0]))
        usual = max(1.5 * float(np.median(away[:: 1 + away.size // 20_000])), 0.06)
        border = 1 - _inner_edge(self.mask, 24 * self.unit_px)[self.at]
        return 1 - 0.9 * border * smoothstep(away, 2 * usual, 3.5 * usual)


def _iris_disc(lightness: np.ndarray, eye: np.ndarray) -> np.ndarray:
    """float32 ``[h, w]`` in [0, 1]: soft disc on the iris of one eye.

    An iris is about two fifths as wide as the opening between the lids and is its darkest disc.
    """
    h, w = eye.shape
    radius = max(0.20 * w, 0.42 * min(h, w))
    radius = min(radius, 0.30 * w + 1)
    reach = int(np.ceil(radius))
    ys, xs = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    kernel = (xs**2 + ys**2 <= radius**2).astype(np.float32)
    inside = eye.astype(np.float32)
    dark = np.where(eye, float(lightness[eye].max()) - lightness, 0).astype(np.float32)
    score = cv2.filter2D(dark, -1, kernel, borderType=cv2.BORDER_CONSTANT)
    # The lids' shadow darkens the corners: a disc must also lie well inside the eye.
    score *= cv2.filter2D(inside, -1, kernel, borderType=cv2.BORDER_CONSTANT) / kernel.sum()
    cy, cx = np.unravel_index(int(score.argmax()), score.shape)
    ys, xs = np.mgrid[0:h, 0:w]
    distance = np.hypot(ys - cy, xs - cx) / radius
    # In dark eyes the pupil cannot be told from the iris; painted over, the gaze would be blind.
    pupil = 1 - smoothstep(distance, 0.25, 0.45)
    return (inside * (1 - smoothstep(distance, 0.85, 1.1)) * (1 - 0.85 * pupil)).astype(np.float32)


def _inner_edge(mask: np.ndarray, width_px: float) -> np.ndarray:
    """float32 ``[h * w]`` in [0, 1]: 1 inside, falling to nearly 0 at the mask's border; the frame is no border."""
    blurred = blur(mask.astype(np.float32), width_px / 2)
    return (mask * smoothstep(blurred, 0.45, 0.95)).reshape(-1)


def blur(plane: np.ndarray, sigma_px: float) -> np.ndarray:
    if sigma_px < 0.3:
        return plane
    if sigma_px < 2:
        return cv2.GaussianBlur(plane, (0, 0), sigma_px, borderType=cv2.BORDER_REFLECT_101)
    # Three box filters are a Gaussian to within 3 %, at a cost that does not grow with sigma.
    size = 2 * max(1, round(sigma_px)) + 1
    for _ in range(3):
        plane = cv2.blur(plane, (size, size), borderType=cv2.BORDER_REFLECT_101)
    return plane


def smoothstep(x: np.ndarray, low: float, high: float) -> np.ndarray:
    scale = 1 / max(float(high - low), 1e-6)
    t = (x.astype(np.float32) * np.float32(scale) - np.float32(low * scale)).clip(0, 1)
    return t * t * (3 - 2 * t)

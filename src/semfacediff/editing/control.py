"""Controls: edits with a known damage, with which metrics are checked (:mod:`semfacediff.controls`).

Sizes in px are those at a long side of 1024 and are scaled by max(H, W) / 1024, so that a control is the same damage to
the same picture at every size; shifts by a part of a pixel are interpolated. *Region* is ``masks.generation``: edits of
the region keep every other pixel. What is random comes from ``request.seed``.
"""

import functools
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor

from semfacediff import config, plugins
from semfacediff.colours.grammar import MAIN, Colour, find_colours
from semfacediff.colours.oklab import oklab_to_rgb, rgb_to_oklab
from semfacediff.controls import PIXELS, SYSTEM
from semfacediff.data.files import PHOTO_SUFFIXES, is_file
from semfacediff.data.reading import Blob, decode_photo
from semfacediff.data.sizes import resized_photo
from semfacediff.data.toy import MIN_SIZE_PX, draw_face
from semfacediff.editing.base import Editor, EditRequest, Place
from semfacediff.editing.recolor import NOTE_NO_COLOUR
from semfacediff.errors import UserError
from semfacediff.regions.masks import REFERENCE_PX
from semfacediff.seeding import derive_seed
from semfacediff.weight_files import fingerprint

BLUR_SIGMA_PX = 12.0
NOISE_SD = 0.1
"""Of Gaussian noise on sRGB in [0, 1]: 25.5 levels."""
JPEG_QUALITY = 50
ZOOM = 1.01
RESAMPLED = 2
"""By how much the photo is reduced before it is enlarged again."""
CAST = (1.1, 1.0, 0.9)
"""Factors of red, green and blue: warmer light."""
_GREY = 0.02
"""OKLab chroma below which a colour has no hue."""

_Paint = Callable[[np.ndarray, np.ndarray, EditRequest], np.ndarray]
"""(photo float32 ``[H, W, 3]``, region bool ``[H, W]``, request) -> float ``[H, W, 3]``, not clipped."""


class Control(Editor):
    """One known damage; deterministic, on the CPU, any size.

    Of the photo: ``nothing``; ``shift_1px`` and ``shift_3px`` (left, right, up or down, as the seed says; the border is
    repeated); ``zoom_1pct`` (about the centre); ``jpeg_50``; ``resampled`` (to half the size and back); ``photo_noise``
    (:data:`NOISE_SD`); ``colour_cast`` (:data:`CAST`). Of the region: ``region_blur`` (sigma :data:`BLUR_SIGMA_PX`);
    ``region_noise``; ``asked_colour`` (the region's median becomes the colour that the prompt names, in OKLab, its
    texture stays); ``wrong_colour`` (the opposite hue; of a grey, black or white, whichever is farther);
    ``other_face`` (another person's pixels). ``half_outside`` paints the asked colour, or else the opposite of the
    region's own, over the region and as many pixels outside it, the nearest.

    A request offers one photo only, so the other person of ``other_face`` is a drawn face, another one for each seed.
    On photographs set ``donors``, because a drawing differs from a person in more than the person.

    Args:
        kind: one of :data:`semfacediff.controls.PIXELS`.
        donors: folder of photos of other people for ``other_face``, scaled to cover the photo and cropped; seed and
            sample id choose one, never the file that is called like the sample. ``None``: drawn faces.

    Raises:
        UserError: an unknown kind, or ``donors`` without two photos.
    """

    name = "control"
    native_size = None
    batchable = True

    @classmethod
    def opened(cls, settings: config.ControlEditor, place: Place) -> tuple[Editor, dict]:
        """Those of a system are made of a diffusion editor."""
        if settings.kind in SYSTEM:
            from semfacediff.editing.diffusion import InpaintEditor  # which other controls do not need
            from semfacediff.editing.system_control import SystemControl

            inner, facts = InpaintEditor.opened(settings.of, place)
            return SystemControl(settings.kind, inner), facts | {"name": settings.name, "of": settings.of.name}
        control = cls(settings.kind, settings.donors)
        return control, {"name": settings.name, "numerics": None, **plugins.code_identity("editor", settings.name)}

    def __init__(self, kind: str = "nothing", donors: str | None = None) -> None:
        if kind not in PIXELS:
            raise UserError(f"editor.kind: expected one of {', '.join(PIXELS)}, got '{kind}'")
        self.kind = kind
        self.donors = None if donors is None or kind != "other_face" else _photos(Path(donors).expanduser())

    def fingerprint(self, sample_id: str, name: str) -> str | None:
        """Digest of all donors; ``None`` without."""
        return fingerprint(*self.donors) if self.donors else None

    def understood(self, prompt: str, attribute: str) -> list[str]:
        """The colour that will be painted, as the prompt spells it."""
        colour = _asked(prompt, attribute) if self.kind in _COLOURED else None
        return [colour.name] if colour else []

    def note(self, request: EditRequest) -> str | None:
        """That the photo stays as it is for want of a colour, or ``None``."""
        wanting = self.kind in ("asked_colour", "wrong_colour") and not _asked(request.prompt, request.attribute)
        return NOTE_NO_COLOUR if wanting else None

    def edit(self, requests: list[EditRequest]) -> list[Tensor]:
        """float32 ``[3, H, W]`` in [0, 1] on the CPU."""
        return [self._edit_one(request) for request in requests]

    def _edit_one(self, request: EditRequest) -> Tensor:
        photo = np.ascontiguousarray(request.photo.permute(1, 2, 0).to("cpu", torch.float32).numpy())
        region = request.masks.generation[0].cpu().numpy() > 0.5
        if self.kind in _OF_PHOTO:
            edit = _OF_PHOTO[self.kind](photo, region, request)
        elif not region.any():
            edit = photo
        else:
            paint = self._other_face if self.kind == "other_face" else _OF_REGION[self.kind]
            edit = paint(photo, region, request)
        clipped = np.clip(edit, 0, 1, dtype=np.float32, casting="unsafe")
        return torch.from_numpy(clipped).permute(2, 0, 1).contiguous()

    def _other_face(self, photo: np.ndarray, region: np.ndarray, request: EditRequest) -> np.ndarray:
        size = photo.shape[:2]
        choice = derive_seed(request.seed, request.sample_id, "donor")
        if self.donors is None:
            donor = draw_face(choice, 0, max(*size, MIN_SIZE_PX))[0]
        else:
            others = [file for file in self.donors if file.stem != request.sample_id]
            file = others[choice % len(others)]
            donor = decode_photo(Blob(file, str(file)).read(), str(file))
        return np.where(region[..., None], _covering(donor, size), photo)


def _photos(folder: Path) -> list[Path]:
    found = sorted(f for f in folder.iterdir() if is_file(f, PHOTO_SUFFIXES)) if folder.is_dir() else []
    if len(found) < 2:
        raise UserError(
            f"editor.donors: expected a folder with at least 2 photos at {folder}, found {len(found)}; name another "
            f"folder, or leave it out for drawn faces"
        )
    return found


def _covering(photo: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """float32 ``[H, W, 3]`` in [0, 1] of ``size``: a uint8 ``[h, w, 3]`` photo scaled to cover it, its middle."""
    (h, w), (height, width) = photo.shape[:2], size
    scale = max(height / h, width / w)
    scaled = max(height, round(h * scale)), max(width, round(w * scale))
    top, left = (scaled[0] - height) // 2, (scaled[1] - width) // 2
    resized = resized_photo(photo, scaled, Image.Resampling.LANCZOS)
    return resized[top : top + height, left : left + width] / np.float32(255)


# --------------------------------------------------------------------------------------------------------------------
# The whole photo.


def _px(photo: np.ndarray, at_1024: float) -> float:
    return at_1024 * max(photo.shape[:2]) / REFERENCE_PX


def _warped(photo: np.ndarray, zoom: float = 1.0, shift_px: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
    """Enlarged about the centre and moved by (x, y); cubic splines, which blur least, the border repeated."""
    centre = (np.array(photo.shape[:2]) - 1) / 2
    offset = centre - (centre + shift_px[::-1]) / zoom
    planes = [
        ndimage.affine_transform(p, (1 / zoom,) * 2, offset, order=3, mode="nearest") for p in np.moveaxis(photo, -1, 0)
    ]
    return np.stack(planes, -1)


def _shifted(photo: np.ndarray, at_1024: float, seed: int) -> np.ndarray:
    x, y = ((1, 0), (-1, 0), (0, 1), (0, -1))[seed % 4]
    distance = _px(photo, at_1024)
    return _warped(photo, shift_px=(x * distance, y * distance))


def _jpeg(photo: np.ndarray) -> np.ndarray:
    pixels = np.rint(photo[..., ::-1] * 255).astype(np.uint8)
    file = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
    decoded = np.asarray(cv2.imdecode(file, cv2.IMREAD_COLOR))
    return decoded[..., ::-1] / np.float32(255)


def _resampled(photo: np.ndarray) -> np.ndarray:
    height, width = photo.shape[:2]
    small = max(1, round(width / RESAMPLED)), max(1, round(height / RESAMPLED))
    reduced = cv2.resize(photo, small, interpolation=cv2.INTER_AREA)
    return cv2.resize(reduced, (width, height), interpolation=cv2.INTER_CUBIC)


def _noisy(photo: np.ndarray, region: np.ndarray, request: EditRequest) -> np.ndarray:
    random = np.random.default_rng(request.seed)
    return photo + NOISE_SD * random.standard_normal(photo.shape, np.float32)


_OF_PHOTO: dict[str, _Paint] = {
    "nothing": lambda photo, region, request: photo,
    "shift_1px": lambda photo, region, request: _shifted(photo, 1, request.seed),
    "shift_3px": lambda photo, region, request: _shifted(photo, 3, request.seed),
    "zoom_1pct": lambda photo, region, request: _warped(photo, ZOOM),
    "jpeg_50": lambda photo, region, request: _jpeg(photo),
    "resampled": lambda photo, region, request: _resampled(photo),
    "photo_noise": _noisy,
    "colour_cast": lambda photo, region, request: photo * np.array(CAST, np.float32),
}

# --------------------------------------------------------------------------------------------------------------------
# The region.


def _blurred(photo: np.ndarray, region: np.ndarray, request: EditRequest) -> np.ndarray:
    return np.where(region[..., None], cv2.GaussianBlur(photo, (0, 0), _px(photo, BLUR_SIGMA_PX)), photo)


def _noisy_region(photo: np.ndarray, region: np.ndarray, request: EditRequest) -> np.ndarray:
    return np.where(region[..., None], _noisy(photo, region, request), photo)


def _asked(prompt: str, attribute: str) -> Colour | None:
    """The main colour that a prompt names; shades ("dark") are none."""
    return next((c for c in find_colours(prompt, attribute) if c.role == MAIN and not c.shift), None)


def _opposite(lab: np.ndarray) -> np.ndarray:
    """The OKLab colour ``[3]`` of the opposite hue; a grey has none and becomes black or white."""
    if np.hypot(lab[1], lab[2]) < _GREY:
        return np.array([float(lab[0] < 0.5), 0, 0])
    return lab * (1, -1, -1)


def _coloured(photo: np.ndarray, region: np.ndarray, request: EditRequest, kind: str) -> np.ndarray:
    """The photo, painted with what takes the region's median in OKLab to the colour of ``kind``."""
    asked = _asked(request.prompt, request.attribute)
    if asked is None and kind != "half_outside":
        return photo
    where = _grown(region) if kind == "half_outside" else region
    lab = rgb_to_oklab(photo[where].T.astype(np.float64))
    median = np.median(lab[:, region[where]], axis=1)
    target = _opposite(median) if asked is None else rgb_to_oklab(np.array(asked.rgb) / 255)
    target = _opposite(target) if kind == "wrong_colour" else target
    painted = photo.copy()
    painted[where] = oklab_to_rgb(lab + (target - median)[:, None]).T
    return painted


def _grown(region: np.ndarray) -> np.ndarray:
    """bool ``[H, W]``: the region and as many pixels outside it, the nearest, as far as there are."""
    distance = cv2.distanceTransform((~region).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    distance = np.rint(distance**2)  # whole numbers: no rounding decides between pixels that are equally near
    outside = np.flatnonzero(~region)
    nearest = np.argsort(distance.ravel()[outside], kind="stable")[: np.count_nonzero(region)]
    grown = region.copy()
    grown.ravel()[outside[nearest]] = True
    return grown


_COLOURED = ("asked_colour", "wrong_colour", "half_outside")
_OF_REGION: dict[str, _Paint] = {
    "region_blur": _blurred,
    "region_noise": _noisy_region,
    **{kind: functools.partial(_coloured, kind=kind) for kind in _COLOURED},
}

EDITOR = Control

"""Bytes to photos and label maps, with every defect named.

Photos of any mode become RGB; transparency is composited over white first (thesis, section 5.1).
"""

import contextlib
import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from semfacediff.errors import UserError
from semfacediff.labels import LabelSpace

MIN_SIDE_PX = 32
MAX_PIXELS = 100_000_000
_LABEL_MODES = ("L", "P")
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, struct.error, zlib.error)
"""What Pillow's many decoders raise on damaged bytes."""


@dataclass(frozen=True)
class Blob:
    """Where the bytes of one file lie: a file of its own, or a member of an uncompressed tar.

    Attributes:
        path: the file, or the tar.
        offset, length: bytes into the tar and how many; ``None`` for a whole file.
        name: how to name it in a message.
    """

    path: Path
    name: str
    offset: int | None = None
    length: int | None = None

    def read(self) -> bytes:
        """The bytes; a :class:`UserError` if they cannot be had or the tar ends too early."""
        try:
            with open(self.path, "rb") as f:
                if self.offset is None:
                    return f.read()
                f.seek(self.offset)
                data = f.read(self.length)
        except OSError as e:
            raise UserError(f"{self.name}: cannot be read ({e.strerror})") from e
        if len(data) < self.length:
            raise UserError(f"{self.name}: the archive ends after {len(data)} of {self.length} bytes; copy it again")
        return data


@contextlib.contextmanager
def _naming_damage(name: str) -> Iterator[None]:
    try:
        yield
    except UnidentifiedImageError:
        raise
    except _DAMAGE as e:
        raise UserError(f"{name}: the image is truncated or corrupt ({e})") from e


def _opened(data: bytes, name: str) -> Image.Image:
    if not data:
        raise UserError(f"{name}: the file is empty")
    try:
        with _naming_damage(name):
            image = Image.open(io.BytesIO(data))
    except (UnidentifiedImageError, Image.DecompressionBombError) as e:
        raise UserError(f"{name}: not a readable image ({type(e).__name__})") from e
    if image.width * image.height > MAX_PIXELS:
        raise UserError(
            f"{name}: {image.width}x{image.height} px is over the limit of {MAX_PIXELS} pixels; scale it down"
        )
    return image


def rgb_over_white(image: Image.Image) -> Image.Image:
    """Mode RGB of any PIL image; transparent pixels are composited over white, 16-bit greys scaled to 8 bit."""
    if image.mode.startswith(("I", "F")):
        grey = np.asarray(image, dtype=np.float64)
        image = Image.fromarray(np.clip(np.rint(grey / 257), 0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def decode_photo(data: bytes, name: str) -> np.ndarray:
    """uint8 ``[H, W, 3]`` RGB, upright according to EXIF.

    Raises:
        UserError: empty, unreadable, truncated, too large, or a side under :data:`MIN_SIDE_PX`.
    """
    image = _opened(data, name)
    if min(image.size) < MIN_SIDE_PX:
        raise UserError(f"{name}: {image.width}x{image.height} px; a photo needs at least {MIN_SIDE_PX} px a side")
    with _naming_damage(name):
        image = ImageOps.exif_transpose(image)
        return np.asarray(rgb_over_white(image))


def decode_labels(data: bytes, name: str, space: LabelSpace) -> np.ndarray:
    """uint8 ``[H, W]`` label map in ``space``, from a PNG in mode L or P (pixel value = label).

    Raises:
        UserError: empty, unreadable, truncated, another mode, or a value outside the space.
    """
    image = _opened(data, name)
    if image.mode not in _LABEL_MODES:
        raise UserError(f"{name}: expected a label map in mode L or P, got mode {image.mode}")
    with _naming_damage(name):
        labels = np.asarray(image)
    highest = int(labels.max())
    if highest >= space.n:
        bad = ", ".join(str(v) for v in np.unique(labels[labels >= space.n])[:5])
        raise UserError(f"{name}: label values {bad} lie outside space '{space.name}' (0..{space.n - 1})")
    return labels

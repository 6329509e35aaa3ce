"""Bytes to photos and label maps, with every defect named. Nothing else opens image files that a user gives.

Only :data:`FORMATS` are read, judged by their content: Pillow knows dozens more, and starts programs for some of them
(an EPS named ``x.jpg`` runs Ghostscript).

Photos of any mode become RGB; transparency is composited over white first (thesis, section 5.1). Of an animation the
first frame counts. An embedded colour profile is not applied: values are taken as sRGB.
"""

import contextlib
import io
import os
import re
import stat
import struct
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from semfacediff.errors import UserError, printable
from semfacediff.labels import LabelSpace

MIN_SIDE_PX = 32
MAX_PIXELS = 100_000_000
MAX_BYTES = 1 << 30
"""Of a file: more than :data:`MAX_PIXELS` take in any format without compression."""
# The limit above is checked before anything is decoded, and its error is the one to read.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF")
"""Names of Pillow's readers; HEIF is read beside them where pi-heif is installed (the extra ``heic``)."""
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1")
_LABEL_MODES = ("L", "P", "I;16")
_MIXABLE = ("L", "LA", "RGB", "RGBA", "CMYK", "YCbCr")
"""Modes in which Pillow scales an image by mixing its values, transparent ones without a dark seam."""
_GREY_SPREAD = 16
"""Between the channels of a grey pixel at most; JPEG keeps them no closer."""
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, struct.error, zlib.error)
"""What Pillow's many decoders raise on damaged bytes."""


@dataclass(frozen=True)
class Blob:
    """Where the bytes of one file lie: a file of its own, or a member of an uncompressed tar.

    Attributes:
        path: the file, or the tar.
        offset, length: bytes into the tar and how many; ``None`` for a whole file.
        name: how to name it in a message; made printable.
    """

    path: Path
    name: str
    offset: int | None = None
    length: int | None = None

    def __post_init__(self):
        object.__setattr__(self, "name", printable(self.name))

    def read(self) -> bytes:
        """The bytes.

        Raises:
            UserError: they cannot be had, it is no regular file (which is not opened: a FIFO would wait for ever), it
                has more than :data:`MAX_BYTES`, or the tar ends too early.
        """
        try:
            status = os.stat(self.path)
            if not stat.S_ISREG(status.st_mode):
                raise UserError(f"{self.name}: expected a file, got {kind_of(status.st_mode)}; remove it")
            there, wanted = status.st_size, status.st_size
            if self.offset is not None and self.length is not None:
                there, wanted = max(0, there - self.offset), self.length
            if wanted > there:
                raise UserError(f"{self.name}: the archive ends after {there} of {wanted} bytes; copy it again")
            if wanted > MAX_BYTES:
                raise UserError(f"{self.name}: {wanted} bytes are over the limit of {MAX_BYTES}; scale the photo down")
            with open(self.path, "rb") as f:
                f.seek(self.offset or 0)
                return f.read(wanted)
        except OSError as e:
            raise UserError(f"{self.name}: cannot be read ({e.strerror})") from e
        except MemoryError as e:
            raise _no_memory(self.name) from e


def kind_of(mode: int) -> str:
    """What a file that is no regular one is, from its ``st_mode``."""
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")


def _no_memory(name: str) -> UserError:
    return UserError(f"{name}: the memory does not suffice to read it; scale the photo down")


@contextlib.contextmanager
def _naming_damage(name: str) -> Iterator[None]:
    try:
        yield
    except UnidentifiedImageError:
        raise
    except MemoryError as e:
        raise _no_memory(name) from e
    except _DAMAGE as e:
        raise UserError(f"{name}: the image is truncated or corrupt ({e})") from e


def _opened(data: bytes, name: str, max_pixels: int = MAX_PIXELS) -> Image.Image:
    if not data:
        raise UserError(f"{name}: the file is empty")
    try:
        with _naming_damage(name):
            image = Image.open(io.BytesIO(data), formats=_formats())
    except Image.DecompressionBombError as e:  # far over the limit; Pillow tells the pixels, but not the sides
        pixels = re.search(r"\((\d+) pixels\)", str(e))
        raise _too_large(name, f"{pixels[1]} px" if pixels else "the image", max_pixels) from e
    except UnidentifiedImageError as e:
        if data[4:8] == b"ftyp" and data[8:12] in _HEIF_BRANDS and "HEIF" not in _formats():
            raise UserError(f"{name}: HEIC is read with pi-heif alone: pip install 'semfacediff[heic]'") from e
        raise UserError(f"{name}: not a readable image (expected JPEG, PNG, WebP, TIFF, BMP or GIF)") from e
    if image.width * image.height > max_pixels:
        raise _too_large(name, f"{image.width}x{image.height} px", max_pixels)
    return image


@cache
def _formats() -> tuple[str, ...]:
    try:
        import pi_heif
    except ImportError:
        return FORMATS
    pi_heif.register_heif_opener()
    return (*FORMATS, "HEIF")


def _too_large(name: str, what: str, max_pixels: int) -> UserError:
    return UserError(f"{name}: {what} is over the limit of {max_pixels} pixels; scale it down")


def rgb_over_white(image: Image.Image) -> Image.Image:
    """Mode RGB of any PIL image; transparent pixels are composited over white, deep greys scaled to 8 bit."""
    if image.mode.startswith(("I", "F")):
        image = _deep_grey(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _deep_grey(image: Image.Image) -> Image.Image:
    """Mode L, or LA where one grey is declared transparent.

    Integers are taken as 16 bit (0..65535). Floats are taken as 0..1 if none exceeds 1, and else as 0..255; what is not
    a number becomes black.
    """
    values = np.asarray(image, dtype=np.float64)
    if image.mode == "F":
        values = np.nan_to_num(values, posinf=np.inf, neginf=0)
        eight_bit = values * 255 if values.max() <= 1 else values
    else:
        eight_bit = values / 257
    grey = Image.fromarray(np.clip(np.rint(eight_bit), 0, 255).astype(np.uint8))
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
    return grey


def decode_photo(data: bytes, name: str, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """uint8 ``[H, W, 3]`` RGB, upright according to EXIF.

    Args:
        max_pixels: more are refused by the file's header, before anything is decoded.

    Raises:
        UserError: empty, unreadable, truncated, too large, of a colour mode that has no RGB values, or a side under
            :data:`MIN_SIDE_PX`.
    """
    return decode_scaled(data, name, max_pixels, max_pixels)[0]


def decode_scaled(data: bytes, name: str, max_pixels: int, kept_pixels: int) -> tuple[np.ndarray, tuple[int, int]]:
    """(photo, its own (height, width)): as :func:`decode_photo`, and over ``kept_pixels`` scaled down to them.

    Scaled by LANCZOS, before anything else where the mode allows it. A JPEG is decoded at a reduced size, which takes
    a fraction of the time and memory.
    """
    image = _opened(data, name, max_pixels)
    if image.mode == "LAB":
        raise UserError(f"{name}: colour mode {image.mode} cannot be turned into RGB here; save the photo as RGB")
    if min(image.size) < MIN_SIDE_PX:
        raise UserError(f"{name}: {image.width}x{image.height} px; a photo needs at least {MIN_SIDE_PX} px a side")
    with _naming_damage(name):
        own, scale = _shown_size(image), (kept_pixels / (image.width * image.height)) ** 0.5
        if scale < 1:
            smaller = (max(1, int(image.width * scale)), max(1, int(image.height * scale)))
            if image.mode not in _MIXABLE or "transparency" in image.info:
                image = rgb_over_white(ImageOps.exif_transpose(image))
                smaller = smaller if image.size == own[::-1] else smaller[::-1]
            image.thumbnail(smaller, Image.Resampling.LANCZOS, reducing_gap=2)
        return np.asarray(rgb_over_white(ImageOps.exif_transpose(image))), own


def decode_mask(data: bytes, name: str) -> np.ndarray:
    """bool ``[H, W]``: where a grey image is lighter than middle grey, upright according to EXIF.

    Transparent pixels count as black. In an image that holds nothing above 1, as masks of 0 and 1 do, 1 is white.

    Raises:
        UserError: empty, unreadable, truncated, too large, or an image with colours.
    """
    image = _opened(data, name)
    with _naming_damage(name):
        image = ImageOps.exif_transpose(image)
        image = _deep_grey(image) if image.mode.startswith(("I", "F")) else image
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image)
        values = np.asarray(image.convert("RGB"))
    if np.ptp(values, axis=2).max() > _GREY_SPREAD:
        raise UserError(
            f"{name}: expected a grey image, white where the edit belongs and black elsewhere, got one with colours; "
            f"save the mask as greyscale"
        )
    return values[..., 0] > (127 if values.max() > 1 else 0)


def photo_size(data: bytes, name: str) -> tuple[int, int]:
    """(height, width) that :func:`decode_photo` would give, from the header alone.

    Raises:
        UserError: empty, unreadable, too large, or a JPEG that breaks off before its end.
    """
    image = _opened(data, name)
    if image.format == "JPEG" and b"\xff\xd9" not in data[-4096:]:  # some cameras write a little behind the end mark
        raise UserError(f"{name}: the image is truncated or corrupt (no end mark); copy it again")
    with _naming_damage(name):
        return _shown_size(image)


def _shown_size(image: Image.Image) -> tuple[int, int]:
    """(height, width) of an image turned upright."""
    # Pillow gives a TIFF's size as it will be shown, and that of other files as it is stored.
    turned = image.format != "TIFF" and image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    return (image.width, image.height) if turned else (image.height, image.width)


def colour_profile(data: bytes, name: str) -> bytes:
    """The ICC profile that an image carries; empty = none. A :class:`UserError` as by :func:`decode_photo`."""
    return _opened(data, name).info.get("icc_profile") or b""


def decode_any(data: bytes, name: str) -> np.ndarray:
    """``[H, W]`` or ``[H, W, 3]`` values of any image as they are stored, without transparency; palettes become RGB.

    Raises:
        UserError: empty, unreadable, truncated or too large.
    """
    image = _opened(data, name)
    with _naming_damage(name):
        plain = {"1": "L", "P": "RGB", "PA": "RGB", "LA": "L", "RGBA": "RGB", "CMYK": "RGB"}.get(image.mode)
        return np.asarray(image.convert(plain) if plain else image)


def decode_labels(data: bytes, name: str, space: LabelSpace) -> np.ndarray:
    """uint8 ``[H, W]`` label map in ``space``, from a PNG in mode L, P or I;16 (pixel value = label).

    Raises:
        UserError: empty, unreadable, truncated, another mode, or a value outside the space.
    """
    image = _opened(data, name)
    if image.mode not in _LABEL_MODES:
        raise UserError(f"{name}: expected a label map in mode L, P or I;16, got {image.mode}")
    with _naming_damage(name):
        labels = np.asarray(image)
    highest = int(labels.max())
    if highest >= space.n:
        bad = ", ".join(str(v) for v in np.unique(labels[labels >= space.n])[:5])
        raise UserError(f"{name}: label values {bad} lie outside space '{space.name}' (0..{space.n - 1})")
    return labels.astype(np.uint8, copy=False)

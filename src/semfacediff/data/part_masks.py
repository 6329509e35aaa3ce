"""Part masks (one PNG a facial part) to label maps, several times as fast as reading them with an image library.

A pixel belongs to a part where any colour channel of its mask is above 0: the rule of the data set's own script and of
SegFace. Grey values, which the official files do not have, therefore count as the part, and are reported.

Why not Pillow alone: an official mask is 0.8 MB of zeros and 255s in 1 to 3 kB of file, and nearly all of a library's
time goes into inflating it with zlib and carrying three equal channels through. Here zlib-ng inflates it, rows without
a set pixel are left out, one channel is kept, and the PNG's row filters are undone on rows of bits. That assumes a mask
of 0s and 255s, and is proved each time by filtering the result again; any other file goes through Pillow.
"""

import struct
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from semfacediff.data.reading import decode_any
from semfacediff.data.sizes import resized_labels

fast_zlib: ModuleType
try:
    from zlib_ng import zlib_ng as fast_zlib
except ImportError:  # right as well, only slower
    fast_zlib = zlib

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_NONE, _SUB, _UP, _AVERAGE, _PAETH = range(5)


@dataclass(frozen=True)
class PartMask:
    """The rows of a part mask that have a set pixel.

    Attributes:
        height, width: of the whole mask, px.
        top: index of the first kept row; rows outside the kept ones are empty.
        rows: bool ``[h, width]``, True = the pixel belongs to the part.
        grey: pixels whose value is neither black nor white.
    """

    height: int
    width: int
    top: int
    rows: np.ndarray
    grey: int = 0

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.height, self.width

    def whole(self) -> np.ndarray:
        """bool ``[height, width]``."""
        full = np.zeros(self.size, bool)
        full[self.top : self.top + len(self.rows)] = self.rows
        return full


def decode_part(data: bytes, name: str) -> PartMask:
    """A part mask from the bytes of an image file, by the rule above.

    Raises:
        UserError: empty, unreadable, truncated or too large.
    """
    return _two_level_png(data) or _any_image(data, name)


def _any_image(data: bytes, name: str) -> PartMask:
    values = decode_any(data, name)
    channels = values.reshape(*values.shape[:2], -1)
    present = np.asarray(channels.any(axis=2))
    grey = int((~np.isin(channels, (0, 255, 65535))).any(axis=2).sum())  # the last is white in 16 bit
    height, width = present.shape
    return PartMask(height, width, 0, present, grey)


def paint(parts: Iterable[tuple[int, PartMask]], size: tuple[int, int]) -> np.ndarray:
    """uint8 ``[*size]`` label map: (label, mask) pairs painted in the given order over 0, later over earlier.

    ``size`` is (height, width); a mask of another size is resized to it (nearest).
    """
    labels = np.zeros(size, np.uint8)
    for label, part in parts:
        top, rows = part.top, part.rows
        if part.size != size:
            top, rows = 0, resized_labels(part.whole().view(np.uint8), size).view(bool)
        np.copyto(labels[top : top + len(rows)], np.uint8(label), where=rows)
    return labels


# --------------------------------------------------------------------------------------------------------------------
# PNG files of two levels. PNG specification (third edition), sections 9 (filters) and 11.2 (IHDR).


def _two_level_png(data: bytes) -> PartMask | None:
    """The mask in an 8-bit grey or RGB PNG of 0s and 255s; ``None`` for every other file."""
    header = _header(data)
    if header is None:
        return None
    width, height, channels, start = header
    try:
        inflated = fast_zlib.decompress(_image_data(data, start), bufsize=height * (1 + width * channels))
    except (fast_zlib.error, zlib.error, struct.error):
        return None
    if len(inflated) != height * (1 + width * channels):
        return None
    return _unfiltered(np.frombuffer(inflated, np.uint8).reshape(height, -1), channels)


def _header(data: bytes) -> tuple[int, int, int, int] | None:
    """(width, height, channels, where the next chunk starts), if the file is of a kind that is read here."""
    if len(data) < 33 or data[:8] != _SIGNATURE or data[8:16] != b"\0\0\0\rIHDR":
        return None
    width, height, depth, colour, *methods = struct.unpack(">IIBBBBB", data[16:29])
    channels = {0: 1, 2: 3}.get(colour, 0)
    plain = channels and depth == 8 and methods == [0, 0, 0]  # 8 bit, not interlaced
    small = 0 < width * height <= 1 << 24
    return (width, height, channels, 33) if plain and small else None


def _image_data(data: bytes, at: int) -> bytes:
    """The compressed image: contents of all IDAT chunks; ``struct.error`` if the file ends before IEND."""
    found: list[bytes] = []
    while True:
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"IEND":
            return found[0] if len(found) == 1 else b"".join(found)
        if kind == b"IDAT":
            found.append(data[at + 8 : at + 8 + length])
        at += length + 12


def _unfiltered(lines: np.ndarray, channels: int) -> PartMask | None:
    """Undo the row filters of uint8 ``[height, 1 + width * channels]``; ``None`` if there are greys or colours."""
    height, width = len(lines), (lines.shape[1] - 1) // channels
    kinds, stored = lines[:, 0], lines[:, 1:]
    active = np.flatnonzero(np.maximum.reduce(stored, axis=1))
    if kinds.max() > _PAETH:
        return None
    if not len(active):
        return PartMask(height, width, 0, np.zeros((0, width), bool))
    top, bottom = int(active[0]), int(active[-1]) + 1
    plane = _one_channel(stored[top:bottom], channels)
    if plane is None:
        return None
    rows = _decoded(kinds[top:bottom], plane)
    # A row stored as zeros below the last active one repeats it, unless its filter looks at the row alone.
    if bottom < height and kinds[bottom] > _SUB and rows[-1].any():
        plane = np.concatenate([plane, np.zeros((height - bottom, width), np.uint8)])
        rows, bottom = _decoded(kinds[top:], plane), height
    return PartMask(height, width, top, rows) if _proved(rows, kinds[top:bottom], plane) else None


def _one_channel(stored: np.ndarray, channels: int) -> np.ndarray | None:
    """uint8 ``[h, width]`` of ``[h, width * channels]`` with equal channels; ``None`` if they differ.

    Filters work on each channel alone, so equal filtered channels are equal channels.
    """
    plane = np.ascontiguousarray(stored[:, ::channels])
    same = all(np.array_equal(plane, stored[:, k::channels]) for k in range(1, channels))
    return plane if same else None


def _decoded(filters: np.ndarray, plane: np.ndarray) -> np.ndarray:
    """bool ``[h, width]``: filtered rows uint8 ``[h, width]`` decoded as if all pixels were 0 or 255.

    A row becomes one integer, bit i = pixel i. The row above the first one is empty.
    """
    width = plane.shape[1]
    n = (width + 7) // 8
    packed = np.packbits(plane != 0, axis=1, bitorder="little").tobytes()
    rows, above = [], 0
    for k, kind in enumerate(filters.tolist()):
        above = _UNDO[kind](int.from_bytes(packed[k * n : k * n + n], "little"), above, width, plane[k])
        rows.append(above.to_bytes(n, "little"))
    bits = np.frombuffer(b"".join(rows), np.uint8).reshape(-1, n)
    return np.unpackbits(bits, axis=1, count=width, bitorder="little").view(bool)


def _undo_sub(stored: int, above: int, width: int, values: np.ndarray) -> int:
    # x[i] = x[i-1] ^ stored[i]: the exclusive-or of all bits up to i, in log2(width) steps.
    step = 1
    while step < width:
        stored ^= stored << step
        step *= 2
    return stored & ((1 << width) - 1)


def _undo_average(stored: int, above: int, width: int, values: np.ndarray) -> int:
    # The predictor is 0, 127 or 255, so the stored byte alone tells the pixel, except 0: as above.
    certain = np.packbits((values == 128) | (values == 255), bitorder="little")
    return int.from_bytes(certain, "little") | (above & ~stored)


def _undo_paeth(stored: int, above: int, width: int, values: np.ndarray) -> int:
    # Of two levels, the predictor is the left pixel where the two pixels above are equal, and else the one above:
    # x[i] = x[i-1] ^ stored[i], begun anew from above[i] ^ stored[i] wherever the row above changes.
    limit = (1 << width) - 1
    anew = (above ^ (above << 1)) & limit
    running = _undo_sub(stored, 0, width, values)
    # Between two beginnings x differs from the running exclusive-or by a constant: fill it in from each beginning.
    offset = (above ^ (running << 1)) & anew
    known, step = anew, 1
    while step < width:
        offset |= (offset << step) & ~known
        known |= known << step
        step *= 2
    return (running ^ offset) & limit


_UNDO: dict[int, Callable[[int, int, int, np.ndarray], int]] = {
    _NONE: lambda stored, above, width, values: stored,
    _SUB: _undo_sub,
    _UP: lambda stored, above, width, values: stored ^ above,
    _AVERAGE: _undo_average,
    _PAETH: _undo_paeth,
}


def _proved(rows: np.ndarray, filters: np.ndarray, plane: np.ndarray) -> bool:
    """Whether filtering ``rows`` (as 0 and 255) gives the stored bytes, that is, whether they are the mask."""
    # Pixel and predictor are 0 or 255, so their difference is 0, 255 or 1, as the pixel is equal, above or below.
    expected = (rows.view(np.uint8) * np.uint8(254) + np.uint8(1)) * (plane != 0)
    if (filters == _AVERAGE).any():  # whose predictor may be 127
        k = np.flatnonzero(filters == _AVERAGE)
        x = np.pad(rows.view(np.uint8), ((1, 0), (1, 0)))
        left, above = x[k + 1, :-1], x[k, 1:]
        expected[k] = x[k + 1, 1:] * np.uint8(255) - np.array([0, 127, 255], np.uint8)[left + above]
    return np.array_equal(expected, plane)

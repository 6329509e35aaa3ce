"""Photos that strangers send: measured before they are decoded, and named plainly."""

import re
from pathlib import Path

import numpy as np

from semfacediff.data.reading import decode_photo
from semfacediff.errors import UserError

MAX_UPLOAD_MB = 20
MAX_MEGAPIXELS = 16
"""A photo, its parse and every edit that can be undone are kept in memory: 5 bytes a pixel each."""
_MAX_NAME = 60


def decode_upload(data: bytes, name: str) -> np.ndarray:
    """uint8 ``[H, W, 3]`` of an uploaded photo; its size is judged by its header.

    Raises:
        UserError: over :data:`MAX_UPLOAD_MB` or :data:`MAX_MEGAPIXELS`, or no photo that can be read.
    """
    if len(data) > MAX_UPLOAD_MB * 1_000_000:
        megabytes = len(data) / 1_000_000
        raise UserError(f"{name}: {megabytes:.1f} MB are over the limit of {MAX_UPLOAD_MB} MB; save it smaller")
    return decode_photo(data, name, MAX_MEGAPIXELS * 1_000_000)


def safe_name(name: str) -> str:
    """A file's name with letters, digits, ``.``, ``-`` and ``_`` alone; its end is kept where it is too long."""
    kept = re.sub(r"[^\w.-]+", "_", Path(name).name).lstrip(".")
    return kept[-_MAX_NAME:] or "photo"

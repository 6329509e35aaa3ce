"""Edits that another tool made: ``<root>/<attribute>/<id>.png``."""

from pathlib import Path

import numpy as np
from PIL import Image

from semfacediff.data.reading import Blob, decode_photo
from semfacediff.data.sizes import resized_photo
from semfacediff.editing.base import Editor, EditRequest
from semfacediff.errors import UserError
from semfacediff.types import to_tensor
from semfacediff.weight_files import fingerprint


class Precomputed(Editor):
    """Reads the edit from disk; one made at another size than the photo's is resized like a photo (LANCZOS).

    Raises:
        UserError: ``root`` is no folder; on :meth:`edit`, a file is missing or unreadable.
    """

    name = "precomputed"
    native_size = None
    batchable = True

    def __init__(self, root: Path):
        if not root.is_dir():
            raise UserError(f"editor.root: expected a folder of edits at {root}, found none; set editor.root=DIR")
        self.root = root

    def check(self, attributes: dict[str, str]) -> None:
        """Every attribute needs its folder."""
        missing = [a for a in attributes if not (self.root / a).is_dir()]
        if missing:
            raise UserError(
                f"editor.root: no folder {', '.join(missing)} in {self.root}; expected <root>/<attribute>/<id>.png, "
                f"or choose attributes=[...]"
            )

    def fingerprint(self, sample_id: str, attribute: str) -> str:
        return fingerprint(self.root / attribute / f"{sample_id}.png")

    def edit(self, requests: list[EditRequest]) -> list:
        """float32 ``[3, H, W]`` in [0,1] a request."""
        return [to_tensor(self._read(r)) for r in requests]

    def _read(self, request: EditRequest) -> np.ndarray:
        relative = f"{request.attribute}/{request.sample_id}.png"
        edit = decode_photo(Blob(self.root / relative, relative).read(), relative)
        height, width = request.photo.shape[-2:]
        return resized_photo(edit, (height, width), Image.Resampling.LANCZOS)

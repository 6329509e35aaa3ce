"""Edits that another tool made: ``<root>/<attribute>/<id>.png``; of several edits of each photo, the k-th are
``<root>/<attribute>_<k>/<id>.png``, from 1."""

from pathlib import Path

import numpy as np
from PIL import Image

from semfacediff import config
from semfacediff.data.reading import Blob, decode_photo
from semfacediff.data.sizes import resized_photo, same_aspect
from semfacediff.editing.base import Editor, EditRequest, Place, edit_name
from semfacediff.errors import UserError
from semfacediff.types import to_tensor
from semfacediff.weight_files import fingerprint


class Precomputed(Editor):
    """Reads the edit from disk; one made at another size than the photo's is resized like a photo (LANCZOS).

    Args:
        resize: of an edit with another aspect ratio than its photo's: ``fit`` cuts what sticks out on two opposite
            sides, ``stretch`` scales each side on its own, ``None`` refuses it.

        repeats: edits of each photo and attribute.

    Raises:
        UserError: ``root`` is no folder; on :meth:`edit`, a file is missing, unreadable or refused.
    """

    name = "precomputed"
    native_size = None
    batchable = True

    @classmethod
    def opened(cls, settings: config.PrecomputedEditor, place: Place) -> tuple[Editor, dict]:
        return cls(settings.root, settings.resize, settings.repeats), {"name": settings.name}

    def __init__(self, root: Path | str, resize: str | None = None, repeats: int = 1):
        root = Path(root).expanduser()
        if not root.is_dir():
            raise UserError(f"editor.root: expected a folder of edits at {root}, found none; set editor.root=DIR")
        self.root, self.resize = root, resize
        self.repeats = [None] if repeats == 1 else list(range(1, repeats + 1))

    def check(self, attributes: dict[str, str]) -> None:
        """Every attribute needs its folder."""
        names = [edit_name(a, repeat) for a in attributes for repeat in self.repeats]
        missing = [name for name in names if not (self.root / name).is_dir()]
        if missing:
            layout = "<root>/<attribute>" + ("" if self.repeats == [None] else f"_<1 to {len(self.repeats)}>")
            raise UserError(
                f"editor.root: no folder {', '.join(missing)} in {self.root}; expected {layout}/<id>.png, "
                f"or choose attributes=[...]"
            )

    def fingerprint(self, sample_id: str, name: str) -> str:
        return fingerprint(self.root / name / f"{sample_id}.png")

    def edit(self, requests: list[EditRequest]) -> list:
        """float32 ``[3, H, W]`` in [0,1] a request."""
        return [to_tensor(self._read(r)) for r in requests]

    def _read(self, request: EditRequest) -> np.ndarray:
        relative = f"{edit_name(request.attribute, request.repeat)}/{request.sample_id}.png"
        edit = decode_photo(Blob(self.root / relative, relative).read(), relative)
        size: tuple[int, int] = (request.photo.shape[-2], request.photo.shape[-1])
        (height, width), frame = edit.shape[:2], request.frame or size
        # An edit may also be of the photo as it was edited: a square under protocol=thesis.
        if not any(same_aspect(of, (height, width)) for of in (frame, size)):
            if self.resize is None:
                raise UserError(
                    f"{relative}: the edit is {width}x{height} px, its photo {frame[1]}x{frame[0]}, which is another "
                    f"aspect ratio; make the edit at the photo's, or set editor.resize=fit (cut) or "
                    f"editor.resize=stretch"
                )
            if self.resize == "fit":
                edit = _cut(edit, frame)
        return resized_photo(edit, size, Image.Resampling.LANCZOS)


def _cut(edit: np.ndarray, frame: tuple[int, int]) -> np.ndarray:
    """The largest middle part of ``edit`` (uint8 ``[H, W, 3]``) with the aspect ratio of ``frame``, to whole pixels."""
    scale = min(side / of for side, of in zip(edit.shape, frame, strict=False))
    height, width = (max(1, round(scale * side)) for side in frame)
    top, left = (edit.shape[0] - height) // 2, (edit.shape[1] - width) // 2
    return edit[top : top + height, left : left + width]


EDITOR = Precomputed

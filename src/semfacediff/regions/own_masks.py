"""Regions that somebody drew, instead of those of the parse: grey images, white where the edit belongs."""

from pathlib import Path

import numpy as np
from PIL import Image

from semfacediff.data.reading import Blob, decode_mask
from semfacediff.data.sizes import same_aspect
from semfacediff.errors import UserError
from semfacediff.weight_files import fingerprint


def drawn_region(data: bytes, name: str, *frames: tuple[int, int]) -> np.ndarray:
    """bool ``[H, W]``: the region in the mask file ``data``, at the size of the photo.

    Args:
        name: of the file. frames: sizes (height, width) of the photo, whose aspect ratio the mask must have; the region
            gets the first of them.

    Raises:
        UserError: no grey image, or another aspect ratio.
    """
    drawn, size = decode_mask(data, name), frames[0]
    if not any(same_aspect(frame, drawn.shape) for frame in frames):
        (height, width), (photo_height, photo_width) = drawn.shape, frames[-1]
        raise UserError(
            f"{name}: the mask is {width}x{height} px, its photo {photo_width}x{photo_height}, which is another aspect "
            f"ratio; draw the mask on the photo itself"
        )
    if drawn.shape == size:
        return drawn
    grey = Image.fromarray(drawn.astype(np.uint8) * 255).resize(size[::-1], Image.Resampling.BILINEAR)
    return np.asarray(grey) > 127


class OwnMasks:
    """A folder of masks, ``<root>/<attribute>/<id>.png``.

    Raises:
        UserError: ``root`` is no folder.
    """

    def __init__(self, root: Path | str):
        self.root = Path(root).expanduser()
        if not self.root.is_dir():
            raise UserError(f"masks: expected a folder of masks at {self.root}, found none; set masks=DIR")

    def check(self, attributes: list[str]) -> None:
        """Every attribute needs its folder."""
        if missing := [a for a in attributes if not (self.root / a).is_dir()]:
            raise UserError(
                f"masks: no folder {', '.join(missing)} in {self.root}; expected <masks>/<attribute>/<id>.png; add "
                f"it, or choose attributes=[...]"
            )

    def fingerprint(self, sample_id: str, attribute: str) -> str:
        """Digest of a mask's file."""
        return fingerprint(self.root / attribute / f"{sample_id}.png")

    def region(self, sample_id: str, attribute: str, *frames: tuple[int, int]) -> np.ndarray:
        """See :func:`drawn_region`; a :class:`UserError` also if there is no such file."""
        relative = f"{attribute}/{sample_id}.png"
        file = self.root / relative
        if not file.exists():
            raise UserError(f"{relative}: no such file in the folder of masks=; draw it and repeat the command")
        return drawn_region(Blob(file, relative).read(), relative, *frames)

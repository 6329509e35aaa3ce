"""One photo's part masks to its label map, with everything odd about them."""

from collections.abc import Mapping, Sequence

import numpy as np

from semfacediff.data.part_masks import PartMask, decode_part, paint
from semfacediff.data.sizes import in_frame
from semfacediff.errors import UserError
from semfacediff.labels import CELEBAMASK


def painted(
    parts: Mapping[str, tuple[str, bytes]],
    order: Sequence[str],
    photo: tuple[str, tuple[int, int]],
    allow_resize: bool = False,
) -> tuple[np.ndarray, list[str]]:
    """Label map uint8 ``[H, W]`` in space ``celebamask`` at the masks' own size, and sentences on what is odd.

    Args:
        parts: class name -> (file name for messages, bytes). A class without an entry is absent in the photo.
        order: class names in paint order; where two parts claim a pixel the later one has it.
        photo: its name and (height, width).
        allow_resize: masks of another size than the rest, or of another aspect ratio than the photo, are resized.

    Raises:
        UserError: no part at all, a mask that cannot be read, or of another size and ``allow_resize`` is off.
    """
    name, frame = photo
    if not parts:
        raise UserError(f"{name}: a photo without a part mask")
    names = {part: file for part, (file, _) in parts.items()}
    masks = {part: decode_part(data, file) for part, (file, data) in parts.items()}
    size, odd = _common_size(masks, names, allow_resize)
    odd += [f"{names[k]}: {m.grey} grey pixels (they count as the part)" for k, m in masks.items() if m.grey]
    odd += [f"{names[k]}: the mask is empty" for k, m in masks.items() if not m.rows.any()]
    labels = paint([(CELEBAMASK.index(part), masks[part]) for part in order if part in masks], size)
    return in_frame(labels, name, frame, allow_resize), odd


def _common_size(
    masks: Mapping[str, PartMask], names: Mapping[str, str], allow_resize: bool
) -> tuple[tuple[int, int], list[str]]:
    """(height, width) of most masks (of equally many: the largest), and sentences on the others."""
    sizes = [m.size for m in masks.values()]
    common = max(set(sizes), key=lambda s: (sizes.count(s), s))
    odd = [
        f"{names[k]}: the part mask is {m.width}x{m.height} px, the others of its photo {common[1]}x{common[0]}"
        for k, m in masks.items()
        if m.size != common
    ]
    if odd and not allow_resize:
        raise UserError(f"{'; '.join(odd)}; fix the file, or set data.allow_mask_resize=true to resize it")
    return common, odd

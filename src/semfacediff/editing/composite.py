"""What of an edit reaches the photo."""

import numpy as np

FORMS = ("off", "blend", "exact")


def composite(photo: np.ndarray, edit: np.ndarray, blend: np.ndarray, form: str) -> np.ndarray:
    """The composited photo, uint8 ``[H, W, 3]``.

    Args:
        photo, edit: uint8 ``[H, W, 3]``.
        blend: float32 ``[H, W]`` in [0,1], 1 = edit.
        form: ``off`` takes the edit as it is; ``blend`` mixes the two by the mask; ``exact`` mixes inside the mask and
            copies the photo's bytes wherever the mask is 0, whatever the edit holds there. For edits at 8 bits, which
            these are, the two agree; ``exact`` is the form that promises it.

    Raises:
        ValueError: another form.
    """
    if form not in FORMS:
        raise ValueError(f"composite: expected one of {', '.join(FORMS)}, got '{form}'")
    if form == "off":
        return edit
    weight = blend[..., None]
    mixed = np.rint(photo * (1 - weight) + edit * weight).astype(np.uint8)
    return mixed if form == "blend" else np.where(weight == 0, photo, mixed)

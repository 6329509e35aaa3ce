"""What of an edit reaches the photo, and how the two are joined."""

import cv2
import numpy as np

FORMS = ("off", "blend", "exact")
SEAMS = ("none", "laplacian", "poisson")
_LEVELS = 5
_MARGIN = 4
"""Pixels around the photo for the Poisson solver, which gives up at the frame."""


def composite(photo: np.ndarray, edit: np.ndarray, blend: np.ndarray, form: str, seam: str = "none") -> np.ndarray:
    """The composited photo, uint8 ``[H, W, 3]``.

    Args:
        photo, edit: uint8 ``[H, W, 3]``.
        blend: uint8 ``[H, W]``, or float32 in [0,1]; full = edit.
        form: ``off`` takes the edit as it is; ``blend`` mixes the two by the mask; ``exact`` mixes inside the mask and
            copies the photo's bytes wherever the mask is 0, whatever the edit holds there. For edits at 8 bits, which
            these are, the two agree; ``exact`` is the form that promises it.
        seam: how they are mixed. ``none``: by the mask alone. ``laplacian``: each band of detail over its own width
            (Burt and Adelson, "A multiresolution spline", 1983), which hides edges of brightness. ``poisson``: the
            edit's gradients, fitted to the photo at the mask's rim (Perez et al., "Poisson image editing", 2003), which
            hides a drift of colour; a colour that the edit has right up to the rim goes with it. With both the photo's
            bytes stay wherever the mask is 0.

    Raises:
        ValueError: another form or seam, or a seam for ``off``, which joins nothing.
    """
    for name, value, known in (("composite", form, FORMS), ("seam", seam, SEAMS)):
        if value not in known:
            raise ValueError(f"{name}: expected one of {', '.join(known)}, got '{value}'")
    if form == "off":
        if seam != "none":
            raise ValueError(f"seam: composite=off joins nothing, got '{seam}'")
        return edit
    weight = (blend / np.float32(255) if blend.dtype == np.uint8 else blend)[..., None]
    if not weight.any():
        return photo.copy()
    if seam == "laplacian":
        mixed = _laplacian(photo, edit, weight)
    elif seam == "poisson":
        mixed = _poisson(photo, edit, weight)
    else:
        mixed = np.rint(photo * (1 - weight) + edit * weight).astype(np.uint8)
        if form == "blend":
            return mixed
    return np.where(weight == 0, photo, mixed)


def check_outside(photo: np.ndarray, final: np.ndarray, blend: np.ndarray) -> None:
    """Hold ``composite=exact`` to its word: where ``blend`` (uint8 ``[H, W]``) is 0, the bytes are the photo's.

    Raises:
        RuntimeError: they are not.
    """
    changed = int(((photo != final).any(axis=-1) & (blend == 0)).sum())
    if changed:
        raise RuntimeError(f"composite=exact changed {changed} pixels outside the blend mask")


def _laplacian(photo: np.ndarray, edit: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """uint8 ``[H, W, 3]``. Coarse bands spread beyond the mask; by the mask they give way to the photo at its rim."""
    levels = max(min(_LEVELS, int(np.log2(min(photo.shape[:2]))) - 2), 1)
    a, b = (x.astype(np.float32) for x in (photo, edit))
    w: np.ndarray = weight[..., 0].astype(np.float32)
    bands = []
    for _ in range(levels):
        (a_low, a_band), (b_low, b_band) = _band(a), _band(b)
        bands.append(a_band + (b_band - a_band) * w[..., None])
        a, b, w = a_low, b_low, cv2.pyrDown(w)
    mixed = a + (b - a) * w[..., None]
    for band in reversed(bands):
        mixed = cv2.pyrUp(mixed, dstsize=band.shape[1::-1]) + band
    return np.rint(np.clip(photo + (mixed - photo) * weight, 0, 255)).astype(np.uint8)


def _band(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(half the size, what that loses)."""
    low = cv2.pyrDown(x)
    return low, x - cv2.pyrUp(low, dstsize=x.shape[1::-1])


def _poisson(photo: np.ndarray, edit: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """uint8 ``[H, W, 3]``; the rim is one pixel beyond the mask, beyond the frame the photo repeats its edge."""
    around = (_MARGIN,) * 4
    onto, source = (cv2.copyMakeBorder(x, *around, cv2.BORDER_REPLICATE) for x in (photo, edit))
    mask = cv2.copyMakeBorder((weight > 0).astype(np.uint8) * 255, *around, cv2.BORDER_CONSTANT, value=0)
    mask = cv2.dilate(mask, np.ones((3, 3), np.uint8))
    x, y, width, height = cv2.boundingRect(mask)
    mixed = cv2.seamlessClone(source, onto, mask, (x + width // 2, y + height // 2), cv2.NORMAL_CLONE)
    return mixed[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN]

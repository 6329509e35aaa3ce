"""A figure of what each class token of a parser looks at."""

from collections.abc import Sequence

import cv2
import numpy as np

from semfacediff.tables.drawing import Axes, Figure, new_figure, styled

_COLUMNS = 10
_PANEL_IN = 1.15


def token_figure(
    photo: np.ndarray,
    classes: Sequence[str],
    tokens: np.ndarray,
    image: np.ndarray,
    segments: np.ndarray,
    title: str,
) -> Figure:
    """Three panels a class over the photo in grey: where its token looks, which places look at it, what it segments.

    Each panel of the first kind is scaled to its own maximum, those of the second all to their common one, those of the
    third to 1.

    Args:
        photo: uint8 ``[H, W, 3]``.
        tokens, image: float ``[C, h, w]``: attention; the first sums to 1 over places, the second over classes.
        segments: float ``[C, H, W]`` in [0,1]: softmax of the logits that each token makes.
    """
    rows = {
        "token attention": (tokens, tokens.max((1, 2))),
        "image attention": (image, np.full(len(classes), image.max())),
        "segmentation": (segments, np.ones(len(classes))),
    }
    grey = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)
    chunks = [range(i, min(i + _COLUMNS, len(classes))) for i in range(0, len(classes), _COLUMNS)]
    with styled():
        figure = new_figure(_PANEL_IN * _COLUMNS, _PANEL_IN * 1.15 * len(rows) * len(chunks) + 0.4)
        figure.suptitle(title)
        axes = figure.subplots(len(rows) * len(chunks), _COLUMNS, squeeze=False)
        for ax in axes.flat:
            ax.set_axis_off()
        for k, chunk in enumerate(chunks):
            for row, (name, (maps, most)) in enumerate(rows.items()):
                for column, c in enumerate(chunk):
                    ax = axes[len(rows) * k + row, column]
                    _heat(ax, grey, maps[c], float(most[c]))
                    if row == 0:
                        ax.set_title(classes[c], fontsize=8)
                    if column == 0:
                        ax.text(-0.06, 0.5, name, transform=ax.transAxes, rotation=90, va="center", ha="right", size=7)
    return figure


def _heat(ax: Axes, grey: np.ndarray, values: np.ndarray, most: float) -> None:
    enlarged = cv2.resize(values.astype(np.float32), grey.shape[::-1], interpolation=cv2.INTER_LINEAR)
    ax.imshow(grey, cmap="gray", vmin=0, vmax=255)
    ax.imshow(enlarged, cmap="magma", vmin=0, vmax=most or 1.0, alpha=0.65)

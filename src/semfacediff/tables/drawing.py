"""One style for every figure: legible in grey and for colour-blind readers, the same file from the same numbers.

Colours are Okabe and Ito's; what a colour tells apart, a line style, a marker or a hatch tells apart too. matplotlib is
imported where it is used: it takes longer to load than most commands take to answer.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from semfacediff.records.writing import write_errors

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
else:
    Axes = Figure = object

BLUE, ORANGE, SKY, GREEN, PINK, BLACK = "#0072b2", "#d55e00", "#56b4e9", "#009e73", "#cc79a7", "#000000"
_STYLE = {
    "font.size": 9,
    "axes.titlesize": 10,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.alpha": 0.3,
    "hatch.linewidth": 0.6,
    "pdf.fonttype": 42,  # text stays text
}
_DPI = 150


@contextlib.contextmanager
def styled() -> Iterator[None]:
    """Everything drawn inside has the style, whatever the user's matplotlibrc says."""
    import matplotlib

    with matplotlib.rc_context({**matplotlib.rcParamsDefault, "backend": "agg", **_STYLE}):
        yield


def new_figure(width: float, height: float) -> Figure:
    """An empty :class:`matplotlib.figure.Figure` of this size in inches that needs no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, file: Path) -> None:
    """Write ``file`` with the suffixes ``.png`` and ``.pdf``; no date in them.

    Raises:
        UserError: the files cannot be written.
    """
    for suffix, metadata in ((".png", {}), (".pdf", {"CreationDate": None})):
        target = file.with_suffix(suffix)
        with write_errors(target), styled():
            target.parent.mkdir(parents=True, exist_ok=True)
            figure.savefig(target, dpi=_DPI, metadata=metadata)
            figure.set_layout_engine("none")  # laid out by the first file; it costs as much as the drawing

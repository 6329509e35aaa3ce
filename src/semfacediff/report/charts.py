"""Positions of the marks of a plot; the templates draw them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

BINS = 48
_HEIGHT = 100
_FEW_TICKS = 5
"""Up to this many distinct values are used as axis ticks instead of round numbers."""


def ticks(low: float, high: float, count: int = 4) -> list[tuple[float, str]]:
    """About ``count`` round numbers (1, 2 or 5 times a power of ten) from ``low`` to ``high``, with their texts."""
    if not (math.isfinite(low) and math.isfinite(high)) or high <= low:
        return [(low, shown(low))]
    raw = (high - low) / count
    power = math.floor(math.log10(raw))
    step, power = next(
        (m * 10.0**power, power + (m == 10)) for m in (1, 2, 5, 10) if m * 10.0**power >= raw * (1 - 1e-9)
    )
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [(i * step, f"{i * step:.{max(0, -power)}f}") for i in range(first, last + 1)]


def shown(value: float) -> str:
    """A number with four significant digits."""
    return f"{value:.4g}"


@dataclass(frozen=True)
class Axis:
    """From values to per cent of the width: ``low`` is 0, ``high`` is 100."""

    low: float
    high: float

    @staticmethod
    def over(values: Sequence[float] | np.ndarray) -> "Axis":
        """Axis over all finite ``values``, with a margin if all are equal."""
        finite = [v for v in values if v is not None and math.isfinite(v)]
        low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
        if high - low <= 1e-6 * max(1.0, abs(high)):
            room = max(abs(high), 1.0) * 0.01
            return Axis(low - room, high + room)
        return Axis(low, high)

    def at(self, value: float) -> float:
        """Per cent, within 0..100."""
        return round(min(max(100 * (value - self.low) / (self.high - self.low), 0), 100), 3)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """(per cent, number) pairs."""
        return [(self.at(t), text) for t, text in ticks(self.low, self.high)]


@dataclass(frozen=True)
class Distribution:
    """Values of one score and attribute; places in per cent of the axis.

    Attributes:
        path: outline of the histogram, in a box of :data:`BINS` x 100.
        numbers: for screen readers and beside the plot.
    """

    label: str
    n: int
    path: str
    quartiles: tuple[float, float, float]
    numbers: dict[str, float]
    not_finite: int


def distribution(label: str, values: np.ndarray, axis: Axis) -> Distribution | None:
    """Histogram and quartiles of float64 ``[n]``; missing values are ignored, infinite ones counted separately."""
    there = values[~np.isnan(values)]
    finite = there[np.isfinite(there)]
    if not len(there):
        return None
    if not len(finite):
        return Distribution(label, len(there), "", (0, 0, 0), {}, len(there))
    counts, _ = np.histogram(finite, BINS, (axis.low, axis.high))
    heights = _HEIGHT * np.sqrt(counts / max(counts.max(), 1))  # keeps a single photo visible beside a mode of hundreds
    points = [f"M0 {_HEIGHT}"]
    for i, height in enumerate(heights):
        points += [f"V{_HEIGHT - height:.1f}", f"H{i + 1}"]
    quartiles = np.quantile(finite, [0.25, 0.5, 0.75])
    names = ("least", "lower quartile", "median", "upper quartile", "most")
    told = dict(zip(names, (finite.min(), *quartiles, finite.max()), strict=True))
    lower, median, upper = (axis.at(q) for q in quartiles)
    infinite = len(there) - len(finite)
    return Distribution(label, len(there), " ".join([*points, f"V{_HEIGHT}Z"]), (lower, median, upper), told, infinite)


@dataclass(frozen=True)
class Point:
    x: float
    y: float
    low: float
    high: float
    title: str


@dataclass(frozen=True)
class Line:
    """A curve: its points, the path through them, and the band between their intervals ("" without any)."""

    label: str
    points: list[Point]
    path: str
    band: str


@dataclass(frozen=True)
class LineChart:
    """Pixels of an SVG of ``width`` x ``height``; the frame is ``left, top, right, bottom``."""

    title: str
    x_label: str
    lines: list[Line]
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    width: int = 340
    height: int = 220
    left: int = 52
    top: int = 10
    right: int = 330
    bottom: int = 178


Values = Sequence[tuple[float, float, float, float]]
"""(x, y, lower end, upper end); the ends may be NaN."""


def line_chart(
    title: str,
    x_label: str,
    series: Mapping[str, Values],
    x_names: dict[float, str] | None = None,
    round_ticks: bool = False,
) -> LineChart:
    """Positions of the curves of ``series``.

    Args:
        x_names: tick labels if x is a category index; categories are not joined by lines.
        round_ticks: ticks of x are round numbers also where x has few values.
    """
    frame = LineChart(title, x_label, [], [], [])
    every = [row for rows in series.values() for row in rows]
    x_axis = Axis.over([row[0] for row in every])
    y_axis = _padded(Axis.over([value for row in every for value in row[1:]]))

    def px(x: float) -> float:
        return round(frame.left + 12 + x_axis.at(x) / 100 * (frame.right - frame.left - 24), 1)

    def py(y: float) -> float:
        return round(frame.bottom - y_axis.at(y) / 100 * (frame.bottom - frame.top), 1)

    lines = []
    for label, rows in series.items():
        points = []
        for x, y, low, high in sorted(rows):
            if math.isfinite(y):
                bottom, top = (py(v) if math.isfinite(v) else py(y) for v in (low, high))
                spread = f" [{shown(low)}, {shown(high)}]" if math.isfinite(low) and math.isfinite(high) else ""
                name = x_names[x] if x_names else shown(x)
                points.append(Point(px(x), py(y), bottom, top, f"{label}, {x_label} {name}: {shown(y)}{spread}"))
        joined = "" if x_names else "M" + " L".join(f"{p.x} {p.y}" for p in points)
        has_band = not x_names and any(p.low != p.high for p in points)
        around = [(p.x, p.low) for p in points] + [(p.x, p.high) for p in reversed(points)]
        band = "M" + " L".join(f"{x} {y}" for x, y in around) + "Z" if has_band else ""
        lines.append(Line(label, points, joined if len(points) > 1 else "", band if len(points) > 1 else ""))
    only = {row[0] for row in every}
    few = len(only) <= _FEW_TICKS and not round_ticks
    named = x_names or ({x: shown(x) for x in only} if few else dict(ticks(x_axis.low, x_axis.high)))
    return LineChart(
        title, x_label, lines, [(px(x), name) for x, name in named.items()],
        [(py(t), text) for t, text in ticks(y_axis.low, y_axis.high)],
    )  # fmt: skip


def _padded(axis: Axis) -> Axis:
    room = 0.05 * (axis.high - axis.low)
    return Axis(axis.low - room, axis.high + room)

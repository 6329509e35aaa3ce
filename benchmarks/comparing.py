"""What every comparison gives, and how two ways take turns on a machine that others may be using."""

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from statistics import median

Way = Callable[[], object]


@dataclass(frozen=True)
class Comparison:
    """Ours beside the plain way, of one run.

    Attributes:
        name: what was done. unit: of ``ours`` and ``plain``.
        ours, plain: by the clock; medians of the turns.
        ratio: how many times as good ours is, by the clock; the median of the turns' ratios.
        processor_ratio: how many times as much processor time the plain way took; other work on the machine hardly
            moves it, but what runs on two cores at once gains nothing in it.
        wanted: the least ``ratio``, or with ``at_most`` the greatest ``ours``; ``None``: nothing is promised.
        command: what repeats it. note: what a reader must know.
    """

    name: str
    ours: float
    plain: float | None
    ratio: float | None
    wanted: float | None
    unit: str
    command: str
    processor_ratio: float | None = None
    at_most: bool = False
    note: str = ""

    @property
    def reached(self) -> bool | None:
        """Whether it is as wanted; ``None`` where nothing is."""
        if self.wanted is None:
            return None
        return self.ours <= self.wanted if self.at_most else self.ratio >= self.wanted

    def facts(self) -> dict[str, object]:
        """For ``results/benchmarks.json``."""
        shown = {k: round(v, 4) if isinstance(v, float) else v for k, v in asdict(self).items()}
        return {**shown, "reached": self.reached}


HEAD = f"{'':46} {'plain':>9} {'ours':>9} {'':14} {'ratio':>6} {'cpu':>6} {'wanted':>7}"


def line(c: Comparison) -> str:
    """One comparison as a line below :data:`HEAD`; a mark where it falls short."""
    plain = "" if c.plain is None else f"{c.plain:9.3f}"
    ratio = "" if c.ratio is None else f"{c.ratio:6.2f}"
    cpu = "" if c.processor_ratio is None else f"{c.processor_ratio:6.2f}"
    wanted = "" if c.wanted is None else f"{'<= ' if c.at_most else ''}{c.wanted:g}"
    short = "  *" if c.reached is False else ""
    return f"{c.name:46} {plain:>9} {c.ours:9.3f} {c.unit:14} {ratio:>6} {cpu:>6} {wanted:>7}{short}"


@dataclass(frozen=True)
class Turns:
    """Seconds of both ways, turn by turn."""

    plain: list[tuple[float, float]]
    ours: list[tuple[float, float]]

    def seconds(self, way: str) -> float:
        """Median by the clock of ``plain`` or ``ours``."""
        return median(wall for wall, _ in getattr(self, way))

    def compared(
        self, name: str, n: float, unit: str, wanted: float | None, command: str, note: str = ""
    ) -> Comparison:
        """The comparison, with ``n`` things made in a turn; ``unit``: ``.../s`` for a rate, ``ms ...`` for a time."""
        by_clock, by_processor = (
            median(p[k] / max(o[k], 1e-9) for p, o in zip(self.plain, self.ours, strict=True)) for k in (0, 1)
        )
        plain, ours = (self.seconds(way) / n for way in ("plain", "ours"))
        plain, ours = (1000 * plain, 1000 * ours) if unit.startswith("ms") else (1 / plain, 1 / ours)
        return Comparison(name, ours, plain, by_clock, wanted, unit, command, by_processor, note=note)


def in_turns(plain: Way, ours: Way, turns: int, before: Way = lambda: None) -> Turns:
    """Both ways ``turns`` times, one after the other; ``before``: done before each of them, not timed."""
    taken = {"plain": [], "ours": []}
    for turn in range(turns):
        for name, way in [("plain", plain), ("ours", ours)][:: -1 if turn % 2 else 1]:
            before()
            wall, cpu = time.perf_counter(), time.process_time()
            way()
            taken[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return Turns(**taken)


def shown(comparisons: Iterable[Comparison]) -> list[Comparison]:
    """All of them, each printed as soon as it is there."""
    print(HEAD, flush=True)
    made = []
    for c in comparisons:
        print(line(c), flush=True)
        made.append(c)
    return made

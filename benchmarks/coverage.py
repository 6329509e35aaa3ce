"""Coverage of every interval and type I error of every test that a table prints: python benchmarks/coverage.py

Draws data whose truth is known, computes the interval or test as the tables do, and counts. Writes
results/simulations/statistics.json; about five minutes on two cores.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from semfacediff.metrics.photo_counts import PhotoCounts, intervals
from semfacediff.records import statistics as s

OUT = Path(__file__).resolve().parents[1] / "results" / "simulations" / "statistics.json"
SKIN_TONES = (47, 60, 58, 47, 31)
"""Photos a group of the parser's table by skin tone."""
CLASSES = ("background", "neck_l")
Draw = Callable[[np.random.Generator, int], np.ndarray]


def iou_like(random: np.random.Generator, n: int) -> np.ndarray:
    """Scores in 0..1 near their upper end with a tail of failures; the mean is 0.9 * 0.9 + 0.1 * 0.5."""
    return np.where(random.random(n) < 0.9, random.beta(18, 2, n), random.beta(2, 2, n))


def heavy_tailed(random: np.random.Generator, n: int) -> np.ndarray:
    """Paired differences with mean 0: Student's t with 3 degrees of freedom."""
    return random.standard_t(3, n)


SCORES: dict[str, tuple[Draw, float]] = {"iou_like": (iou_like, 0.86), "heavy_tailed": (heavy_tailed, 0.0)}


def coverage(draw: Draw, truth: float, n: int, repetitions: int, seed: int = 0) -> float:
    """Share of BCa intervals of the mean of ``n`` values that hold the true mean; all repetitions are cells of one."""
    values = np.stack([draw(np.random.default_rng([seed, n, i]), n) for i in range(repetitions)], axis=1)
    blocks = s.Blocks(range(n), [("", str(i)) for i in range(repetitions)], values, np.ones_like(values))
    low, high = s.bootstrap_intervals(blocks, fewest=2)
    return float(((low <= truth) & (truth <= high)).mean())


def gap_error(sizes: tuple[int, ...], repetitions: int, permutations: int = 999) -> float:
    """Share of tests of the largest gap that reject at 0.05 where all groups come from one distribution."""
    groups = np.repeat(np.arange(len(sizes)), sizes)
    drawn = (iou_like(np.random.default_rng([1, len(sizes), i]), len(groups)) for i in range(repetitions))
    return float(np.mean([s.max_min_p(v, groups, permutations, i)[1] <= s.ALPHA for i, v in enumerate(drawn)]))


def paired_error(n: int, repetitions: int, shift: float = 0.0) -> float:
    """Share of sign-flip tests of ``n`` differences rejecting at 0.05; their mean is ``shift`` standard deviations."""
    random = np.random.default_rng([2, n])
    return float((s.sign_flip_p(random.normal(shift, 1, (n, repetitions))) <= s.ALPHA).mean())


def pooled_coverage(seen_in: int, n: int, repetitions: int, population: int = 20_000) -> float:
    """Share of intervals of a class's pooled IoU that hold that of the population.

    The class is in ``seen_in`` of ``n`` photos on average, its area is log-normal, and its IoU in a photo is often 0,
    as a necklace's is.
    """
    random = np.random.default_rng([3, seen_in])
    there = random.random(population) < seen_in / n
    area = np.where(there, random.lognormal(6, 1, population), 0).astype(int)
    found = (area * np.where(random.random(population) < 0.6, 0, random.beta(4, 3, population))).astype(int)
    false = (random.lognormal(3, 1, population) * (random.random(population) < 0.3 * seen_in / n)).astype(int)
    truth, held = found.sum() / (area + false).sum(), 0
    for i in range(repetitions):
        some = np.random.default_rng([4, seen_in, i]).integers(0, population, n)
        counts = (np.column_stack([np.full(n, 100_000), column[some]]) for column in (found, area, found + false))
        low, high = intervals(_counts(*counts), CLASSES, i)[CLASSES[1]]
        held += low <= truth <= high
    return held / repetitions


def _counts(hits: np.ndarray, true: np.ndarray, predicted: np.ndarray) -> PhotoCounts:
    """Counts of :data:`CLASSES`, int64 ``[n, 2]`` each; what intervals do not read is left empty."""
    nothing = np.zeros(len(hits))
    return PhotoCounts(np.zeros((2, 2)), (true > 0).sum(0), hits, true, predicted, nothing, nothing, np.nan)


def simulated(repetitions: int) -> dict[str, object]:
    """Every simulation; ``repetitions`` of each cell."""
    r = repetitions
    bca = {
        name: {str(n): coverage(draw, truth, n, r) for n in (6, 10, 20, 40, 100, 200)}
        for name, (draw, truth) in SCORES.items()
    }
    gaps = {"5": gap_error(SKIN_TONES, r), "3": gap_error((155, 74, 21), r), "2": gap_error((100, 100), r)}
    effects = {str(n): {str(d): paired_error(n, r, d) for d in (0.1, 0.15, 0.2, 0.25, 0.3, 0.4)} for n in (100, 200)}
    return {
        "command": "python benchmarks/coverage.py",
        "repetitions": r,
        "bca_coverage": bca,
        "gap_type_1": gaps,
        "sign_flip_type_1": {str(n): paired_error(n, r) for n in (8, 14, 40, 200)},
        "pooled_iou_coverage": {str(k): pooled_coverage(k, 250, min(r, 500)) for k in (10, 20, 40, 80, 250)},
        "power": effects,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=2000)
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    found = simulated(arguments.repetitions)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(found, indent=1) + "\n")
    print(pd.Series(found["bca_coverage"]["iou_like"]), json.dumps(found, indent=1), sep="\n")


if __name__ == "__main__":
    main()

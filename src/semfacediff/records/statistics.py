"""Intervals, paired tests and effect sizes from sample rows: what may be said of a mean, and what may not.

A *block* is everything that was measured on one photo: all its attributes, all its seeds. Values of one photo are not
independent, so blocks are drawn, or have their sign changed, as a whole. Every draw comes from a fixed seed and blocks
are sorted by name: a table made twice, or from shards in another order, is the same. Nothing loops over rows.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import ndtr, ndtri
from scipy.stats import rankdata

LEVEL = 0.95
ALPHA = 0.05
RESAMPLES = 2_000
PERMUTATIONS = 9_999
SEED = 20_260_000
MIN_BLOCKS = 20
"""Blocks under which no interval is given: BCa's 95 % cover 82 to 92 % there (results/simulations/statistics.json)."""
NORMAL_FROM = 1_000
"""Values from which on a permutation of them is drawn as the normal distribution that its group means tend to."""
SAME = 1e-6
"""Values that differ by no more, relative to those above 1, are the same number (docs/precision.md)."""
_CHUNK = 2**22
"""Cells of a chunk of draws: 32 MiB of float64."""

Cell = tuple[str, str]
"""(attribute, score)."""


@dataclass(frozen=True)
class Blocks:
    """Sums and counts of values by block and cell.

    Attributes:
        ids: names of the B blocks, sorted, or their places.
        cells: names of the K cells whose means are asked for.
        sums, counts: float64 ``[B, K]``; a block without a value in a cell has the sum 0 and the count 0.
    """

    ids: Sequence[str] | range
    cells: Sequence[Cell]
    sums: np.ndarray
    counts: np.ndarray

    @property
    def means(self) -> np.ndarray:
        """float64 ``[K]``; NaN where a cell has no value."""
        return ratio(self.sums.sum(0), self.counts.sum(0))

    @property
    def sizes(self) -> np.ndarray:
        """int64 ``[K]``: blocks that have a value in the cell."""
        return (self.counts > 0).sum(0)


def ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.divide(a, b, out=np.full(np.broadcast(a, b).shape, np.nan), where=b > 0)


def blocks_of(samples: pd.DataFrame, scores: Sequence[str]) -> Blocks:
    """Blocks of rows with ``sample_id``, ``attribute`` and the scores; values that are not finite enter nothing."""
    sample, ids = pd.factorize(samples["sample_id"], sort=True)
    attribute, names = pd.factorize(samples["attribute"])
    place = sample * len(names) + attribute
    cells = [(name, score) for score in scores for name in names]
    sums: list[np.ndarray] = []
    counts: list[np.ndarray] = []
    for score in scores:
        values = pd.to_numeric(samples[score]).to_numpy(np.float64, na_value=np.nan)
        finite = np.isfinite(values)
        for out, weights in ((sums, np.where(finite, values, 0.0)), (counts, finite.astype(np.float64))):
            out.append(np.bincount(place, weights, len(ids) * len(names)).reshape(len(ids), len(names)))
    shape = (len(ids), len(cells))
    both = (np.concatenate(x, axis=1) if x else np.zeros(shape) for x in (sums, counts))
    return Blocks(list(ids), cells, *both)


# --------------------------------------------------------------------------------------------------------------------
# Intervals.


def replicates(blocks: Blocks, resamples: int = RESAMPLES, seed: int = SEED) -> np.ndarray:
    """float64 ``[resamples, K]``: means over blocks drawn with replacement; the same draw for every cell."""
    n = len(blocks.ids)
    random, out = np.random.default_rng(seed), np.full((resamples, len(blocks.cells)), np.nan)
    kinds, kind = _distinct(blocks.counts)
    rows = max(1, _CHUNK // max(n, 1))
    for start in range(0, resamples if n else 0, rows):
        k = min(rows, resamples - start)
        weights = np.empty((k, n))
        for times, drawn in zip(weights, random.integers(0, n, (k, n), np.int32), strict=True):
            times[:] = np.bincount(drawn, minlength=n)  # one by one they stay in the processor's cache
        out[start : start + k] = ratio(weights @ blocks.sums, (weights @ kinds)[:, kind])
    return out


def _distinct(columns: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """Columns without repetitions ``[B, D]``, and for each of the given ones which it is: most scores miss no photo."""
    place: dict[bytes, int] = {}
    of = [place.setdefault(column.tobytes(), len(place)) for column in columns.T]
    return columns[:, [of.index(k) for k in range(len(place))]], of


def bootstrap_intervals(
    blocks: Blocks, level: float = LEVEL, resamples: int = RESAMPLES, seed: int = SEED, fewest: int = MIN_BLOCKS
) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper end ``[K]`` of the BCa interval of every cell's mean (Efron, JASA 1987).

    Bias-corrected and accelerated: unlike plain percentiles it is right to second order for skewed values, which scores
    near their bound are. NaN where fewer than ``fewest`` blocks have a value (at least two).
    """
    drawn, means = replicates(blocks, resamples, seed), blocks.means
    low, high = np.full((2, len(means)), np.nan)
    acceleration = _acceleration(blocks)
    for k in np.flatnonzero(blocks.sizes >= max(2, fewest)):
        values = drawn[~np.isnan(drawn[:, k]), k]
        low[k], high[k] = np.quantile(values, _bca_levels(values, means[k], acceleration[k], level))
    return low, high


def _acceleration(blocks: Blocks) -> np.ndarray:
    """float64 ``[K]`` from the jackknife over the blocks that have a value; closed form, since means are ratios."""
    there = blocks.counts > 0
    without = ratio(blocks.sums.sum(0) - blocks.sums, blocks.counts.sum(0) - blocks.counts)
    without = np.where(there, without, 0.0)
    centre = ratio(np.nansum(without, axis=0), there.sum(0))
    away = np.where(there, centre - np.nan_to_num(without), 0.0)
    squares = (away**2).sum(0)
    return np.divide((away**3).sum(0), 6 * squares**1.5, out=np.zeros(len(squares)), where=squares > 0)


def _bca_levels(values: np.ndarray, mean: float, acceleration: float, level: float) -> np.ndarray:
    """The two quantiles of the replicates that bound the interval."""
    below = ((values < mean).mean() + (values <= mean).mean()) / 2
    bias = ndtri(np.clip(below, 0.5 / len(values), 1 - 0.5 / len(values)))
    z = bias + ndtri(np.array([(1 - level) / 2, (1 + level) / 2]))
    return ndtr(bias + z / (1 - acceleration * z))


# --------------------------------------------------------------------------------------------------------------------
# Groups.


def max_min_p(
    values: np.ndarray, groups: np.ndarray, permutations: int = PERMUTATIONS, seed: int = SEED
) -> tuple[float, float]:
    """(gap, p) of the largest minus the smallest group mean: a permutation test with the selection in it.

    Under the null hypothesis the values of all groups come from one distribution, so that they could be exchanged
    between the groups. Every permutation picks its own largest and smallest mean, as the table did. Up to
    :data:`NORMAL_FROM` values they are permuted; beyond, the group means are drawn from the normal distribution with
    the mean and covariance of the permuted ones (Hoeffding, Annals of Mathematical Statistics 1951). The observed gap
    counts as one of the draws, so that p is never 0.

    Args:
        values: float64 ``[N]``, one a photo, finite. groups: integers ``[N]``, which group each belongs to.
    """
    sizes = np.unique(groups, return_counts=True)[1]
    ordered, starts = values[np.argsort(groups, kind="stable")], np.concatenate([[0], np.cumsum(sizes)[:-1]])
    observed = np.ptp(np.add.reduceat(ordered, starts) / sizes)
    least = observed * (1 - 1e-12) - 1e-300
    random, n, reached = np.random.default_rng(seed), len(values), 0
    if n > NORMAL_FROM:
        # A constant added to all means moves no gap, so that the means' common part need not be subtracted.
        drawn = random.normal(size=(permutations, len(sizes))) * np.sqrt(values.var(ddof=1) / sizes)
        reached = int((np.ptp(drawn, axis=1) >= least).sum())
    else:
        rows = max(1, _CHUNK // n)
        for start in range(0, permutations, rows):
            shuffled = random.permuted(np.tile(ordered, (min(rows, permutations - start), 1)), axis=1)
            means = np.add.reduceat(shuffled, starts, axis=1) / sizes
            reached += int((np.ptp(means, axis=1) >= least).sum())
    return float(observed), (reached + 1) / (permutations + 1)


# --------------------------------------------------------------------------------------------------------------------
# Tests of paired differences; :mod:`semfacediff.records.comparing` applies them to runs.


def holm(p: np.ndarray) -> np.ndarray:
    """P values corrected for their number (Holm, Scandinavian J. of Statistics 1979); NaN stay and count nothing."""
    p = np.asarray(p, np.float64)
    flat, corrected = p.ravel(), np.full(p.size, np.nan)
    order = np.argsort(flat)[: int((~np.isnan(flat)).sum())]
    steps = flat[order] * np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return corrected.reshape(p.shape)


def sign_flip_p(differences: np.ndarray, permutations: int = PERMUTATIONS, seed: int = SEED) -> np.ndarray:
    """Two-sided p ``[K]`` of paired differences ``[B, K]``: how often signs at random give a mean as far from 0.

    A block keeps one sign in all cells. All 2^B signs are tried where these are no more than ``permutations``; else
    that many are drawn, and the observed one counts as one of them, so that p is never 0. NaN where a cell has no
    finite difference.
    """
    there = np.isfinite(differences)
    values = np.where(there, differences, 0.0)
    n, cells = values.shape
    observed = np.abs(values.sum(0))
    least = observed * (1 - 1e-12) - 1e-300  # sums of the same values in another order are the same
    exact = n < 63 and 2**n <= permutations
    total = 2**n if exact else permutations
    reached, rows = np.zeros(cells, np.int64), max(1, _CHUNK // max(n, 1))
    random = np.random.default_rng(seed)
    for start in range(0, total, rows):
        k = min(rows, total - start)
        bits = _every(start, k, n) if exact else _bits(random, k, n)
        reached += (np.abs((bits * 2.0 - 1.0) @ values) >= least).sum(0)
    p = reached / total if exact else (reached + 1) / (total + 1)
    return np.where(there.any(0), p, np.nan)


def swap_p(
    first: np.ndarray,
    second: np.ndarray,
    score: Callable[[np.ndarray], np.ndarray],
    permutations: int = PERMUTATIONS,
    seed: int = SEED,
) -> np.ndarray:
    """Two-sided p ``[S]`` of the difference of pooled scores: how often swapping photos at random gives one as large.

    For scores that have no value for each photo, as a mean IoU over pooled pixels. Under the null hypothesis the counts
    of a photo could have come from either side, so they are exchanged for every photo with probability 1/2. The
    observed difference counts as one of the draws, so that p is never 0. NaN where a score is not defined.

    Args:
        first, second: ``[N, K]``: counts of the same N photos. score: sums of counts ``[..., K]`` -> ``[..., S]``.
    """
    a, change = first.sum(0, dtype=np.float64), second.astype(np.float64) - first
    observed = score(a + change.sum(0)) - score(a)
    reached, random, rows = np.zeros(observed.shape), np.random.default_rng(seed), max(1, _CHUNK // max(len(first), 1))
    for start in range(0, permutations, rows):
        moved = _bits(random, min(rows, permutations - start), len(first)).astype(np.float64) @ change
        drawn = np.abs(score(a + moved) - score(a + change.sum(0) - moved))
        reached += (drawn >= np.abs(observed) * (1 - 1e-12)).sum(0)
    return np.where(np.isnan(observed), np.nan, (reached + 1) / (permutations + 1))


def _every(start: int, k: int, n: int) -> np.ndarray:
    """uint8 ``[k, n]``: binary digits of start .. start + k - 1."""
    return ((np.arange(start, start + k)[:, None] >> np.arange(n)) & 1).astype(np.uint8)


def _bits(random: np.random.Generator, k: int, n: int) -> np.ndarray:
    """uint8 ``[k, n]``: fair coins; rows take whole words of 32 bits, so that chunks of any size draw the same."""
    width = (n + 31) // 32 * 4
    return np.unpackbits(np.frombuffer(random.bytes(k * width), np.uint8).reshape(k, width), axis=1, count=n)


def rank_biserial(differences: np.ndarray) -> np.ndarray:
    """Matched-pairs rank-biserial correlation ``[K]`` of differences ``[B, K]``: Wilcoxon's (W+ - W-) / (W+ + W-).

    +1: every photo rose, -1: every one fell, 0: no tendency (Kerby, "The simple difference formula", 2014). Differences
    of 0 are left out, as Wilcoxon does; 0 where all are, NaN where there is none. Ranks rather than a mean over a
    standard deviation, because differences of scores are skewed and often exactly 0.
    """
    out = np.full(differences.shape[1], np.nan)
    for k, column in enumerate(differences.T):
        d = column[np.isfinite(column)]
        moved = d[d != 0]
        if len(moved):
            ranks = rankdata(np.abs(moved))
            out[k] = (ranks * np.sign(moved)).sum() / ranks.sum()
        elif len(d):
            out[k] = 0.0
    return out

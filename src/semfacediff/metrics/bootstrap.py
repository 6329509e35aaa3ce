"""Intervals by resampling photos: counts of the drawn photos are added, the score is taken of the sum."""

from collections.abc import Iterator

import numpy as np

RESAMPLES = 1000
LEVEL = 0.95
_CHUNK = 1 << 22
"""Cells of the weight matrix made at a time: 32 MiB of float64."""


def resampled_sums(counts: np.ndarray, seed: int, resamples: int = RESAMPLES) -> np.ndarray:
    """float64 ``[resamples, ...]``: sums of ``counts`` (``[N, ...]``) over N rows drawn with replacement.

    Whole numbers below 2^53 are added without rounding. The draws depend on ``seed`` and N alone.
    """
    n = len(counts)
    flat = counts.reshape(n, -1).astype(np.float64)
    sums = np.concatenate([weights @ flat for weights in _weights(n, seed, resamples)])
    return sums.reshape(resamples, *counts.shape[1:])


def _weights(n: int, seed: int, resamples: int) -> Iterator[np.ndarray]:
    """float64 ``[k, n]`` blocks: how often each row is drawn."""
    random = np.random.default_rng(seed)
    step = max(1, _CHUNK // n)
    for start in range(0, resamples, step):
        k = min(step, resamples - start)
        drawn = random.integers(0, n, (k, n)) + n * np.arange(k)[:, None]
        yield np.bincount(drawn.ravel(), minlength=k * n).reshape(k, n).astype(np.float64)


def interval(values: np.ndarray, level: float = LEVEL) -> np.ndarray:
    """float64 ``[2, ...]``: percentile interval over the first axis.

    Resamples in which a score is undefined (NaN: none of the photos with a rare class was drawn) are left out; NaN
    where all are.
    """
    tails = [(1 - level) / 2, (1 + level) / 2]
    defined = ~np.isnan(values).all(0)
    out = np.full((2, *values.shape[1:]), np.nan)
    out[:, defined] = np.nanquantile(values[:, defined], tails, axis=0)
    return out

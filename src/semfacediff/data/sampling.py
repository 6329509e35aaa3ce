"""Which samples make up an epoch, and in which order: decided by (seed, epoch) alone."""

import numpy as np

from semfacediff.seeding import derive_seed


def steps_per_epoch(n: int, batch_size: int) -> int:
    """Whole batches in ``n`` samples; one smaller batch if there are fewer than ``batch_size``."""
    return max(1, n // batch_size)


def epoch_batches(n: int, batch_size: int, seed: int, epoch: int, factors: np.ndarray | None = None) -> list[list[int]]:
    """Batches of sample indices of one epoch.

    Args:
        factors: float64 ``[n]``, how often each sample occurs among the others, at least 1; ``None``: once each.

    Without factors the samples are shuffled, and what does not fill a batch waits for another epoch. With factors the
    epoch's multiset is drawn (:func:`repeated`), shuffled and cut: an epoch keeps its number of steps, samples with a
    high factor come more often and the others less.
    """
    rng = np.random.default_rng(derive_seed(seed, "order", epoch))
    drawn = np.arange(n) if factors is None else repeated(factors, seed, epoch)
    order = drawn[rng.permutation(len(drawn))].tolist()
    return [order[k * batch_size : (k + 1) * batch_size][:n] for k in range(steps_per_epoch(n, batch_size))]


def repeat_factors(presence: np.ndarray, threshold: float) -> np.ndarray:
    """float64 ``[n]``: repeat factors of Gupta et al. (LVIS, 2019), section 4.1.

    A class in a share f of the photos has the factor max(1, sqrt(threshold / f)); a photo that of its classes with the
    highest one.

    Args:
        presence: bool ``[n, classes]``, whether a photo shows a class.
        threshold: share of the photos, in (0, 1]; rarer classes are repeated.
    """
    share = presence.mean(axis=0)
    of_class = np.sqrt(np.maximum(1.0, threshold / np.maximum(share, 1 / len(presence))))
    return np.where(presence, of_class, 1.0).max(axis=1)


def repeated(factors: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """int64: every index i floor(factors[i]) times, and once more with a probability of what is left; in order."""
    rng = np.random.default_rng(derive_seed(seed, "repeat", epoch))
    whole = np.floor(factors)
    times = whole.astype(np.int64) + (rng.random(len(factors)) < factors - whole)
    return np.repeat(np.arange(len(factors)), times)

"""KID (Binkowski et al., ICLR 2018): unbiased squared MMD with a polynomial kernel of degree 3."""

import numpy as np

SUBSETS = 100
SUBSET_SIZE = 1000
SEED = 0
MIN_FOR_KID = 4
"""Two subsets of two vectors each; a photo is never compared with its own edit."""


def polynomial_mmd(x: np.ndarray, y: np.ndarray) -> float:
    """Unbiased estimate of the squared MMD with ``k(a, b) = (a.b / D + 1)^3``; may be negative.

    Args:
        x, y: float64 ``[M, D]`` and ``[N, D]``, at least two rows each.
    """
    width = x.shape[1]
    xx, yy, xy = ((a @ b.T / width + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
    within = sum((k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)) for k in (xx, yy))
    return float(within - 2 * xy.mean())


def kernel_distance(photos: np.ndarray, edits: np.ndarray) -> tuple[float, float]:
    """(KID, standard deviation over its subsets, ddof 1), for row i of both arrays from the same photo.

    The mean over 100 pairs of subsets of 1,000 vectors, or of half of them where there are fewer than 2,000, drawn
    without replacement by a generator with a fixed seed. The estimate is unbiased at any size only for independent
    sets, and an edit is anything but independent of its photo: hence no photo of a pair of subsets is the source of
    one of its edits. Fewer than four photos cannot be split.

    Args:
        photos, edits: float ``[N, D]`` features, at least :data:`MIN_FOR_KID` rows.

    Raises:
        ValueError: fewer rows.
    """
    photos, edits = photos.astype(np.float64), edits.astype(np.float64)
    n = len(photos)
    if n < MIN_FOR_KID:
        raise ValueError(f"KID needs at least {MIN_FOR_KID} photos, got {n}")
    size, draw = min(SUBSET_SIZE, n // 2), np.random.default_rng(SEED)
    order = (draw.permutation(n) for _ in range(SUBSETS))
    values = [polynomial_mmd(photos[i[:size]], edits[i[size : 2 * size]]) for i in order]
    return float(np.mean(values)), float(np.std(values, ddof=1))

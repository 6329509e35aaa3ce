"""FID (Heusel et al., NeurIPS 2017): pytorch-fid's distance of two Gaussians."""

import contextlib
import sys
import warnings

import numpy as np

from semfacediff.metrics.moments import Moments

MIN_N = 2048
"""Under as many vectors as a feature has entries, the covariance is singular and the value mostly bias."""


def frechet_distance(a: Moments, b: Moments) -> float:
    """``|mu_a - mu_b|^2 + Tr(C_a + C_b - 2 (C_a C_b)^(1/2))`` by ``pytorch_fid.fid_score``; at least 0.

    The distance of identical sets rounds to a value beside 0; below 0 it is clipped, as a distance has that bound.

    Raises:
        ValueError: fewer than two vectors, values that are not finite, or a root that is not real.
    """
    from pytorch_fid.fid_score import calculate_frechet_distance

    for moments in (a, b):
        if not (np.isfinite(moments.total).all() and np.isfinite(moments.outer).all()):
            raise ValueError("features that are not finite")
    # It prints a remark on singular products, and calls scipy by an old keyword; stdout is for results.
    with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        distance = float(calculate_frechet_distance(a.mean, a.covariance, b.mean, b.covariance))
    return max(0.0, distance)

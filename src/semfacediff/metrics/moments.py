"""Moments of feature vectors, in float64, that add up: parts of a set in any split give the set's."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Moments:
    """Of a set of feature vectors.

    Attributes:
        n: how many. total: float64 ``[D]``, their sum. outer: float64 ``[D, D]``, the sum of their outer products.
    """

    n: int
    total: np.ndarray
    outer: np.ndarray

    @classmethod
    def of(cls, rows: np.ndarray, chunk: int = 1024) -> "Moments":
        """Of float ``[N, D]`` rows, streamed in chunks."""
        parts = (rows[i : i + chunk].astype(np.float64) for i in range(0, len(rows), chunk))
        zero = cls(0, np.zeros(rows.shape[1]), np.zeros((rows.shape[1],) * 2))
        return zero.merged(cls(len(x), x.sum(0), x.T @ x) for x in parts)

    def merged(self, others: Iterable["Moments"]) -> "Moments":
        """Of this set and ``others`` together."""
        n, total, outer = self.n, self.total.copy(), self.outer.copy()
        for other in others:
            n += other.n
            total += other.total
            outer += other.outer
        return Moments(n, total, outer)

    def __add__(self, other: "Moments") -> "Moments":
        return self.merged([other])

    @property
    def mean(self) -> np.ndarray:
        """float64 ``[D]``."""
        return self.total / self.n

    @property
    def covariance(self) -> np.ndarray:
        """float64 ``[D, D]``, ddof 1.

        Raises:
            ValueError: fewer than two vectors.
        """
        if self.n < 2:
            raise ValueError(f"a covariance needs at least 2 vectors, got {self.n}")
        return (self.outer - self.n * np.outer(self.mean, self.mean)) / (self.n - 1)

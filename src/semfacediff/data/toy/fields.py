"""Soft shading, computed on a small grid and enlarged: the same at every size, and cheap."""

from functools import lru_cache

import cv2
import numpy as np

GRID = 64  # side of the shading fields


@lru_cache
def unit_grid() -> np.ndarray:
    """float32 ``[2, 64, 64]``: frame coordinates (x, y) of the shading grid."""
    axis = (np.arange(GRID, dtype=np.float32) + 0.5) / GRID
    return np.stack(np.meshgrid(axis, axis))


def enlarged(field: np.ndarray, size: int) -> np.ndarray:
    """A shading field float32 ``[64, 64]`` as ``[size, size]``, or ``[64, 64, 3]`` as planar ``[3, size, size]``."""
    if field.ndim == 2:
        return cv2.resize(field.astype(np.float32, copy=False), (size, size), interpolation=cv2.INTER_LINEAR)
    planes = np.empty((3, size, size), np.float32)
    for plane, out in zip(cv2.split(field.astype(np.float32, copy=False)), planes, strict=True):
        cv2.resize(plane, (size, size), dst=out, interpolation=cv2.INTER_LINEAR)
    return planes


def bumps(u: np.ndarray, v: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Sum of Gaussian bumps; rows of ``table`` are centre u, v, spread u, v and height."""
    t = np.asarray(table, np.float32)[:, :, None]
    gu = np.exp(-(((u.ravel() - t[:, 0]) / t[:, 2]) ** 2) - ((v.ravel() - t[:, 1]) / t[:, 3]) ** 2)
    return (t[:, 4, 0] @ gu).reshape(u.shape)


def tinted(colour: np.ndarray, shade: np.ndarray) -> np.ndarray:
    """float32 ``[..., 3]``: ``colour`` under ``shade`` (1 = as it is), with shadows that turn warm."""
    return colour * (1 + (shade - 1)[..., None] * np.array([0.86, 1.06, 1.14], np.float32))


def noise_field(rng: np.random.Generator, cells: int) -> np.ndarray:
    """Smooth noise float32 ``[64, 64]`` of unit scale with about ``cells`` blotches a side."""
    return cv2.resize(rng.standard_normal((cells, cells), np.float32), (GRID, GRID), interpolation=cv2.INTER_CUBIC)

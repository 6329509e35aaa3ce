"""Outlines as float64 ``[K, 2]`` points, in any frame; caches hold what depends on the point count alone."""

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike


def rotation(angle: float) -> np.ndarray:
    """``[2, 2]`` for row vectors: turns clockwise on the screen."""
    return np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])


def turned(u: np.ndarray, yaw: float) -> np.ndarray:
    """Where points at ``u`` of a round head go when it turns by ``yaw``; beyond the head's edge they stay."""
    s = u / 0.80
    depth = np.sqrt(np.maximum(1 - s * s, 0))
    return np.where(depth > 0, u * np.cos(yaw) + 0.66 * depth * np.sin(yaw), u)


@lru_cache
def _spline_basis(steps: int) -> np.ndarray:
    """``[steps, 4]`` weights of a Catmull-Rom segment's four control points."""
    t = np.arange(steps) / steps
    return np.stack([-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2], 1) / 2


def smooth(points: ArrayLike, steps: int = 6) -> np.ndarray:
    """``[K * steps, 2]``: closed smooth curve through ``[K, 2]`` control points."""
    points = np.asarray(points, np.float64)
    k = np.arange(len(points))
    quads = points[(k[:, None] + np.array([-1, 0, 1, 2])) % len(points)]
    return (_spline_basis(steps) @ quads).reshape(-1, 2)


def arc(points: ArrayLike, steps: int = 6) -> np.ndarray:
    """``[(K - 1) * steps + 1, 2]``: open smooth curve through ``[K, 2]`` control points."""
    points = np.asarray(points, np.float64)
    padded = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    quads = padded[np.arange(len(points) - 1)[:, None] + np.arange(4)]
    return np.concatenate([(_spline_basis(steps) @ quads).reshape(-1, 2), points[-1:]])


def stroke(line: ArrayLike, width: float, taper: float = 1.0) -> np.ndarray:
    """Outline ``[2K, 2]`` of a brush stroke along ``[K, 2]``: ``width`` in the middle, thinner at the ends by taper."""
    line = np.asarray(line, np.float64)
    ends = np.concatenate([line[:1], line, line[-1:]])
    along = ends[2:] - ends[:-2]
    reach = width / 2 / (np.sqrt((along * along).sum(1)) + 1e-9)
    half = along[:, ::-1] * (-1, 1) * (reach * (1 - taper * _across(len(line)) ** 2))[:, None]
    return np.concatenate([line + half, (line - half)[::-1]])


@lru_cache
def _across(k: int) -> np.ndarray:
    return np.linspace(-1, 1, k)


def ellipse(u: float, v: float, ru: float, rv: float, power: float = 2.0, k: int = 24) -> np.ndarray:
    """``[k, 2]`` points of an ellipse about (u, v); ``power`` above 2 makes it squarer."""
    return _superellipse(k, power) * (ru, rv) + (u, v)


@lru_cache
def _superellipse(k: int, power: float) -> np.ndarray:
    angle = np.arange(k) * (2 * np.pi / k)
    circle = np.stack([np.cos(angle), np.sin(angle)], 1)
    return np.sign(circle) * abs(circle) ** (2 / power)


def mirrored(points: ArrayLike, side: int) -> np.ndarray:
    """Points given for the viewer's right side, on the side asked for (-1 or 1)."""
    return np.asarray(points, np.float64) * (side, 1)

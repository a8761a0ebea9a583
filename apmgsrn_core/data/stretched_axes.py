"""The coordinates of a rectilinear lattice, and numbers between them."""

from __future__ import annotations

import numpy as np

from ..errors import ConfigError


def checked_axes(axes, dims: tuple[int, int, int]) -> tuple[tuple[float, ...], ...]:
    """Coordinates along x, y, z as tuples. ConfigError: not `dims` many, not finite, or neither rising nor falling."""
    axes = tuple(tuple(float(v) for v in axis) for axis in axes)
    if tuple(map(len, axes)) != dims:
        raise ConfigError(f"Grid.axes: expected {dims} coordinates, found {tuple(map(len, axes))}")
    for name, axis in zip("xyz", axes):
        steps = np.diff(axis)
        if not np.isfinite(axis).all() or not ((steps > 0).all() or (steps < 0).all()):
            raise ConfigError(f"Grid.axes: expected finite coordinates that only rise or only fall along {name}")
    return axes


def between(numbers: np.ndarray, known: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Linear between known numbers (strictly monotonic), and beyond the ends as in the last interval."""
    if known[0] > known[-1]:
        known, values = known[::-1], values[::-1]
    low = np.clip(np.searchsorted(known, numbers, side="right") - 1, 0, len(known) - 2)
    share = (numbers - known[low]) / (known[low + 1] - known[low])
    return values[low] * (1.0 - share) + values[low + 1] * share

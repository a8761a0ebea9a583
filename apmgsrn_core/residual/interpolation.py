"""Whole numbers on a lattice, predicted from coarse to fine: the order of the points, and what is known at each.

A block of values is walked by phases. At level l, from the coarsest on, the points whose indices are multiples of 2^(l + 1) are
known; those at the odd multiples of s = 2^l along one axis come next (along z, then y, then x), then along two, then all three.
A point is predicted from the points at +-s and +-3s along its odd axes, which are known by then.

Everything is computed in whole numbers, so that what is predicted is the same on every computer.

Source: interpolation as a predictor under an error bound, Zhao et al. 2021, "Optimizing error-bounded lossy compression for
scientific data by dynamic spline interpolation", ICDE; of several axes at once, Liu et al. 2024, "High-performance effective
scientific error-bounded lossy compression with auto-tuned multi-component interpolation", SIGMOD. The choice of weights by
level and phase, and the contexts, are our own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

STEP = 1024  # units of a rounding step; values are whole numbers of units
ODD = ((1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (1, 0, 1), (0, 1, 1), (1, 1, 1))  # along z, y, x
WEIGHTS = np.array([(72, -8), (64, 0), (48, 0), (32, 0), (16, 0), (0, 0)])  # of near and far points, in 64ths
AXIS, EDGE, CORNER = 8, 3, 2  # say of the size of a neighbour by how many axes it is away
COARSE = {AXIS: 4, EDGE: 1, CORNER: 1}  # of one of the level above
ROUGH = 10  # say of the difference of the two nearest points


@dataclass(frozen=True)
class Phase:
    """Points that are predicted together: `axes` are their indices along z, y, x."""

    level: int
    odd: tuple[int, int, int]
    axes: tuple[np.ndarray, np.ndarray, np.ndarray]

    @property
    def place(self) -> tuple:
        """What indexes them in an array [z, y, x]."""
        return np.ix_(*self.axes)

    @property
    def shape(self) -> tuple[int, ...]:
        """How many there are along z, y, x."""
        return tuple(map(len, self.axes))


def levels(shape: tuple[int, int, int]) -> int:
    """Levels of a block; above the last one there is one point, the first."""
    return (max(shape) - 1).bit_length()


def phases(shape: tuple[int, int, int]) -> Iterator[Phase]:
    """All points of a block but the first, phase by phase; phases without points are left out."""
    for level in range(levels(shape) - 1, -1, -1):
        for odd in ODD:
            axes = tuple(np.arange(o << level, n, 2 << level) for o, n in zip(odd, shape))
            if all(map(len, axes)):
                yield Phase(level, odd, axes)


def _shifted(values: np.ndarray, phase: Phase, offsets: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The values at offsets from the points of a phase, and whether there are such points; others are those of the border."""
    axes, there = [], np.ones((1, 1, 1), dtype=bool)
    for axis, (indices, offset) in enumerate(zip(phase.axes, offsets)):
        moved = indices + offset
        inside = (moved >= 0) & (moved < values.shape[axis])
        there = there & inside.reshape([-1 if a == axis else 1 for a in range(3)])
        axes.append(moved.clip(0, values.shape[axis] - 1))
    return values[np.ix_(*axes)], there


@dataclass(frozen=True)
class Nearby:
    """What is known around the points of a phase, each summed over its odd axes.

    Attributes:
        near, far: The values at -s and +s, and at -3s and +3s; where one is beyond the block, those of the nearer ones.
        rough: |difference| of the two near ones.
        count: Odd axes.
    """

    near: np.ndarray
    far: np.ndarray
    rough: np.ndarray
    count: int

    @classmethod
    def of(cls, values: np.ndarray, phase: Phase) -> "Nearby":
        """Around a phase of a block's values (int64, those of later phases do not matter)."""
        near = far = rough = 0
        for axis in np.flatnonzero(phase.odd):
            unit = np.eye(3, dtype=int)[axis] << phase.level
            low, _ = _shifted(values, phase, tuple(-unit))
            high, there = _shifted(values, phase, tuple(unit))
            high = np.where(there, high, low)
            lower, is_lower = _shifted(values, phase, tuple(-3 * unit))
            higher, is_higher = _shifted(values, phase, tuple(3 * unit))
            near = near + low + high
            far = far + np.where(is_lower & is_higher, lower + higher, low + high)
            rough = rough + np.abs(low - high)
        return cls(near, far, rough, sum(phase.odd))

    def predicted(self, choice: int) -> np.ndarray:
        """The values by one of WEIGHTS."""
        a, b = WEIGHTS[choice]
        return (a * self.near + b * self.far + 64 * self.count) // (128 * self.count)


def expected_size(numbers: np.ndarray, phase: Phase, nearby: Nearby) -> np.ndarray:
    """About how large the coded numbers of a phase are, in 64ths, from those around them that are known.

    Args:
        numbers: int64 of the block; 0 where they are not known.
    """
    total, weights = 0, 0
    for offset in np.ndindex(3, 3, 3):
        offset = np.array(offset) - 1
        odd = tuple((np.array(phase.odd) + offset) & 1)
        if not offset.any() or (any(odd) and ODD.index(odd) >= ODD.index(phase.odd)):
            continue
        weight = (AXIS, EDGE, CORNER)[np.abs(offset).sum() - 1]
        weight = weight if any(odd) else COARSE[weight]
        found, there = _shifted(numbers, phase, tuple(offset << phase.level))
        total = total + weight * np.abs(np.where(there, found, 0))
        weights += weight
    return 64 * total // weights + ROUGH * nearby.rough // (STEP * nearby.count)

"""The macrocells of bricks as those of the whole volume.

A brick's macrocells cut its own box: from its first to its last value, at the domain's border to the end of the mesh. Beyond
its box, in the bands in which it is blended with its neighbours, a brick has the values of its border.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from ..brick_layout import BrickLayout
from ..grid import Grid
from .macrocells import Macrocells, counts_for, places_along

ROUNDING = 1e-6  # of a cell: cells that only touch each other do not overlap

Interval = tuple[float, float]


class BrickBoxes:
    """Where the bricks of a layout are along the axes of a volume's box, from 0 to 1.

    Args:
        layout: Of the bricks.
        grid: The lattice of the volume, at least 2 points along each axis.
    """

    def __init__(self, layout: BrickLayout, grid: Grid):
        self._layout, self._grid = layout, grid

    def box(self, brick: int) -> list[Interval]:
        """What the brick's macrocells cut, along x, y, z."""
        return self._widened(brick, (0.0, 0.0, 0.0))

    def reach(self, brick: int) -> list[Interval]:
        """Where the brick has weight."""
        return self._widened(brick, self._layout.half_widths)

    def _widened(self, brick: int, more: Sequence[float]) -> list[Interval]:
        core, found = self._layout.core(brick), []
        for axis, (first, stop, n) in enumerate(zip(core.start, core.stop, self._layout.dims)):
            ends = places_along(self._grid, axis, np.array([first - more[axis], stop - 1 + more[axis]]))
            found.append((0.0 if first == 0 else float(ends[0]), 1.0 if stop == n else float(ends[1])))
        return found


def joined(cells: Iterable[Macrocells], layout: BrickLayout, grid: Grid, components: int = 1) -> Macrocells:
    """The macrocells of a volume from those of all its bricks.

    Args:
        cells: Of each brick.
        layout, grid: Of the volume.
        components: Of the array; the magnitude of a blend of vectors can be less than that of each.
    """
    boxes, counts = BrickBoxes(layout, grid), counts_for(grid)
    low, high = np.full(counts[::-1], np.inf, np.float32), np.full(counts[::-1], -np.inf, np.float32)
    bricks = np.zeros(counts[::-1], np.int64)
    for brick, own in enumerate(cells):
        where, parts = [], []
        for n, (start, stop), box, m in zip(counts, boxes.reach(brick), boxes.box(brick), own.counts):
            begin = min(max(int(np.floor(start * n + ROUNDING)), 0), n - 1)
            touched = np.arange(begin, max(min(int(np.ceil(stop * n - ROUNDING)), n), begin + 1))  # a brick may be thinner than rounding
            scale = m / (box[1] - box[0])
            first = np.floor((touched / n - box[0]) * scale + ROUNDING).astype(int).clip(0, m - 1)
            last = (np.ceil(((touched + 1) / n - box[0]) * scale - ROUNDING).astype(int) - 1).clip(0, m - 1)
            where.append(slice(touched[0], touched[-1] + 1))
            parts.append((first, np.maximum(first, last) + 1))
        at = tuple(where[::-1])
        low[at] = np.minimum(low[at], _pooled(own.low, parts, np.minimum))
        high[at] = np.maximum(high[at], _pooled(own.high, parts, np.maximum))
        bricks[at] += 1
    if components > 1:
        low = np.where(bricks > 1, np.minimum(low, 0), low)
    return Macrocells(low, high)


def _pooled(values: np.ndarray, parts: Sequence[tuple[np.ndarray, np.ndarray]], pool) -> np.ndarray:
    """Values [z, y, x] pooled over parts, (first, stop) of each along x, y, z."""
    for axis, (firsts, stops) in enumerate(parts):
        moved = np.moveaxis(values, 2 - axis, 0)
        values = np.moveaxis(np.stack([pool.reduce(moved[a:b], axis=0) for a, b in zip(firsts, stops)]), 0, 2 - axis)
    return values

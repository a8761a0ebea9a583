"""Filling an array with the values of a box of any lattice, in bounded memory beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from ..bricks.sampling import PIECE, BrickSampler
from ..data.array_values import in_unit
from ..data.boxes import Box, halved, layered
from ..file.manifest import ArrayInfo
from ..grid import Grid, Region

MOST_VALUES = 1 << 24  # evaluated at once
PART = 1 << 18  # values whose unit and type are changed at once

NONE = np.zeros(0, dtype=np.int64)


class RegionSampling:
    """The sampling of one array in a box of a lattice.

    Args:
        sampler: Of the model's bricks.
        own_grid: The lattice of the model.
        region: Value indices of `grid`.
        grid: The lattice that is asked for.
        info: The array.
        columns: Its outputs among those of the networks.
        valid_lattice: Positions along x, y and z -> where the array has a value, [z, y, x]; None: everywhere.
        valid_points: The same at (n, 3) positions.
    """

    def __init__(
        self, sampler: BrickSampler, own_grid: Grid, region: Region, grid: Grid, info: ArrayInfo, columns: slice,
        valid_lattice: Callable | None = None, valid_points: Callable | None = None,
    ):  # fmt: skip
        self._sampler, self._own_grid, self._grid, self._info, self._columns = sampler, own_grid, grid, info, columns
        self._valid_lattice, self._valid_points = valid_lattice, valid_points
        self._index = index_positions(region, grid)
        self._axes = own_positions(own_grid, grid, self._index)

    def fill(self, result: np.ndarray, report: Callable[[float], None]) -> None:
        """Set all of `result` [z, y, x, component]; `report` gets the share done, and what it raises ends the work."""
        done = 0
        for box in self._boxes(result.shape[:3]):
            values = result[box]
            if self._axes is None:
                values[...] = self._turned(box, values.dtype).reshape(values.shape)
            else:
                self._fill_aligned(values, box, lambda share: report((done + share * values.size) / result.size))
            done += values.size
            report(done / result.size)

    def _boxes(self, shape: tuple[int, ...]) -> Iterable[Box]:
        """Parts that are sampled one after the other; cut between bricks, so that few need a brick."""
        if 0 in shape:
            return ()
        whole = tuple(slice(0, n) for n in shape)
        if self._axes is None:
            return halved(whole, (NONE, NONE, NONE), PIECE)
        positions = value_positions(self._own_grid, self._axes)
        parts = [self._sampler.layout.along(axis, where) for axis, where in enumerate(positions)]
        borders = [np.flatnonzero(np.diff(part)) + 1 for part in parts[::-1]]
        return halved(whole, borders, max(MOST_VALUES // self._info.components, 1))

    def _fill_aligned(self, values: np.ndarray, box: Box, report: Callable[[float], None]) -> None:
        """Values of a box as a lattice of the model's own coordinates; NaN outside."""
        own = [axis[part] for axis, part in zip(self._axes, box[::-1])]
        positions = value_positions(self._own_grid, own)
        outputs = self._sampler.on_lattice(positions, self._columns, lambda share: report(share) if share < 1 else None)
        for axis, index in enumerate(own):
            outside = (index < -1e-6) | (index > self._own_grid.dims[axis] - 1 + 1e-6)
            np.moveaxis(outputs, 2 - axis, 0)[outside] = np.nan
        if self._valid_lattice is not None:
            outputs[~self._valid_lattice(positions)] = np.nan
        for part in layered(values.shape, PART):
            values[part] = in_unit(outputs[part], self._info, values.dtype)

    def _turned(self, box: Box, kind: np.dtype) -> np.ndarray:
        """Values (n, components) of a box point by point; NaN outside."""
        parts = [p[part] for p, part in zip(self._index, box[::-1])]
        z, y, x = np.meshgrid(*parts[::-1], indexing="ij")
        index = np.stack([x.ravel(), y.ravel(), z.ravel()], axis=1).astype(np.float64)
        own = self._own_grid.world_to_index(self._grid.index_to_world(index))
        positions = np.stack(value_positions(self._own_grid, own.T), axis=1)
        outputs = self._sampler.at_points(positions, self._columns)
        outputs[~self._own_grid.contains_index(own)] = np.nan
        if self._valid_points is not None:
            outputs[~self._valid_points(positions)] = np.nan
        return in_unit(outputs, self._info, kind)


def own_positions(own_grid: Grid, grid: Grid, index: list[np.ndarray]) -> list[np.ndarray] | None:
    """Index coordinates along x, y, z of one lattice in those of another; None when the lattices are turned against each
    other, so that a position depends on all three indices."""
    if not np.allclose(grid.direction, own_grid.direction, rtol=0, atol=1e-12):
        return None
    axes = []
    for axis, positions in enumerate(index):
        points = np.zeros((len(positions), 3))
        points[:, axis] = positions
        axes.append(own_grid.world_to_index(grid.index_to_world(points))[:, axis])
    return axes


def index_positions(region: Region, grid: Grid) -> list[np.ndarray]:
    """Index coordinates of a region's values along x, y and z."""
    return [np.arange(a, b) + first for a, b, first in zip(region.start, region.stop, _first_values(grid))]


def value_positions(grid: Grid, index) -> list[np.ndarray]:
    """Index coordinates along x, y and z -> positions that count values, see `brick_layout.py`."""
    return [numbers - first for numbers, first in zip(index, _first_values(grid))]


def _first_values(grid: Grid) -> list[float]:
    """Index coordinates of the first value along x, y, z."""
    return [0.5 if grid.association == "cell" and n > 1 else 0.0 for n in grid.dims]

"""The ranges of a volume's values in the cells of a coarse lattice, and what of them a picture can show.

The cells cut the box of the lattice into equal parts of the world. A range is that of the values at lattice points at up to
twice the resolution, the cell's border included, wider on both sides by the largest difference of neighbouring ones: twice
what a slope of that size can add between two of them.
"""

from __future__ import annotations

import lzma
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import torch

from ..errors import ModelFileError
from ..grid import Grid, Region
from .ray_field import RayField
from .transfer_function import TransferFunction

VALUES_OF_CELL = 4  # of the lattice, along each axis
MOST_CELLS = 64  # along an axis
MOST_VALUES = 1 << 23  # sampled for the ranges
FIRST_VALUES = 1 << 20  # a second, at first
REACH = 24  # cells that a leap may cross
MOST_LEVELS = 255  # of a stored end of a range
HEADER = struct.Struct("<IIIBff")  # counts, levels, the lowest and the highest end
CODER = {"id": lzma.FILTER_LZMA2, "dict_size": 1 << 20}
SLACK = 1e-3  # of the range: what a table of a transfer function may mix


@dataclass(frozen=True)
class Macrocells:
    """Ranges of scaled values: `low` and `high` float32 [z, y, x]; inf and -inf in a cell without values."""

    low: np.ndarray
    high: np.ndarray

    @property
    def counts(self) -> tuple[int, int, int]:
        """Cells along x, y, z."""
        return self.low.shape[::-1]

    @classmethod
    def of_field(cls, field: RayField, counts: tuple[int, int, int] | None = None) -> "Macrocells":
        """The ranges of a volume's array, sampled; `counts` along x, y, z, None: cells of about 4 values."""
        sampling = RangeSampling(field, counts)
        sampling.run(math.inf)
        return sampling.cells()

    @classmethod
    def of_lattice(cls, scaled: np.ndarray, grid: Grid, counts: tuple[int, int, int]) -> "Macrocells":
        """The ranges of scaled values [z, y, x] of a lattice in so many cells along x, y, z of its box."""
        return cls.of_values(scaled, [places_along(grid, axis, np.arange(n)) for axis, n in enumerate(grid.value_dims)], counts)

    @classmethod
    def of_values(cls, scaled: np.ndarray, places: Sequence[np.ndarray], counts: tuple[int, int, int]) -> "Macrocells":
        """The same of values at rising places along x, y and z of a box from 0 to 1."""
        low, high = scaled, scaled
        margin = np.zeros(counts[::-1], np.float32)
        for axis in range(3):
            difference = np.nan_to_num(np.abs(np.diff(scaled, axis=2 - axis)))
            for other in range(3):
                at = places[other] if other != axis else (places[axis][1:] + places[axis][:-1]) / 2
                difference = _pooled(difference, 2 - other, at, counts[other], np.fmax)
            margin = np.maximum(margin, difference)
        for axis in range(3):
            low = _pooled(low, 2 - axis, places[axis], counts[axis], np.fmin)
            high = _pooled(high, 2 - axis, places[axis], counts[axis], np.fmax)
        empty = np.isnan(low)
        return cls(np.where(empty, np.inf, low - margin), np.where(empty, -np.inf, high + margin))

    def to_bytes(self, levels: int = MOST_LEVELS) -> bytes:
        """The ends of the ranges in so many levels of all of them, rounded outwards, compressed: `macrocells` of a section."""
        filled = self.low <= self.high
        ends = np.array([self.low[filled].min(), self.high[filled].max()] if filled.any() else [0, 1], "<f4")
        span = float(ends[1] - ends[0]) or 1.0
        low = np.where(filled, np.floor((np.where(filled, self.low, 0) - ends[0]) / span * levels), 1)
        high = np.where(filled, np.ceil((np.where(filled, self.high, 0) - ends[0]) / span * levels), 0)
        rows = np.stack([low, high]).clip(0, levels).astype(np.uint8)
        rows[1] -= rows[0]  # an empty cell wraps to 255 above 1, which no range reaches
        coded = lzma.compress(rows.tobytes(), lzma.FORMAT_RAW, filters=[{**CODER, "preset": 9, "lc": 0, "pb": 0}])
        return HEADER.pack(*self.counts, levels, *ends.tolist()) + coded

    @classmethod
    def from_bytes(cls, data: bytes, what: str) -> "Macrocells":
        """The inverse of `to_bytes`, ends up to a level apart. Raises ModelFileError, which calls the bytes `what`."""
        if len(data) < HEADER.size:
            raise ModelFileError(f"{what}: expected at least {HEADER.size} bytes of macrocells, found {len(data)}")
        *counts, levels, first, last = HEADER.unpack_from(data)
        if not all(1 <= n <= MOST_CELLS for n in counts) or not levels or not np.isfinite([first, last]).all():
            raise ModelFileError(f"{what}: damaged macrocells: counts {counts}, {levels} levels, range {[first, last]}")
        size = 2 * int(np.prod(np.array(counts, np.int64)))
        opened = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[CODER])
        try:
            rows = opened.decompress(data[HEADER.size :], size + 1)
        except lzma.LZMAError as error:
            raise ModelFileError(f"{what}: damaged macrocells: {error}") from error
        if len(rows) != size:
            raise ModelFileError(f"{what}: expected {size} bytes of macrocells, found {len(rows)}")
        low, width = np.frombuffer(rows, np.uint8).reshape(2, *counts[::-1]).astype(np.int64)
        empty = low + width > levels
        scale = ((last - first) or 1.0) / levels
        low, high = (np.float32(first + n * scale) for n in (low, low + width))
        return cls(np.where(empty, np.float32(np.inf), low), np.where(empty, np.float32(-np.inf), high))

    def opacities(self, function: TransferFunction, field: RayField) -> tuple[np.ndarray, np.ndarray]:
        """[z, y, x] the smallest and the largest opacity that the values of a cell may have; 0 in a cell without values."""
        filled = self.low <= self.high
        low = field.unscaled(np.where(filled, self.low, 0.0).ravel() - SLACK)
        high = field.unscaled(np.where(filled, self.high, 0.0).ravel() + SLACK)
        return tuple(np.where(filled, ends.reshape(filled.shape), 0.0) for ends in function.opacity_range(low, high))

    def reaching(self, scaled_values) -> np.ndarray:
        """bool [z, y, x]: the cells that may hold one of some scaled values."""
        found = [(self.low - SLACK <= v) & (v <= self.high + SLACK) for v in scaled_values]
        return np.logical_or.reduce(found) if found else np.zeros(self.low.shape, bool)


class RangeSampling:
    """Samples the ranges of a volume's array part by part.

    Args:
        field: Of the volume.
        counts: Cells along x, y, z; None: cells of about 4 values.

    Attributes:
        total: Values to sample.
        done: Whether all have been.
    """

    def __init__(self, field: RayField, counts: tuple[int, int, int] | None = None):
        self._field, self._counts = field, counts or counts_for(field.grid)
        self._grid = finer(field.grid, MOST_VALUES)
        self._scaled = np.empty(self._grid.value_dims[::-1], np.float32)
        self._next, self._rate, self.done, self.total = 0, FIRST_VALUES, False, self._grid.region.count

    def run(self, seconds: float) -> None:
        """Sample for about so long, or to the end."""
        end = perf_counter() + seconds
        while not self.done and (now := perf_counter()) < end:
            layer, first = self.total / self._grid.value_dims[2], self._next
            self._sample(max(round(min(self._rate * (end - now), self.total) / layer), 1))
            self._rate = (self._next - first) * layer / max(perf_counter() - now, 1e-6)

    def _sample(self, count: int) -> None:
        """So many layers more."""
        nx, ny, nz = self._grid.value_dims
        first, self._next = self._next, min(self._next + count, nz)
        layers = Region((0, 0, first), (nx, ny, self._next))
        values = self._field.volume.sample_region(layers, self._grid, self._field.name, time=self._field.time)
        values = values if values.ndim == 3 else np.linalg.norm(values, axis=3)
        self._scaled[first : self._next] = self._field.scaled(values)
        self.done = self._next == nz

    def cells(self) -> Macrocells:
        """The ranges, once all is done."""
        return Macrocells.of_lattice(self._scaled, self._grid, self._counts)


class VisibleCells:
    """Which cells can be seen, on a device, and how far it is to the next of them.

    Args:
        cells: Of the field.
        visible: bool [z, y, x].
        lengths: int [z, y, x], steps from one sample to the next in a cell, powers of 2; None: 1 everywhere.

    Attributes:
        counts: Cells along x, y, z.
        visible: (cells,) bool, flat.
        far: (cells,) uint8 cells to the nearest visible one.
        lengths: (cells,) uint8, or None.
        highest: (cells,) float32 largest value of each.
    """

    def __init__(self, cells: Macrocells, visible: np.ndarray, device, lengths: np.ndarray | None = None):
        self.counts = cells.counts
        self._counts = torch.tensor(cells.counts, dtype=torch.float32, device=device)
        self._last = self._counts - 1
        self._strides = (1, cells.counts[0], cells.counts[0] * cells.counts[1])
        self.visible = torch.from_numpy(visible.reshape(-1).copy()).to(device)
        self.far = torch.from_numpy(distances(visible).reshape(-1)).to(device)
        self.highest = torch.from_numpy(cells.high.astype(np.float32).reshape(-1).copy()).to(device)
        self.lengths = None if lengths is None else torch.from_numpy(lengths.reshape(-1).astype(np.uint8)).to(device)

    def number_of(self, points: torch.Tensor) -> torch.Tensor:
        """(..., 3) box coordinates -> (...) int64 number of the cell."""
        return self._number((points * self._counts).floor_().clamp_(min=0).minimum(self._last))

    def _number(self, place: torch.Tensor) -> torch.Tensor:
        place = place.to(torch.int32)
        return (place[..., 0] + self._strides[1] * place[..., 1] + self._strides[2] * place[..., 2]).long()

    def steps_out(self, points: torch.Tensor, along: torch.Tensor) -> torch.Tensor:
        """(m,) int64: steps `along` (m, 3) from points (m, 3) to the first sample beyond the empty cells around them; 0 in a
        visible cell."""
        place = (points * self._counts).floor_().clamp_(min=0).minimum(self._last)
        far = self.far[self._number(place)]
        reach = far.to(torch.float32)[:, None]
        bound = torch.where(along > 0, place + reach, place + 1 - reach) / self._counts
        steps = torch.where(along == 0, torch.inf, (bound - points) / along).amin(dim=1)
        steps = steps.clamp_(0, 1e6).floor_().long() + 1
        return torch.where(far > 0, steps, 0)


def counts_for(grid: Grid) -> tuple[int, int, int]:
    """Cells along x, y, z of a lattice, of about VALUES_OF_CELL values each, at most MOST_CELLS."""
    return counts_of(grid.dims, MOST_CELLS)


def counts_of(dims: Sequence[int], most: int) -> tuple[int, int, int]:
    """The same of so many points along x, y, z."""
    return tuple(min(max(round((n - 1) / VALUES_OF_CELL), 1), most) for n in dims)


def finer(grid: Grid, most: int) -> Grid:
    """The lattice at twice the resolution, or at that with about `most` values."""
    return grid.scaled(min(2.0, (most / grid.region.count) ** (1 / 3)))


def distances(visible: np.ndarray) -> np.ndarray:
    """uint8 [z, y, x]: cells to the nearest visible one, the largest of the three axes; at most REACH."""
    far = np.where(visible, 0, REACH).astype(np.uint8)
    reached = visible
    for distance in range(1, REACH):
        wider = reached
        for axis in range(3):
            wider = _spread(wider, axis)
        if (wider == reached).all():
            break
        far[wider & ~reached] = distance
        reached = wider
    return far


def _spread(flags: np.ndarray, axis: int) -> np.ndarray:
    """Set also beside a set one along an axis."""
    result, flags = flags.copy(), np.moveaxis(flags, axis, 0)
    moved = np.moveaxis(result, axis, 0)
    moved[1:] |= flags[:-1]
    moved[:-1] |= flags[1:]
    return result


def places_along(grid: Grid, axis: int, positions: np.ndarray) -> np.ndarray:
    """(n,) positions along an axis, which count values from 0, -> (n,) places, 0 and 1 being the ends of the mesh in the world."""
    half = 0.5 if grid.association == "cell" else 0.0
    if grid.axes is None:
        return (positions + half) / (grid.dims[axis] - 1)
    points = np.zeros((len(positions) + 2, 3))
    points[:, axis] = [0, *(positions + half), grid.dims[axis] - 1]
    world = grid.index_to_world(points)
    along = (world - world[0]) @ (world[-1] - world[0])
    return along[1:-1] / along[-1]


def _pooled(values: np.ndarray, axis: int, places: np.ndarray, count: int, pool) -> np.ndarray:
    """Values pooled along an axis in `count` equal parts of 0 to 1, with those on both sides of each part's ends."""
    edges = np.arange(count + 1) / count
    first = np.clip(np.searchsorted(places, edges[:-1] + 1e-9, "right") - 1, 0, len(places) - 1)
    last = np.clip(np.searchsorted(places, edges[1:] - 1e-9, "left"), 0, len(places) - 1)
    moved = np.moveaxis(values, axis, 0)
    return np.moveaxis(np.stack([pool.reduce(moved[a : b + 1], axis=0) for a, b in zip(first, last)]), 0, axis)

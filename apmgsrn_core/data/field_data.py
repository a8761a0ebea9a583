"""The array that is trained: a view in its own type, never copied to float as a whole."""

from __future__ import annotations

import math

import numpy as np

from ..errors import DataError
from ..file.manifest import ArrayInfo
from ..grid import Grid
from .array_spec import columns_of
from .array_values import normalised
from .value_transform import IDENTITY

SLAB_VALUES = 1 << 22  # values converted at a time


class FieldData:
    """Values on a grid, with their range.

    Args:
        values: [z, y, x] or [z, y, x, component], any integer or floating-point type.
        grid: The lattice they live on.
        name: For messages.
        value_range: (minimum, maximum) that 0 and 1 stand for, of the whole that these values are a part of; None: theirs.

    Raises:
        DataError: Shape and grid differ, the type is not numeric, there are fewer than two values, none is finite,
            or the range overflows float64.

    Attributes:
        missing: Values that are not finite; 0 when a range was given.
        fills: See `_fill_gaps`.
    """

    fills: np.ndarray | None = None

    def __init__(
        self, values: np.ndarray, grid: Grid, name: str = "values", value_range: tuple[float, float] | None = None
    ):
        values = np.asarray(values)
        if values.ndim not in (3, 4) or values.shape[:3] != grid.value_dims[::-1]:
            raise DataError(
                f"array {name!r}: expected shape {grid.value_dims[::-1]} (z, y, x) of {grid.association} values, "
                f"found {values.shape}"
            )
        if values.dtype.kind not in "iuf":
            raise DataError(f"array {name!r}: expected an integer or floating-point type, found {values.dtype}")
        if math.prod(grid.value_dims) < 2:
            raise DataError(f"array {name!r}: expected at least 2 values, found {math.prod(grid.value_dims)}")
        self.values = values[..., None] if values.ndim == 3 else values
        self.grid = grid
        self.name = name
        self.components = self.values.shape[3]
        self.minimum, self.maximum, self.missing = self._scan() if value_range is None else (*value_range, 0)

    @classmethod
    def of_arrays(cls, values: np.ndarray, grid: Grid, arrays: tuple[ArrayInfo, ...]) -> "FieldData":
        """The values of one or several arrays, the components one after the other, whose ranges are known.

        A single array without a transform stays in its own type; otherwise the values are scaled to float32 at once. Where
        only some of the arrays have no value, they get the mean of their others: the point is trained for the sake of the
        rest, and the mask says that this value is none.
        """
        name = ", ".join(array.name for array in arrays)
        if len(arrays) == 1 and arrays[0].transform == IDENTITY:
            return cls(values, grid, name, arrays[0].range)
        values = values[..., None] if values.ndim == 3 else values
        scaled = np.empty(values.shape, dtype=np.float32)
        for array, columns in zip(arrays, columns_of(arrays)):
            for first in range(0, len(values), 16):  # layers; float64 of all at once would be large
                layers = slice(first, first + 16)
                scaled[layers, ..., columns] = normalised(values[layers, ..., columns], array)
        fills = _fill_gaps(scaled, arrays) if len(arrays) > 1 else None
        constant = all(low == high for low, high in (a.range for a in arrays))
        data = cls(scaled, grid, name, (0.0, 0.0 if constant else 1.0))
        data.fills = fills
        return data

    @property
    def dims(self) -> tuple[int, int, int]:
        """Values along x, y, z."""
        return self.grid.value_dims

    @property
    def span(self) -> float:
        """Maximum minus minimum; 0 for constant data."""
        return self.maximum - self.minimum

    def slabs(self):
        """Yield (first z, values[z, y, x, component] in the own type) over the whole volume."""
        depth = max(1, SLAB_VALUES // max(math.prod(self.values.shape[1:]), 1))
        for z in range(0, len(self.values), depth):
            yield z, self.values[z : z + depth]

    def take(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        """(n, components) float32 values at indices, 0 and 1 being the range; NaN where the data is not finite."""
        return self.normalised(self.values[z, y, x])

    def normalised(self, values: np.ndarray) -> np.ndarray:
        """Own values -> float32, 0 at the minimum and 1 at the maximum; NaN where not finite."""
        scaled = values.astype(np.float64) - self.minimum
        scaled = scaled / self.span if self.span else scaled * 0.0
        if values.dtype.kind == "f":
            scaled[~np.isfinite(scaled)] = np.nan
        return scaled.astype(np.float32)

    def _scan(self) -> tuple[float, float, int]:
        low, high, missing, count = math.inf, -math.inf, 0, 0
        for _, slab in self.slabs():
            if slab.dtype.kind == "f":
                finite = np.isfinite(slab)
                missing += int(slab.size - finite.sum())
                slab = slab if finite.all() else slab[finite]
            count += slab.size
            if slab.size:
                low, high = min(low, float(slab.min())), max(high, float(slab.max()))
        if not count:
            raise DataError(f"array {self.name!r}: expected finite values, found {missing} that are NaN or infinite")
        if not math.isfinite(high - low):
            raise DataError(f"array {self.name!r}: the range {low} to {high} overflows float64")
        return low, high, missing


def _fill_gaps(scaled: np.ndarray, arrays: tuple[ArrayInfo, ...]) -> np.ndarray | None:
    """Give arrays that have no value where others have one the mean of their values, in place; returns (components,) these means, NaN of
    arrays without such places, None where there is none."""
    fills = np.full(scaled.shape[-1], np.nan, np.float32)
    there = [np.isfinite(scaled[..., columns]).all(axis=3) for columns in columns_of(arrays)]
    anywhere = np.logical_or.reduce(there)
    for own, columns in zip(there, columns_of(arrays)):
        gaps = anywhere & ~own
        if gaps.any():
            part = scaled[..., columns]  # a view
            fills[columns] = scaled[own][:, columns].mean(axis=0) if own.any() else 0.0
            part[gaps] = fills[columns]
    return None if np.isnan(fills).all() else fills

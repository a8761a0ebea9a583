"""A kernel whose outputs are those of a network and its residual.

Between the values of the lattice the residual is interpolated linearly. Outputs are scaled, 0 and 1 being the ends of an array's
(transformed) range; the residual is in the array's unit, so that with a transform T the sum is T(T^-1(output) + residual).
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence

import numpy as np
import torch

from ..data.array_spec import columns_of
from ..data.array_values import in_unit, normalised, scaled_range, slope_in_unit
from ..file.manifest import ArrayInfo
from .residual_blocks import ResidualBlocks

ValuesAt = Callable[[np.ndarray], np.ndarray]  # (n, 3) whole indices along z, y, x -> (n,)
SNAP = 2.0**-20  # share of an axis within which a position is on a value: float32 coordinates are not exact


class BoundedKernel:
    """Evaluates one network and adds the residual of its brick; the methods are those of `kernels.choose`.

    Args:
        kernel: Of the network.
        residual: Of the brick.
        arrays: That the network puts out, with their ranges.
    """

    def __init__(self, kernel, residual: ResidualBlocks, arrays: Sequence[ArrayInfo]):
        self._kernel, self._residual = kernel, residual
        self._of_column = [info for info, own in zip(arrays, columns_of(arrays)) for _ in range(own.stop - own.start)]

    def values(self, network, points: torch.Tensor) -> torch.Tensor:
        """(n, 3) normalised -> (n, outputs)."""
        outputs = self._kernel.values(network, points)
        cells = _Cells.of(points, self._residual.shape)
        return self._with(outputs, lambda column: cells.interpolated(functools.partial(self._residual.at, column)))

    def lattice(self, network, x: torch.Tensor, y: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """Normalised coordinates along x, y, z -> [z, y, x, output]."""
        outputs = self._kernel.lattice(network, x, y, z)
        axes = [_Axis(_indices(along, n), n) for along, n in zip((z, y, x), self._residual.shape)]
        return self._with(outputs, lambda column: _on_lattice(axes, functools.partial(self._residual.on_lattice, column)))

    def derivatives(self, network, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(n, 3) normalised -> (n, outputs) and d output / d normalised coordinate (n, outputs, 3)."""
        outputs, slopes = self._kernel.derivatives(network, points)
        cells = _Cells.of(points, self._residual.shape)
        columns, bends = [], []
        for column, info in enumerate(self._of_column):
            own = outputs[:, column].cpu().numpy().astype(np.float64)
            values_at = functools.partial(self._residual.at, column)
            total = _summed(own, cells.interpolated(values_at), info)
            in_world = slope_in_unit(own, info)[:, None] * slopes[:, column].cpu().numpy() + cells.slopes(values_at)
            scale = slope_in_unit(total, info)[:, None]
            columns.append(total)
            bends.append(np.divide(in_world, scale, out=np.zeros_like(in_world), where=scale != 0))
        return (
            torch.from_numpy(np.stack(columns, axis=1)).to(outputs),
            torch.from_numpy(np.stack(bends, axis=1)).to(slopes),
        )

    def _with(self, outputs: torch.Tensor, residual_of) -> torch.Tensor:
        """Outputs [..., column] with what `residual_of(column)` says."""
        columns = []
        for column, info in enumerate(self._of_column):
            own = outputs[..., column].cpu().numpy()
            columns.append(_summed(own, residual_of(column).reshape(own.shape), info) if self._residual.units[column] else own)
        return torch.from_numpy(np.stack(columns, axis=-1).astype(np.float32)).to(outputs.device)


def _summed(outputs: np.ndarray, residual: np.ndarray, info: ArrayInfo) -> np.ndarray:
    """Scaled outputs with a residual in the array's unit, float64; of a transformed array within its range."""
    if info.transform.kind == "identity":
        span = scaled_range(info)[1]
        return outputs + residual.astype(np.float64) / span if span else outputs.astype(np.float64)
    values = in_unit(outputs, info, np.dtype(np.float64)) + residual
    return normalised(values.clip(*info.range), info)


def _indices(coordinates: torch.Tensor, count: int) -> np.ndarray:
    """Normalised coordinates along an axis of so many values -> indices, float64; those close to a value are on it."""
    index = (coordinates.cpu().numpy().astype(np.float64) + 1.0) * (0.5 * (count - 1))
    index = index.clip(0, count - 1)
    whole = np.rint(index)
    return np.where(np.abs(index - whole) <= SNAP * count, whole, index)


class _Axis:
    """Positions along an axis between two values each.

    Attributes:
        low, high: (n,) indices of the values; the same one on a value.
        share: (n,) of the higher one.
    """

    def __init__(self, index: np.ndarray, count: int):
        self.low = np.floor(index).astype(np.int64)
        self.share = index - self.low
        self.high = np.minimum(self.low + (self.share > 0), count - 1)


def _on_lattice(axes: list[_Axis], whole) -> np.ndarray:
    """Linear interpolation along each axis of what `whole` gives at rising indices."""
    known = [np.unique(np.concatenate([axis.low, axis.high])) for axis in axes]
    values = whole(known)
    for number, (axis, there) in enumerate(zip(axes, known)):
        low = values.take(np.searchsorted(there, axis.low), axis=number)
        if axis.share.any():
            share = axis.share.astype(np.float32).reshape([-1 if a == number else 1 for a in range(3)])
            low = low + share * (values.take(np.searchsorted(there, axis.high), axis=number) - low)
        values = low
    return values


class _Cells:
    """Scattered positions in the cells of a lattice, by their indices along z, y, x."""

    def __init__(self, axes: list[_Axis], shape: tuple[int, int, int]):
        self._axes, self._shape = axes, shape

    @classmethod
    def of(cls, points: torch.Tensor, shape: tuple[int, int, int]) -> "_Cells":
        """(n, 3) normalised points, x first, among so many values along z, y, x."""
        return cls([_Axis(_indices(points[:, 2 - a], n), n) for a, n in enumerate(shape)], shape)

    def interpolated(self, values_at: ValuesAt) -> np.ndarray:
        """(n,) float64, linear along each axis."""
        total = np.zeros(len(self._axes[0].low))
        for highs in itertools.product((False, True), repeat=3):
            weight = np.prod([a.share if high else 1.0 - a.share for a, high in zip(self._axes, highs)], axis=0)
            rows = np.flatnonzero(weight)
            if len(rows):
                corner = [(a.high if high else a.low)[rows] for a, high in zip(self._axes, highs)]
                total[rows] += weight[rows] * values_at(np.stack(corner, axis=1))
        return total

    def slopes(self, values_at: ValuesAt) -> np.ndarray:
        """(n, 3) changes along x, y, z per normalised coordinate; on a value those of the cell above it, or of the last one."""
        changes = np.zeros((len(self._axes[0].low), 3))
        for axis, count in enumerate(self._shape):
            if count > 1:
                low = np.minimum(self._axes[axis].low, count - 2)
                ends = []
                for place in (low, low + 1):
                    axes = [_Axis(place.astype(np.float64), count) if a == axis else own for a, own in enumerate(self._axes)]
                    ends.append(_Cells(axes, self._shape).interpolated(values_at))
                changes[:, 2 - axis] = (ends[1] - ends[0]) * (0.5 * (count - 1))
        return changes

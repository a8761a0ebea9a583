"""A model at one of its time steps: the networks of its bricks, the arrays with their ranges, the mask."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..bricks.networks import BrickNetworks
from ..bricks.sampling import PIECE, BrickSampler
from ..data.array_spec import columns_of
from ..data.array_values import in_unit
from ..data.mask import DomainMask
from ..errors import FieldError
from ..file.manifest import ArrayInfo
from ..file.model_file import ModelFile
from ..file.network_reader import read_mask, read_network, read_residual
from ..grid import Grid, Region
from ..network.model import Network
from .region_sampling import RegionSampling, index_positions, own_positions, value_positions
from .volume_derivatives import first_derivatives, second_derivatives


class VolumeStep:
    """Samples one time step of a model.

    Args:
        grid: The lattice of the values.
        arrays: With their ranges at this step.
        sampler: Of the networks of its bricks.
        mask: Where the arrays have values; None: everywhere.
        bounded: Whether residuals are added to what the networks say.
    """

    def __init__(
        self, grid: Grid, arrays: tuple[ArrayInfo, ...], sampler: BrickSampler, mask: DomainMask | None = None,
        bounded: bool = False,
    ):  # fmt: skip
        self.grid, self.arrays, self.sampler, self._mask, self._bounded = grid, arrays, sampler, mask, bounded

    @classmethod
    def of_file(cls, file: ModelFile, step: int, devices: Sequence, precision: str, bounded: bool = True) -> "VolumeStep":
        """A time step of a model file.

        Args:
            file: The model.
            step: The number of the time step, 0 being the first.
            devices: The bricks are dealt among them.
            precision: Of the kernels, "full" or "fast"; within error bounds always "full".
            bounded: Whether what the networks leave of the data is added where it is stored.
        """
        header = file.header
        arrays, mask = header.arrays_at(step), None
        components = sum(a.components for a in arrays)

        def read(brick: int) -> Network:
            return read_network(file, brick, components, step)

        if header.mask is not None:
            cells = header.grid.association == "cell"
            mask = DomainMask(header.layout, header.mask, cells, lambda brick: read_mask(file, brick, step))
        held = bounded and any(header.bounds[step])
        residual = (lambda brick: read_residual(file, brick, components, step)) if held else None
        kept = [BrickNetworks(read, d, "full" if held else precision, None, residual, arrays) for d in devices]
        return cls(header.grid, arrays, BrickSampler(header.layout, kept), mask, held)

    def field(self, name: str | None) -> tuple[int, ArrayInfo, slice]:
        """(number, description, outputs) of an array; the first one when None. Raises FieldError."""
        for index, (info, columns) in enumerate(zip(self.arrays, columns_of(self.arrays))):
            if name in (None, info.name):
                return index, info, columns
        raise FieldError(f"array {name!r} is not in the model; it has {', '.join(a.name for a in self.arrays)}")

    def points(self, points_xyz: np.ndarray, field: str | None) -> np.ndarray:
        """(n, 3) world positions -> (n, components) float32 in the array's unit; NaN outside and where there is no data."""
        array, info, columns = self.field(field)
        values = np.full((len(points_xyz), info.components), np.nan, dtype=np.float32)
        inside = np.flatnonzero(self.grid.contains(points_xyz))
        for first in range(0, len(inside), PIECE):
            rows = inside[first : first + PIECE]
            positions = self.positions_of(points_xyz[rows])
            found = in_unit(self.sampler.at_points(positions, columns), info, values.dtype)
            if self._mask is not None:
                found[~self._mask.at_points(positions, array)] = np.nan
            values[rows] = found
        return values

    def derivatives(self, points_xyz: np.ndarray, field: str | None) -> tuple[np.ndarray, np.ndarray]:
        """Values (n, components) and d value / d world (n, components, 3), see `NeuralVolume.sample_derivatives`."""
        array, info, columns = self.field(field)
        values, jacobian = first_derivatives(self.sampler, self.grid, points_xyz, info, columns)
        missing = self._missing(points_xyz, array)
        values[missing], jacobian[missing] = np.nan, np.nan
        return values, jacobian

    def second_derivatives(self, points_xyz: np.ndarray, field: str | None) -> np.ndarray:
        """(n, components, 3, 3), see `NeuralVolume.sample_second_derivatives`."""
        array, info, columns = self.field(field)
        if self._bounded:
            raise FieldError(
                "second derivatives: expected a model without an error bound, found one whose residual is interpolated linearly; "
                "open it with bounded=False"
            )
        result = second_derivatives(self.sampler, self.grid, points_xyz, info, columns)
        result[self._missing(points_xyz, array)] = np.nan
        return result

    def _missing(self, points_xyz: np.ndarray, array: int) -> np.ndarray:
        """Rows of the points that are inside of the domain where the array has no value."""
        if self._mask is None:
            return np.zeros(0, dtype=np.int64)
        inside = np.flatnonzero(self.grid.contains(points_xyz))
        return inside[~self._mask.at_points(self.positions_of(points_xyz[inside]), array)]

    def positions_of(self, points_xyz: np.ndarray) -> np.ndarray:
        """(n, 3) world positions -> (n, 3) positions that count values, see `brick_layout.py`."""
        return np.stack(value_positions(self.grid, self.grid.world_to_index(points_xyz).T), axis=1)

    def valid_points(self, points_xyz: np.ndarray, field: str | None) -> np.ndarray:
        """(n,) bool: whether an array has a value at world positions (n, 3)."""
        valid = self.grid.contains(points_xyz)
        if self._mask is not None:
            valid[valid] = self._mask.at_points(self.positions_of(points_xyz[valid]), self.field(field)[0])
        return valid

    def region(self, region: Region, grid: Grid, field: str | None, kind: np.dtype, report: Callable) -> np.ndarray:
        """[z, y, x, component] of a box of a lattice, see `NeuralVolume.sample_region`."""
        array, info, columns = self.field(field)
        result = np.empty((*region.shape_zyx, info.components), dtype=kind)
        mask = None if self._mask is None else lambda axes: self._mask.on_lattice(axes, array)
        mask_points = None if self._mask is None else lambda positions: self._mask.at_points(positions, array)
        RegionSampling(self.sampler, self.grid, region, grid, info, columns, mask, mask_points).fill(result, report)
        return result

    def valid_region(self, region: Region, grid: Grid, field: str | None) -> np.ndarray:
        """bool [z, y, x]: where an array has a value in a box of a lattice."""
        array = self.field(field)[0]
        index = index_positions(region, grid)
        axes = own_positions(self.grid, grid, index)
        if axes is None:
            z, y, x = np.meshgrid(*index[::-1], indexing="ij")
            points = grid.index_to_world(np.stack([x.ravel(), y.ravel(), z.ravel()], axis=1))
            return self.valid_points(points, field).reshape(region.shape_zyx)
        inside = [(a >= -1e-6) & (a <= n - 1 + 1e-6) for a, n in zip(axes, self.grid.dims)]
        valid = inside[2][:, None, None] & inside[1][:, None] & inside[0]
        if self._mask is not None and region.count:
            valid &= self._mask.on_lattice(value_positions(self.grid, axes), array)
        return valid

"""One scalar of a volume as a ray marcher reads it.

Positions are box coordinates: 0 and 1 are the first and the last point of the lattice along each of its axes, straight in the
world also when the lattice is stretched. Values are scaled: 0 and 1 are the ends of the array's (transformed) range.
"""

from __future__ import annotations

import numpy as np
import torch

from ..data.array_spec import columns_of
from ..data.array_values import in_unit, normalised
from ..errors import DataError, FieldError
from ..file.manifest import ArrayInfo
from ..grid import Grid
from ..kernels import kernel_for, native_march, native_march_of

INNER = 1.0 - 2.0**-22  # largest coordinate of a slope, see `bricks/derivatives.py`
CHUNK = 1 << 18  # points in a call of a kernel on a CPU


class RayField:
    """Any volume, through its public sampling.

    Args:
        volume: A NeuralVolume, or what samples like one.
        field: Name of the array; the first one when None. Of an array of several components the magnitude is rendered.
        time: Of the time step; the first one when None.

    Attributes:
        info: The array; of a magnitude its range.
        matrix: (3, 3) d box / d world.
        device: Of the tensors.
        native: Marches rays in native code (`kernels.cpu_march`); None: torch does.

    Raises:
        FieldError: No such array. DataError: the lattice is flat.
    """

    def __init__(self, volume, field: str | None = None, time: float | None = None):
        self.volume, self.time = volume, time
        self.grid: Grid = volume.grid
        if min(self.grid.dims) < 2:
            raise DataError(f"rendering: expected a lattice with at least 2 points on each axis, found {self.grid.dims}")
        self.step = volume.step_at(time)
        self.info = scalar_of(_array_info(volume, field, self.step))
        self.name = self.info.name
        self.device = torch.device(getattr(volume, "device", "cpu"))
        self.matrix, self._origin = _to_box(self.grid)
        self.native = native_march_of(self)

    def to_box(self, points_xyz: np.ndarray) -> np.ndarray:
        """(n, 3) world positions -> box coordinates, float64."""
        return (points_xyz - self._origin) @ self.matrix.T

    def directions_to_box(self, directions: np.ndarray) -> np.ndarray:
        """(n, 3) vectors in the world -> vectors in box coordinates, float64."""
        return directions @ self.matrix.T

    def to_world(self, points: np.ndarray) -> np.ndarray:
        """(n, 3) box coordinates -> world positions, float64."""
        return points @ np.linalg.inv(self.matrix).T + self._origin

    def scaled(self, values: np.ndarray) -> np.ndarray:
        """Values in the array's unit -> scaled ones, float64."""
        return normalised(values, self.info)

    def unscaled(self, scaled: np.ndarray) -> np.ndarray:
        """Scaled values -> values in the array's unit, float64."""
        return in_unit(scaled, self.info, np.dtype(np.float64))

    def values(self, points: torch.Tensor) -> torch.Tensor:
        """(n, 3) box coordinates -> (n,) scaled values float32; NaN where there is none."""
        found = self.volume.sample_points(self._world(points), self.name, self.time)
        magnitude = found if found.ndim == 1 else np.linalg.norm(found, axis=1)
        return torch.from_numpy(self.scaled(magnitude).astype(np.float32)).to(points.device)

    def gradients(self, points: torch.Tensor) -> torch.Tensor:
        """(n, 3) box coordinates -> (n, 3) a multiple, above 0, of d value / d world, float32; 0 where there is none."""
        values, slopes = self.volume.sample_derivatives(self._world(points), self.name, self.time)
        if values.shape[1] > 1:
            slopes = (values[:, :, None] * slopes).sum(axis=1, keepdims=True)
        return torch.from_numpy(np.nan_to_num(slopes[:, 0]).astype(np.float32)).to(points.device)

    def _world(self, points: torch.Tensor) -> np.ndarray:
        return self.to_world(points.cpu().numpy().astype(np.float64).clip(0, 1))


class NetworkField(RayField):
    """A NeuralVolume of one brick on a uniform lattice without a mask: straight to its kernel.

    Attributes:
        network: Of the brick.
        to_normalised: (3, 4) from box to normalised coordinates.
    """

    def __init__(self, volume, field: str | None = None, time: float | None = None):
        super().__init__(volume, field, time)
        self.network = volume.network(0, self.step)
        self._kernel = kernel_for(self.network, volume.precision)
        columns = columns_of(volume.arrays)
        self._column = next(own.start for info, own in zip(volume.arrays, columns) if info.name == self.name)
        ends = self.grid.index_to_normalised(np.array([[0, 0, 0], self.grid.dims]) - np.array([[0, 0, 0], [1, 1, 1]]))
        self._scale = torch.tensor(ends[1] - ends[0], dtype=torch.float32, device=self.device)
        self._offset = torch.tensor(ends[0], dtype=torch.float32, device=self.device)
        slopes = (ends[1] - ends[0])[:, None] * self.matrix
        self._slopes = torch.tensor(slopes, dtype=torch.float32, device=self.device)
        self.to_normalised = np.concatenate([np.diag(ends[1] - ends[0]), ends[:1].T], axis=1)
        mapping = self._scale, self._offset, self._slopes
        self.native = native_march(self._kernel, self.network, self._column, *mapping) or self.native

    @staticmethod
    def fits(volume, info: ArrayInfo) -> bool:
        """Whether it can render this array of this volume."""
        header = getattr(volume, "header", None)
        one = header is not None and hasattr(volume, "network") and volume.layout.count == 1 and not getattr(volume, "bounded", False)
        return one and header.mask is None and volume.grid.axes is None and info.components == 1

    def values(self, points: torch.Tensor) -> torch.Tensor:
        normalised_points = torch.addcmul(self._offset, points, self._scale).clamp_(-1, 1)
        most = CHUNK if points.device.type == "cpu" else max(len(points), 1)
        parts = [self._kernel.values(self.network, part)[:, self._column] for part in normalised_points.split(most)]
        return torch.cat(parts) if parts else points.new_zeros(0)

    def gradients(self, points: torch.Tensor) -> torch.Tensor:
        normalised_points = torch.addcmul(self._offset, points, self._scale).clamp_(-INNER, INNER)
        return self._kernel.derivatives(self.network, normalised_points)[1][:, self._column] @ self._slopes


def rendered_array(volume, field: str | None = None, time: float | None = None) -> ArrayInfo:
    """What is rendered of a volume at a time: the array, or of several components their magnitude, with its range at that step.

    Raises:
        FieldError: No such array.
    """
    return scalar_of(_array_info(volume, field, volume.step_at(time)))


def open_field(volume, field: str | None = None, time: float | None = None) -> RayField:
    """The quickest of them. Raises what RayField does."""
    info = _array_info(volume, field, volume.step_at(time))
    return (NetworkField if NetworkField.fits(volume, info) else RayField)(volume, field, time)


def _array_info(volume, field: str | None, step: int) -> ArrayInfo:
    header = getattr(volume, "header", None)
    arrays = volume.arrays if header is None else header.arrays_at(step)
    for info in arrays:
        if field in (None, info.name):
            return info
    raise FieldError(f"array {field!r} is not in the volume; it has {', '.join(a.name for a in arrays)}")


def scalar_of(info: ArrayInfo) -> ArrayInfo:
    """The array itself, or the magnitude of its components."""
    if info.components == 1:
        return info
    most = max(abs(end) for end in info.range) * info.components**0.5
    return ArrayInfo(info.name, info.association, 1, info.dtype, (0.0, most), info.unit)


def _to_box(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """(3, 3) d box / d world, and the world position of the box's (0, 0, 0)."""
    corners = grid.index_to_world(np.concatenate([np.zeros((1, 3)), np.diag(np.array(grid.dims) - 1.0)]))
    return np.linalg.inv((corners[1:] - corners[0]).T), corners[0]

"""The lattice that the data lives on, uniform or stretched along its axes, and boxes in it.

Axis order, the one note on it: tuples that name axes are (x, y, z); arrays of values are
`values[z, y, x]` (x varies fastest, as in VTK), with a component axis last when there is one.

Coordinates. Index coordinates count points from the first point of the lattice. Normalised
coordinates are those of the network: -1 and +1 are the first and the last position that holds a
value, which is a point for point data and a cell centre for cell data (whose domain therefore
reaches half a cell beyond +-1). An axis with a single value has the normalised coordinate 0.
World -> normalised is computed in float64. On a stretched lattice (`axes`) index coordinates
count points as well, linear in the world between two of them: a network sees every interval as
long as any other, and so keeps its resolution where the points are dense.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from .data.stretched_axes import between, checked_axes
from .errors import ConfigError
from .region import Region, triple

IDENTITY = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
MOST_POINTS = 2**31 - 1  # along an axis, as in VTK
MOST_IN_ALL = 2**48  # a thousand times what has ever been simulated; numpy counts bytes in 63 bits
LENGTHS = (1e-150, 1e150)  # in the world: their squares are numbers


@dataclass(frozen=True)
class Grid:
    """A uniform lattice, what `vtkImageData` describes, or with `axes` a stretched one, as `vtkRectilinearGrid`.

    Args:
        dims: Points of the mesh along x, y, z; each at least 1, at most MOST_POINTS.
        origin: World position of the point with index (0, 0, 0).
        spacing: World distance of neighbouring points along each index axis; may be negative, not 0.
        direction: Rows of the orthonormal matrix D in `world = origin + D @ (spacing * index)`.
        association: "point" when values sit on the points, "cell" when they sit in the cells.
        axes: World coordinates of the points along x, y, z, rising or falling; None: uniform. Origin and spacing then
            follow from them.

    Raises:
        ConfigError: A number is missing, zero, not finite, beyond LENGTHS, the direction is singular, or an axis is not
            strictly monotonic or has another length than `dims`.
    """

    dims: tuple[int, int, int]
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)
    direction: tuple = IDENTITY
    association: str = "point"
    axes: tuple[tuple[float, ...], ...] | None = None

    def __post_init__(self):
        object.__setattr__(self, "dims", triple("Grid.dims", self.dims, int))
        object.__setattr__(self, "origin", triple("Grid.origin", self.origin, float))
        object.__setattr__(self, "spacing", triple("Grid.spacing", self.spacing, float))
        rows = tuple(triple("Grid.direction", row, float) for row in self.direction)
        object.__setattr__(self, "direction", rows)
        if self.axes is not None:
            self._take_axes()
        if len(rows) != 3:
            raise ConfigError(f"Grid.direction: expected 3 rows, found {len(rows)}")
        if min(self.dims) < 1 or max(self.dims) > MOST_POINTS:
            raise ConfigError(f"Grid.dims: expected at least 1 point on each axis and at most {MOST_POINTS}, found {self.dims}")
        if self.association not in ("point", "cell"):
            raise ConfigError(f"Grid.association: expected 'point' or 'cell', found {self.association!r}")
        numbers = np.array([*self.origin, *self.spacing, *sum(rows, ())])
        if not np.isfinite(numbers).all():
            raise ConfigError("Grid: origin, spacing and direction must be finite numbers")
        if 0.0 in self.spacing:
            raise ConfigError(f"Grid.spacing: expected no zero, found {self.spacing}")
        if np.abs(rows).max() > 1e6 or abs(np.linalg.det(np.array(rows))) < 1e-6:
            raise ConfigError(f"Grid.direction: expected a regular matrix, found {rows}")
        self._check_lengths()

    def _check_lengths(self) -> None:
        """Raise ConfigError for steps and places that make numbers beyond float64."""
        steps = np.abs(np.concatenate([np.diff(axis) for axis in self.axes])) if self.axes is not None else np.abs(self.spacing)
        ends = [abs(o) + abs(s) * (n - 1) for o, s, n in zip(self.origin, self.spacing, self.dims)]
        least, most = LENGTHS
        if steps.size and steps.min() < least or max(*ends, steps.max(initial=0.0)) > most:
            raise ConfigError(
                f"Grid: expected steps from {least} on and places up to {most}, found steps of {self.spacing} from {self.origin} on"
            )

    def _take_axes(self) -> None:
        """Check the axes; origin and spacing become those of a uniform lattice over the same box."""
        if self.direction != IDENTITY:
            raise ConfigError("Grid.axes: expected no direction matrix beside them")
        axes = checked_axes(self.axes, self.dims)
        object.__setattr__(self, "axes", axes)
        object.__setattr__(self, "origin", tuple(axis[0] for axis in axes))
        steps = tuple((axis[-1] - axis[0]) / (len(axis) - 1) if len(axis) > 1 else 1.0 for axis in axes)
        object.__setattr__(self, "spacing", steps)

    @classmethod
    def stretched(cls, axes, association: str = "point") -> "Grid":
        """The lattice with these coordinates along x, y, z; a uniform one when they are equally spaced."""
        dims = tuple(len(axis) for axis in axes)
        grid = cls(dims, association=association, axes=tuple(axes))
        index = [np.linspace(axis[0], axis[-1], len(axis)) for axis in grid.axes]
        even = all(np.abs(a - b).max() <= 1e-6 * abs(s) for a, b, s in zip(index, grid.axes, grid.spacing))
        return replace(grid, axes=None) if even else grid

    # -- sizes -----------------------------------------------------------------------------

    @property
    def value_dims(self) -> tuple[int, int, int]:
        """Values along x, y, z: points, or cells (a flat axis has one)."""
        if self.association == "point":
            return self.dims
        return tuple(max(n - 1, 1) for n in self.dims)

    @property
    def region(self) -> Region:
        """All values."""
        return Region((0, 0, 0), self.value_dims)

    @property
    def bounds(self) -> tuple[float, ...]:
        """World box of the mesh: (x min, x max, y min, y max, z min, z max)."""
        corners = self.index_to_world(_box_corners((0, 0, 0), tuple(n - 1 for n in self.dims)))
        return tuple(np.stack([corners.min(0), corners.max(0)], axis=1).ravel().tolist())

    def with_dims(self, dims) -> "Grid":
        """The same box with other numbers of points; an axis with one point stays."""
        dims = tuple(
            1 if old == 1 else max(int(new), 2) for old, new in zip(self.dims, triple("dims", dims, int))
        )
        if math.prod(dims) > MOST_IN_ALL:
            raise ConfigError(f"dims: expected at most {MOST_IN_ALL} points in all, found {' x '.join(map(str, dims))}")
        spacing = tuple(
            s if old == 1 else s * (old - 1) / (new - 1)
            for s, old, new in zip(self.spacing, self.dims, dims)
        )
        if self.axes is None:
            return replace(self, dims=dims, spacing=spacing)
        index = [np.linspace(0, old - 1, new) for old, new in zip(self.dims, dims)]
        axes = tuple(tuple(between(i, *ends).tolist()) for i, ends in zip(index, self._ends))
        return replace(self, dims=dims, axes=axes)

    def part(self, start, dims) -> "Grid":
        """The lattice of so many points (x, y, z) from one of its points on."""
        if self.axes is None:
            return replace(self, dims=dims, origin=tuple(self.index_to_world([start])[0].tolist()))
        axes = tuple(axis[a : a + n] for axis, a, n in zip(self.axes, start, dims))
        return replace(self, dims=dims, axes=axes)

    def scaled(self, scale: float) -> "Grid":
        """The same box with `round((n - 1) * scale) + 1` points along each axis."""
        if not (math.isfinite(scale) and scale > 0):
            raise ConfigError(f"scale: expected a positive number, found {scale}")
        return self.with_dims(round((n - 1) * scale) + 1 for n in self.dims)

    # -- coordinates -----------------------------------------------------------------------

    def index_to_world(self, index_xyz: np.ndarray) -> np.ndarray:
        """(n, 3) index coordinates -> (n, 3) float64 world positions."""
        index_xyz = np.asarray(index_xyz, dtype=np.float64)
        if self.axes is not None:
            return np.stack([between(index_xyz[:, a], *self._ends[a]) for a in range(3)], axis=1)
        return np.array(self.origin) + (index_xyz * np.array(self.spacing)) @ np.array(self.direction).T

    def world_to_index(self, points_xyz: np.ndarray) -> np.ndarray:
        """(n, 3) world positions -> (n, 3) float64 index coordinates."""
        points_xyz = np.asarray(points_xyz, dtype=np.float64)
        if self.axes is not None:
            return np.stack([between(points_xyz[:, a], *self._ends[a][::-1]) for a in range(3)], axis=1)
        offsets = points_xyz - np.array(self.origin)
        return offsets @ np.linalg.inv(np.array(self.direction)).T / np.array(self.spacing)

    def world_slopes(self, index_xyz: np.ndarray) -> np.ndarray:
        """d index_i / d world_j at (n, 3) index coordinates, (n, 3, 3) float64; on a stretched axis that of the interval
        above a point."""
        if self.axes is None:
            slopes = np.linalg.inv(np.array(self.direction)) / np.array(self.spacing)[:, None]
            return np.broadcast_to(slopes, (len(index_xyz), 3, 3))
        slopes = np.zeros((len(index_xyz), 3, 3))
        for axis, (index, world) in enumerate(self._ends):
            interval = np.clip(np.nan_to_num(np.floor(index_xyz[:, axis])), 0, max(len(index) - 2, 0)).astype(int)
            slopes[:, axis, axis] = 1.0 / np.diff(world)[interval]
        return slopes

    def index_to_normalised(self, index_xyz: np.ndarray) -> np.ndarray:
        """(n, 3) index coordinates of the mesh -> (n, 3) float64 normalised coordinates."""
        scale, offset = self._normalisation()
        return np.asarray(index_xyz, dtype=np.float64) * scale + offset

    def normalised_to_index(self, normalised_xyz: np.ndarray) -> np.ndarray:
        """The inverse of `index_to_normalised` on axes with more than one value."""
        scale, offset = self._normalisation()
        flat = scale == 0.0
        index = (np.asarray(normalised_xyz, dtype=np.float64) - offset) / np.where(flat, 1.0, scale)
        middle = (np.array(self.dims) - 1) / 2
        return np.where(flat, middle, index)

    def value_to_normalised(self, axis: int, indices: np.ndarray) -> np.ndarray:
        """Normalised coordinates of values along one axis: indices -> float64 in [-1, 1]."""
        last = self.value_dims[axis] - 1
        indices = np.asarray(indices, dtype=np.float64)
        return indices * (2.0 / last) - 1.0 if last else np.zeros_like(indices)

    def contains(self, points_xyz: np.ndarray) -> np.ndarray:
        """(n, 3) world positions -> (n,) bool: inside the mesh, borders included.

        Rounding of a millionth of a cell is forgiven, so that the mesh's own points are inside.
        """
        return self.contains_index(self.world_to_index(points_xyz))

    def contains_index(self, index_xyz: np.ndarray) -> np.ndarray:
        """`contains` for (n, 3) index coordinates."""
        last = np.array(self.dims) - 1
        with np.errstate(invalid="ignore"):
            return ((index_xyz >= -1e-6) & (index_xyz <= last + 1e-6)).all(axis=1)

    def index_range(self, bounds) -> tuple[tuple, tuple]:
        """The points of the lattice inside a world box, as a half-open range of indices.

        Args:
            bounds: (x min, x max, y min, y max, z min, z max) in world coordinates.

        Returns:
            (start, stop), (x, y, z) each. With a direction matrix: the smallest range of indices
            that holds the box. An axis on which the box falls between two points keeps the nearest.

        Raises:
            ConfigError: Not six finite numbers in order, or the box does not touch the mesh.
        """
        box = np.asarray(tuple(bounds), dtype=np.float64)
        if box.shape != (6,) or not np.isfinite(box).all() or (box[::2] > box[1::2]).any():
            raise ConfigError(f"region of interest: expected x min <= x max, ..., found {tuple(bounds)}")
        corners = self.world_to_index(_box_corners(box[::2], box[1::2]))
        low, high = corners.min(0), corners.max(0)
        last = np.array(self.dims) - 1
        if (high < -1e-6).any() or (low > last + 1e-6).any():
            raise ConfigError(
                f"region of interest {tuple(box.tolist())} does not touch the volume's bounds {self.bounds}"
            )
        start = np.clip(np.ceil(low - 1e-6), 0, last).astype(int)
        stop = np.clip(np.floor(high + 1e-6), 0, last).astype(int) + 1
        nearest = np.clip(np.rint((low + high) / 2), 0, last).astype(int)
        empty = stop <= start
        start, stop = np.where(empty, nearest, start), np.where(empty, nearest + 1, stop)
        return tuple(start.tolist()), tuple(stop.tolist())

    @cached_property
    def _ends(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """(index, world) of the points of each stretched axis; of a flat one also of a point one unit away."""
        axes = [np.array(a) if len(a) > 1 else np.array([a[0], a[0] + 1.0]) for a in self.axes]
        return [(np.arange(len(a), dtype=np.float64), a) for a in axes]

    def _normalisation(self) -> tuple[np.ndarray, np.ndarray]:
        """(scale, offset) of index -> normalised; both 0 on an axis with one value."""
        first = 0.0 if self.association == "point" else 0.5
        last = np.array(self.value_dims) - 1.0
        scale = np.where(last > 0, 2.0 / np.maximum(last, 1.0), 0.0)
        return scale, np.where(last > 0, -1.0 - first * scale, 0.0)

    # -- manifest --------------------------------------------------------------------------

    def to_dict(self) -> dict:
        """A description of plain lists and numbers, for the model file's manifest."""
        plain = {
            "dims": list(self.dims),
            "origin": list(self.origin),
            "spacing": list(self.spacing),
            "direction": [list(row) for row in self.direction],
            "association": self.association,
            "bounds": list(self.bounds),
        }
        return plain if self.axes is None else {**plain, "axes": [list(axis) for axis in self.axes]}

    @classmethod
    def from_dict(cls, data: dict) -> "Grid":
        """The inverse of `to_dict`; the bounds follow from the rest."""
        return cls(
            data["dims"], data["origin"], data["spacing"], data["direction"], data["association"], data.get("axes")
        )


def _box_corners(low, high) -> np.ndarray:
    """(8, 3) corners of an axis-aligned box, in the order of VTK_HEXAHEDRON."""
    signs = [(0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (1, 1, 1), (0, 1, 1)]
    low, high = np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)
    return low + (high - low) * np.array(signs)


def unit_box_corners() -> np.ndarray:
    """(8, 3) corners of [-1, 1]^3 in the order of VTK_HEXAHEDRON."""
    return _box_corners((-1, -1, -1), (1, 1, 1))

"""The uniform lattice that the data lives on, and boxes in it.

Axis order, the one note on it: tuples that name axes are (x, y, z); arrays of values are
`values[z, y, x]` (x varies fastest, as in VTK), with a component axis last when there is one.

Coordinates. Index coordinates count points from the first point of the lattice. Normalised
coordinates are those of the network: -1 and +1 are the first and the last position that holds a
value, which is a point for point data and a cell centre for cell data (whose domain therefore
reaches half a cell beyond +-1). An axis with a single value has the normalised coordinate 0.
World -> normalised is computed in float64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from .errors import ConfigError

IDENTITY = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


def _triple(name: str, value, kind) -> tuple:
    values = tuple(value)
    if len(values) != 3:
        raise ConfigError(f"{name}: expected 3 numbers, found {len(values)}")
    return tuple(kind(v) for v in values)


@dataclass(frozen=True)
class Region:
    """A half-open box of values, `start <= index < stop` on each axis, (x, y, z)."""

    start: tuple[int, int, int]
    stop: tuple[int, int, int]

    def __post_init__(self):
        object.__setattr__(self, "start", _triple("Region.start", self.start, int))
        object.__setattr__(self, "stop", _triple("Region.stop", self.stop, int))

    @property
    def shape_zyx(self) -> tuple[int, int, int]:
        """The shape of the array `values[z, y, x]` of this box; 0 on an empty axis."""
        return tuple(max(b - a, 0) for a, b in zip(self.start, self.stop))[::-1]

    @property
    def count(self) -> int:
        """The number of values in the box."""
        return math.prod(self.shape_zyx)


@dataclass(frozen=True)
class Grid:
    """A uniform lattice: what `vtkImageData` describes.

    Args:
        dims: Points of the mesh along x, y, z; each at least 1.
        origin: World position of the point with index (0, 0, 0).
        spacing: World distance of neighbouring points along each index axis; may be negative, not 0.
        direction: Rows of the orthonormal matrix D in `world = origin + D @ (spacing * index)`.
        association: "point" when values sit on the points, "cell" when they sit in the cells.

    Raises:
        ConfigError: A number is missing, zero, not finite, or the direction is singular.
    """

    dims: tuple[int, int, int]
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)
    direction: tuple = IDENTITY
    association: str = "point"

    def __post_init__(self):
        object.__setattr__(self, "dims", _triple("Grid.dims", self.dims, int))
        object.__setattr__(self, "origin", _triple("Grid.origin", self.origin, float))
        object.__setattr__(self, "spacing", _triple("Grid.spacing", self.spacing, float))
        rows = tuple(_triple("Grid.direction", row, float) for row in self.direction)
        object.__setattr__(self, "direction", rows)
        if len(rows) != 3:
            raise ConfigError(f"Grid.direction: expected 3 rows, found {len(rows)}")
        if min(self.dims) < 1:
            raise ConfigError(f"Grid.dims: expected at least 1 point on each axis, found {self.dims}")
        if self.association not in ("point", "cell"):
            raise ConfigError(f"Grid.association: expected 'point' or 'cell', found {self.association!r}")
        numbers = np.array([*self.origin, *self.spacing, *sum(rows, ())])
        if not np.isfinite(numbers).all():
            raise ConfigError("Grid: origin, spacing and direction must be finite numbers")
        if 0.0 in self.spacing:
            raise ConfigError(f"Grid.spacing: expected no zero, found {self.spacing}")
        if abs(np.linalg.det(np.array(rows))) < 1e-6:
            raise ConfigError(f"Grid.direction: expected a regular matrix, found {rows}")

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
            1 if old == 1 else max(int(new), 2) for old, new in zip(self.dims, _triple("dims", dims, int))
        )
        spacing = tuple(
            s if old == 1 else s * (old - 1) / (new - 1)
            for s, old, new in zip(self.spacing, self.dims, dims)
        )
        return replace(self, dims=dims, spacing=spacing)

    def scaled(self, scale: float) -> "Grid":
        """The same box with `round((n - 1) * scale) + 1` points along each axis."""
        if not (math.isfinite(scale) and scale > 0):
            raise ConfigError(f"scale: expected a positive number, found {scale}")
        return self.with_dims(round((n - 1) * scale) + 1 for n in self.dims)

    # -- coordinates -----------------------------------------------------------------------

    def index_to_world(self, index_xyz: np.ndarray) -> np.ndarray:
        """(n, 3) index coordinates -> (n, 3) float64 world positions."""
        index_xyz = np.asarray(index_xyz, dtype=np.float64)
        return np.array(self.origin) + (index_xyz * np.array(self.spacing)) @ np.array(self.direction).T

    def world_to_index(self, points_xyz: np.ndarray) -> np.ndarray:
        """(n, 3) world positions -> (n, 3) float64 index coordinates."""
        offsets = np.asarray(points_xyz, dtype=np.float64) - np.array(self.origin)
        return offsets @ np.linalg.inv(np.array(self.direction)).T / np.array(self.spacing)

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

    def _normalisation(self) -> tuple[np.ndarray, np.ndarray]:
        """(scale, offset) of index -> normalised; both 0 on an axis with one value."""
        first = 0.0 if self.association == "point" else 0.5
        last = np.array(self.value_dims) - 1.0
        scale = np.where(last > 0, 2.0 / np.maximum(last, 1.0), 0.0)
        return scale, np.where(last > 0, -1.0 - first * scale, 0.0)

    # -- manifest --------------------------------------------------------------------------

    def to_dict(self) -> dict:
        """A description of plain lists and numbers, for the model file's manifest."""
        return {
            "dims": list(self.dims),
            "origin": list(self.origin),
            "spacing": list(self.spacing),
            "direction": [list(row) for row in self.direction],
            "association": self.association,
            "bounds": list(self.bounds),
        }

    @classmethod
    def from_dict(cls, data: dict) -> "Grid":
        """The inverse of `to_dict`; the bounds follow from the rest."""
        return cls(
            data["dims"], data["origin"], data["spacing"], data["direction"], data["association"]
        )


def _box_corners(low, high) -> np.ndarray:
    """(8, 3) corners of an axis-aligned box, in the order of VTK_HEXAHEDRON."""
    signs = [(0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (1, 1, 1), (0, 1, 1)]
    low, high = np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)
    return low + (high - low) * np.array(signs)


def unit_box_corners() -> np.ndarray:
    """(8, 3) corners of [-1, 1]^3 in the order of VTK_HEXAHEDRON."""
    return _box_corners((-1, -1, -1), (1, 1, 1))

"""Which points of a volume a view needs: those that it sees, no more than its pixels can show and a budget allows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from apmgsrn_core import Camera, ConfigError, Grid

STEPS = 4  # levels until the spacing has doubled
BLOCK = 8  # the first and the last point are multiples of it: a camera that moves a little sees the same points
LEAST = 8  # points of the coarsest lattice
TRIPLES = np.array(list(combinations(range(10), 3)))  # of the planes of a frustum and a box


@dataclass(frozen=True)
class LatticePart:
    """The points from start to stop (half-open; x, y, z) of a lattice over a volume."""

    lattice: Grid
    start: tuple
    stop: tuple

    @property
    def dims(self) -> tuple:
        return tuple(b - a for a, b in zip(self.start, self.stop))


@dataclass(frozen=True)
class Sight:
    """What a camera sees of a lattice.

    Attributes:
        low, high: The smallest box that holds it, from 0 to 1 along each axis of the lattice's indices.
        pixel: Length in the world that a pixel has where it is nearest.
    """

    low: np.ndarray
    high: np.ndarray
    pixel: float


WHOLE = Sight(np.zeros(3), np.ones(3), 0.0)


def sight_of(camera: Camera, grid: Grid) -> Sight | None:
    """What a camera sees of a lattice; None when that is nothing.

    The corners of the common part of the frustum and the box are found where three of their planes meet.
    """
    origin, sides = _box(grid)
    normals, limits = _frustum(camera)
    planes = np.concatenate([normals @ sides, np.eye(3), -np.eye(3)])
    limits = np.concatenate([limits - normals @ origin, np.where(np.array(grid.dims) > 1, 1.0, 0.0), np.zeros(3)])
    lengths = np.linalg.norm(planes, axis=1)
    planes, limits = planes / lengths[:, None], limits / lengths
    meeting, offsets = planes[TRIPLES], limits[TRIPLES]
    regular = np.abs(np.linalg.det(meeting)) > 1e-12
    corners = np.linalg.solve(meeting[regular], offsets[regular][..., None])[..., 0]
    corners = corners[(corners @ planes.T <= limits + 1e-7).all(axis=1)]
    if not len(corners):
        return None
    world = origin + corners @ sides.T
    ends = np.stack([corners.min(0), corners.max(0)]).clip(0, 1)
    if grid.axes is not None:
        index = grid.world_to_index(origin + ends @ sides.T)
        ends = np.sort(index, axis=0).clip(0) / np.maximum(np.array(grid.dims) - 1, 1)
    return Sight(*ends.clip(0, 1), _pixel(camera, max(float(camera.depth_of(world).min()), 0.0)))


def _box(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """A corner of the mesh (3,) and its edges as columns (3, 3); of a flat axis one of unit length."""
    if grid.axes is not None:
        low, high = np.reshape(grid.bounds, (3, 2)).T
        return low, np.diag(np.where(high > low, high - low, 1.0))
    lengths = np.array(grid.spacing) * np.maximum(np.array(grid.dims) - 1, 1)
    return np.array(grid.origin), np.array(grid.direction) * lengths


def _frustum(camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """The planes that bound what a camera sees: normals (4, 3) to the outside and limits (4,), `normals @ x <= limits`."""
    right, up, forward = camera.axes
    eye, aspect = np.array(camera.position), camera.size[0] / camera.size[1]
    across = np.stack([right, -right, up, -up])
    stretch = np.array([aspect, aspect, 1.0, 1.0])
    if camera.parallel_scale is not None:
        return across, across @ eye + camera.parallel_scale * stretch
    normals = across - math.tan(math.radians(camera.view_angle) / 2) * stretch[:, None] * forward
    return normals, normals @ eye


def _pixel(camera: Camera, depth: float) -> float:
    """The side of a pixel in the world at a distance from the eye."""
    height = 2 * math.tan(math.radians(camera.view_angle) / 2) * depth
    return (height if camera.parallel_scale is None else 2 * camera.parallel_scale) / camera.size[1]


def fit_part(lattice: Grid, sight: Sight, most: int, limits: tuple[Sequence, Sequence] | None = None) -> LatticePart:
    """The finest part of a lattice, or of a coarser one over the same box, that a view needs and a budget allows.

    Args:
        lattice: The finest one; the spacing of a coarser one is 2^(k/4) times its.
        sight: The box that is to be covered, and the spacing that is fine enough.
        most: Points, at most.
        limits: (start, stop) of the points of the finest lattice that may be given; None: all.

    Raises:
        ConfigError: `most` is less than the coarsest lattice has.
    """
    if most < LEAST:
        raise ConfigError(f"Budget: expected room for at least {LEAST} points of all arrays together, found room for {most}")
    last = np.maximum(np.array(lattice.dims) - 1, 1)
    first, end = (np.zeros(3), np.ones(3)) if limits is None else (limits[0] / last, (np.array(limits[1]) - 1) / last)
    level = _level_of(lattice, sight.pixel)
    while True:
        dims = _dims_at(lattice, level)
        start, stop = _cover(dims, np.maximum(sight.low, first), np.minimum(sight.high, end), first, end)
        if math.prod((stop - start).tolist()) <= most:
            coarser = lattice if dims == lattice.dims else lattice.with_dims(dims)
            return LatticePart(coarser, tuple(start.tolist()), tuple(stop.tolist()))
        level += 1


def _shortest(grid: Grid) -> float:
    """The smallest spacing along an axis that is not flat."""
    return min((abs(s) for s, n in zip(grid.spacing, grid.dims) if n > 1), default=1.0)


def _level_of(lattice: Grid, length: float) -> int:
    """The first level whose spacing is not smaller than a length."""
    times = length / _shortest(lattice)
    return math.ceil(STEPS * math.log2(times) - 1e-9) if times > 1 else 0


def _dims_at(lattice: Grid, level: int) -> tuple:
    """Points along each axis at a level; an axis with longer intervals is thinned out later."""
    length = _shortest(lattice) * 2 ** (level / STEPS)
    steps = [max(length / abs(spacing), 1.0) for spacing in lattice.spacing]
    return tuple(1 if n == 1 else max(int((n - 1) / step + 1e-9) + 1, 2) for n, step in zip(lattice.dims, steps))


def _cover(dims: tuple, low, high, first, end) -> tuple[np.ndarray, np.ndarray]:
    """(start, stop): the points around a box, in whole blocks, but at least two and none outside of other ends."""
    last = np.array(dims) - 1
    start = np.floor(low * last / BLOCK + 1e-9).astype(int) * BLOCK
    stop = np.ceil(high * last / BLOCK - 1e-9).astype(int) * BLOCK
    least = np.clip(np.ceil(first * last - 1e-6).astype(int), 0, np.maximum(last - 1, 0))
    most = np.clip(np.floor(end * last + 1e-6).astype(int), np.minimum(least + 1, last), last)
    start = np.clip(start, least, np.maximum(most - 1, least))
    return start, np.clip(stop, np.minimum(start + 1, most), most) + 1

"""Meshes as the input of a training: every rank draws samples of its part, and a lattice over all of it says where the mesh is."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

import apmgsrn_core as core  # names that need torch are looked up when a training begins
from apmgsrn_core import ArraySpec, DataError, Grid

from . import vtk_bridge
from .array_choice import ArrayChoice
from .image_frame import ImageFrame
from .mesh_arrays import common_arrays, select_arrays
from .mesh_cells import MeshCells
from .mesh_domain import mesh_bounds, mesh_mask, suggest_dims
from .mesh_leaves import mesh_leaves
from .mesh_samples import MeshSize, mesh_size, sample_mesh

MOST_POINTS = 4_000_000  # of the lattice, when its dims are chosen
FEWEST_SAMPLES, MOST_SAMPLES = 1 << 18, 1 << 22  # of all ranks, when their number is chosen
OVERSAMPLING = 16  # of the mesh's own values
PARTS, MOST_VOXELS = (4, 3, 2, 1), 1 << 22  # of the mask: into how many a voxel is cut along an axis, how many there are then
MASK_SHARE = 0.1  # of the model's bytes that a mask finer than the lattice may have


class MeshInput:
    """The parts of a mesh on all ranks (collective).

    Args:
        data: This rank's part: any data set or composite data, empty where a rank has none; None where the pipeline failed.
        choice: Of arrays.
        dims: Points along x, y, z of the lattice; 0 chooses by the sizes of the cells.
        samples: How many are drawn on all ranks together; 0 chooses.
        seed: Of what is drawn.
        communicator: Of the ranks.
        network_bytes: Components of all arrays -> bytes of a network as it is stored.
        base: Header of the model of the time steps before: the mesh must lie in its lattice; None: it is the first.

    Attributes:
        mask: How fine the mask is, see `apmgsrn_core/data/mask.py`: as fine as it can be in few bytes beside the model's.

    Raises:
        DataError, FieldError: On all ranks, what does not fit on the first of them.
    """

    dtype = "float64"

    def __init__(
        self, data, choice: ArrayChoice, dims: tuple, samples: int, seed: int, communicator,
        network_bytes: Callable[[int], int], base=None,
    ):  # fmt: skip
        self._communicator = communicator
        if min(dims) < 0:
            raise DataError(f"MeshDimensions: expected three numbers >= 0, found {dims}")
        if samples < 0:
            raise DataError(f"MeshSamples: expected a number >= 0, found {samples}")
        mine = communicator.together(lambda: _looked_at(data, choice))
        told = [look for look in communicator.everywhere(mine) if look is not None]
        if not told:
            raise DataError("input: expected a mesh with points or cells, found an empty one (ghosts and hidden ones aside)")
        self.arrays: tuple[ArraySpec, ...] = communicator.together(lambda: _common_arrays_of(mine, told))
        self.time = told[0]["time"]
        self.grid = communicator.together(
            lambda: _lattice_over(told, dims) if base is None else _same_lattice(told, base.grid)
        )
        self.frame = ImageFrame.of_grid(self.grid)
        own = sum(look["values"] for look in told)
        self.source_bytes = sum(look["bytes"] for look in told)
        wanted = samples or min(max(OVERSAMPLING * own, FEWEST_SAMPLES), MOST_SAMPLES)
        components = sum(a.components for a in self.arrays)
        most_bytes = MASK_SHARE * communicator.together(lambda: network_bytes(components))
        self._draw(data, mine, wanted, seed, most_bytes, None if base is None else base.mask)

    @property
    def value_bytes(self) -> int:
        """Of one value of all arrays."""
        return 8 * sum(a.components for a in self.arrays)

    def owners(self, layout) -> np.ndarray:
        """The rank of each brick."""
        return self._pieces.owners(layout)

    def fetch(self, region):
        """The samples of a region, what stands in their way as an exception, or None."""
        return self._pieces.fetch(region)

    @property
    def mask(self) -> str:
        return self._pieces.mask

    def _draw(self, data, mine: dict | None, wanted: int, seed: int, most_bytes: float, mask: str | None) -> None:
        """This rank's share of so many samples, by the values, the cells and the volume that it has."""
        names = [(a.name, a.association) for a in self.arrays]

        own = self._communicator.together(lambda: MeshSize() if mine is None else mesh_size(data, names))
        whole = MeshSize.of_pieces(self._communicator.everywhere(own))

        def drawn():
            if mine is None:
                columns = sum(a.components for a in self.arrays)
                return np.zeros((0, 3)), np.zeros((0, columns))
            found = sample_mesh(data, names, wanted, seed + self._communicator.rank, whole)
            return found.positions, found.values

        def cover(parts: int) -> np.ndarray:
            dims = tuple((n - 1) * parts + 1 for n in self.grid.dims)
            if mine is None:
                return np.zeros([max(n - 1, 1) for n in dims[::-1]], dtype=bool)
            return mesh_mask(data, self.grid.bounds, dims, names)

        positions, values = self._communicator.together(drawn)
        known = core.voxel_parts(mask) if mask is not None else 0
        parts = (known,) if known else _parts(self.grid)
        covered = core.finest_cover(cover, parts, most_bytes, self._communicator)
        self._pieces = core.MeshPieces(positions, values, covered, self.grid, self._communicator)


def _looked_at(data, choice: ArrayChoice) -> dict | None:
    """What a rank knows of its part; None when it has none."""
    if data is None:
        raise DataError("input: expected data, found that the pipeline above has failed")
    leaves = mesh_leaves(data)
    if not any(_has_data(MeshCells(leaf)) for leaf in leaves):
        return None
    points, cells = data.GetNumberOfPoints(), data.GetNumberOfCells()
    chosen = select_arrays(leaves, choice.among(common_arrays(leaves)))
    specs = choice.specs([(a.name, a.association, a.components, np.dtype(a.dtype)) for a in chosen])
    counts = [points if a.association == "point" else cells for a in chosen]
    bounds, dims = mesh_bounds(data), suggest_dims(data)
    steps = [(b - a) / (n - 1) if n > 1 else math.inf for a, b, n in zip(bounds[::2], bounds[1::2], dims)]
    return {
        "arrays": specs, "time": vtk_bridge.data_time(data), "bounds": bounds, "steps": steps, "values": max(counts),
        "bytes": sum(n * a.components * np.dtype(a.dtype).itemsize for n, a in zip(counts, specs)),
    }  # fmt: skip


def _parts(grid: Grid) -> tuple[int, ...]:
    """Into how many parts the voxels of a lattice may be cut along an axis: not so many that it takes long to fill them."""
    voxels, extended = math.prod(max(n - 1, 1) for n in grid.dims), sum(n > 1 for n in grid.dims)
    return tuple(p for p in PARTS if p == 1 or voxels * p**extended <= MOST_VOXELS)


def _has_data(mesh: MeshCells) -> bool:
    """Whether a leaf has cells that count, or points where it has no cells."""
    return any(len(group.cells) for group in mesh.groups) or not mesh.leaf.data.GetNumberOfCells()


def _common_arrays_of(mine: dict | None, told: list[dict]) -> tuple[ArraySpec, ...]:
    """The arrays in the type that holds the values of all ranks. DataError when this rank has others than the first one."""
    first = told[0]
    if mine is not None and _kinds(mine) != _kinds(first):
        kinds = ["; ".join(f"{side} {name!r} of {count} components" for name, side, count in _kinds(look)) for look in (first, mine)]
        raise DataError(f"arrays: expected the same on all ranks, {kinds[0]}, found {kinds[1]}")
    dtypes = [np.result_type(*column) for column in zip(*([a.dtype for a in look["arrays"]] for look in told))]
    return tuple(replace(array, dtype=dtype.name) for array, dtype in zip(first["arrays"], dtypes))


def _kinds(look: dict) -> list[tuple]:
    return [(a.name, a.association, a.components) for a in look["arrays"]]


def _lattice_over(told: list[dict], dims: tuple) -> Grid:
    """The lattice over the bounds of all parts, as fine as the finest part asks for, or with the dims of the user."""
    bounds = np.array([look["bounds"] for look in told])
    low, high = bounds[:, ::2].min(0), bounds[:, 1::2].max(0)
    steps = np.array([look["steps"] for look in told]).min(0)
    flat = ~np.isfinite(steps)
    counts = np.where(flat, 1, np.ceil((high - low) / np.where(flat, 1.0, steps) - 1e-6) + 1)
    many = counts.prod() / MOST_POINTS
    if many > 1:
        counts = np.where(flat, 1, np.maximum(np.floor(counts / many ** (1 / (~flat).sum())), 2))
    chosen = [1 if f else max(int(d or n), 2) for d, n, f in zip(dims, counts.tolist(), flat)]
    spacing = [1.0 if n == 1 else float(b - a) / (n - 1) for a, b, n in zip(low, high, chosen)]
    return Grid(tuple(chosen), tuple(low.tolist()), tuple(spacing))


def _same_lattice(told: list[dict], grid: Grid) -> Grid:
    """The lattice that is there; DataError when the mesh leaves its box."""
    bounds, box = np.array([look["bounds"] for look in told]), np.array(grid.bounds)
    room = 1e-6 * np.ptp(box.reshape(3, 2), axis=1).max()
    if (bounds[:, ::2] < box[::2] - room).any() or (bounds[:, 1::2] > box[1::2] + room).any():
        found = (*bounds[:, ::2].min(0).tolist(), *bounds[:, 1::2].max(0).tolist())
        raise DataError(f"input: expected a mesh inside of the bounds {grid.bounds} of the first time step, found {found}")
    return grid

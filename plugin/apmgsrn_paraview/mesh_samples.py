"""Samples of a mesh for training: positions in the world, and the values of the chosen arrays there.

Half of the samples at most are the mesh's own values: its points, or the centres of its cells. The rest lie inside of cells,
half of them uniform in volume, so that the whole domain is seen, and half with equally many in each cell, so that small
cells (boundary layers, fine levels) are seen as well. Where cells of several dimensions are together, volume means that of
the highest. Numbers are drawn in order and stratified: the result depends on the seed alone, not on threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from apmgsrn_core import DataError

from .cell_shapes import draw_in_cells
from .mesh_arrays import select_arrays
from .mesh_cells import CellGroup, MeshCells, chunks
from .mesh_leaves import mesh_leaves
from .mesh_values import ArrayValues


@dataclass(frozen=True, eq=False)
class MeshSamples:
    """What is known of a mesh at some positions.

    Args:
        positions: (n, 3) float64, world coordinates.
        values: (n, C) float64, the chosen arrays' components one after the other; a row with a NaN has no data.
        exact: (n,) bool, True at the mesh's own points or cell centres, False at positions drawn inside of cells.
    """

    positions: np.ndarray
    values: np.ndarray
    exact: np.ndarray


@dataclass(frozen=True)
class MeshSize:
    """How much of a mesh there is to sample; the piece of each rank has its own.

    Args:
        own: Points, or cell centres.
        cells: Cells with an inside and with data.
        dimension: The highest of these cells, 0 to 3.
        volume: Theirs of this dimension, in the unit of length to the power of it.
    """

    own: int = 0
    cells: float = 0.0
    dimension: int = 0
    volume: float = 0.0

    @classmethod
    def of_pieces(cls, sizes) -> "MeshSize":
        """The whole mesh from its pieces."""
        top = max((size.dimension for size in sizes), default=0)
        volume = sum(size.volume for size in sizes if size.dimension == top)
        return cls(sum(size.own for size in sizes), sum(size.cells for size in sizes), top, volume)


def mesh_size(data, arrays) -> MeshSize:
    """How much there is to sample in this piece of a mesh; nothing when it has no points.

    Raises:
        DataError: As `sample_mesh`.
    """
    return _Parts(data, arrays).size if mesh_leaves(data) else MeshSize()


def sample_mesh(data, arrays, count: int, seed: int = 0, whole: MeshSize | None = None) -> MeshSamples:
    """Draw samples of a mesh.

    Point arrays are interpolated as VTK does in the cell; inside of a cell that has no shape functions here (see
    `cell_types.py`), in one of the simplices it is cut into. Cell arrays have the cell's value in all of the cell. When
    point and cell arrays are chosen together, the mesh's own values are those at the cell centres, since at a point no
    cell's value is the one; the points are left out.

    Args:
        data: A vtkDataSet, or composite data of them.
        arrays: [(name, "point" or "cell"), ...].
        count: How many samples; fewer come back only when there are no cells to draw more in.
        seed: Of the random numbers.
        whole: What all pieces of the mesh have together (`MeshSize.of_pieces`), when this is one of several: the count is
            then that of the whole, and this piece gives its share.

    Returns:
        MeshSamples; none when all cells are ghosts, hidden or refined. Own values that are not finite are NaN; inside of
        cells with such a value nothing is drawn.

    Raises:
        DataError: An array cannot be used (see `select_arrays`), a coordinate is not finite, or the count is not positive.
    """
    if count < 1:
        raise DataError(f"samples: expected a positive number, found {count}")
    parts, random = _Parts(data, arrays), np.random.default_rng(seed)
    own, by_volume, by_cell = shares(count, parts.size, whole or parts.size)
    found = [(np.zeros((0, 3)), np.zeros((0, parts.components))), *parts.own_values(own, random)]
    exact = sum(len(positions) for positions, _ in found)
    found += parts.inside_cells(parts.volumes, by_volume, random)
    found += parts.inside_cells(parts.cells, by_cell, random)
    positions, values = (np.concatenate(side) for side in zip(*found))
    if not np.isfinite(positions).all():
        raise DataError(f"input: expected finite coordinates, found {(~np.isfinite(positions)).sum()} that are not")
    values[~np.isfinite(values)] = np.nan
    return MeshSamples(positions, values, np.arange(len(positions)) < exact)


def shares(count: int, piece: MeshSize, whole: MeshSize) -> tuple[int, int, int]:
    """How many samples of the whole's count a piece gives: (own values, uniform in volume, uniform over cells)."""
    own = min(whole.own, count // 2 if whole.cells else count)
    by_volume = (count - own) // 2 if whole.volume > 0 else 0
    of_volume = piece.volume / whole.volume if whole.volume > 0 and piece.dimension == whole.dimension else 0.0
    of_cells = piece.cells / whole.cells if whole.cells else 0.0
    of_own = piece.own / whole.own if whole.own else 0.0
    return round(own * of_own), round(by_volume * of_volume), round((count - own - by_volume) * of_cells)


class _Parts:
    """The cells of all leaves by shape, and the chosen arrays on them."""

    def __init__(self, data, arrays):
        leaves = mesh_leaves(data)
        chosen = select_arrays(leaves, arrays)
        self.components = sum(array.components for array in chosen)
        self._of_points = all(array.association == "point" for array in chosen)
        self._meshes = [(mesh, ArrayValues(mesh, chosen)) for mesh in map(MeshCells, leaves)]
        self._groups = [(mesh, values, group) for mesh, values in self._meshes for group in mesh.groups]
        self._inside = [part for part in self._groups if part[2].shape.dimension > 0]
        self._top = max((group.shape.dimension for _, _, group in self._inside), default=0)

    @cached_property
    def cells(self) -> list[np.ndarray]:
        """(m,) of each group with an inside: 1 for a cell with data (its share for one of a cut cell), 0 without."""
        finite = [(group, values.finite(group)) for _, values, group in self._inside]
        return [good * (1.0 if group.share is None else group.share) for group, good in finite]

    @cached_property
    def volumes(self) -> list[np.ndarray]:
        """(m,) of each group with an inside: the volume of the cells with data of the highest dimension, otherwise 0."""
        return [
            mesh.sizes(group) * (good > 0) if group.shape.dimension == self._top else np.zeros(len(good))
            for (mesh, _, group), good in zip(self._inside, self.cells)
        ]

    @cached_property
    def size(self) -> MeshSize:
        own = [len(mesh.points) for mesh, _ in self._meshes] if self._of_points else [
            len(group.centre_rows) for _, _, group in self._groups
        ]  # fmt: skip
        cells, volume = (float(sum(w.sum() for w in weights)) for weights in (self.cells, self.volumes))
        return MeshSize(sum(own), cells, self._top, volume)

    def own_values(self, count: int, random) -> list:
        """[(positions, values)] of the points, or at the parametric centres of cells; a random subset when there are more."""
        if self._of_points:
            chosen = _subset([len(mesh.points) for mesh, _ in self._meshes], count, random)
            ids = [mesh.points[rows] for (mesh, _), rows in zip(self._meshes, chosen)]
            return [(mesh.positions(i), values.at_points(i)) for (mesh, values), i in zip(self._meshes, ids)]
        chosen = _subset([len(group.centre_rows) for _, _, group in self._groups], count, random)
        return [
            sample
            for (mesh, values, group), rows in zip(self._groups, chosen)
            for sample in _at(mesh, values, group, group.centre_rows[rows], _centre)
        ]

    def inside_cells(self, weights: list[np.ndarray], count: int, random) -> list:
        """[(positions, values)] inside of cells that are drawn with these weights."""
        return [
            sample
            for (mesh, values, group), rows in zip(self._inside, _drawn(weights, count, random))
            for sample in _at(mesh, values, group, rows, lambda shape, corners: draw_in_cells(shape, corners, random))
        ]


def _centre(shape, corners: np.ndarray) -> np.ndarray:
    return np.repeat(shape.centre[:, None], corners.shape[2], axis=1)


def _at(mesh: MeshCells, values: ArrayValues, group: CellGroup, rows: np.ndarray, place) -> list:
    """[(positions, values)] one in each of these rows of a group, where `place(shape, corners)` says (d, n)."""
    found = []
    for part, nodes in chunks(group, rows):
        corners = mesh.corners(nodes)
        weights = group.shape.weights(place(group.shape, corners))
        positions = np.einsum("kn,kxn->nx", weights, corners)
        found.append((positions, values.in_cells(group.cells[rows[part]], nodes, weights)))
    return found


def _subset(sizes: list[int], cap: int, random) -> list[np.ndarray]:
    """Rows of each of several lists: all, or together `cap` of them at random, each at most once."""
    total = sum(sizes)
    rows = np.arange(total) if total <= cap else np.sort(random.choice(total, cap, replace=False))
    return _split(rows, sizes)


def _drawn(weights: list[np.ndarray], count: int, random) -> list[np.ndarray]:
    """Rows of each of several lists, `count` together, as often as their weights say; stratified along the lists."""
    cumulated = np.cumsum(np.concatenate([*weights, np.zeros(0)]))
    if not count or not len(cumulated) or not cumulated[-1] > 0:
        return [np.zeros(0, dtype=np.int64) for _ in weights]
    places = (np.arange(count) + random.random(count)) / count * cumulated[-1]
    last = np.searchsorted(cumulated, cumulated[-1])  # the last row with a weight
    rows = np.minimum(np.searchsorted(cumulated, places, side="right"), last)
    return _split(rows, [len(w) for w in weights])


def _split(rows: np.ndarray, sizes: list[int]) -> list[np.ndarray]:
    """Rising rows of lists that follow each other -> rows within each list."""
    ends = np.cumsum(sizes, dtype=np.int64)
    parts = np.split(rows, np.searchsorted(rows, ends[:-1])) if len(sizes) else []
    return [part - (end - size) for part, end, size in zip(parts, ends, sizes)]

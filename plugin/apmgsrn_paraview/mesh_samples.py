"""Samples of a mesh for training: positions in the world, and the values of the chosen arrays there.

Half of the samples at most are the mesh's own values: its points, or the centres of its cells. The rest lie inside of cells,
half of them uniform in volume, so that the whole domain is seen, and half with equally many in each cell, so that small
cells (boundary layers, fine levels) are seen as well. Where cells of several dimensions are together, volume means that of
the highest. Numbers are drawn in order and stratified: the result depends on the seed alone, not on threads.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from apmgsrn_core import DataError

from .cell_shapes import draw_in_cells
from .mesh_arrays import MeshArray, leaf_values, select_arrays
from .mesh_cells import CellGroup, MeshCells, chunks
from .mesh_leaves import mesh_leaves


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


class ArrayValues:
    """The chosen arrays of one leaf."""

    def __init__(self, mesh: MeshCells, arrays: list[MeshArray]):
        self.arrays = [(array.association, leaf_values(mesh.leaf, array)) for array in arrays]
        self._finite = all(_all_finite(values) for _, values in self.arrays)

    def at_points(self, ids: np.ndarray) -> np.ndarray:
        """(n, C) values of point arrays."""
        return np.concatenate([values[ids].astype(np.float64) for _, values in self.arrays], axis=1)

    def in_cells(self, cells: np.ndarray, nodes: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """(n, C) values inside of cells: ids (n,), nodes (n, k), weights (k, n); a cell array has the cell's value."""
        parts = [
            np.einsum("kn,nkc->nc", weights, values[nodes].astype(np.float64))
            if association == "point"
            else values[cells].astype(np.float64)
            for association, values in self.arrays
        ]
        return np.concatenate(parts, axis=1)

    def finite(self, group: CellGroup) -> np.ndarray:
        """(m,) bool: the cells of a group in which all values are finite."""
        found = np.ones(len(group.cells), dtype=bool)
        for part, nodes in chunks(group) if not self._finite else ():
            for association, values in self.arrays:
                known = values[nodes] if association == "point" else values[group.cells[part], None]
                found[part] &= np.isfinite(known).all(axis=(1, 2))
        return found


def sample_mesh(data, arrays, count: int, seed: int = 0) -> MeshSamples:
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

    Returns:
        MeshSamples; none when all cells are ghosts, hidden or refined. Own values that are not finite are NaN; inside of
        cells with such a value nothing is drawn.

    Raises:
        DataError: An array cannot be used (see `select_arrays`), a coordinate is not finite, or the count is not positive.
    """
    if count < 1:
        raise DataError(f"samples: expected a positive number, found {count}")
    leaves = mesh_leaves(data)
    chosen = select_arrays(leaves, arrays)
    meshes = [MeshCells(leaf) for leaf in leaves]
    parts = [(mesh, ArrayValues(mesh, chosen), group) for mesh in meshes for group in mesh.groups]
    inside = [part for part in parts if part[2].shape.dimension > 0]
    cap = count // 2 if inside else count
    random = np.random.default_rng(seed)
    if all(array.association == "point" for array in chosen):
        own = _own_points(meshes, chosen, cap, random)
    else:
        own = _own_centres(parts, cap, random)
    found = [(np.zeros((0, 3)), np.zeros((0, sum(array.components for array in chosen)))), *own]
    known = sum(len(positions) for positions, _ in found)
    found += _inside_cells(inside, count - known, random)
    positions, values = (np.concatenate(side) for side in zip(*found))
    if not np.isfinite(positions).all():
        raise DataError(f"input: expected finite coordinates, found {(~np.isfinite(positions)).sum()} that are not")
    values[~np.isfinite(values)] = np.nan
    return MeshSamples(positions, values, np.arange(len(positions)) < known)


def _own_points(meshes: list[MeshCells], arrays: list[MeshArray], cap: int, random) -> list:
    """[(positions, values)] of the meshes' points, a random subset when there are more than the cap."""
    chosen = _subset([len(mesh.points) for mesh in meshes], cap, random)
    ids = [mesh.points[rows] for mesh, rows in zip(meshes, chosen)]
    return [(mesh.positions(i), ArrayValues(mesh, arrays).at_points(i)) for mesh, i in zip(meshes, ids)]


def _own_centres(parts: list, cap: int, random) -> list:
    """[(positions, values)] at the cells' parametric centres, a random subset when there are more than the cap."""

    def centre(shape, corners):
        return np.repeat(shape.centre[:, None], corners.shape[2], axis=1)

    chosen = _subset([len(group.centre_rows) for _, _, group in parts], cap, random)
    return [
        sample
        for (mesh, values, group), rows in zip(parts, chosen)
        for sample in _at(mesh, values, group, group.centre_rows[rows], centre)
    ]


def _inside_cells(parts: list, count: int, random) -> list:
    """[(positions, values)] inside of cells: half uniform in volume, half uniform over cells, none where data is missing."""
    finite = [values.finite(group) for _, values, group in parts]
    top = max((group.shape.dimension for _, _, group in parts), default=0)
    by_volume = [
        mesh.sizes(group) * good if group.shape.dimension == top else np.zeros(len(good))
        for (mesh, _, group), good in zip(parts, finite)
    ]
    by_cell = [good * (1.0 if part[2].share is None else part[2].share) for part, good in zip(parts, finite)]
    of_volume = count // 2 if any(size.any() for size in by_volume) else 0
    found = []
    for weights, number in ((by_volume, of_volume), (by_cell, count - of_volume)):
        for (mesh, values, group), rows in zip(parts, _drawn(weights, number, random)):
            found += _at(mesh, values, group, rows, lambda shape, corners: draw_in_cells(shape, corners, random))
    return found


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


def _all_finite(values: np.ndarray) -> bool:
    return values.dtype.kind not in "fc" or bool(np.isfinite(values).all())

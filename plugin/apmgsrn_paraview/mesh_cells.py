"""The cells of a data set that count, sorted by shape.

A lattice (image, rectilinear, structured grid) keeps its cells implicit; the nodes of cells are worked out for those asked.
Cells of types without a shape (polygons, polyhedra, strips, cells of high order) are cut into simplices by VTK.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Callable, Iterator

import numpy as np
from vtkmodules import vtkCommonDataModel as vtk
from vtkmodules.util.numpy_support import vtk_to_numpy
from vtkmodules.vtkFiltersCore import vtkAppendFilter, vtkThreshold
from vtkmodules.vtkFiltersGeneral import vtkDataSetTriangleFilter

from apmgsrn_core import DataError

from .cell_shapes import CellShape, cell_sizes
from .cell_types import CELL_TYPES
from .mesh_leaves import MeshLeaf
from .mesh_points import LATTICES, lattice_dims, lattice_index, point_positions
from .vtk_arrays import add_array

FROM_VTK_9_6 = hasattr(vtk, "vtkCellTypeUtilities")
CHUNK = 2048  # cells whose numbers fit in a core's cache


@dataclass(frozen=True, eq=False)
class CellGroup:
    """Cells of one shape.

    Args:
        shape: Theirs.
        cells: (m,) their ids in the data set; those of a cut cell are the same.
        nodes_of: Ids of cells' points, from rows of this group: (r,) int -> (r, k) int.
        share: (m,) part of its cell that each is; None: the whole.
    """

    shape: CellShape
    cells: np.ndarray
    nodes_of: Callable
    share: np.ndarray | None = None

    @cached_property
    def centre_rows(self) -> np.ndarray:
        """(n,) rows with one for each cell: of a cut one its largest part."""
        if self.share is None:
            return np.arange(len(self.cells))
        order = np.lexsort((-self.share, self.cells))
        return order[np.unique(self.cells[order], return_index=True)[1]]

    def take(self, rows: np.ndarray) -> "CellGroup":
        """Only some of them."""
        share = None if self.share is None else self.share[rows]
        return replace(self, cells=self.cells[rows], nodes_of=lambda r: self.nodes_of(rows[r]), share=share)


class MeshCells:
    """The cells of a leaf that count.

    Args:
        leaf: Its ghosts, hidden and covered cells are left out.

    Attributes:
        groups: list of CellGroup.
        positions: (n,) point ids -> (n, 3) float64 world positions.
    """

    def __init__(self, leaf: MeshLeaf):
        self.leaf = leaf
        data = leaf.data
        if not isinstance(data, (*LATTICES, vtk.vtkUnstructuredGrid, vtk.vtkPolyData)):
            data = _unstructured(data)
        skipped, hidden = leaf.skipped_cells, leaf.hidden_points
        kept = np.arange(data.GetNumberOfCells()) if skipped is None else np.flatnonzero(~skipped)
        self.positions = point_positions(data)
        self.groups = [_lattice_group(data, kept)] if isinstance(data, LATTICES) else _listed_groups(data, kept)
        if hidden is not None:
            self.groups = [_without_points(group, hidden) for group in self.groups]
        cut = [_with_shares(group, self) for group in self.groups if group.share is not None]
        self.groups = [g for g in self.groups if g.share is None and len(g.cells)] + cut

    @cached_property
    def points(self) -> np.ndarray:
        """(n,) ids of the points of these cells, rising; of all when the data set has no cells; not ghosts, not hidden."""
        used = np.zeros(self.leaf.data.GetNumberOfPoints(), dtype=bool)
        if not self.leaf.data.GetNumberOfCells():
            used[:] = True
        for group in self.groups:
            for _, nodes in chunks(group):
                used[nodes] = True
        skipped = self.leaf.skipped_points
        return np.flatnonzero(used if skipped is None else used & ~skipped)

    def corners(self, nodes: np.ndarray) -> np.ndarray:
        """nodes (n, k) -> (k, 3, n) positions; DataError where one is not finite."""
        positions = self.positions(nodes.ravel()).reshape(*nodes.shape, 3)
        known = np.isfinite(positions).all(axis=(1, 2))
        if not known.all():
            found = f"a cell at {positions[~known][0].tolist()}"
            raise DataError(f"{self.leaf.name}: expected finite coordinates, found {found}")
        return np.ascontiguousarray(positions.transpose(1, 2, 0))

    def sizes(self, group: CellGroup) -> np.ndarray:
        """(m,) volumes, areas or lengths of a group's cells."""
        parts = [cell_sizes(group.shape, self.corners(nodes)) for _, nodes in chunks(group)]
        return np.concatenate([*parts, np.zeros(0)])


def chunks(group: CellGroup, rows: np.ndarray | None = None) -> Iterator[tuple]:
    """(slice of the rows, nodes (n, k) of these rows) of a group's cells, a bounded number at a time."""
    count = len(group.cells) if rows is None else len(rows)
    for start in range(0, count, CHUNK):
        part = slice(start, min(start + CHUNK, count))
        yield part, group.nodes_of(np.arange(part.start, part.stop) if rows is None else rows[part])


def _lattice_group(data, cells: np.ndarray) -> CellGroup:
    dims = lattice_dims(data)
    steps = [step for step, n in zip((1, dims[0], dims[0] * dims[1]), dims) if n > 1]
    kind = (vtk.VTK_VERTEX, vtk.VTK_LINE, vtk.VTK_QUAD, vtk.VTK_HEXAHEDRON)[len(steps)]
    shape = CELL_TYPES[kind][0]
    offsets = np.rint(shape.nodes).astype(np.int64) @ np.array(steps, dtype=np.int64)
    mx, my = max(dims[0] - 1, 1), max(dims[1] - 1, 1)

    def nodes_of(rows):
        i, j, k = lattice_index(cells[rows], mx, my)
        return (i + dims[0] * (j + dims[1] * k))[:, None] + offsets

    return CellGroup(shape, cells, nodes_of)


def _listed_groups(data, kept: np.ndarray) -> list[CellGroup]:
    """The groups of a mesh that lists its cells; what has no shape is cut into simplices."""
    if not len(kept):
        return []
    types, starts, listed = _cell_lists(data)
    found = []
    for kind in np.unique(types[kept]).tolist():
        if kind in CELL_TYPES:
            found.append(_group(kind, kept[types[kept] == kind], starts, listed))
    rest = kept[~np.isin(types[kept], list(CELL_TYPES))]
    return found + (_cut(data, rest) if len(rest) else [])


def _group(kind: int, cells: np.ndarray, starts: np.ndarray, listed: np.ndarray) -> CellGroup:
    shape, order = CELL_TYPES[kind]
    order = np.arange(len(shape.nodes)) if order is None else np.array(order)
    return CellGroup(shape, cells, lambda rows: listed[starts[cells[rows]][:, None] + order])


def _cell_lists(data) -> tuple:
    """(type of each cell, where its points start, point ids) of an unstructured grid or polygons."""
    if isinstance(data, vtk.vtkUnstructuredGrid):
        cells = data.GetCells()
        starts = vtk_to_numpy(cells.GetOffsetsArray())[:-1]
        types = data.GetCellTypes() if FROM_VTK_9_6 else data.GetCellTypesArray()
        return vtk_to_numpy(types), starts, vtk_to_numpy(cells.GetConnectivityArray())
    by_size = (
        (data.GetVerts(), {1: vtk.VTK_VERTEX}, vtk.VTK_POLY_VERTEX),
        (data.GetLines(), {2: vtk.VTK_LINE}, vtk.VTK_POLY_LINE),
        (data.GetPolys(), {3: vtk.VTK_TRIANGLE, 4: vtk.VTK_QUAD}, vtk.VTK_POLYGON),
        (data.GetStrips(), {}, vtk.VTK_TRIANGLE_STRIP),
    )
    types, starts, listed, before = [], [], [], 0
    for cells, known, otherwise in by_size:
        offsets, ids = vtk_to_numpy(cells.GetOffsetsArray()), vtk_to_numpy(cells.GetConnectivityArray())
        sizes = np.diff(offsets)
        types.append(np.select([sizes == n for n in known] or [sizes < 0], list(known.values()) or [0], otherwise))
        starts.append(offsets[:-1] + before)
        listed.append(ids)
        before += len(ids)
    return np.concatenate(types), np.concatenate(starts), np.concatenate(listed)


def _cut(data, cells: np.ndarray) -> list[CellGroup]:
    """These cells as simplices, each with the id of its cell; the shares are filled in by `_with_shares`."""
    copy = data.NewInstance()
    copy.CopyStructure(data)
    chosen = np.zeros(data.GetNumberOfCells(), dtype=np.uint8)
    chosen[cells] = 1
    add_array(copy, "cell", "chosen", chosen)
    add_array(copy, "cell", "id", np.arange(data.GetNumberOfCells()))
    add_array(copy, "point", "id", np.arange(data.GetNumberOfPoints()))
    extract = vtkThreshold()
    extract.SetInputData(copy)
    extract.SetInputArrayToProcess(0, 0, 0, vtk.vtkDataObject.FIELD_ASSOCIATION_CELLS, "chosen")
    extract.SetLowerThreshold(1)
    cut = vtkDataSetTriangleFilter()
    cut.SetInputConnection(extract.GetOutputPort())
    cut.Update()
    pieces = cut.GetOutput()
    ids = [vtk_to_numpy(side.GetArray("id")) for side in (pieces.GetPointData(), pieces.GetCellData())]
    types, starts, listed = _cell_lists(pieces)
    groups = []
    for kind in np.unique(types).tolist():
        group = _group(kind, np.flatnonzero(types == kind), starts, ids[0][listed])
        groups.append(replace(group, cells=ids[1][group.cells], share=np.ones(len(group.cells))))
    return groups


def _with_shares(group: CellGroup, mesh: MeshCells) -> CellGroup:
    """A group of cut cells that knows which part of its cell each is."""
    sizes = mesh.sizes(group) if group.shape.dimension else np.ones(len(group.cells))
    _, row_of_cell, counts = np.unique(group.cells, return_inverse=True, return_counts=True)
    whole = np.bincount(row_of_cell, sizes)[row_of_cell]
    equal = 1.0 / counts[row_of_cell]
    return replace(group, share=np.divide(sizes, whole, out=equal, where=whole > 0))


def _without_points(group: CellGroup, hidden: np.ndarray) -> CellGroup:
    """The cells at which no hidden point is."""
    parts = [~hidden[nodes].any(axis=1) for _, nodes in chunks(group)]
    return group.take(np.flatnonzero(np.concatenate(parts))) if parts else group


def _unstructured(data):
    """Any other data set with its cells listed, in the same order."""
    copy = data.NewInstance()
    copy.CopyStructure(data)
    append = vtkAppendFilter()
    append.AddInputData(copy)
    append.Update()
    return append.GetOutput()

"""The data sets of a mesh: a single one, or the leaves of composite data, and which of their cells and points count.

Left out are ghost cells and points (they are another piece's), hidden ones, and cells that a finer level of an AMR covers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from vtkmodules.vtkCommonDataModel import vtkCompositeDataSet, vtkDataSet, vtkOverlappingAMR, vtkUniformGridAMR

from apmgsrn_core import DataError

from .ghost_marks import without_value


@dataclass(frozen=True)
class MeshLeaf:
    """A data set with points, what messages call it, and its cells that a finer level covers (None: none)."""

    name: str
    data: vtkDataSet
    covered: np.ndarray | None = None

    @property
    def skipped_cells(self) -> np.ndarray | None:
        """(cells,) bool: ghosts, hidden and refined cells; None when all count."""
        flags = without_value(self.data, "cell", duplicates=True)
        if flags is None or self.covered is None:
            return self.covered if flags is None else flags
        return flags | self.covered

    @property
    def hidden_points(self) -> np.ndarray | None:
        """(points,) bool: blanked points, and with them the cells at them; None when there are none."""
        return without_value(self.data, "point")

    @property
    def skipped_points(self) -> np.ndarray | None:
        """(points,) bool: ghosts and hidden points; None when all count."""
        return without_value(self.data, "point", duplicates=True)


def mesh_leaves(data) -> list[MeshLeaf]:
    """The data sets with points of any data set or composite data, in its own order.

    Args:
        data: A vtkDataSet, or a vtkCompositeDataSet: blocks, partitions or AMR, nested at will.

    Returns:
        The leaves; none when there are no points at all, as on a rank without a piece.

    Raises:
        DataError: A part is no vtkDataSet, such as a table.
    """
    if isinstance(data, vtkUniformGridAMR):
        return _amr_leaves(data)
    if isinstance(data, vtkCompositeDataSet):
        leaves = [MeshLeaf(_block_name(iterator), part) for iterator, part in _parts(data)]
    else:
        leaves = [MeshLeaf("input", data)]
    for leaf in leaves:
        if not isinstance(leaf.data, vtkDataSet):
            found = leaf.data.GetClassName() if leaf.data is not None else "nothing"
            raise DataError(f"{leaf.name}: expected a data set with points and cells, found {found}")
    return [leaf for leaf in leaves if leaf.data.GetNumberOfPoints()]


def _parts(data):
    """(iterator, leaf) of the composite's leaves that are there."""
    iterator = data.NewIterator()
    iterator.InitTraversal()
    while not iterator.IsDoneWithTraversal():
        yield iterator, iterator.GetCurrentDataObject()
        iterator.GoToNextItem()


def _block_name(iterator) -> str:
    """`block 3 'walls'`: the flat index, and the name where there is one."""
    key = vtkCompositeDataSet.NAME()
    info = iterator.GetCurrentMetaData() if iterator.HasCurrentMetaData() else None
    name = f" {info.Get(key)!r}" if info is not None and info.Has(key) else ""
    return f"block {iterator.GetCurrentFlatIndex()}{name}"


def _amr_leaves(amr) -> list[MeshLeaf]:
    """The grids of all levels; of an overlapping AMR without the cells that a finer grid covers."""
    covered = covered_by_finer(amr)
    return [
        MeshLeaf(f"level {i.GetCurrentLevel()} grid {i.GetCurrentIndex()}", grid, covered.get(i.GetCurrentFlatIndex()))
        for i, grid in _parts(amr)
        if grid.GetNumberOfPoints()
    ]


def covered_by_finer(data) -> dict:
    """{flat index: (cells,) bool, which a finer grid covers} of the grids of an overlapping AMR; {} of other data."""
    if not isinstance(data, vtkOverlappingAMR):
        return {}
    found = [(i.GetCurrentFlatIndex(), i.GetCurrentLevel(), grid) for i, grid in _parts(data) if grid.GetNumberOfPoints()]
    levels = np.array([level for _, level, _ in found], dtype=int)
    bounds = np.array([grid.GetBounds() for _, _, grid in found]).reshape(-1, 3, 2)
    covered = {number: covered_cells(grid, bounds[levels > level]) for number, level, grid in found}
    return {number: cells for number, cells in covered.items() if cells is not None}


def covered_cells(grid, boxes: np.ndarray) -> np.ndarray | None:
    """Which cells of a uniform grid have their centre in one of the boxes.

    Args:
        grid: vtkUniformGrid or vtkImageData without a direction matrix.
        boxes: (n, 3, 2) low and high ends along x, y, z; on an axis on which the grid is flat they are not looked at.

    Returns:
        (cells,) bool; None when no box touches the grid.
    """
    dims, low = np.array(grid.GetDimensions()), np.array(grid.GetBounds()[::2])
    steps, flat = np.array(grid.GetSpacing()), dims < 2
    centres = [low[a] + steps[a] * (np.arange(max(dims[a] - 1, 1)) + 0.5) for a in range(3)]
    ends = np.array(grid.GetBounds()).reshape(3, 2)
    touching = (flat | ((boxes[:, :, 0] < ends[:, 1]) & (boxes[:, :, 1] > ends[:, 0]))).all(axis=1)
    if not touching.any():
        return None
    covered = np.zeros([len(c) for c in centres[::-1]], dtype=bool)
    for box in boxes[touching]:
        x, y, z = ((c > a) & (c < b) | f for c, (a, b), f in zip(centres, box, flat))
        covered |= z[:, None, None] & y[:, None] & x
    return covered.ravel()

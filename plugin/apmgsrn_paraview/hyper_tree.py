"""A `RefinementTree` of the core as a vtkHyperTreeGrid."""

from __future__ import annotations

import numpy as np
from vtkmodules.util.numpy_support import numpy_to_vtk
from vtkmodules.vtkCommonCore import VTK_UNSIGNED_CHAR, vtkBitArray
from vtkmodules.vtkCommonDataModel import vtkHyperTreeGrid

from apmgsrn_core import RefinementTree


def hyper_tree_grid(tree: RefinementTree) -> vtkHyperTreeGrid:
    """Build the VTK object of a tree: its cells, their mask, and its fields as cell arrays.

    Args:
        tree: As `apmgsrn_core.refine` returns it; VTK counts cells in the tree's own order.

    Returns:
        A grid of dimension 1 to 3 with branch factor 2. Cells that were split carry means of their children. The first
        field is the active scalars.
    """
    grid = vtkHyperTreeGrid()
    fill_hyper_tree_grid(grid, tree)
    return grid


def fill_hyper_tree_grid(grid: vtkHyperTreeGrid, tree: RefinementTree) -> None:
    """`hyper_tree_grid` for an object at hand, such as the one in an output port."""
    grid.Initialize()
    grid.SetBranchFactor(2)
    grid.SetDimensions([len(border) for border in tree.borders])
    for set_coordinates, border in zip((grid.SetXCoordinates, grid.SetYCoordinates, grid.SetZCoordinates), tree.borders):
        set_coordinates(numpy_to_vtk(border, deep=1))
    split = _bits(tree.first_child >= 0)
    starts = tree.roots
    ends = np.append(starts[1:], len(tree.level))
    for number, (start, described) in enumerate(zip(starts.tolist(), _described(tree, ends).tolist())):
        root = grid.GetTree(number, True)
        root.BuildFromBreadthFirstOrderDescriptor(split, described, start)
        root.SetGlobalIndexStart(start)
    if tree.masked.any():
        grid.SetMask(_bits(tree.masked))
    for name, values in tree.values.items():
        array = numpy_to_vtk(values, deep=1)
        array.SetName(name)
        grid.GetCellData().AddArray(array)
    grid.GetCellData().SetActiveScalars(next(iter(tree.values)))


def _described(tree: RefinementTree, ends: np.ndarray) -> np.ndarray:
    """(roots,) nodes of each root less those of its deepest level, which VTK wants to be left out."""
    deepest = np.repeat(tree.level[ends - 1], np.diff(ends, prepend=0))
    return np.add.reduceat((tree.level < deepest).astype(np.int64), tree.roots)


def _bits(flags: np.ndarray) -> vtkBitArray:
    """(n,) bool as VTK's packed bits."""
    bits = vtkBitArray()
    bits.DeepCopy(numpy_to_vtk(flags.astype(np.uint8), deep=1, array_type=VTK_UNSIGNED_CHAR))
    return bits

"""The data sets inside of any data object: what a filter passes on, adds to, and counts with this rank."""

from __future__ import annotations

import numpy as np
from vtkmodules.vtkCommonDataModel import vtkCompositeDataSet, vtkDataSet

from .ghost_marks import GHOSTS, without_value
from .vtk_arrays import attributes


def numbered_leaves(data) -> dict:
    """{flat index: data set} of a composite one, the same numbers on all ranks; {0: the one itself}; {} of None."""
    if isinstance(data, vtkCompositeDataSet):
        found = {place.GetCurrentFlatIndex(): place.GetCurrentDataObject() for place in _places(data)}
    else:
        found = {0: data}
    return {number: leaf for number, leaf in found.items() if isinstance(leaf, vtkDataSet)}


def leaves_of(data) -> list:
    """The data sets of a composite one, or the one itself; [] of None."""
    return list(numbered_leaves(data).values())


def pass_on(source, target) -> list:
    """Make `target` share all that `source` has, with leaves of its own.

    Returns:
        [(leaf of the source, leaf of the target)] of the data sets.
    """
    if not isinstance(source, vtkCompositeDataSet):
        target.ShallowCopy(source)
        return [(source, target)] if isinstance(source, vtkDataSet) else []
    target.CopyStructure(source)
    target.GetFieldData().ShallowCopy(source.GetFieldData())
    pairs = []
    for iterator in _places(source):
        leaf = iterator.GetCurrentDataObject()
        own = leaf.NewInstance()
        own.ShallowCopy(leaf)
        target.SetDataSet(iterator, own)
        if isinstance(leaf, vtkDataSet):
            pairs.append((leaf, own))
    return pairs


def _places(composite):
    """An iterator at each of the leaves that are there."""
    iterator = composite.NewIterator()
    iterator.SkipEmptyNodesOn()
    iterator.InitTraversal()
    while not iterator.IsDoneWithTraversal():
        yield iterator
        iterator.GoToNextItem()


def drop_arrays(leaf) -> None:
    """Take the arrays of points and cells away, less the marks of ghosts."""
    for side in (leaf.GetPointData(), leaf.GetCellData()):
        marks = side.GetArray(GHOSTS)
        side.Initialize()
        if marks is not None:
            side.AddArray(marks)


def count_of(leaf, association: str) -> int:
    """Points or cells."""
    return leaf.GetNumberOfPoints() if association == "point" else leaf.GetNumberOfCells()


def names_of(leaf, association: str) -> list[str]:
    """Of all arrays of the points or of the cells, those without a name left out."""
    side = attributes(leaf, association)
    names = (side.GetArrayName(number) for number in range(side.GetNumberOfArrays()))
    return [name for name in names if name]


def visible(leaf, association: str, duplicates: bool) -> np.ndarray:
    """(n,) bool: which points or cells are not hidden (blanked, refined by a finer level of AMR).

    Args:
        duplicates: Whether those count which another rank has as its own.
    """
    left_out = without_value(leaf, association, duplicates=not duplicates)
    return np.ones(count_of(leaf, association), dtype=bool) if left_out is None else ~left_out

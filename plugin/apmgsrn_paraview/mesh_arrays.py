"""The arrays of a mesh: those that all of its data sets have, and their values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from vtkmodules.vtkCommonCore import vtkDataArray

from apmgsrn_core import DataError

from .ghost_marks import GHOSTS
from .mesh_leaves import MeshLeaf, mesh_leaves
from .vtk_arrays import attributes, numbers_of, numpy_type


@dataclass(frozen=True)
class MeshArray:
    """A numeric array that all data sets of a mesh have.

    Args:
        name: Its name.
        association: "point" or "cell".
        components: Numbers in a value.
        dtype: Type that holds the values of all data sets.
    """

    name: str
    association: str
    components: int
    dtype: np.dtype


def mesh_arrays(data) -> list[MeshArray]:
    """The numeric arrays that all non-empty leaves of a mesh have, with equal components.

    Args:
        data: A vtkDataSet or vtkCompositeDataSet.

    Returns:
        Point arrays, then cell arrays, in the order of the first leaf, of each side its active scalars first; empty when
        there are no points.

    Raises:
        DataError: A part of the data is no data set.
    """
    return common_arrays(mesh_leaves(data))


def common_arrays(leaves: list[MeshLeaf]) -> list[MeshArray]:
    """`mesh_arrays` of the leaves that one has already."""
    common = None
    for leaf in leaves:
        found = {key: _description(array, *key) for key, array in _numeric(leaf).items()}
        if common is None:
            common = found
        common = {
            key: MeshArray(*key, known.components, np.result_type(known.dtype, found[key].dtype))
            for key, known in common.items()
            if key in found and found[key].components == known.components
        }
    return list((common or {}).values())


def select_arrays(leaves: list[MeshLeaf], selection) -> list[MeshArray]:
    """Look up the chosen arrays in all leaves.

    Args:
        leaves: What `mesh_leaves` gives.
        selection: [(name, "point" or "cell"), ...], at least one.

    Returns:
        One MeshArray for each, in the order of the selection.

    Raises:
        DataError: Nothing is chosen, there is no leaf, or in one of the leaves an array is missing, has no numbers,
            other components than before or another number of values than there are points or cells; or a leaf has no
            cells, which is enough only for point arrays.
    """
    if not selection:
        raise DataError("arrays: expected at least one name of a point or cell array, found none")
    if not leaves:
        raise DataError("input: expected a mesh with points, found none")
    chosen = [_select(leaves, name, association) for name, association in selection]
    of_cells = [array.name for array in chosen if array.association == "cell"]
    for leaf in leaves:
        if of_cells and not leaf.data.GetNumberOfCells():
            found = f"{leaf.data.GetNumberOfPoints()} points without cells"
            raise DataError(f"{leaf.name}: expected cells for the cell array {of_cells[0]!r}, found {found}")
    return chosen


def leaf_values(leaf: MeshLeaf, array: MeshArray) -> np.ndarray:
    """The values of an array in one leaf: (points or cells, components), a view where the memory allows it."""
    values = numbers_of(attributes(leaf.data, array.association).GetAbstractArray(array.name))
    return values.reshape(len(values), array.components)


def _select(leaves: list[MeshLeaf], name: str, association: str) -> MeshArray:
    if association not in ("point", "cell"):
        raise DataError(f"array {name!r}: expected the association 'point' or 'cell', found {association!r}")
    first, dtypes = None, []
    for leaf in leaves:
        array = _checked(leaf, name, association)
        found = array.GetNumberOfComponents()
        if first is not None and found != first[1]:
            raise DataError(
                f"{association} array {name!r}: expected {first[1]} components in {leaf.name} as in {first[0]}, found {found}"
            )
        first = first or (leaf.name, found)
        dtypes.append(numpy_type(array))
    return MeshArray(name, association, first[1], np.result_type(*dtypes))


def _checked(leaf: MeshLeaf, name: str, association: str):
    """The array of a leaf, or the error that tells why it will not do."""
    array = attributes(leaf.data, association).GetAbstractArray(name)
    if array is None:
        names = {side: [n for n, s in _numeric(leaf) if s == side] for side in ("point", "cell")}
        listed = "; ".join(f"{side} arrays: {', '.join(found) or 'none'}" for side, found in names.items())
        raise DataError(f"{leaf.name}: expected the {association} array {name!r}, found {listed}")
    if not _is_numeric(array):
        found = array.GetClassName()
        raise DataError(f"{leaf.name}: expected numbers in the {association} array {name!r}, found a {found}")
    expected = leaf.data.GetNumberOfPoints() if association == "point" else leaf.data.GetNumberOfCells()
    if array.GetNumberOfTuples() != expected:
        raise DataError(
            f"{leaf.name}: expected {expected} values in the {association} array {name!r},"
            f" found {array.GetNumberOfTuples()}"
        )
    return array


def _numeric(leaf: MeshLeaf) -> dict:
    """{(name, association): array} of the arrays with a name and numbers, active scalars first; not VTK's ghost array."""
    found = {}
    for association in ("point", "cell"):
        side = attributes(leaf.data, association)
        listed = [side.GetAbstractArray(i) for i in range(side.GetNumberOfArrays())]
        for array in sorted(listed, key=lambda array: array is not side.GetScalars()):
            if array.GetName() and array.GetName() != GHOSTS and _is_numeric(array):
                found[array.GetName(), association] = array
    return found


def _is_numeric(array) -> bool:
    return isinstance(array, vtkDataArray) and array.GetNumberOfComponents() > 0


def _description(array, name: str, association: str) -> MeshArray:
    return MeshArray(name, association, array.GetNumberOfComponents(), numpy_type(array))

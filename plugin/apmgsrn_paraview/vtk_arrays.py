"""Arrays between VTK and numpy: of VTK's own memory where it can be.

VTK stores values with x varying fastest, so a reshaped view is the core's `values[z, y, x]`.
"""

from __future__ import annotations

import math

import numpy as np
from vtkmodules.util.numpy_support import get_vtk_to_numpy_typemap, numpy_to_vtk, vtk_to_numpy
from vtkmodules.vtkCommonCore import VTK_BIT, VTK_UNSIGNED_CHAR, vtkDataArray

from apmgsrn_core import DataError, Grid


def attributes(data, association: str):
    """The point or the cell data of a data set."""
    return data.GetPointData() if association == "point" else data.GetCellData()


def numpy_type(array) -> np.dtype:
    """The numpy type of a VTK array's values; of bits uint8."""
    return np.dtype(get_vtk_to_numpy_typemap()[array.GetDataType()])


def numbers_of(array) -> np.ndarray:
    """(n,) or (n, components): a view of a vtkDataArray's own memory where it can be one, otherwise a copy; of bits uint8."""
    kind = array.GetDataType()
    if kind == VTK_BIT or not array.HasStandardMemoryLayout():
        copy = vtkDataArray.CreateDataArray(VTK_UNSIGNED_CHAR if kind == VTK_BIT else kind)
        copy.DeepCopy(array)
        array = copy
    return vtk_to_numpy(array)


def read_values(array, grid: Grid) -> np.ndarray:
    """`numbers_of` an array on a grid as `values[z, y, x]` (components last, when more than one).

    Raises:
        DataError: It has another number of values.
    """
    if array.GetNumberOfTuples() != math.prod(grid.value_dims):
        raise DataError(
            f"array {array.GetName()!r}: expected {math.prod(grid.value_dims)} values for {grid.value_dims}"
            f" {grid.association}s, found {array.GetNumberOfTuples()}"
        )
    values = numbers_of(array)
    return values.reshape(grid.value_dims[::-1] + values.shape[1:])


def add_array(data, association: str, name: str, values: np.ndarray) -> None:
    """Give a data set an array, (n,) or (n, components), without a copy; one of the same name goes."""
    array = numpy_to_vtk(np.ascontiguousarray(values), deep=0)
    array.SetName(name)
    attributes(data, association).AddArray(array)

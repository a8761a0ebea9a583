"""Arrays as numpy has them: every numeric type, memory laid out in any way, against VTK's own getters."""

import numpy as np
import pytest
from meshes import image
from vtkmodules import vtkCommonCore as vtk
from vtkmodules.util.numpy_support import vtk_to_numpy

from apmgsrn_core import DataError, Grid
from apmgsrn_paraview.vtk_arrays import add_array, numbers_of, numpy_type, read_values

KINDS = [vtk.VTK_BIT, vtk.VTK_CHAR, vtk.VTK_UNSIGNED_SHORT, vtk.VTK_INT, vtk.VTK_LONG_LONG, vtk.VTK_FLOAT, vtk.VTK_DOUBLE]


def filled(array, components, tuples):
    array.SetNumberOfComponents(components)
    array.SetNumberOfTuples(tuples)
    for i in range(tuples):
        array.SetTuple(i, [(3 * i + c) % 5 % 2 for c in range(components)])
    return array


@pytest.mark.parametrize("tuples", [0, 7, 9])
@pytest.mark.parametrize("components", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_numbers_are_those_of_vtk(kind, components, tuples):
    array = filled(vtk.vtkDataArray.CreateDataArray(kind), components, tuples)
    found = numbers_of(array)
    assert found.shape == ((tuples,) if components == 1 else (tuples, components))
    assert found.dtype == numpy_type(array)
    np.testing.assert_array_equal(found.reshape(tuples, components), [array.GetTuple(i) for i in range(tuples)] or found.reshape(0, components))
    assert kind == vtk.VTK_BIT or not tuples or np.shares_memory(found, vtk_to_numpy(array)), "a copy"


def test_components_that_lie_apart():
    array = filled(vtk.vtkSOADataArrayTemplate["float64"](), 3, 7)
    assert not array.HasStandardMemoryLayout()
    np.testing.assert_array_equal(numbers_of(array), [array.GetTuple(i) for i in range(7)])


@pytest.mark.parametrize("components", [1, 3])
@pytest.mark.parametrize("kind", [vtk.VTK_BIT, vtk.VTK_FLOAT])
def test_values_on_a_grid(kind, components):
    grid, array = Grid((9, 8, 7)), filled(vtk.vtkDataArray.CreateDataArray(kind), components, 9 * 8 * 7)
    values = read_values(array, grid)
    assert values.shape == (7, 8, 9) if components == 1 else (7, 8, 9, components)
    np.testing.assert_array_equal(np.atleast_1d(values[3, 2, 5]), array.GetTuple(5 + 9 * (2 + 8 * 3)))
    with pytest.raises(DataError, match=r"'b': expected 503 values .* found 504"):
        array.SetName("b")
        read_values(array, Grid((503, 1, 1)))


def test_an_added_array_has_its_memory_and_takes_the_place_of_another():
    data, values = image((7, 8, 9)), np.arange(504.0)
    add_array(data, "point", "f", np.zeros((504, 3)))
    add_array(data, "point", "f", values)
    values[3] = -1
    array = data.GetPointData().GetArray("f")
    assert data.GetPointData().GetNumberOfArrays() == 1 and array.GetTuple1(3) == -1 and array.GetNumberOfComponents() == 1
    del values
    assert array.GetTuple1(503) == 503

"""Which arrays a mesh has, and what the errors say when one cannot be used."""

import meshes
import numpy as np
import pytest
from vtkmodules import vtkCommonDataModel as vtk
from vtkmodules.util.numpy_support import numpy_to_vtk
from vtkmodules.vtkCommonCore import VTK_FLOAT, vtkBitArray, vtkSOADataArrayTemplate, vtkStringArray

from apmgsrn_core import DataError
from apmgsrn_paraview.mesh_arrays import leaf_values, mesh_arrays, select_arrays
from apmgsrn_paraview.mesh_leaves import mesh_leaves


def names(data):
    return [(a.name, a.association, a.components, a.dtype.name) for a in mesh_arrays(data)]


def refused(data, *selection):
    with pytest.raises(DataError) as caught:
        select_arrays(mesh_leaves(data), selection)
    assert "\n" not in str(caught.value)
    return str(caught.value)


FIELDS = [("f", "point", 1, "float64"), ("v", "point", 3, "float32"), ("id", "cell", 1, "int64")]


def test_a_single_data_set():
    data = meshes.ghosts(meshes.with_fields(meshes.image()), "cell", [3], vtk.vtkDataSetAttributes.DUPLICATECELL)
    words = vtkStringArray()
    words.SetName("words")
    words.SetNumberOfValues(data.GetNumberOfPoints())
    data.GetPointData().AddArray(words)
    data.GetPointData().AddArray(numpy_to_vtk(np.zeros(data.GetNumberOfPoints()), deep=1))  # has no name
    assert names(data) == FIELDS


@pytest.mark.parametrize("kind", ["multiblock", "collection", "partitions", "overlapping", "levels"])
def test_composite_data(kind):
    blocks = [meshes.with_fields(meshes.image((5, 4, 3))), meshes.with_fields(meshes.hexahedra((4, 3, 3)))]
    if kind == "multiblock":
        inner = meshes.multiblock(blocks[1], None, vtk.vtkPolyData())
        data = meshes.multiblock(vtk.vtkMultiBlockDataSet(), blocks[0], inner)
    elif kind == "partitions":
        data = vtk.vtkPartitionedDataSet()
        for i, block in enumerate(blocks):
            data.SetPartition(i, block)
    elif kind == "collection":
        data = vtk.vtkPartitionedDataSetCollection()
        for i, block in enumerate(blocks):
            data.SetPartition(i, 0, block)
    else:
        data = meshes.amr(kind == "overlapping")
    level = [("level", "cell", 1, "int64")] if isinstance(data, vtk.vtkUniformGridAMR) else []
    assert names(data) == FIELDS[:2] + level + FIELDS[2:]
    assert len(mesh_leaves(data)) == (3 if level else 2)


def test_only_what_all_blocks_have():
    first, second = meshes.with_fields(meshes.image()), meshes.image((4, 4, 4))
    meshes.add(second, "f", np.zeros(64, dtype=np.float32))
    meshes.add(second, "v", np.zeros((64, 2)))  # other components
    assert names(meshes.multiblock(first, second)) == [("f", "point", 1, "float64")]
    assert names(meshes.multiblock()) == []


def test_active_scalars_of_the_first_block_are_first():
    first, second = (meshes.add(meshes.with_fields(meshes.image()), "g", np.zeros(504)) for _ in range(2))
    first.GetPointData().SetActiveScalars("g")
    second.GetPointData().SetActiveScalars("v")
    assert [name for name, *_ in names(meshes.multiblock(first, second))] == ["g", "f", "v", "id"]
    second.GetPointData().RemoveArray("g")
    assert [name for name, *_ in names(meshes.multiblock(first, second))] == ["f", "v", "id"]


def test_one_type_holds_all_blocks():
    parts = [meshes.add(meshes.image((2, 2, 2)), "n", np.zeros(8, dtype=t)) for t in ("int16", "uint16")]
    data = meshes.multiblock(*parts)
    assert names(data) == [("n", "point", 1, "int32")]
    assert select_arrays(mesh_leaves(data), [("n", "point")])[0].dtype == np.int32


def test_arrays_that_numpy_cannot_view():
    data = meshes.image((3, 2, 1))
    bits, apart = vtkBitArray(), vtkSOADataArrayTemplate["float32"]()
    for i in range(6):
        bits.InsertNextValue(i % 2)
    apart.SetNumberOfComponents(2)
    apart.SetNumberOfTuples(6)
    for i in range(6):
        apart.SetTuple2(i, i, -i)
    for name, array in (("bits", bits), ("apart", apart)):
        array.SetName(name)
        data.GetPointData().AddArray(array)
    (leaf,) = mesh_leaves(data)
    assert apart.GetDataType() == VTK_FLOAT and not apart.HasStandardMemoryLayout()
    found = [leaf_values(leaf, array) for array in select_arrays([leaf], [("bits", "point"), ("apart", "point")])]
    assert found[0].ravel().tolist() == [0, 1, 0, 1, 0, 1]
    assert found[1].tolist() == [[i, -i] for i in range(6)]


def test_a_missing_array():
    first, second = meshes.with_fields(meshes.image()), meshes.add(meshes.image((2, 2, 2)), "g", np.zeros(8))
    message = refused(meshes.multiblock(first, second, names=["core", "shell"]), ("f", "point"))
    assert message == "block 2 'shell': expected the point array 'f', found point arrays: g; cell arrays: none"
    message = refused(first, ("f", "cell"))
    assert message == "input: expected the cell array 'f', found point arrays: f, v; cell arrays: id"


def test_an_amr_names_level_and_grid():
    data = meshes.amr()
    meshes.amr_grid(data, 1, 0).GetCellData().RemoveArray("id")
    assert refused(data, ("id", "cell")).startswith("level 1 grid 0: expected the cell array 'id'")


def test_other_components():
    parts = [meshes.add(meshes.image((2, 2, 2)), "v", np.zeros((8, n))) for n in (3, 2)]
    message = refused(meshes.multiblock(*parts), ("v", "point"))
    assert message == "point array 'v': expected 3 components in block 2 as in block 1, found 2"


def test_no_numbers():
    data, words = meshes.image((2, 2, 2)), vtkStringArray()
    words.SetName("words")
    words.SetNumberOfValues(8)
    data.GetPointData().AddArray(words)
    message = refused(data, ("words", "point"))
    assert message == "input: expected numbers in the point array 'words', found a vtkStringArray"


def test_too_few_values():
    data = meshes.add(meshes.image((2, 2, 2)), "f", np.zeros(7))
    assert refused(data, ("f", "point")) == "input: expected 8 values in the point array 'f', found 7"


def test_a_block_without_cells():
    cloud = meshes.add(meshes.polygons(np.zeros((5, 3))), "id", np.zeros(0), "cell")
    data = meshes.multiblock(meshes.with_fields(meshes.image()), meshes.add(cloud, "f", np.zeros(5)))
    message = refused(data, ("f", "point"), ("id", "cell"))
    assert message == "block 2: expected cells for the cell array 'id', found 5 points without cells"
    assert len(select_arrays(mesh_leaves(data), [("f", "point")])) == 1


def test_nothing_chosen_and_nothing_there():
    assert refused(meshes.image()) == "arrays: expected at least one name of a point or cell array, found none"
    assert refused(meshes.multiblock(), ("f", "point")) == "input: expected a mesh with points, found none"
    assert "'point' or 'cell', found 'row'" in refused(meshes.with_fields(meshes.image()), ("f", "row"))


@pytest.mark.parametrize("data", [vtk.vtkTable(), None], ids=["table", "none"])
def test_what_is_no_mesh(data):
    with pytest.raises(DataError, match="expected a data set with points and cells, found (a )?(vtkTable|nothing)"):
        mesh_arrays(data)


def test_a_table_among_the_blocks():
    data = meshes.multiblock(meshes.image())
    data.SetBlock(1, vtk.vtkTable())
    with pytest.raises(DataError, match="block 2: expected a data set .*, found vtkTable"):
        mesh_arrays(data)

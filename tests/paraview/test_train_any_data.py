"""Training on every kind of data set: meshes, composite data, flat data, holes, types, and what cannot be trained."""

import json
import subprocess

import numpy as np
import pytest
from conftest import info, make_image, make_source, output, smooth_values, train
from meshes import (
    add, amr, annulus, ghosts, hexahedra, image, linear, multiblock, polygons, polyhedra, positions_of, rectilinear, structured,
    with_fields,
)  # fmt: skip
from paraview import simple
from test_parallel import ENVIRONMENT, HERE, MPIRUN, PLUGIN
from vtkmodules import vtkCommonCore as core
from vtkmodules import vtkCommonDataModel as vtk
from vtkmodules.util.numpy_support import vtk_to_numpy
from vtkmodules.vtkFiltersSources import vtkSphereSource

from apmgsrn_core import NeuralVolume
from apmgsrn_paraview.data_leaves import leaves_of, names_of
from apmgsrn_paraview.point_positions import positions_of as places_of
from apmgsrn_paraview.vtk_arrays import attributes

MESH = dict(MeshSamples=6000, Iterations=250, BatchSize=1000)
GHOSTS = vtk.vtkDataSetAttributes.GhostArrayName()
HIDDEN = {"point": vtk.vtkDataSetAttributes.HIDDENPOINT, "cell": vtk.vtkDataSetAttributes.HIDDENCELL}
NUMERIC = (
    "BIT", "CHAR", "SIGNED_CHAR", "UNSIGNED_CHAR", "SHORT", "UNSIGNED_SHORT", "INT", "UNSIGNED_INT", "LONG", "UNSIGNED_LONG",
    "LONG_LONG", "UNSIGNED_LONG_LONG", "ID_TYPE", "FLOAT", "DOUBLE",
)  # fmt: skip


def collection(*blocks):
    data = vtk.vtkPartitionedDataSetCollection()
    for number, block in enumerate(blocks):
        parts = vtk.vtkPartitionedDataSet()
        parts.SetPartition(0, block)
        data.SetPartitionedDataSet(number, parts)
    return data


def sphere():
    source = vtkSphereSource()
    source.SetRadius(3)
    source.Update()
    return source.GetOutput()


def smooth_id(data):
    """The fields of `with_fields`, `id` being as smooth as the others: linear in the place of the cell."""
    for leaf in leaves_of(data):
        if leaf.GetNumberOfPoints():
            with_fields(leaf)
            add(leaf, "id", linear(places_of(leaf, "cell").part(0, leaf.GetNumberOfCells())), "cell")
    return data


def apart(data, distance):
    """A mesh moved along x."""
    points = vtk_to_numpy(data.GetPoints().GetData())
    points[:, 0] += distance
    return data


KINDS = {
    "unstructured": hexahedra,
    "polyhedra": polyhedra,
    "structured": annulus,
    "part of a ring": lambda: annulus((7, 9, 8), angle=2.0),
    "surface": sphere,
    "blocks": lambda: multiblock(hexahedra(), apart(annulus(), 9)),
    "nested blocks": lambda: multiblock(hexahedra(), None, multiblock(vtk.vtkUnstructuredGrid(), apart(annulus(), 9), None)),
    "image among the blocks": lambda: multiblock(image((7, 8, 9)), apart(hexahedra(), 6)),
    "partitions": lambda: collection(hexahedra(), apart(annulus(), 9), vtk.vtkPolyData()),
    "overlapping AMR": amr,
    "levels side by side": lambda: amr(overlapping=False),
}


def values_in(leaf, name, association):
    return vtk_to_numpy(attributes(leaf, association).GetArray(name)).astype(np.float64)


def relative_error(given, found, name, association):
    """Root mean square over all leaves, relative to the range."""
    leaves = [pair for pair in zip(leaves_of(given), leaves_of(found)) if pair[0].GetNumberOfPoints()]
    pairs = [[values_in(leaf, name, association) for leaf in pair] for pair in leaves]
    expected, values = (np.concatenate(side) for side in zip(*pairs))
    return np.sqrt(np.mean((expected - values) ** 2)) / np.ptp(expected)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_several_arrays_come_back_on_the_data_itself(kind, tmp_path):
    data, path = smooth_id(KINDS[kind]()), str(tmp_path / "m.apmgsrn")
    filter_ = train(make_source(data), SeveralArrays=1, PointArrays=["v", "f"], CellArrays=["id"], ModelFile=path, **MESH)
    found, volume = output(filter_), NeuralVolume.open(path, "cpu")
    assert found.GetClassName() == data.GetClassName() and len(leaves_of(found)) == len(leaves_of(data))
    assert [(a.name, a.association, a.components, a.dtype) for a in volume.arrays] == [
        ("v", "point", 3, "float32"), ("f", "point", 1, "float64"), ("id", "cell", 1, "float64")
    ]  # fmt: skip
    for given, leaf in zip(leaves_of(data), leaves_of(found)):
        assert leaf.GetClassName() == given.GetClassName() and leaf.GetBounds() == given.GetBounds()
        assert (leaf.GetNumberOfPoints(), leaf.GetNumberOfCells()) == (given.GetNumberOfPoints(), given.GetNumberOfCells())
        assert set(names_of(leaf, "point")) - {GHOSTS} == {"f", "v"}
        assert set(names_of(leaf, "cell")) - {GHOSTS} == {"id"}
        for name, side in (("f", "point"), ("v", "point"), ("id", "cell")):
            places = places_of(leaf, side)
            np.testing.assert_array_equal(
                vtk_to_numpy(attributes(leaf, side).GetArray(name)), volume.sample_points(places.part(0, places.count), name)
            )
    for name, side in (("f", "point"), ("v", "point"), ("id", "cell")):
        assert relative_error(data, found, name, side) < 0.04, name


def test_one_array_of_a_mesh_by_default(tmp_path):
    path = str(tmp_path / "m.apmgsrn")
    filter_ = train(make_source(with_fields(hexahedra())), ModelFile=path, **MESH)
    assert [a.name for a in NeuralVolume.open(path, "cpu").arrays] == filter_.TargetArray[1:] == ["f"]


@pytest.mark.parametrize("kind", ["mesh", "blocks", "lattice"])
def test_by_default_the_active_scalars_are_learned(kind):
    """Of any data the same, as an array is chosen that is not first."""
    data = simple.Wavelet(WholeExtent=[0, 6, 0, 7, 0, 8]) if kind == "lattice" else simple.Sphere()
    raised = simple.Calculator(Input=data, ResultArrayName="height", Function="coordsZ")
    source = simple.GroupDatasets(Input=[raised, raised]) if kind == "blocks" else raised
    done = output(train(source, MeshSamples=2000))  # nothing is known of the input before
    assert [n for leaf in leaves_of(done) for n in names_of(leaf, "point")] == ["height"] * len(leaves_of(done))
    assert names_of(output(raised), "point")[0] != "height"


def test_a_choice_of_arrays_is_what_was_chosen(tmp_path):
    """Nothing is added to the choice by itself: neither arrays of the other side nor the marks of ghosts."""
    data, path = ghosts(with_fields(image()), "point", slice(5), HIDDEN["point"]), str(tmp_path / "m.apmgsrn")
    filter_ = train(make_source(data), SeveralArrays=1, PointArrays=["f", "v", GHOSTS], ModelFile=path)
    assert [a.name for a in NeuralVolume.open(path, "cpu").arrays] == ["f", "v"]
    filter_.PointArrays, filter_.CellArrays = [], ["id"]
    filter_.UpdatePipeline()
    assert [a.name for a in NeuralVolume.open(path, "cpu").arrays] == ["id"]


@pytest.mark.parametrize("cells", [False, True])
def test_the_same_samples_for_the_same_seed(cells, trainings):
    target = ["CELLS", "id"] if cells else ["POINTS", "f"]
    one, two = (train(make_source(with_fields(hexahedra())), TargetArray=target, **MESH) for _ in range(2))
    name, side = target[1], "cell" if cells else "point"
    np.testing.assert_array_equal(values_in(output(one), name, side), values_in(output(two), name, side))
    one.UpdatePipeline()
    one.Seed = 1
    one.UpdatePipeline()
    assert len(trainings) == 3
    assert (values_in(output(one), name, side) != values_in(output(two), name, side)).any()


# -- flat data ---------------------------------------------------------------------------------


def tilted_plane():
    u, v = np.meshgrid(np.linspace(0, 1, 9), np.linspace(0, 2, 8))
    return structured(np.stack([u, v, u + v], axis=-1).reshape(-1, 3), (9, 8, 1))


def helix(count=40):
    t = np.linspace(0, 6, count)
    return polygons(np.stack([np.cos(t), np.sin(t), t], axis=1), lines=[range(count)])


def cloud(places, vertices=False):
    return polygons(places, verts=[[i] for i in range(len(places))] if vertices else ())


PLACES = np.random.default_rng(0).random((400, 3))
FLAT = {
    **{
        f"image {dims}": lambda dims=dims: image(dims)
        for dims in ((1, 9, 8), (9, 1, 8), (9, 8, 1), (9, 1, 1), (1, 9, 1), (1, 1, 9))
    },
    "rectilinear": lambda: rectilinear([1, 2, 4], [7], [3, 4, 8, 9]),
    "ring": lambda: annulus((9, 33, 1)),
    "wall": lambda: annulus((1, 33, 7)),
    "tilted plane": tilted_plane,
    "helix": helix,
    "points": lambda: cloud(PLACES),
    "vertices": lambda: cloud(PLACES, vertices=True),
    "points of a plane": lambda: cloud(PLACES * [1, 0, 1] + [0, 5, 0]),
    "points of a line": lambda: cloud(PLACES * [0, 1, 0]),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", FLAT)
def test_flat_data_and_points(kind):
    data = FLAT[kind]()
    add(data, "f", linear(positions_of(data)))
    filter_ = train(make_source(data), **MESH)
    assert info(filter_, "Status").startswith("trained")
    assert relative_error(data, output(filter_), "f", "point") < 0.04


# -- rectilinear grids -------------------------------------------------------------------------

AXES = {
    "stretched": ([0, 1, 3, 7, 8], [0, 0.1, 1, 4], [0, 1, 2, 4, 8, 16]),
    "falling": ([0, 1, 3, 7, 8], [4, 1, 0.1, 0], [16, 8, 4, 2, 1, 0]),
    "uniform": ([0, 1, 2, 3], [0, 2, 4], [5, 6, 7]),
}


@pytest.mark.parametrize("side", ["point", "cell"])
@pytest.mark.parametrize("axes", AXES)
def test_rectilinear_grids_value_by_value(axes, side, tmp_path):
    data, path = smooth_id(rectilinear(*AXES[axes])), str(tmp_path / "m.apmgsrn")
    name = {"point": "f", "cell": "id"}[side]
    filter_ = train(make_source(data), TargetArray=[side.upper() + "S", name], Iterations=250, ModelFile=path)
    found = output(filter_)
    assert found.GetClassName() == "vtkRectilinearGrid" and names_of(found, side) == [name]
    np.testing.assert_array_equal(positions_of(found), positions_of(data))
    assert relative_error(data, found, name, side) < 0.04
    source = simple.NeuralVolume(FileName=path)
    source.UpdatePipeline()
    if axes != "uniform":
        assert output(source).GetClassName() == "vtkRectilinearGrid"
        np.testing.assert_array_equal(values_in(output(source), name, side), values_in(found, name, side))


@pytest.mark.parametrize("before", [False, True], ids=["at first", "after a success"])
def test_a_training_that_fails_leaves_a_rectilinear_grid_that_filters_can_take(before, vtk_errors):
    """One with an extent and no coordinates would crash them."""
    filter_ = simple.TrainNeuralVolume(Input=make_source(smooth_id(rectilinear(*AXES["stretched"]))), Iterations=5, Device="cpu")
    if before:
        filter_.UpdatePipeline()
        assert output(filter_).GetNumberOfPoints()
    filter_.ModelFile = "/no/such/folder/m.apmgsrn"
    surface = simple.ExtractSurface(Input=filter_)
    surface.UpdatePipeline()
    assert vtk_errors.take() and info(filter_, "LastError")
    assert output(filter_).GetNumberOfPoints() == 0 and output(surface).GetNumberOfPoints() == 0


def test_the_error_of_empty_blocks_is_none():
    data = multiblock(smooth_id(hexahedra((6, 5, 4))), vtk.vtkUnstructuredGrid())
    filter_ = train(make_source(data), TargetArray=["POINTS", "f"], OutputError=1, **MESH)
    assert info(filter_, "LastError") == "" and "f_error" in names_of(leaves_of(output(filter_))[0], "point")


def test_a_lattice_with_arrays_on_both_sides_is_sampled_as_a_mesh(tmp_path):
    data, path = smooth_id(rectilinear(*AXES["falling"])), str(tmp_path / "m.apmgsrn")
    source = make_source(data)
    filter_ = train(source, SeveralArrays=1, PointArrays=["f"], CellArrays=["id"], ModelFile=path, **MESH)
    assert output(filter_).GetClassName() == "vtkRectilinearGrid"
    assert [relative_error(data, output(filter_), *pair) < 0.04 for pair in (("f", "point"), ("id", "cell"))] == [True, True]
    part = simple.ExtractSubset(Input=filter_, VOI=[1, 2, 0, 1, 2, 5])
    part.UpdatePipeline()
    assert output(part).GetDimensions() == (2, 2, 4)


# -- holes -------------------------------------------------------------------------------------

DIMS = (9, 8, 7)


def around(flags):
    """bool [z, y, x] of points -> of the cells that have one of them."""
    for axis in range(3):
        low, high = (np.take(flags, range(n, flags.shape[axis] - 1 + n), axis) for n in (0, 1))
        flags = low | high
    return flags


def inside(flags):
    """bool [z, y, x] of cells -> of the points that have only these."""
    return ~around(np.pad(~flags, 1))


def hole_of(count, seed=1):
    """bool [z, y, x]: a block, and single ones."""
    flags = np.random.default_rng(seed).random(count[::-1]) < 0.02
    flags[1:4, 2:6, :5] = True
    return flags


@pytest.mark.slow
@pytest.mark.parametrize("bricks", [(1, 1, 1), (2, 2, 1)])
@pytest.mark.parametrize("marked", ["point", "cell"])
@pytest.mark.parametrize("side", ["point", "cell"])
def test_blanked_images(side, marked, bricks):
    """What VTK's filters leave out has no value: hidden ones, cells at hidden points, points inside of hidden cells."""
    cells = side == "cell"
    values = smooth_values(DIMS, dtype="int16")
    source = make_image(values, cells=cells, origin=(1, 2, 3))
    dims = output(source).GetDimensions()
    marks = hole_of(dims if marked == "point" else [n - 1 for n in dims])
    ghosts(output(source), marked, marks.ravel(), HIDDEN[marked])
    hidden = marks if side == marked else around(marks) if cells else inside(marks)
    filter_ = train(source, TargetArray=[side.upper() + "S", "f"], Bricks=bricks, Iterations=200)
    found = values_in(output(filter_), "f", side)
    np.testing.assert_array_equal(np.isnan(found), hidden.ravel())
    assert hidden.any() and np.abs(found - values.ravel())[~hidden.ravel()].mean() < 5
    np.testing.assert_array_equal(values_in(output(filter_), GHOSTS, side) == HIDDEN[side], hidden.ravel())


@pytest.mark.parametrize("components", [1, 3])
def test_nan_in_an_image(components):
    values = smooth_values(DIMS, components=components)
    values[hole_of(DIMS)] = np.nan
    filter_ = train(make_image(values))
    missing = np.isnan(values.reshape(504, -1)).squeeze()
    np.testing.assert_array_equal(np.isnan(values_in(output(filter_), "f", "point")), missing)
    assert f"{missing.sum()} values without data" in info(filter_, "Status")


def test_a_hole_in_a_structured_grid(tmp_path):
    """The blanked cells of a ring: the model has no value there, and it has one in every other cell."""
    data, path = smooth_id(annulus((9, 33, 7))), str(tmp_path / "m.apmgsrn")
    blanked = np.zeros((6, 32, 8), dtype=bool)
    blanked[:, 10:20] = True
    ghosts(data, "cell", blanked.ravel(), HIDDEN["cell"])
    filter_ = train(make_source(data), SeveralArrays=1, PointArrays=["f"], CellArrays=["id"], ModelFile=path, **MESH)
    found, places = output(filter_), places_of(data, "cell").part(0, blanked.size)
    np.testing.assert_array_equal(values_in(found, GHOSTS, "cell") != 0, blanked.ravel())
    values = NeuralVolume.open(path, "cpu").sample_points(places, "id")
    deep = np.zeros_like(blanked)
    deep[:, 12:18] = True  # a voxel of the mask may reach over the border of the hole
    assert np.isfinite(values[~blanked.ravel()]).all() and np.isnan(values[deep.ravel()]).all()
    expected = values_in(data, "id", "cell")
    assert np.abs(values - expected)[~blanked.ravel()].mean() < 0.04 * np.ptp(expected)


def test_missing_values_of_a_mesh_are_no_part_of_it():
    data = hexahedra()
    values = linear(positions_of(data))
    low = positions_of(data)[:, 0] < 2.5
    values[low] = np.nan
    add(data, "f", values)
    filter_ = train(make_source(data), MeshDimensions=list(DIMS), **MESH)
    found = values_in(output(filter_), "f", "point")
    assert np.isfinite(found[~low]).all() and np.isnan(found[positions_of(data)[:, 0] < 1.5]).all()


# -- types -------------------------------------------------------------------------------------


@pytest.mark.parametrize("mesh", [False, True], ids=["image", "mesh"])
@pytest.mark.parametrize("kind", NUMERIC)
def test_every_numeric_type_of_vtk(kind, mesh):
    data = hexahedra((4, 5, 6)) if mesh else image((4, 5, 6))
    array = core.vtkDataArray.CreateDataArray(getattr(core, "VTK_" + kind))
    array.SetName("f")
    array.SetNumberOfTuples(data.GetNumberOfPoints())
    for number, z in enumerate(positions_of(data)[:, 2]):
        array.SetTuple1(number, z > 2.5 if kind == "BIT" else round(20 * z))
    data.GetPointData().AddArray(array)
    filter_ = train(make_source(data), Iterations=2, MeshSamples=500)
    assert info(filter_, "Status").startswith("trained")
    assert values_in(output(filter_), "f", "point").shape == (120,)


def test_an_array_without_a_name():
    data = add(image(), "f", smooth_values(DIMS).ravel())
    data.GetPointData().GetArray(0).SetName(None)
    assert names_of(output(train(make_source(data))), "point") == ["values"]


def test_blocks_of_several_types_are_one_array(tmp_path):
    blocks, path = (hexahedra(), apart(hexahedra(), 9)), str(tmp_path / "m.apmgsrn")
    for block, dtype in zip(blocks, (np.int16, np.float32)):
        add(block, "f", linear(positions_of(block)).astype(dtype))
    train(make_source(multiblock(*blocks)), ModelFile=path, **MESH)
    assert NeuralVolume.open(path, "cpu").arrays[0].dtype == "float32"


# -- what cannot be trained ----------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("several", [False, True])
def test_an_array_that_one_block_has_not_is_told_with_the_block(several, nested, vtk_errors):
    first, second = with_fields(hexahedra()), with_fields(annulus())
    second.GetPointData().RemoveArray("v")
    data = multiblock(first, second, names=["core", "walls"])
    data = multiblock(None, data) if nested else data
    chosen = dict(SeveralArrays=1, PointArrays=["f", "v"]) if several else dict(TargetArray=["POINTS", "v"])
    filter_ = train(make_source(data), **chosen, **MESH)
    (line,) = vtk_errors.take()
    block = f"block {4 if nested else 2} 'walls'"
    assert f"{block}: expected the point array 'v', found point arrays: f; cell arrays: id" in line
    assert output(filter_).GetClassName() == "vtkMultiBlockDataSet" and not leaves_of(output(filter_))
    filter_.SeveralArrays, filter_.TargetArray = 0, ["POINTS", "f"]
    filter_.UpdatePipeline()
    assert info(filter_, "LastError") == ""


@pytest.mark.parametrize("make", [hexahedra, image, lambda: multiblock(hexahedra())], ids=["mesh", "image", "blocks"])
@pytest.mark.parametrize(
    "chosen, told",
    [
        (dict(TargetArray=["POINTS", "nothing"]), "the point array 'nothing'"),
        (dict(TargetArray=["CELLS", "nothing"]), "the cell array 'nothing'"),
        (dict(SeveralArrays=1, PointArrays=["f", "nothing"]), "the point array 'nothing'"),
        (dict(SeveralArrays=1, CellArrays=["v"]), "the cell array 'v'"),
        (dict(SeveralArrays=1), "PointArrays, CellArrays: expected at least one array, found none chosen"),
    ],
    ids=["point", "cell", "several", "several cell", "none"],
)
def test_a_choice_that_is_not_there(make, chosen, told, vtk_errors):
    data = make()
    for leaf in leaves_of(data):
        with_fields(leaf)
    filter_ = train(make_source(data), **chosen)
    (line,) = vtk_errors.take()
    assert told in line and info(filter_, "LastError") in line


@pytest.mark.parametrize(
    "kind",
    [
        "vtkUnstructuredGrid", "vtkPolyData", "vtkStructuredGrid", "vtkRectilinearGrid", "vtkImageData", "vtkMultiBlockDataSet",
        "vtkPartitionedDataSetCollection", "vtkPartitionedDataSet", "vtkOverlappingAMR", "vtkNonOverlappingAMR",
    ],
)  # fmt: skip
def test_empty_inputs(kind, vtk_errors):
    filter_ = train(make_source(getattr(vtk, kind)()))
    (line,) = vtk_errors.take()
    assert "input: expected" in line and "empty" in line
    assert output(filter_).GetClassName() == kind and output(filter_).GetNumberOfPoints() == 0


def test_paraview_itself_makes_cell_values_of_a_point_array():
    found = output(train(make_source(with_fields(image())), TargetArray=["CELLS", "f"]))
    assert names_of(found, "cell") == ["f"] and not names_of(found, "point")


def test_a_mesh_of_ghosts_only(vtk_errors):
    data = ghosts(with_fields(hexahedra()), "cell", slice(None), vtk.vtkDataSetAttributes.DUPLICATECELL)
    train(make_source(data))
    (line,) = vtk_errors.take()
    assert "expected a mesh with points or cells" in line and "ghosts" in line


@pytest.mark.parametrize("kind", ["vtkTable", "vtkHyperTreeGrid"])
def test_what_is_no_data_set(kind, vtk_errors):
    train(make_source(getattr(vtk, kind)()))
    (line,) = vtk_errors.take()
    assert line.endswith(f"expected a data set or composite data, found {kind}")


def test_one_point_and_bad_numbers(vtk_errors):
    train(make_source(add(cloud(PLACES[:1]), "f", np.ones(1))))
    (line,) = vtk_errors.take()
    assert "expected at least 2" in line
    train(make_source(with_fields(hexahedra())), MeshDimensions=[-1, 0, 0])
    (line,) = vtk_errors.take()
    assert "MeshDimensions" in line and "-1" in line
    train(make_source(with_fields(hexahedra())), MeshSamples=-5)
    (line,) = vtk_errors.take()
    assert "MeshSamples" in line and "-5" in line


# -- on several ranks ----------------------------------------------------------------------------

IN_PARALLEL = {"mesh": (13, 11, 11), "blocks": (19, 8, 9), "both sides": (13, 11, 11), "rectilinear": (5, 4, 6)}


def run(ranks, folder, what):
    """What the script reported, and what it printed."""
    mpirun = [*MPIRUN[:-1], str(ranks)] if ranks > 1 else []
    command = [*mpirun, "pvbatch", str(HERE / "any_data_script.py"), PLUGIN, str(folder), what]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((folder / f"{what}.json").read_text()), done.stdout + done.stderr


@pytest.fixture(scope="module")
def runs(plugin, tmp_path_factory):
    """{ranks: (folder, report)}"""
    above = tmp_path_factory.mktemp("any_data")
    data = rectilinear(*AXES["falling"])
    source = make_source(add(data, "f", linear(positions_of(data)) - 4))
    simple.SaveData(str(above / "input.vtr"), proxy=source, DataMode="Binary")
    simple.Delete(source)
    results = {}
    for ranks in (1, 2, 4):
        folder = above / f"ranks{ranks}"
        folder.mkdir()
        results[ranks] = folder, run(ranks, folder, "models")[0]
    return results


@pytest.mark.mpi
@pytest.mark.parametrize("kind", IN_PARALLEL)
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_pieces_of_ranks_are_trained_together(runs, kind, ranks):
    folder, report = runs[ranks]
    assert report[kind]["Status"].startswith("trained") and report[kind]["LastError"] == ""
    assert report[kind]["again"].startswith("loaded from")
    volume = NeuralVolume.open(folder / f"{kind}.apmgsrn", "cpu")
    np.testing.assert_allclose(report[kind]["bounds"], runs[1][1][kind]["bounds"], atol=1e-6)
    low, high = np.reshape(volume.grid.bounds, (3, 2)).T
    places = low + np.random.default_rng(0).random((500, 3)) * (high - low)
    if kind == "rectilinear":  # of which the values alone are learned
        places = positions_of(rectilinear(*AXES["falling"]))
    found, expected = volume.sample_points(places, "f"), linear(places) - 4
    assert np.sqrt(np.mean((found - expected) ** 2)) < 0.04 * np.ptp(expected)
    assert report[kind]["area"] == pytest.approx(runs[1][1][kind]["area"], rel=0.05)


@pytest.mark.mpi
@pytest.mark.parametrize("kind", IN_PARALLEL)
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_each_rank_gets_its_own_piece_back(runs, kind, ranks):
    folder, report = runs[ranks]
    seen = [json.loads((folder / f"{kind}.{rank}").read_text()) for rank in range(ranks)]
    for (points, cells, _), (found_points, found_cells, names) in seen:
        assert (found_points, found_cells) == (points, cells)
        assert "f" in names or not sum(points)
    assert sum(any(points) for (points, _, _), _ in seen) == min(ranks, 3 if kind == "blocks" else 4)
    cells = (np.array(IN_PARALLEL[kind]) - 1).prod() * (5 if kind == "mesh" else 1)  # tetrahedra in a hexahedron
    assert sum(sum(found) for _, (_, found, _) in seen) == cells


@pytest.mark.mpi
@pytest.mark.parametrize("ranks", [2, 4])
def test_a_rectilinear_grid_gives_the_same_model_on_any_ranks(runs, ranks):
    one, many = ((runs[n][0] / "rectilinear.apmgsrn").read_bytes() for n in (1, ranks))
    assert one == many


@pytest.mark.mpi
@pytest.mark.parametrize("ranks", [1, 2])
def test_what_one_rank_lacks_is_told_once(ranks, tmp_path):
    report, printed = run(ranks, tmp_path, "errors")
    block = {1: "block 1 'left'", 2: "block 2 'middle'"}[ranks]
    told = {
        "missing": f"{block}: expected the point array 'f', found point arrays: g; cell arrays: none",
        "negative": "MeshSamples: expected a number >= 0, found -1",
        "empty": "input: expected a mesh with points or cells, found an empty one",
    }
    for name, line in told.items():
        assert line in report[name]["LastError"] and printed.count(line) == 1, name
    assert report["good"]["Status"].startswith("trained") and report["good"]["LastError"] == ""

"""What Neural Volume makes of a model: arrays, holes, fill values, derivatives, stretched lattices, trees of cells."""

import numpy as np
import pytest
from conftest import info, make_image, make_source, output, smooth_values, train, values_of
from meshes import add, annulus, hexahedra, linear, positions_of, rectilinear, with_fields
from paraview import simple
from vtkmodules.util.numpy_support import vtk_to_numpy
from vtkmodules.vtkCommonDataModel import vtkDataSetAttributes, vtkHyperTreeGridNonOrientedGeometryCursor
from vtkmodules.vtkFiltersGeneral import vtkGradientFilter

from apmgsrn_core import ArraySpec, Grid, ModelConfig, NeuralVolume, TrainConfig, train_series, train_volume
from apmgsrn_paraview.data_leaves import names_of
from apmgsrn_paraview.point_positions import positions_of as places_of

DIMS = (9, 8, 7)
GHOSTS = vtkDataSetAttributes.GhostArrayName()
AXES = ([0, 1, 3, 7, 8], [4, 1, 0.1, 0], [0, 1, 2, 4, 8, 16])


def sampled(path, **settings):
    proxy = simple.NeuralVolume(FileName=str(path), **settings)
    proxy.UpdatePipeline()
    return proxy


def axes_of(grid):
    return [np.array(c) for c in (grid.GetXCoordinates(), grid.GetYCoordinates(), grid.GetZCoordinates())]


@pytest.fixture(scope="module")
def models(plugin, tmp_path_factory):
    """{name: path} of an image, one with a hole (points, cells), a vector, a mesh of two arrays, a rectilinear grid."""
    folder = tmp_path_factory.mktemp("models")
    holes = smooth_values(DIMS, dtype="float32")
    holes[1:4, 2:6, :5] = np.nan
    vector = smooth_values(DIMS, components=3)
    vector[..., 1] *= 2
    stretched = rectilinear(*AXES)
    add(stretched, "f", linear(positions_of(stretched)))
    made = {
        "image": (make_image(smooth_values(DIMS), origin=(1, 2, 3), spacing=(0.5, 1, 2)), {}),
        "holes": (make_image(holes), {}),
        "holes in cells": (make_image(holes, cells=True), {"TargetArray": ["CELLS", "f"]}),
        "vector": (make_image(vector, spacing=(1, 0.5, 2), name="v"), {}),
        "mesh": (make_source(with_fields(annulus())), {"SeveralArrays": 1, "PointArrays": ["f", "v"], "CellArrays": ["id"]}),
        "stretched": (make_source(stretched), {}),
        "box": (make_source(with_fields(hexahedra())), {"SeveralArrays": 1, "PointArrays": ["f", "v"]}),
    }
    paths = {name: str(folder / f"{name}.apmgsrn") for name in made}
    for name, (source, settings) in made.items():
        trained = train(source, Iterations=200, MeshSamples=6000, ModelFile=paths[name], **settings)
        assert info(trained, "LastError") == "", name
        simple.Delete(trained)
    return paths


# -- arrays --------------------------------------------------------------------------------------


def test_all_arrays_or_those_chosen(models):
    source = sampled(models["mesh"])
    assert names_of(output(source), "point") == ["f", "v", GHOSTS] and names_of(output(source), "cell")[0] == "id"
    values = values_of(output(source), "v").copy()
    source.Arrays = ["v"]
    source.UpdatePipeline()
    assert names_of(output(source), "point") == ["v", GHOSTS]
    assert "id" not in names_of(output(source), "cell")
    np.testing.assert_array_equal(values_of(output(source), "v"), values)


def test_an_array_that_the_model_has_not(models, vtk_errors):
    sampled(models["mesh"], Arrays=["nothing"])
    (line,) = vtk_errors.take()
    assert "nothing" in line and "f, v, id" in line


def test_values_are_those_of_the_core(models):
    volume = NeuralVolume.open(models["mesh"], "cpu")
    found = output(sampled(models["mesh"]))
    for name, side in (("f", "point"), ("v", "point"), ("id", "cell")):
        places = places_of(found, side)
        expected = volume.sample_points(places.part(0, places.count), name)
        values = values_of(found, name, side.capitalize() + "Data")
        both = np.isfinite(expected) & np.isfinite(values)
        np.testing.assert_allclose(values[both], expected[both], atol=1e-4 * np.ptp(expected[both]))
        assert both.mean() > 0.5


# -- holes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, side, hidden", [("holes", "PointData", 2), ("holes in cells", "CellData", 32)])
def test_holes_are_nan_and_hidden_or_filled(models, name, side, hidden):
    hole = np.zeros(DIMS[::-1], dtype=bool)
    hole[1:4, 2:6, :5] = True
    source = sampled(models[name])
    np.testing.assert_array_equal(np.isnan(values_of(output(source), side=side)), hole.ravel())
    np.testing.assert_array_equal(values_of(output(source), GHOSTS, side), np.where(hole.ravel(), hidden, 0))
    before = values_of(output(source), side=side).copy()
    source.UseFillValue, source.FillValue = 1, -7.5
    source.UpdatePipeline()
    filled = values_of(output(source), side=side)
    assert (filled[hole.ravel()] == -7.5).all()
    np.testing.assert_array_equal(filled[~hole.ravel()], before[~hole.ravel()])
    np.testing.assert_array_equal(values_of(output(source), GHOSTS, side), np.where(hole.ravel(), hidden, 0))


@pytest.mark.parametrize("number, fill", [(None, 0), (77.0, 77), (-5.0, 0), (300.0, 255), (76.6, 77)])
def test_holes_of_integers(number, fill, tmp_path):
    settings = {} if number is None else {"UseFillValue": 1, "FillValue": number}
    image = make_image(smooth_values(DIMS, dtype="uint8", low=1, high=60))
    marks = np.zeros(504, dtype=np.uint8)
    marks[:100] = vtkDataSetAttributes.HIDDENPOINT
    add(output(image), GHOSTS, marks)
    path = str(tmp_path / "m.apmgsrn")
    train(image, ModelFile=path)
    found = values_of(output(sampled(path, OutputType="Original", **settings)))
    assert found.dtype == np.uint8 and (found[:100] == fill).all() and (found[100:] != fill).all()


@pytest.mark.parametrize("dtype", ["float32", "int32"])
@pytest.mark.parametrize("fill", [None, -5.0])
def test_holes_of_one_of_two_steps(dtype, fill, tmp_path):
    x = np.broadcast_to(np.arange(9.0), DIMS[::-1])
    steps, path = [(0.0, 100 + x), (1.0, np.where(x < 3, np.nan, 200 + x))], str(tmp_path / "m.apmgsrn")
    model, few = ModelConfig(8, 1, (4, 4, 4), hidden_layers=1, hidden_width=16), TrainConfig(iterations=200)
    list(train_series(steps, Grid(DIMS), arrays=[ArraySpec("f", 1, dtype)], model=model, train=few, path=path, device="cpu"))
    filled = {} if fill is None else {"UseFillValue": 1, "FillValue": fill}
    proxy = simple.NeuralVolume(FileName=path, InterpolateTime=1, OutputType="Original", **filled)
    proxy.UpdatePipeline(0.5)
    found, hidden = values_of(output(proxy)), values_of(output(proxy), GHOSTS) == vtkDataSetAttributes.HIDDENPOINT
    np.testing.assert_array_equal(hidden.reshape(x.shape), x < 3)
    np.testing.assert_allclose(found.reshape(x.shape)[x >= 3], (150 + x)[x >= 3], atol=5)
    nothing = (0 if dtype == "int32" else np.nan) if fill is None else fill
    np.testing.assert_array_equal(found[hidden], nothing)
    simple.Delete(proxy)


def test_filters_downstream_leave_holes_out(models):
    source = sampled(models["holes"])
    slice_ = simple.Slice(Input=source)
    slice_.SliceType.Origin, slice_.SliceType.Normal = [4.2, 3.6, 2.5], [0, 0, 1]
    contour = simple.Contour(Input=source, ContourBy=["POINTS", "f"], Isosurfaces=[20, 40, 60])
    for proxy in (slice_, contour):
        proxy.UpdatePipeline()
        points = positions_of(output(proxy))
        assert len(points) > 20 and np.isfinite(values_of(output(proxy))).all()
        x, y, z = points.T
        assert not ((x < 4.5) & (y > 1.5) & (y < 5.5) & (z > 0.5) & (z < 3.5)).any()


# -- derivatives ---------------------------------------------------------------------------------

DERIVATIVES = ("Gradient", "Divergence", "Vorticity", "Q Criterion")  # as of ParaView's Gradient filter


def by_differences(path, name):
    """ParaView's derivatives of a lattice sixteen times as fine, at the points of the lattice."""
    fine = output(sampled(path, Scale=16))
    gradient = vtkGradientFilter()
    gradient.SetInputData(fine)
    gradient.SetInputScalars(0, name)
    gradient.SetResultArrayName("Gradient")
    for more in DERIVATIVES[1:]:
        getattr(gradient, "Set" + more.replace(" ", "") + "ArrayName")(more)
        getattr(gradient, "Compute" + more.replace(" ", "") + "On")()
    gradient.Update()
    found, dims = gradient.GetOutput(), fine.GetDimensions()[::-1]
    return {name: values_of(found, name).reshape(*dims, -1)[::16, ::16, ::16].reshape(504, -1).squeeze() for name in DERIVATIVES}


def test_derivatives_are_paraviews_of_a_fine_lattice(models):
    """Where the network bends between two fine points, which is at the borders of its grids, differences are off."""
    image = output(sampled(models["vector"], **{"Compute" + name.replace(" ", ""): 1 for name in DERIVATIVES}))
    for name, expected in by_differences(models["vector"], "v").items():
        exact = values_of(image, name)
        assert exact.shape == expected.shape
        error = np.abs(exact - expected) / np.abs(expected).max()
        assert np.median(error) < 0.02 and np.quantile(error, 0.9) < 0.1, name


def test_the_gradient_of_each_array_has_its_name(models):
    image = output(sampled(models["box"], ComputeGradient=1, ComputeVorticity=1))
    assert {"f", "v", "f_Gradient", "v_Gradient"} <= set(names_of(image, "point"))
    assert values_of(image, "f_Gradient").shape[1] == 3 and values_of(image, "v_Gradient").shape[1] == 9
    slope = np.median(values_of(image, "f_Gradient"), axis=0)
    np.testing.assert_allclose(slope, [1, -2, 0.5], atol=0.4)


def test_the_gradient_in_a_hole(models):
    image = output(sampled(models["holes"], ComputeGradient=1))
    missing = np.isnan(values_of(image))
    np.testing.assert_array_equal(np.isnan(values_of(image, "Gradient")).any(axis=1), missing)


def test_the_gradient_on_stretched_axes(models):
    """In the middles of cells: at a point of the lattice the scale of an axis changes, and with it the slope."""
    grid = output(sampled(models["stretched"], ComputeGradient=1, Scale=2))
    volume, step = NeuralVolume.open(models["stretched"], "cpu"), 1e-3
    middle = np.zeros(grid.GetDimensions()[::-1], dtype=bool)
    middle[1::2, 1::2, 1::2] = True
    places, gradient = positions_of(grid)[middle.ravel()], values_of(grid, "Gradient")[middle.ravel()]
    for axis, exact in enumerate(gradient.T):
        ahead, behind = (volume.sample_points(places + sign * step * np.eye(3)[axis]) for sign in (1, -1))
        error = exact - (ahead.astype(float) - behind) / (2 * step)
        assert np.median(np.abs(error)) < 0.01 * np.abs(exact).max()


def test_what_only_vectors_have(models, vtk_errors):
    source = sampled(models["image"], ComputeVorticity=1)
    (line,) = vtk_errors.take()
    assert "expected an array of 3 components, found f (1)" in line and info(source, "LastError") in line
    source.ComputeVorticity = 0
    source.UpdatePipeline()
    assert values_of(output(source)).shape == (504,)


# -- stretched lattices ----------------------------------------------------------------------------


def test_a_stretched_model_is_a_rectilinear_grid(models):
    for axis, expected in zip(axes_of(output(sampled(models["stretched"]))), AXES):
        np.testing.assert_array_equal(axis, expected)


def test_scale_of_a_stretched_model_keeps_its_points(models):
    plain, fine = output(sampled(models["stretched"])), output(sampled(models["stretched"], Scale=2))
    for axis, expected in zip(axes_of(fine), AXES):
        np.testing.assert_array_equal(axis[::2], expected)
        np.testing.assert_allclose(axis[1::2], (axis[:-2:2] + axis[2::2]) / 2)
    shared = values_of(fine).reshape(11, 7, 9)[::2, ::2, ::2].ravel()
    np.testing.assert_allclose(shared, values_of(plain), atol=1e-4 * np.ptp(values_of(plain)))


@pytest.mark.parametrize("scale", [1, 2])
def test_a_region_of_a_stretched_model(models, scale):
    box = [0.5, 7.2, 0.05, 1.5, 2, 9]
    whole = output(sampled(models["stretched"], Scale=scale))
    part = output(sampled(models["stretched"], Scale=scale, UseRegionOfInterest=1, RegionOfInterest=box))
    chosen = [(axis >= low) & (axis <= high) for axis, low, high in zip(axes_of(whole), box[::2], box[1::2])]
    for axis, found, kept in zip(axes_of(whole), axes_of(part), chosen):
        np.testing.assert_array_equal(found, axis[kept])
    values = values_of(whole).reshape(whole.GetDimensions()[::-1])[np.ix_(*chosen[::-1])]
    np.testing.assert_allclose(values_of(part), values.ravel(), atol=1e-4 * np.ptp(values))


def test_a_part_of_a_stretched_model_is_sampled_alone(models):
    source = simple.NeuralVolume(FileName=models["stretched"])
    part = simple.ExtractSubset(Input=source, VOI=[1, 3, 0, 1, 2, 4])
    part.UpdatePipeline()
    assert output(source).GetExtent() == (1, 3, 0, 1, 2, 4)
    assert [list(axis) for axis in axes_of(output(part))] == [AXES[0][1:4], AXES[1][:2], AXES[2][2:5]]


# -- trees of cells --------------------------------------------------------------------------------


def test_an_adaptive_output_is_a_tree_within_its_budget(models):
    source = sampled(models["image"], OutputKind="Adaptive", CellBudget=3000)
    tree = output(source)
    assert tree.GetClassName() == "vtkHyperTreeGrid" and 500 < tree.GetNumberOfLeaves() <= 3000
    np.testing.assert_allclose(tree.GetBounds(), (1, 5, 2, 9, 3, 15))
    assert tree.GetCellData().GetArray("f").GetNumberOfTuples() == tree.GetNumberOfCells()
    source.OutputKind = "Lattice"
    source.UpdatePipeline()
    assert output(source).GetClassName() == "vtkImageData"


@pytest.mark.parametrize("name", ["image", "holes", "stretched", "mesh"])
def test_contour_and_slice_of_a_tree(models, name):
    source = sampled(models[name], OutputKind="Adaptive", CellBudget=2000)
    low, high = output(source).GetCellData().GetArray("f").GetRange()
    contour = simple.Contour(Input=source, ContourBy=["CELLS", "f"], Isosurfaces=[(low + high) / 2])
    slice_ = simple.Slice(Input=source)
    for proxy in (contour, slice_):
        proxy.UpdatePipeline()
        assert output(proxy).GetNumberOfCells() > 10
        found, given = np.array(output(proxy).GetBounds()), np.array(output(source).GetBounds())
        assert (found[::2] >= given[::2] - 1e-6).all() and (found[1::2] <= given[1::2] + 1e-6).all()


def test_a_tree_has_the_chosen_arrays_and_no_cells_in_holes(models):
    tree = output(sampled(models["mesh"], OutputKind="Adaptive", CellBudget=2000, Arrays=["f", "id"]))
    assert names_of_tree(tree) == ["f", "id"]
    whole = output(sampled(models["box"], OutputKind="Adaptive", CellBudget=2000))
    assert whole.GetMask() is None or not any(whole.GetMask().GetValue(i) for i in range(whole.GetMask().GetNumberOfValues()))
    assert tree.GetMask() is not None and any(tree.GetMask().GetValue(i) for i in range(tree.GetMask().GetNumberOfValues()))


def names_of_tree(tree):
    return [tree.GetCellData().GetArrayName(i) for i in range(tree.GetCellData().GetNumberOfArrays())]


def test_a_budget_that_is_none(models, vtk_errors):
    source = sampled(models["image"], OutputKind="Adaptive", CellBudget=0)
    (line,) = vtk_errors.take()
    assert "0" in line and output(source).GetNumberOfCells() == 0


def leaves_and_centres(tree):
    """Ids of the leaves that are not masked, and where their centres are."""
    cursor, found, centres = vtkHyperTreeGridNonOrientedGeometryCursor(), [], []

    def visit():
        if cursor.IsMasked():
            return
        if cursor.IsLeaf():
            bounds = [0.0] * 6
            cursor.GetBounds(bounds)
            found.append(cursor.GetGlobalNodeIndex())
            centres.append([(a + b) / 2 for a, b in zip(bounds[::2], bounds[1::2])])
            return
        for child in range(cursor.GetNumberOfChildren()):
            cursor.ToChild(child)
            visit()
            cursor.ToParent()

    for number in range(tree.GetMaxNumberOfTrees()):
        tree.InitializeNonOrientedGeometryCursor(cursor, number, False)
        visit()
    return np.array(found), np.array(centres)


def test_derivatives_of_a_tree_are_those_at_the_centres_of_its_leaves(models):
    every = {"ComputeGradient": 1, "ComputeDivergence": 1, "ComputeVorticity": 1, "ComputeQCriterion": 1}
    tree = output(sampled(models["vector"], OutputKind="Adaptive", CellBudget=600, **every))
    assert names_of_tree(tree) == ["v", "Gradient", "Divergence", "Vorticity", "Q Criterion"]
    ids, centres = leaves_and_centres(tree)
    _, jacobian = NeuralVolume.open(models["vector"], "cpu").sample_derivatives(centres, "v")
    found = {name: vtk_to_numpy(tree.GetCellData().GetArray(name)) for name in names_of_tree(tree)}
    np.testing.assert_allclose(found["Gradient"][ids], jacobian.reshape(-1, 9), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found["Divergence"][ids], jacobian.trace(axis1=1, axis2=2), rtol=1e-4, atol=1e-4)
    assert all(len(numbers) == tree.GetNumberOfCells() for numbers in found.values())


def test_derivatives_of_a_tree_with_a_hole(models):
    tree = output(sampled(models["holes"], OutputKind="Adaptive", CellBudget=2000, ComputeGradient=1))
    gradient, ids = vtk_to_numpy(tree.GetCellData().GetArray("Gradient")), leaves_and_centres(tree)[0]
    masked = [i for i in range(tree.GetMask().GetNumberOfValues()) if tree.GetMask().GetValue(i)]
    assert len(masked) > 10 and np.isnan(gradient[masked]).all() and np.isfinite(gradient[ids]).all(axis=1).mean() > 0.9


def test_what_only_vectors_have_on_a_tree(models, vtk_errors):
    source = sampled(models["image"], OutputKind="Adaptive", CellBudget=600, ComputeVorticity=1)
    (line,) = vtk_errors.take()
    assert "Vorticity" in line and output(source).GetNumberOfCells() == 0


@pytest.mark.parametrize("name, box", [("image", (1, 2.5, 4, 7, 3, 9)), ("stretched", (1, 7, 0.1, 4, 2, 8)), ("image", (1, 5, 2, 9, 5, 5))])
def test_a_tree_of_a_region_of_interest(models, name, box):
    of_part = {"UseRegionOfInterest": 1, "RegionOfInterest": box}
    tree = output(sampled(models[name], OutputKind="Adaptive", CellBudget=1000, **of_part))
    np.testing.assert_allclose(tree.GetBounds(), output(sampled(models[name], **of_part)).GetBounds())
    assert tree.GetDimension() == (2 if box[4] == box[5] else 3) and np.isfinite(tree.GetCellData().GetArray("f").GetRange()).all()


def test_the_smallest_cells_of_a_tree_follow_the_lattice(models):
    def smallest(**settings):
        tree = output(sampled(models["image"], OutputKind="Adaptive", CellBudget=8000, **settings))
        return tree.GetNumberOfLevels(), tree.GetNumberOfLeaves()

    coarse, plain, fine = smallest(Scale=0.5), smallest(), smallest(Scale=2)
    assert coarse[1] < plain[1] < fine[1] and coarse[1] <= 8**2 * 4 * 4 * 3
    assert smallest(Dimensions=[5, 5, 4]) == coarse


@pytest.mark.parametrize("fill", [None, -7.0])
def test_type_and_fill_value_of_a_tree(fill, tmp_path):
    numbers = np.rint(50 * smooth_values(DIMS))
    numbers[1:4, 2:6, :5] = np.nan
    path = str(tmp_path / "m.apmgsrn")
    train_volume(
        numbers, Grid(DIMS), arrays=[ArraySpec("f", 1, "int16")], train=TrainConfig(iterations=200), device="cpu",
        model=ModelConfig(8, 1, (4, 4, 4), hidden_layers=1, hidden_width=16),
    ).save(path)  # fmt: skip
    filled = {} if fill is None else {"UseFillValue": 1, "FillValue": fill}
    options = {"OutputKind": "Adaptive", "CellBudget": 2000, **filled}
    plain, original = (output(sampled(path, OutputType=kind, **options)) for kind in ("Float32", "Original"))
    plain, original = (vtk_to_numpy(tree.GetCellData().GetArray("f")) for tree in (plain, original))
    assert plain.dtype == np.float32 and original.dtype == np.int16
    there = np.isfinite(plain) if fill is None else plain != fill
    assert 10 < np.count_nonzero(~there) < len(there) / 2
    np.testing.assert_array_equal(original[there], np.rint(plain[there]))
    assert (original[~there] == (fill or 0)).all()

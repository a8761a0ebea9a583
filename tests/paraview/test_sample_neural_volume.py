"""The filter that evaluates a model at the points or cells of any data."""

import shutil

import numpy as np
import pytest
from conftest import info, make_image, make_source, output, smooth_values, values_of
from paraview import simple
from small_models import TIMES, image_like_the_model, train_models
from vtkmodules.util.numpy_support import numpy_to_vtk
from vtkmodules.vtkCommonCore import vtkPoints
from vtkmodules.vtkCommonDataModel import (
    vtkDataObject,
    vtkMultiBlockDataSet,
    vtkPolyData,
    vtkRectilinearGrid,
    vtkStructuredGrid,
    vtkTable,
    vtkUnstructuredGrid,
)

from apmgsrn_core import NeuralVolume, divergence, q_criterion, vorticity

@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return train_models(tmp_path_factory.mktemp("models"))


def sample(source, path="", **settings):
    filter_ = simple.SampleNeuralVolume(Input=source, FileName=path, Device="cpu", **settings)
    filter_.UpdatePipeline()
    return filter_


def points_of(data):
    return np.array([data.GetPoint(i) for i in range(data.GetNumberOfPoints())]).reshape(-1, 3)


def names_of(data, side="PointData"):
    arrays = getattr(data, "Get" + side)()
    return [arrays.GetArrayName(i) for i in range(arrays.GetNumberOfArrays())]


def cloud(points, kind=vtkPolyData):
    """Points without cells."""
    data, places = kind(), vtkPoints()
    places.SetDataType(11)
    places.SetData(numpy_to_vtk(np.ascontiguousarray(points, dtype=np.float64), deep=1))
    data.SetPoints(places)
    return data


def sources():
    """Data of all kinds, about where the models are."""
    image = image_like_the_model("other")
    plane = simple.Plane(Origin=[0, 1, 9], Point1=[6, 1, 9], Point2=[0, 10, 9], XResolution=7, YResolution=9)
    turned = make_image(smooth_values((4, 5, 3)), [3, 6, -1, 3, 2, 4], (0, 4, 2), (1, -1, 2), (0, -1, 0, 1, 0, 0, 0, 0, 1))
    grid = vtkStructuredGrid()
    grid.SetDimensions(2, 3, 4)
    grid.SetPoints(cloud(np.random.default_rng(0).random((24, 3)) * 8).GetPoints())
    return {
        "plane": plane,
        "image": image,
        "turned image": turned,
        "flat image": make_image(smooth_values((4, 5, 1)), origin=(1, 2, 4)),
        "unstructured": simple.Tetrahedralize(Input=image),
        "cloud": make_source(cloud(np.random.default_rng(1).random((99, 3)) * 12)),
        "single precision": simple.Sphere(Center=[3, 5, 9], Radius=4),
        "structured grid": make_source(grid),
        "rectilinear": rectilinear(),
    }


def rectilinear():
    grid = vtkRectilinearGrid()
    grid.SetDimensions(4, 3, 5)
    axes = [0, 1.5, 2, 7], [2, 3, 9], [1, 2, 4, 8, 16]
    for coordinates, axis in zip((grid.SetXCoordinates, grid.SetYCoordinates, grid.SetZCoordinates), axes):
        coordinates(numpy_to_vtk(np.array(axis, dtype=np.float64), deep=1))
    return make_source(grid)


KINDS = [
    "plane", "image", "turned image", "flat image", "unstructured", "cloud", "single precision", "structured grid",
    "rectilinear",
]  # fmt: skip


@pytest.mark.parametrize("model", ["f", "bricks", "cells"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_values_are_those_of_the_model_at_the_points(models, kind, model):
    filter_ = sample(sources()[kind], models[model])
    data = output(filter_)
    name = "f_reconstruction" if kind in ("turned image", "flat image") else "f"
    expected = NeuralVolume.open(models[model], "cpu").sample_points(points_of(data), "f")
    np.testing.assert_allclose(values_of(data, name), expected, atol=1e-4)
    assert values_of(data, "vtkValidPointMask").tolist() == np.isfinite(expected).astype(int).tolist()
    assert 0 < np.isfinite(expected).sum(), "nothing of it is in the model"
    assert info(filter_, "Status") == f"{np.isfinite(expected).sum()} of {len(expected)} points have values"
    assert data.GetClassName() == output(filter_.Input).GetClassName()


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "cloud"])
def test_the_values_at_the_cell_centres(models, kind):
    filter_ = sample(sources()[kind], models["f"], SampleAt="Cell Centers")
    data = output(filter_)
    centres = simple.CellCenters(Input=filter_)
    centres.UpdatePipeline()
    expected = NeuralVolume.open(models["f"], "cpu").sample_points(points_of(output(centres)), "f")
    np.testing.assert_allclose(values_of(data, side="CellData"), expected, atol=1e-4)
    assert values_of(data, "vtkValidCellMask", "CellData").sum() == np.isfinite(expected).sum()


def test_in_parts_as_at_once(models, monkeypatch):
    from apmgsrn_paraview import point_values

    whole = values_of(output(sample(sources()["turned image"], models["f"])), "f_reconstruction").copy()
    monkeypatch.setattr(point_values, "PART", 7)
    parts = values_of(output(sample(sources()["turned image"], models["f"])), "f_reconstruction")
    np.testing.assert_allclose(parts, whole, atol=1e-5)


def test_composite_data_of_several_kinds(models):
    group = simple.GroupDatasets(Input=[sources()["plane"], sources()["unstructured"], sources()["image"]])
    blocks = output(sample(group, models["f"]))
    assert (blocks.GetClassName(), blocks.GetNumberOfBlocks()) == ("vtkMultiBlockDataSet", 3)
    volume = NeuralVolume.open(models["f"], "cpu")
    for number in range(3):
        leaf = blocks.GetBlock(number)
        np.testing.assert_allclose(values_of(leaf), volume.sample_points(points_of(leaf), "f"), atol=1e-4)
    assert "f" not in names_of(output(group).GetBlock(0)), "the input was changed"


def test_a_composite_with_holes_and_a_table(models):
    blocks = vtkMultiBlockDataSet()
    blocks.SetNumberOfBlocks(3)
    blocks.SetBlock(1, vtkTable())
    blocks.SetBlock(2, cloud([[2.0, 3, 4]]))
    done = output(sample(make_source(blocks), models["f"]))
    assert done.GetBlock(0) is None and done.GetBlock(1).GetClassName() == "vtkTable"
    assert names_of(done.GetBlock(2)) == ["f", "vtkValidPointMask"]


# -- which model ----------------------------------------------------------------------------------


def test_the_model_by_file_by_port_and_by_field_data(models):
    plane = sources()["plane"]
    vector, scalar = (simple.NeuralVolume(FileName=models[name], Device="cpu") for name in ("vector", "f"))
    assert "v" in names_of(output(sample(plane, Model=vector)))
    assert "f" in names_of(output(sample(plane, models["f"], Model=vector))), "FileName goes first"
    itself = output(sample(scalar))
    assert names_of(itself) == ["f", "f_reconstruction", "vtkValidPointMask"]
    np.testing.assert_allclose(values_of(itself, "f_reconstruction"), values_of(itself), atol=1e-4)
    assert "v" in names_of(output(sample(scalar, Model=vector))), "Model goes before the field data"
    part = simple.Slice(Input=scalar)
    assert "f_reconstruction" in names_of(output(sample(part)))


def test_a_model_that_is_not_shown_is_not_sampled_as_a_whole(models):
    source = simple.NeuralVolume(FileName=models["f"], Device="cpu")
    sample(sources()["plane"], Model=source)
    assert output(source).GetNumberOfPoints() == 8
    source.GetClientSideObject().UpdateWholeExtent()  # as what shows it does
    assert output(source).GetNumberOfPoints() == 504


def test_another_file_and_a_changed_file_are_noticed(models, tmp_path):
    path = tmp_path / "m.apmgsrn"
    shutil.copy(models["f"], path)
    filter_ = sample(sources()["plane"], str(path))
    shutil.copy(models["vector"], path)
    filter_.GetClientSideObject().Modified()
    filter_.GetClientSideObject().Update()
    assert "v" in names_of(output(filter_))
    filter_.FileName = models["f"]
    filter_.UpdatePipeline()
    assert "f" in names_of(output(filter_)) and "v" not in names_of(output(filter_))


def test_no_model_is_told_and_the_input_passes(models, vtk_errors):
    filter_ = sample(sources()["image"])
    (error,) = vtk_errors.take()
    for word in ("FileName", "Model", "apmgsrn_model", "found none"):
        assert word in error
    assert names_of(output(filter_)) == ["other"]
    filter_.FileName = models["f"]
    filter_.UpdatePipeline()
    assert "f" in names_of(output(filter_)) and info(filter_, "LastError") == ""


def test_what_is_wrong_is_named(models, vtk_errors):
    sample(sources()["plane"], "/no/such/model")
    assert "'/no/such/model'" in vtk_errors.take()[0]
    sample(sources()["plane"], Model=sources()["cloud"])
    assert "apmgsrn_model" in vtk_errors.take()[0]
    sample(sources()["plane"], models["several"], Arrays=["f", "pressure"])
    assert "expected some of f, v" in vtk_errors.take()[0]
    sample(sources()["plane"], models["f"], ComputeVorticity=1)
    assert "3 components, found f (1)" in vtk_errors.take()[0]


# -- which arrays ---------------------------------------------------------------------------------


def test_a_choice_of_arrays(models):
    filter_ = sample(sources()["plane"], models["several"])
    assert [n for n in names_of(output(filter_)) if n in "fv"] == ["f", "v"]
    filter_.UpdatePropertyInformation()
    assert list(filter_.GetProperty("Arrays").Available) == ["f", "v"]
    filter_.Arrays = ["v"]
    filter_.UpdatePipeline()
    assert [n for n in names_of(output(filter_)) if n in "fv"] == ["v"]
    assert values_of(output(filter_), "v").shape == (80, 3)
    filter_.Arrays = []
    filter_.UpdatePipeline()
    assert "f" in names_of(output(filter_))


def test_an_array_of_the_input_keeps_its_name(models):
    image = image_like_the_model()
    once = sample(image, models["f"])
    assert names_of(output(once)) == ["f", "f_reconstruction", "vtkValidPointMask"]
    np.testing.assert_array_equal(values_of(output(once)), values_of(output(image)))
    twice = output(sample(once, models["bricks"]))
    assert names_of(twice) == ["f", "f_reconstruction", "vtkValidPointMask", "f_reconstruction_2"]
    assert names_of(output(sample(image, models["f"], PassInputArrays=0))) == ["f", "vtkValidPointMask"]
    cells = output(sample(image, models["f"], SampleAt="Cell Centers"))
    assert names_of(cells, "CellData") == ["f", "vtkValidCellMask"]


def test_derivatives_are_those_of_the_network(models):
    wanted = dict(ComputeGradient=1, ComputeDivergence=1, ComputeVorticity=1, ComputeQCriterion=1)
    data = output(sample(sources()["plane"], models["vector"], **wanted))
    values, jacobian = NeuralVolume.open(models["vector"], "cpu").sample_derivatives(points_of(data), "v")
    expected = {
        "v": values, "Gradient": jacobian.reshape(-1, 9), "Divergence": divergence(jacobian),
        "Vorticity": vorticity(jacobian), "Q Criterion": q_criterion(jacobian),
    }  # fmt: skip
    for name, numbers in expected.items():
        np.testing.assert_allclose(values_of(data, name), numbers, rtol=1e-4, atol=1e-4, err_msg=name)


def test_derivatives_of_several_arrays_have_their_names(models):
    data = output(sample(sources()["plane"], models["several"], ComputeGradient=1, ComputeVorticity=1))
    found = {n: values_of(data, n).shape[1:] for n in names_of(data)}
    assert found["f_Gradient"] == (3,) and found["v_Gradient"] == (9,) and found["v_Vorticity"] == (3,)
    assert "f_Vorticity" not in found


# -- nothing there --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [vtkPolyData, vtkUnstructuredGrid, vtkMultiBlockDataSet])
@pytest.mark.parametrize("at", ["Points", "Cell Centers"])
def test_an_empty_input_gives_an_empty_output(models, kind, at):
    filter_ = sample(make_source(kind()), models["f"], SampleAt=at)
    assert output(filter_).GetNumberOfPoints() == 0
    assert info(filter_, "Status").startswith("0 of 0")


def test_entirely_outside(models):
    data = output(sample(simple.Sphere(Center=[500, 0, 0]), models["several"], ComputeGradient=1))
    for name in ("f", "v", "f_Gradient", "v_Gradient"):
        assert np.isnan(values_of(data, name)).all()
    assert not values_of(data, "vtkValidPointMask").any()


def test_stopping_leaves_no_error(models):
    filter_ = simple.SampleNeuralVolume(Input=simple.Plane(XResolution=999, YResolution=999), FileName=models["f"])
    algorithm = filter_.GetClientSideObject()
    algorithm.AddObserver("ProgressEvent", lambda *_: algorithm.SetAbortExecute(1))
    filter_.UpdatePipeline()
    assert info(filter_, "Status") == "stopped by user"


def test_equal_settings_do_not_run_again(models):
    filter_ = sample(sources()["plane"], models["f"], Arrays=["f"])
    before = filter_.GetClientSideObject().GetMTime()
    filter_.FileName, filter_.SampleAt = models["f"], "Points"
    filter_.UpdatePipeline()
    assert filter_.GetClientSideObject().GetMTime() == before


# -- time -----------------------------------------------------------------------------------------


def time_of(data):
    return data.GetInformation().Get(vtkDataObject.DATA_TIME_STEP())


def test_the_time_of_the_input_passes(models):
    source = simple.TemporalShiftScale(Input=simple.TimeSource(), PostShift=2)
    filter_ = sample(source, models["f"])
    assert list(filter_.TimestepValues) == list(source.TimestepValues)
    filter_.UpdatePipeline(2.5)
    assert time_of(output(filter_)) == time_of(output(source)) > 2


@pytest.mark.parametrize("by_port", [False, True])
def test_static_data_gets_the_times_of_the_model(models, by_port):
    if by_port:
        filter_ = sample(sources()["plane"], Model=simple.NeuralVolume(FileName=models["times"], Device="cpu"))
    else:
        filter_ = sample(sources()["plane"], models["times"])
    assert list(filter_.TimestepValues) == list(TIMES)
    volume = NeuralVolume.open(models["times"], "cpu")
    for asked, step in ((0.5, 1.0), (1.0, 1.0), (2.5, 1.0), (3.0, 3.0), (7.0, 3.0)):
        filter_.UpdatePipeline(asked)
        data = output(filter_)
        np.testing.assert_allclose(values_of(data), volume.sample_points(points_of(data), time=step), atol=1e-4)
        assert time_of(data) == step


def test_static_data_that_says_a_time_of_its_own(models):
    source = image_like_the_model("other")
    output(source).GetInformation().Set(vtkDataObject.DATA_TIME_STEP(), 1.0)
    filter_ = sample(simple.Calculator(Input=source), models["times"])
    volume = NeuralVolume.open(models["times"], "cpu")
    for time in TIMES:
        filter_.UpdatePipeline(time)
        expected = volume.sample_points(points_of(output(source)), time=time)
        np.testing.assert_allclose(values_of(output(filter_)), expected, atol=1e-4)


def test_between_two_times(models):
    filter_ = sample(sources()["plane"], models["times"], InterpolateTime=1, ComputeGradient=1)
    volume = NeuralVolume.open(models["times"], "cpu")
    for asked, share in ((0.5, 0), (1.0, 0), (2.5, 0.75), (3.0, 1), (7.0, 1)):
        filter_.UpdatePipeline(asked)
        data = output(filter_)
        first, last = (volume.sample_derivatives(points_of(data), "f", time) for time in TIMES)
        for name, numbers in (("f", 0), ("Gradient", 1)):
            mixed = first[numbers] * (1 - share) + last[numbers] * share
            np.testing.assert_allclose(values_of(data, name), mixed.reshape(values_of(data, name).shape), atol=1e-3)
        assert time_of(data) == 1 + 2 * share
    assert np.nanmax(np.abs(first[0] - last[0])) > 1, "the two times are alike"

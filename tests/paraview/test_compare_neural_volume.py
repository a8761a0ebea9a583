"""The filter that compares a model with data."""

import shutil

import meshes
import numpy as np
import pytest
from conftest import info, make_image, make_source, output, smooth_values, train, values_of
from paraview import simple
from small_models import CELLS, DIMS, GRID, TIMES, image_like_the_model, train_models
from vtkmodules.util.numpy_support import numpy_to_vtk
from vtkmodules.vtkCommonCore import vtkBitArray
from vtkmodules.vtkCommonDataModel import (
    vtkAMRUtilities,
    vtkDataObject,
    vtkDataSetAttributes,
    vtkImageData,
    vtkMultiBlockDataSet,
    vtkPolyData,
    vtkUnstructuredGrid,
)

from apmgsrn_core import NeuralVolume, psnr, ssim
from apmgsrn_paraview.data_leaves import count_of, leaves_of
from apmgsrn_paraview.mesh_samples import sample_mesh

COLUMNS = [
    "array", "association", "time", "brick", "psnr", "ssim", "max_error", "rmse", "relative_l2", "values_compared",
    "values_left_out",
]  # fmt: skip


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return train_models(tmp_path_factory.mktemp("models"))


def compare(source, path="", **settings):
    filter_ = simple.CompareNeuralVolume(Input=source, FileName=path, Device="cpu", **settings)
    filter_.UpdatePipeline()
    return filter_


def rows(filter_):
    table = output(filter_, 1)
    assert [table.GetColumnName(i) for i in range(table.GetNumberOfColumns())] == COLUMNS
    columns = [table.GetColumn(i) for i in range(table.GetNumberOfColumns())]
    return [{c.GetName(): c.GetValue(row) for c in columns} for row in range(table.GetNumberOfRows())]


def reconstruction(path, grid=GRID, field=None):
    """values[z, y, x(, c)] of a model on a grid."""
    return NeuralVolume.open(path, "cpu").sample_region(grid=grid, field=field)


def with_array(values, name="f", **arguments):
    return make_image(values, origin=GRID.origin, spacing=GRID.spacing, name=name, **arguments)


# -- the figures ----------------------------------------------------------------------------------


def test_the_figures_are_those_of_the_metrics(models):
    filter_ = compare(image_like_the_model(), models["f"])
    data, model = smooth_values(DIMS), reconstruction(models["f"])
    (row,) = rows(filter_)
    error = model.astype(float) - data
    assert (row["array"], row["association"], row["brick"], row["values_compared"], row["values_left_out"]) == (
        "f", "point", -1, 504, 0,
    )  # fmt: skip
    assert row["psnr"] == pytest.approx(psnr(data, model), abs=1e-3)
    assert row["ssim"] == pytest.approx(ssim(data, model), abs=1e-5)
    assert row["max_error"] == pytest.approx(np.abs(error).max(), rel=1e-4)
    assert row["rmse"] == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-4)
    assert row["relative_l2"] == pytest.approx(np.linalg.norm(error) / np.linalg.norm(data), rel=1e-4)
    assert np.isnan(row["time"])
    assert info(filter_, "Status").startswith(f"f: {row['psnr']:.2f} dB, max error")


def test_the_errors_where_they_are(models):
    filter_ = compare(image_like_the_model(), models["f"])
    data, model = smooth_values(DIMS).ravel(), reconstruction(models["f"]).ravel()
    image = output(filter_)
    np.testing.assert_array_equal(values_of(image), data)
    np.testing.assert_allclose(values_of(image, "f_reconstruction"), model, atol=1e-4)
    np.testing.assert_allclose(values_of(image, "f_error"), model - data, atol=2e-4)
    np.testing.assert_allclose(values_of(image, "f_absolute_error"), np.abs(model - data), atol=2e-4)
    assert values_of(image, "f_absolute_error").max() == pytest.approx(rows(filter_)[0]["max_error"])


def test_vectors_have_vectors_of_errors(models):
    data = smooth_values(DIMS, components=3)
    filter_ = compare(with_array(data, "v"), models["vector"])
    model = reconstruction(models["vector"])
    image = output(filter_)
    error = (model - data).reshape(-1, 3)
    np.testing.assert_allclose(values_of(image, "v_error"), error, atol=1e-3)
    np.testing.assert_allclose(values_of(image, "v_absolute_error"), np.linalg.norm(error, axis=1), atol=1e-3)
    (row,) = rows(filter_)
    assert row["psnr"] == pytest.approx(psnr(data, model), abs=1e-3)
    assert row["max_error"] == pytest.approx(np.linalg.norm(error, axis=1).max(), rel=1e-4)
    assert 0 < row["ssim"] <= 1


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float64"])
def test_data_of_other_types(models, dtype):
    data = smooth_values(DIMS, dtype=dtype)
    filter_ = compare(with_array(data), models["f"])
    assert rows(filter_)[0]["psnr"] == pytest.approx(psnr(data, reconstruction(models["f"])), abs=1e-3)
    assert values_of(output(filter_), "f_error").dtype == np.float32


@pytest.mark.parametrize("kind", ["image", "mesh"])
def test_bits_are_compared_as_numbers(models, kind):
    image, ones = vtkImageData(), (np.arange(np.prod(DIMS)) % 7 > 3).astype(np.uint8)
    image.CopyStructure(output(image_like_the_model()))
    bits = vtkBitArray()
    bits.SetName("f")
    for bit in ones.tolist():
        bits.InsertNextValue(bit)
    data = image if kind == "image" else meshes.structured([image.GetPoint(i) for i in range(len(ones))], DIMS)
    data.GetPointData().AddArray(bits)
    filter_ = compare(make_source(data), models["f"])
    model = reconstruction(models["f"]).ravel()
    assert rows(filter_)[0]["psnr"] == pytest.approx(psnr(ones, model), abs=1e-3)
    np.testing.assert_allclose(values_of(output(filter_), "f_error"), model - ones, atol=1e-4)


def test_a_row_for_each_brick(models):
    filter_ = compare(image_like_the_model(), models["bricks"])
    whole, *bricks = rows(filter_)
    assert [row["brick"] for row in bricks] == [0, 1, 2, 3]
    assert sum(row["values_compared"] for row in bricks) == whole["values_compared"] == 504
    assert max(row["max_error"] for row in bricks) == whole["max_error"]
    squared = sum(row["rmse"] ** 2 * row["values_compared"] for row in bricks)
    assert squared == pytest.approx(whole["rmse"] ** 2 * 504)
    volume, data = NeuralVolume.open(models["bricks"], "cpu"), smooth_values(DIMS)
    for brick, row in enumerate(bricks):
        owned = volume.layout.owned(brick)
        box = tuple(slice(a, b) for a, b in zip(owned.start, owned.stop))[::-1]
        expected = psnr(data[box], reconstruction(models["bricks"])[box])
        assert row["psnr"] == pytest.approx(expected, abs=1e-3)
        assert np.isnan(row["ssim"])


def test_cells_are_compared_at_their_centres(models):
    data = smooth_values(DIMS)[:-1, :-1, :-1]
    model = reconstruction(models["cells"], CELLS)
    image = with_array(data, cells=True)
    for source in (image, simple.Tetrahedralize(Input=image)):
        row = rows(compare(source, models["cells"]))[0]
        assert row["association"] == "cell"
    assert rows(compare(image, models["cells"]))[0]["psnr"] == pytest.approx(psnr(data, model), abs=1e-3)
    (row,) = rows(compare(image, models["f"]))  # a model of points knows the centres as well
    assert row["association"] == "cell" and row["values_compared"] == data.size


def test_the_same_figures_for_an_unstructured_copy(models):
    image = image_like_the_model()
    expected, found = (rows(compare(s, models["f"]))[0] for s in (image, simple.Tetrahedralize(Input=image)))
    assert np.isnan(found.pop("ssim")) and expected.pop("ssim") > 0
    assert found == pytest.approx(expected, nan_ok=True)


def test_without_ssim(models):
    assert np.isnan(rows(compare(image_like_the_model(), models["f"], ComputeSSIM=0))[0]["ssim"])


# -- what is counted ------------------------------------------------------------------------------


def test_composite_data(models):
    image = image_like_the_model()
    blocks = compare(simple.GroupDatasets(Input=[image, simple.Sphere(), simple.Slice(Input=image)]), models["f"])
    data = output(blocks)
    assert values_of(data.GetBlock(0), "f_error").shape == (504,)
    assert data.GetBlock(1).GetPointData().GetArray("f_error") is None
    assert rows(blocks)[0]["values_compared"] == 504 + data.GetBlock(2).GetNumberOfPoints()


@pytest.mark.parametrize("known", ["nothing", "ghost arrays"])
@pytest.mark.parametrize("name, association", [("level", "cell"), ("f", "point")])
def test_covered_values_of_an_amr_do_not_count(tmp_path, name, association, known):
    """As in a training: each value counts where no finer level has it, whether that is marked or not."""
    data, path = meshes.amr(), str(tmp_path / "m.apmgsrn")
    if known == "ghost arrays":
        vtkAMRUtilities.BlankCells(data)
    train(make_source(data), SeveralArrays=1, **{f"{association.title()}Arrays": [name]}, ModelFile=path, MeshSamples=2000)
    volume = NeuralVolume.open(path, "cpu")
    found = sample_mesh(data, [(name, association)], 10**5)
    places, values = found.positions[found.exact], found.values[found.exact, 0]
    assert len(values) < sum(count_of(leaf, association) for leaf in leaves_of(data))
    (row,) = rows(compare(make_source(data), path))
    assert row["values_compared"] + row["values_left_out"] == len(values)
    assert row["psnr"] == pytest.approx(psnr(values, volume.sample_points(places, name)), abs=1e-3)
    assert np.isnan(row["ssim"])


def test_holes_and_places_outside_are_left_out(models):
    data = smooth_values(DIMS)
    data[2, 3, 4] = np.nan
    larger = np.pad(data, ((0, 0), (0, 0), (0, 1)), mode="edge")
    (row,) = rows(compare(with_array(larger), models["f"]))
    assert (row["values_compared"], row["values_left_out"]) == (503, 1 + 56)
    assert row["psnr"] == pytest.approx(psnr(data, reconstruction(models["f"])), abs=1e-3)
    assert np.isnan(row["ssim"])


def test_ghosts_and_hidden_points_do_not_count(models):
    source = image_like_the_model()
    mesh = output(updated(simple.Tetrahedralize(Input=source)))
    marks = np.zeros(504, dtype=np.uint8)
    marks[::5], marks[1::5] = vtkDataSetAttributes.DUPLICATEPOINT, vtkDataSetAttributes.HIDDENPOINT
    for data, left in ((mesh, marks == 0), (output(source), marks != vtkDataSetAttributes.HIDDENPOINT)):
        copy = data.NewInstance()
        copy.DeepCopy(data)
        array = numpy_to_vtk(marks, deep=1)
        array.SetName("vtkGhostType")
        copy.GetPointData().AddArray(array)
        (row,) = rows(compare(make_source(copy), models["f"]))
        # duplicates of structured pieces are told by the extents of the ranks, and there is one rank
        assert (row["values_compared"], row["values_left_out"]) == (left.sum(), 0)
        assert np.isnan(row["ssim"])
        expected = psnr(smooth_values(DIMS).ravel()[left], reconstruction(models["f"]).ravel()[left])
        assert row["psnr"] == pytest.approx(expected, abs=1e-3)


def updated(proxy):
    proxy.UpdatePipeline()
    return proxy


def test_the_figures_are_those_of_the_whole_whatever_is_asked_for(models):
    filter_ = simple.CompareNeuralVolume(Input=image_like_the_model(), FileName=models["f"], Device="cpu")
    part = simple.ExtractSubset(Input=filter_, VOI=[2, 5, 0, 3, 1, 2])
    part.UpdatePipeline()
    assert output(part).GetDimensions() == (4, 4, 2)
    expected = values_of(output(compare(image_like_the_model(), models["f"])), "f_error").reshape(7, 8, 9)[1:3, 0:4, 2:6]
    np.testing.assert_allclose(values_of(output(part), "f_error"), expected.ravel(), atol=1e-4)
    assert rows(filter_)[0]["values_compared"] == 504


def test_a_part_of_a_source_that_gives_parts(models, tmp_path):
    """The filter above asks a reader for a part only."""
    path = str(tmp_path / "m.apmgsrn")
    wavelet = simple.Wavelet(WholeExtent=[0, 8, 0, 7, 0, 6])
    renamed = simple.RenameArrays(Input=wavelet)
    renamed.PointArrays = ["RTData", "f"]
    shutil.copy(models["f"], path)
    filter_ = simple.CompareNeuralVolume(Input=renamed, FileName=path, Device="cpu")
    part = simple.ExtractSubset(Input=filter_, VOI=[2, 5, 0, 3, 1, 2])
    part.UpdatePipeline()
    assert output(part).GetDimensions() == (4, 4, 2)
    assert rows(filter_)[0]["values_compared"] + rows(filter_)[0]["values_left_out"] == 504
    simple.OutputPort(filter_, 1).UpdatePipeline()
    assert output(filter_).GetNumberOfPoints() > 0


# -- which model, which arrays ----------------------------------------------------------------------


def test_the_model_by_port_and_by_field_data(models):
    source = simple.NeuralVolume(FileName=models["f"], Device="cpu")
    assert rows(compare(image_like_the_model(), Model=source))[0]["psnr"] > 5
    (row,) = rows(compare(source))  # with itself
    assert row["max_error"] < 1e-3 and row["ssim"] == pytest.approx(1)


def test_a_changed_model_is_compared_anew(models, tmp_path):
    path = str(tmp_path / "m.apmgsrn")
    shutil.copy(models["f"], path)
    filter_ = compare(image_like_the_model(), path)
    before = rows(filter_)[0]["psnr"]
    shutil.copy(models["bricks"], path)
    filter_.GetClientSideObject().Modified()
    filter_.GetClientSideObject().Update()
    assert len(rows(filter_)) == 5 and rows(filter_)[0]["psnr"] != before
    error = values_of(output(filter_), "f_error").astype(float)
    assert np.sqrt(np.mean(error**2)) == pytest.approx(rows(filter_)[0]["rmse"], rel=1e-4)


def test_several_arrays_and_a_choice_of_them(models):
    image = image_like_the_model()
    array = numpy_to_vtk(smooth_values(DIMS, components=3).reshape(-1, 3), deep=1)
    array.SetName("v")
    output(image).GetPointData().AddArray(array)
    image.GetClientSideObject().Modified()
    filter_ = compare(image, models["several"])
    assert [row["array"] for row in rows(filter_)] == ["f", "v"]
    filter_.Arrays = ["v"]
    filter_.UpdatePipeline()
    assert [row["array"] for row in rows(filter_)] == ["v"]
    assert output(filter_).GetPointData().GetArray("f_error") is None
    assert [row["array"] for row in rows(compare(image_like_the_model(), models["several"]))] == ["f"]


def test_what_does_not_fit_is_named(models, vtk_errors):
    for source, name, settings, words in (
        (image_like_the_model("other"), "f", {}, ("expected f, as in the model", "other (point)")),
        (image_like_the_model(), "several", {"Arrays": ["f", "p"]}, ("expected some of f, v", "found p")),
        (image_like_the_model(), "several", {"Arrays": ["f", "v"]}, ("expected v, as in the model", "f (point)")),
        (with_array(smooth_values(DIMS, 3)), "f", {}, ("point array 'f'", "expected 1 components", "found 3")),
        (image_like_the_model(), None, {}, ("no model", "FileName")),
    ):
        filter_ = compare(source, models[name] if name else "", **settings)
        (error,) = vtk_errors.take()
        assert all(word in error for word in words), error
        assert rows(filter_) == [] and output(filter_).GetNumberOfPoints() == 504
        assert info(filter_, "LastError") in error
        filter_.GetClientSideObject().Update()
        assert vtk_errors.take() == [], "told once"


# -- time -----------------------------------------------------------------------------------------


def at_time(time):
    """A source of data at a time."""
    source = simple.ProgrammableSource(OutputDataSetType="vtkPolyData")
    source.ScriptRequestInformation = f"""
info = self.GetOutputInformation(0)
info.Set(self.GetExecutive().TIME_STEPS(), [{time}], 1)
info.Set(self.GetExecutive().TIME_RANGE(), [{time}, {time}], 2)"""
    source.Script = f"""
import numpy as np
output.Points = np.random.default_rng(0).random((50, 3)) * 3 + [1, 2, 3]
output.PointData.append(np.arange(50.0), "f")
output.VTKObject.GetInformation().Set(output.VTKObject.DATA_TIME_STEP(), {time})"""
    return source


@pytest.mark.parametrize("time", TIMES)
def test_the_data_is_compared_at_its_time(models, time):
    filter_ = simple.CompareNeuralVolume(Input=at_time(time), FileName=models["times"], Device="cpu")
    filter_.UpdatePipeline(time)
    data = output(filter_)
    points = np.array([data.GetPoint(i) for i in range(data.GetNumberOfPoints())])
    expected = NeuralVolume.open(models["times"], "cpu").sample_points(points, time=time)
    np.testing.assert_allclose(values_of(data, "f_reconstruction"), expected, atol=1e-4)
    assert rows(filter_)[0]["time"] == time
    assert data.GetInformation().Get(vtkDataObject.DATA_TIME_STEP()) == time


def test_a_time_that_the_model_has_not_is_named(models, vtk_errors):
    filter_ = simple.CompareNeuralVolume(Input=at_time(2.0), FileName=models["times"], Device="cpu")
    filter_.UpdatePipeline(2.0)
    (error,) = vtk_errors.take()
    assert "expected one of 1, 3" in error and "found 2" in error


# -- nothing there --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [vtkPolyData, vtkUnstructuredGrid, vtkMultiBlockDataSet])
def test_an_empty_input_gives_no_rows(models, kind):
    filter_ = compare(make_source(kind()), models["f"])
    assert rows(filter_) == [] and info(filter_, "Status") == "nothing to compare"


def test_entirely_outside(models):
    (row,) = rows(compare(make_image(smooth_values(DIMS), origin=(500, 0, 0)), models["f"]))
    assert (row["values_compared"], row["values_left_out"]) == (0, 504)
    assert np.isnan([row["psnr"], row["ssim"], row["max_error"], row["rmse"], row["relative_l2"]]).all()


def test_stopping_leaves_no_error(models):
    source = make_image(smooth_values((120, 120, 60)))
    filter_ = simple.CompareNeuralVolume(Input=source, FileName=models["f"], Device="cpu")
    algorithm = filter_.GetClientSideObject()
    tag = algorithm.AddObserver("ProgressEvent", lambda *_: algorithm.SetAbortExecute(1))
    filter_.UpdatePipeline()
    assert info(filter_, "Status") == "stopped by user" and rows(filter_) == []
    algorithm.RemoveObserver(tag)
    filter_.ComputeSSIM = 0
    filter_.UpdatePipeline()
    assert len(rows(filter_)) == 1

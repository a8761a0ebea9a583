"""The source and reader of model files."""

import numpy as np
import pytest
from conftest import info, make_image, output, smooth_values, train, values_of
from paraview import simple
from vtkmodules.vtkCommonDataModel import vtkDataObject
from vtkmodules.vtkCommonExecutionModel import vtkStreamingDemandDrivenPipeline as Pipeline

DIMS = (9, 8, 7)


@pytest.fixture
def model(tmp_path):
    """(path, the trainer that made it)"""
    path = str(tmp_path / "m.apmgsrn")
    source = make_image(smooth_values(DIMS), [3, 11, 0, 7, -2, 4], origin=(1, 2, 3), spacing=(0.5, 1, 2))
    return path, train(source, ModelFile=path)


def sampled(proxy_class, path, **settings):
    proxy = proxy_class(FileName=path, **settings)
    proxy.UpdatePipeline()
    return proxy


def test_open_data_file_gives_the_reconstruction(model):
    path, trainer = model
    reader = simple.OpenDataFile(path)
    assert type(reader).__name__ == "NeuralVolumeReader"
    reader.UpdatePipeline()
    image = output(reader)
    np.testing.assert_allclose(image.GetBounds(), output(trainer).GetBounds(), atol=1e-12)
    np.testing.assert_allclose(values_of(image), values_of(output(trainer)), atol=1e-3)
    assert image.GetFieldData().GetAbstractArray("apmgsrn_model").GetValue(0) == path
    assert "9 x 8 x 7" in info(reader, "ModelInformation")


def test_scale_2_meets_the_reconstruction_at_shared_points(model):
    path, trainer = model
    fine = output(sampled(simple.NeuralVolume, path, Scale=2))
    assert fine.GetDimensions() == (17, 15, 13)
    np.testing.assert_allclose(fine.GetBounds(), output(trainer).GetBounds(), atol=1e-12)
    shared = values_of(fine).reshape(13, 15, 17)[::2, ::2, ::2].ravel()
    assert np.abs(shared - values_of(output(trainer))).max() <= 1e-5 * 100


def test_information_comes_from_the_header_alone(model, monkeypatch):
    import apmgsrn_core

    path, _ = model
    monkeypatch.setattr(apmgsrn_core, "NeuralVolume", None)  # whoever samples now fails
    source = simple.NeuralVolume(FileName=path, Scale=0.5)
    source.UpdatePipelineInformation()
    information = source.GetClientSideObject().GetOutputInformation(0)
    assert information.Get(Pipeline.WHOLE_EXTENT()) == (0, 4, 0, 4, 0, 3)
    field = vtkDataObject.GetActiveFieldInformation(information, 0, 0)
    assert field.Get(vtkDataObject.FIELD_NAME()) == "f"
    assert field.Get(vtkDataObject.FIELD_ARRAY_TYPE()) == 10
    assert field.Get(vtkDataObject.FIELD_NUMBER_OF_COMPONENTS()) == 1


def test_dimensions_override_scale(model):
    path, _ = model
    assert output(sampled(simple.NeuralVolume, path, Dimensions=[5, 0, 21])).GetDimensions() == (5, 8, 21)


def test_only_the_asked_extent_is_sampled(model):
    path, _ = model
    source = simple.NeuralVolume(FileName=path)
    part = simple.ExtractSubset(Input=source, VOI=[2, 5, 0, 3, 1, 2])
    part.UpdatePipeline()
    assert output(source).GetExtent() == (2, 5, 0, 3, 1, 2)
    whole = output(sampled(simple.NeuralVolume, path))
    expected = values_of(whole).reshape(7, 8, 9)[1:3, 0:4, 2:6].ravel()
    np.testing.assert_allclose(values_of(output(source)), expected, atol=1e-3)


def test_region_of_interest(model):
    path, _ = model
    whole = output(sampled(simple.NeuralVolume, path))
    x, y, z = (whole.GetBounds()[i] for i in (0, 2, 4))
    box = [x + 0.9, x + 2.1, y - 5, y + 2, z, z + 4.1]
    part = sampled(simple.NeuralVolume, path, UseRegionOfInterest=1, RegionOfInterest=box)
    image = output(part)
    assert image.GetExtent() == (2, 4, 0, 2, 0, 2)
    assert image.GetOrigin() == whole.GetOrigin()
    np.testing.assert_allclose(values_of(image), values_of(whole).reshape(7, 8, 9)[0:3, 0:3, 2:5].ravel(), atol=1e-3)
    part.UseRegionOfInterest = 0
    part.UpdatePipeline()
    assert output(part).GetExtent() == (0, 8, 0, 7, 0, 6)


@pytest.mark.parametrize("door", [simple.NeuralVolume, simple.NeuralVolumeReader])
def test_the_region_of_interest_begins_as_the_whole_model(model, door):
    path, _ = model
    bounds = list(output(sampled(door, path)).GetBounds())
    assert list(door(FileName=path).RegionOfInterest) == bounds
    part = [bounds[0] + 1, *bounds[1:]]
    assert list(door(FileName=path, RegionOfInterest=part).RegionOfInterest) == part


def test_contour_and_slice_downstream(model):
    path, _ = model
    source = sampled(simple.NeuralVolume, path, Scale=2)
    contour = simple.Contour(Input=source, ContourBy=["POINTS", "f"], Isosurfaces=[50])
    slice_ = simple.Slice(Input=source)
    contour.UpdatePipeline()
    slice_.UpdatePipeline()
    assert output(contour).GetNumberOfCells() > 10
    assert output(slice_).GetNumberOfCells() > 10


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float64"])
def test_original_type(dtype, tmp_path):
    path = str(tmp_path / "m.apmgsrn")
    train(make_image(smooth_values(DIMS, dtype=dtype)), ModelFile=path, Iterations=3)
    source = sampled(simple.NeuralVolume, path, OutputType="Original")
    assert values_of(output(source)).dtype == dtype
    source.OutputType = "Float32"
    source.UpdatePipeline()
    assert values_of(output(source)).dtype == "float32"


def test_vectors_and_cells(tmp_path):
    path = str(tmp_path / "m.apmgsrn")
    source = make_image(smooth_values((6, 5, 4), components=3), cells=True)
    trainer = train(source, TargetArray=["CELLS", "f"], ModelFile=path)
    volume = sampled(simple.NeuralVolume, path)
    image = output(volume)
    assert image.GetDimensions() == (7, 6, 5)
    np.testing.assert_allclose(
        values_of(image, side="CellData"), values_of(output(trainer), side="CellData"), atol=1e-4
    )
    volume.UseRegionOfInterest, volume.RegionOfInterest = 1, [2.2, 2.3, 0, 5, 0, 1]
    volume.UpdatePipeline()
    assert output(volume).GetNumberOfCells() > 0


def test_direction_and_negative_spacing(tmp_path):
    path = str(tmp_path / "m.apmgsrn")
    turned = (0, -1, 0, 1, 0, 0, 0, 0, 1)
    source = make_image(smooth_values(DIMS), [1, 9, 0, 7, 0, 6], spacing=(1, -2, 1), direction=turned)
    trainer = train(source, ModelFile=path)
    image = output(sampled(simple.NeuralVolume, path))
    for number in (0, 10, 200):
        np.testing.assert_allclose(image.GetPoint(number), output(trainer).GetPoint(number), atol=1e-12)
    np.testing.assert_allclose(values_of(image), values_of(output(trainer)), atol=1e-3)


def test_a_changed_file_is_read_again(model):
    path, trainer = model
    source = sampled(simple.NeuralVolume, path)
    before = values_of(output(source)).copy()
    trainer.Seed = 5
    trainer.UpdatePipeline()
    source.GetClientSideObject().Modified()
    source.GetClientSideObject().Update()
    assert np.abs(values_of(output(source)) - before).max() > 0


def test_stopping_leaves_no_error(model):
    path, _ = model
    source = simple.NeuralVolume(FileName=path, Dimensions=[120, 120, 120])
    algorithm = source.GetClientSideObject()
    algorithm.AddObserver("ProgressEvent", lambda *_: algorithm.SetAbortExecute(1))
    source.UpdatePipeline()
    assert info(source, "Status") == "stopped by user"


def test_precision_changes_little(model):
    path, _ = model
    source = sampled(simple.NeuralVolume, path, Precision="full")
    full = values_of(output(source)).copy()
    source.Precision = "fast"
    source.UpdatePipeline()
    assert abs(values_of(output(source)) - full).max() < 0.02 * np.ptp(full)


def test_the_time_of_a_model_is_announced(tmp_path):
    from apmgsrn_core import Grid, ModelConfig, TrainConfig, train_volume

    path = str(tmp_path / "m.apmgsrn")
    network = ModelConfig(number_of_grids=2, hidden_width=8)
    result = train_volume(
        smooth_values(DIMS), Grid(DIMS), model=network, train=TrainConfig(iterations=2), time=2.5,
        on_progress=lambda state: True,
    )  # fmt: skip
    result.save(path)
    source = sampled(simple.NeuralVolume, path)
    assert list(source.TimestepValues) == [2.5]
    assert output(source).GetInformation().Get(vtkDataObject.DATA_TIME_STEP()) == 2.5


def test_any_plane_of_a_cell_model(tmp_path):
    path = str(tmp_path / "m.apmgsrn")
    trainer = train(make_image(smooth_values(DIMS), cells=True), ModelFile=path)
    volume = sampled(simple.NeuralVolume, path)
    whole = values_of(output(volume), side="CellData").reshape(7, 8, 9)
    for source in (volume, trainer):
        for z, layer in ((0, 0), (3, 3), (7, 6)):  # the last plane has the cells before it
            plane = simple.ExtractSubset(Input=source, VOI=[0, 9, 0, 8, z, z])
            plane.UpdatePipeline()
            np.testing.assert_allclose(values_of(output(plane), side="CellData"), whole[layer].ravel(), atol=1e-3)


def test_a_half_precision_model_gives_single_precision(tmp_path):
    from apmgsrn_core import Grid, ModelConfig, TrainConfig, train_volume

    path = str(tmp_path / "m.apmgsrn")
    model = ModelConfig(number_of_grids=2, grid_resolution=(3, 3, 3), hidden_width=8)
    values = smooth_values(DIMS, dtype="float16")
    train_volume(values, Grid(DIMS), name="f", model=model, train=TrainConfig(iterations=3)).save(path)
    image = output(sampled(simple.NeuralVolume, path, OutputType="Original"))
    assert values_of(image).dtype == np.float32

"""The training filter: what it gives for every kind of image, and that it trains only when it must."""

import numpy as np
import pytest
from apmgsrn_paraview import trained_model
from conftest import info, make_image, make_source, output, smooth_values, train, values_of
from paraview import simple
from vtkmodules.vtkCommonDataModel import vtkDataObject, vtkUniformGrid

from apmgsrn_core import ModelFileError

DIMS = (12, 11, 10)


def test_reconstruction_has_the_inputs_place_and_name():
    source = make_image(smooth_values(DIMS), [-3, 8, 5, 15, 2, 11], origin=(1, 2, 3), spacing=(0.5, 1, 2))
    filter_ = train(source, Iterations=200)
    image, given = output(filter_), output(source)
    assert image.GetClassName() == "vtkImageData"
    assert image.GetExtent() == given.GetExtent()
    assert image.GetOrigin() == given.GetOrigin()
    assert image.GetSpacing() == given.GetSpacing()
    assert image.GetBounds() == given.GetBounds()
    assert np.abs(values_of(image) - values_of(given)).mean() < 10
    assert info(filter_, "Status").startswith("trained (iterations)")
    assert info(filter_, "LastError") in ("", None)


def test_the_reconstruction_has_the_class_of_the_input():
    grid = vtkUniformGrid()
    grid.DeepCopy(output(make_image(smooth_values((7, 8, 9)))))
    assert output(train(make_source(grid))).GetClassName() == "vtkUniformGrid"


def test_history_and_feature_grids():
    filter_ = train(make_image(smooth_values(DIMS)))
    table, boxes = output(filter_, 1), output(filter_, 2)
    names = [table.GetColumnName(i) for i in range(table.GetNumberOfColumns())]
    assert names == ["iteration", "seconds", "loss", "psnr", "learning_rate", "brick"]
    assert table.GetNumberOfRows() > 5
    assert boxes.GetNumberOfCells() == 8 * 6 and boxes.GetNumberOfPoints() == 8 * 8
    cell_data = boxes.GetCellData()
    assert [cell_data.GetArrayName(i) for i in range(3)] == ["id", "volume", "feature_norm"]
    assert values_of(boxes, "volume", "CellData").min() > 0
    assert sorted(set(values_of(boxes, "id", "CellData"))) == list(range(8))


def test_faces_of_the_boxes_are_flat_and_point_outwards():
    boxes = output(train(make_image(smooth_values(DIMS))), 2)
    for number in range(12):
        cell = boxes.GetCell(number)
        corners = np.array([cell.GetPoints().GetPoint(i) for i in range(4)])
        of_box = np.array([boxes.GetPoint(8 * (number // 6) + i) for i in range(8)])
        normal = np.cross(corners[1] - corners[0], corners[2] - corners[1])
        assert abs(normal @ (corners[3] - corners[0])) < 1e-6 * np.linalg.norm(normal)
        assert normal @ (corners.mean(0) - of_box.mean(0)) > 0


def test_every_output_names_the_model_file(tmp_path):
    path = str(tmp_path / "named.apmgsrn")
    filter_ = train(make_image(smooth_values(DIMS)), ModelFile=path)
    for port in range(3):
        assert output(filter_, port).GetFieldData().GetAbstractArray("apmgsrn_model").GetValue(0) == path


def test_nothing_changed_never_trains_again(trainings):
    source = make_image(smooth_values(DIMS))
    filter_ = train(source)
    filter_.UpdatePipeline()
    filter_.Iterations = 30
    filter_.UpdatePipeline()
    algorithm = filter_.GetClientSideObject()
    for port in range(3):
        algorithm.Update(port)
    contour = simple.Contour(Input=filter_, ContourBy=["POINTS", "f"], Isosurfaces=[50])
    contour.UpdatePipeline()
    algorithm.Modified()
    algorithm.Update()
    output(source).GetPointData().GetArray(0).Modified()  # the same content with another modification time
    output(source).Modified()
    algorithm.Update()
    assert len(trainings) == 1
    filter_.Seed = 3
    filter_.UpdatePipeline()
    assert len(trainings) == 2
    filter_.Seed = 0  # back: remembered
    filter_.UpdatePipeline()
    assert len(trainings) == 2


def test_changed_data_trains_again(trainings):
    wavelet = simple.Wavelet(WholeExtent=[0, 9, 0, 9, 0, 9])
    filter_ = train(wavelet, TargetArray=["POINTS", "RTData"])
    wavelet.Maximum = 300
    filter_.UpdatePipeline()
    assert len(trainings) == 2


def test_time_steps_back_and_forth_train_once_each(trainings, tmp_path, monkeypatch, vtk_errors):
    text = "t = self.GetOutputInformation(0).Get(vtkStreamingDemandDrivenPipeline.UPDATE_TIME_STEP()) or 0.0\n"
    text = "from vtkmodules.vtkCommonExecutionModel import vtkStreamingDemandDrivenPipeline\n" + text
    source = simple.ProgrammableSource(OutputDataSetType="vtkImageData")
    source.ScriptRequestInformation = """
from vtkmodules.vtkCommonExecutionModel import vtkStreamingDemandDrivenPipeline as P
i = self.GetOutputInformation(0)
i.Set(P.WHOLE_EXTENT(), (0, 7, 0, 7, 0, 7), 6)
i.Remove(P.TIME_STEPS())
for t in (0.0, 1.0): i.Append(P.TIME_STEPS(), t)
i.Remove(P.TIME_RANGE())
for t in (0.0, 1.0): i.Append(P.TIME_RANGE(), t)
"""
    source.Script = text + """
import numpy as np
output.SetExtent(0, 7, 0, 7, 0, 7)
output.PointData.append(np.linspace(0, 1, 512) ** (1 + t), 'f')
output.GetInformation().Set(output.DATA_TIME_STEP(), t)
"""
    path = str(tmp_path / "series.apmgsrn")
    source.UpdatePipeline(0.0)
    filter_ = simple.TrainNeuralVolume(
        Input=source, Preset="Custom", NumberOfGrids=4, HiddenWidth=8, Iterations=5, BatchSize=100, Rounding=0,
        ModelFile=path,
    )
    from apmgsrn_core import read_header

    results = []
    for time in (0.0, 1.0, 0.0, 1.0):
        filter_.UpdatePipeline(time)
        results.append(values_of(output(filter_)).copy())
        assert read_header(path).times == (time,)
    assert len(trainings) == 2
    np.testing.assert_array_equal(results[0], results[2])
    assert np.abs(results[0] - results[1]).max() > 0

    # What is remembered does not depend on whether the file can be written, which only the first of several ranks does.
    def full(*_):
        raise ModelFileError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(trained_model, "save", full)
        filter_.UpdatePipeline(0.0)
    proxy = filter_.GetClientSideObject()
    assert "no room" in vtk_errors.take()[0] and proxy._served[-1] == 0.0 and len(proxy._answers) == 2
    assert read_header(path).times == (1.0,)
    filter_.Seed = 7  # and back: the pipeline asks again
    filter_.Seed = 0
    filter_.UpdatePipeline(0.0)
    assert read_header(path).times == (0.0,) and len(trainings) == 2


def test_cell_data():
    values = smooth_values((8, 7, 6))
    source = make_image(values, [2, 10, 0, 7, -6, 0], cells=True)
    filter_ = train(source, TargetArray=["CELLS", "f"])
    image = output(filter_)
    assert image.GetExtent() == (2, 10, 0, 7, -6, 0)
    assert image.GetPointData().GetNumberOfArrays() == 0
    assert values_of(image, side="CellData").shape == (8 * 7 * 6,)


def test_vector_data():
    filter_ = train(make_image(smooth_values(DIMS, components=3)))
    assert values_of(output(filter_)).shape == (12 * 11 * 10, 3)


@pytest.mark.parametrize(
    "dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64"]
)
def test_every_numeric_type(dtype):
    filter_ = train(make_image(smooth_values(DIMS, dtype=dtype)), Iterations=2)
    assert np.isfinite(values_of(output(filter_))).all()


def test_negative_spacing():
    source = make_image(smooth_values(DIMS), spacing=(-1, 2, -0.5))
    image = output(train(source))
    assert image.GetSpacing() == (-1, 2, -0.5)
    assert image.GetPoint(5) == output(source).GetPoint(5)


def test_direction_matrix():
    turned = (0, -1, 0, 1, 0, 0, 0, 0, 1)
    source = make_image(smooth_values(DIMS), [1, 12, 0, 10, 0, 9], direction=turned)
    filter_ = train(source)
    matrix = output(filter_).GetDirectionMatrix()
    assert tuple(matrix.GetElement(i, j) for i in range(3) for j in range(3)) == turned
    assert output(filter_).GetPoint(17) == output(source).GetPoint(17)


def test_flat_data():
    filter_ = train(make_image(smooth_values((16, 14, 1))))
    assert output(filter_).GetExtent() == (0, 15, 0, 13, 0, 0)
    assert np.isfinite(values_of(output(filter_))).all()


def test_constant_data():
    filter_ = train(make_image(np.full((6, 6, 6), 7.5, dtype="float32")))
    np.testing.assert_allclose(values_of(output(filter_)), 7.5, rtol=1e-6)


def test_some_nan_inside_is_told_with_the_count(warnings):
    values = smooth_values(DIMS)
    values[2, 3, 4:7] = np.nan
    filter_ = train(make_image(values))
    np.testing.assert_array_equal(np.isfinite(values_of(output(filter_))), np.isfinite(values.ravel()))
    assert ", 3 values without data" in info(filter_, "Status")
    assert not [line for line in warnings if "NaN" in line]


def test_a_model_larger_than_a_quarter_of_the_data_warns(warnings):
    train(make_image(smooth_values((4, 4, 4))))
    assert sum("quarter" in line for line in warnings) == 1


def test_presets_and_effective_values():
    source = make_image(smooth_values(DIMS))
    filter_ = simple.TrainNeuralVolume(Input=source, Preset="Small")
    assert filter_.TargetArray[:] == ["POINTS", "f"]
    assert "196 grids of 7 x 7 x 7" in info(filter_, "EffectiveModel")
    filter_.NumberOfGrids = 5  # acts for Custom only
    filter_.UpdatePipelineInformation()
    assert "196 grids" in info(filter_, "EffectiveModel")
    filter_.Preset = "Custom"
    filter_.UpdatePipelineInformation()
    assert "5 grids" in info(filter_, "EffectiveModel")
    for preset, parameters in (("Medium", 2**20), ("Large", 2**24)):
        for published in ("", "Published "):
            filter_.Preset = published + preset
            filter_.UpdatePipelineInformation()
            assert 0.98 * parameters <= info(filter_, "NumberOfParameters") < 1.1 * parameters
    assert 0 < info(filter_, "EstimatedRatio") < 1


def test_quality_chooses_the_steps_unless_they_are_given():
    filter_ = simple.TrainNeuralVolume(Input=make_image(smooth_values(DIMS)))
    steps = []
    for quality in ("Draft", "Normal", "Best"):
        filter_.Quality = quality
        filter_.UpdatePipelineInformation()
        steps.append(int(info(filter_, "EffectiveTraining").split(" steps")[0]))
    assert steps[0] < steps[1] < steps[2]
    filter_.Iterations = 77
    filter_.UpdatePipelineInformation()
    assert info(filter_, "EffectiveTraining").startswith("77 steps")


def test_abort_keeps_the_partial_result(trainings):
    source = make_image(smooth_values((40, 40, 40)))
    filter_ = simple.TrainNeuralVolume(Input=source, Iterations=100000, BatchSize=2000, Device="cpu")
    algorithm, texts = filter_.GetClientSideObject(), []

    def stop(*_):
        if "iteration" in (algorithm.GetProgressText() or ""):
            texts.append(algorithm.GetProgressText())
            algorithm.SetAbortExecute(1)

    tag = algorithm.AddObserver("ProgressEvent", stop)
    filter_.UpdatePipeline()
    algorithm.RemoveObserver(tag)
    assert "iteration" in texts[0] and "dB" in texts[0]
    assert "stopped by user" in info(filter_, "Status")
    assert output(filter_, 1).GetNumberOfRows() > 0
    assert np.isfinite(values_of(output(filter_))).all()
    filter_.UpdatePipeline()
    assert len(trainings) == 1


def test_information_promises_the_frame():
    source = make_image(smooth_values(DIMS), [1, 12, 0, 10, 0, 9], origin=(4, 5, 6))
    filter_ = simple.TrainNeuralVolume(Input=source)
    filter_.UpdatePipelineInformation()
    information = filter_.GetClientSideObject().GetOutputInformation(0)
    assert information.Get(vtkDataObject.ORIGIN()) == (4.0, 5.0, 6.0)

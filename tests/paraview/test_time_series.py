"""Time series in the pipeline: all steps, a range of them, or one after the other into one file."""

from pathlib import Path

import numpy as np
import pytest
from conftest import TINY, info, output
from paraview import simple
from test_parallel import MPIRUN, PLUGIN, run
from vtkmodules.util.numpy_support import vtk_to_numpy
from vtkmodules.vtkCommonDataModel import vtkDataObject

SOURCE = """
from vtkmodules.vtkCommonExecutionModel import vtkStreamingDemandDrivenPipeline as S
import numpy as np
info = self.GetOutputInformation(0)
t = info.Get(S.UPDATE_TIME_STEP()) if info.Has(S.UPDATE_TIME_STEP()) else TIMES[0]
t = max([s for s in TIMES if s <= t + 1e-9] or TIMES[:1])
nx = 9
output.SetExtent(0, nx - 1, 0, 7, 0, 6)
z, y, x = np.meshgrid(np.linspace(0, 1, 7), np.linspace(0, 1, 8), np.linspace(0, 1, nx), indexing="ij")
output.PointData.append((np.sin(3 * x + t) + y * z).astype("float32").ravel(), "f")
output.SetSpacing(1 if t < GROWS else 2, 1, 1)
output.GetInformation().Set(output.VTKObject.DATA_TIME_STEP(), t)
"""
INFORMATION = """
from vtkmodules.vtkCommonExecutionModel import vtkStreamingDemandDrivenPipeline as S
info = self.GetOutputInformation(0)
info.Set(S.WHOLE_EXTENT(), 0, 8, 0, 7, 0, 6)
info.Set(S.TIME_STEPS(), TIMES, len(TIMES))
info.Set(S.TIME_RANGE(), (TIMES[0], TIMES[-1]), 2)
"""
TIMES = (0.0, 1.0, 2.5, 3.0)


def moving(times=TIMES, grows=99.0):
    head = f"TIMES, GROWS = {list(times)}, {grows}\n"
    return simple.ProgrammableSource(
        OutputDataSetType="vtkImageData", Script=head + SOURCE, ScriptRequestInformation=head + INFORMATION
    )


def values(proxy, time):
    proxy.UpdatePipeline(time)
    data = proxy.GetClientSideObject().GetOutputDataObject(0)
    return vtk_to_numpy(data.GetPointData().GetArray("f")).copy(), data.GetInformation().Get(vtkDataObject.DATA_TIME_STEP())


def trained(source, **settings):
    filter_ = simple.TrainNeuralVolume(Input=source, **{**TINY, "Iterations": 200, **settings})
    filter_.UpdatePipeline(TIMES[1])
    return filter_


@pytest.mark.slow
def test_all_steps_are_in_one_file_and_shown_at_their_time(tmp_path):
    source = moving()
    filter_ = trained(source, TimeSteps="All", ModelFile=str(tmp_path / "m.apmgsrn"))
    assert "trained 4 of 4 time steps" in info(filter_, "Status")
    table = output(filter_, 1)
    steps = vtk_to_numpy(table.GetColumnByName("time"))
    assert sorted(set(steps)) == list(TIMES)
    volume = simple.NeuralVolume(FileName=str(tmp_path / "m.apmgsrn"))
    volume.UpdatePipelineInformation()
    assert tuple(volume.TimestepValues) == TIMES
    for time in (3.0, 0.0, 2.5):
        expected, _ = values(source, time)
        shown, _ = values(filter_, time)
        sampled, own = values(volume, time)
        assert np.abs(shown - expected).max() < 0.5 and own == time
        np.testing.assert_allclose(sampled, shown, atol=1e-4)
    volume.InterpolateTime = 1
    between, own = values(volume, 1.75)
    first, last = values(volume, 1.0)[0], values(volume, 2.5)[0]
    np.testing.assert_allclose(between, (first + last) / 2, atol=1e-4)
    assert own == 1.75


def test_after_a_series_the_input_is_that_of_the_time_that_is_shown():
    """The output has the label of its time, and the error is against the data of that time."""
    source = moving()
    filter_ = simple.TrainNeuralVolume(Input=source, **TINY, TimeSteps="All", OutputError=1)
    found, own = values(filter_, TIMES[0])
    error = vtk_to_numpy(output(filter_).GetPointData().GetArray("f_error")).copy()
    data, at = values(source, TIMES[0])
    assert own == at == TIMES[0]
    np.testing.assert_allclose(error, found - data, atol=1e-5)


def test_steps_count_from_the_end_too():
    filter_ = simple.TrainNeuralVolume(Input=moving(), **TINY, TimeSteps="Range", TimeStepRange=[-2, -1])
    filter_.UpdatePipeline()
    assert "trained 2 of 2 time steps" in info(filter_, "Status")
    assert sorted(set(vtk_to_numpy(output(filter_, 1).GetColumnByName("time")))) == list(TIMES[-2:])


@pytest.mark.slow
def test_going_through_time_does_not_train_again(tmp_path, monkeypatch):
    import apmgsrn_core.training.volume_training as training

    seen, plan = [], training.plan_bricks
    monkeypatch.setattr(training, "plan_bricks", lambda *a: seen.append(1) or plan(*a))
    filter_ = trained(moving(), TimeSteps="All", ModelFile=str(tmp_path / "m.apmgsrn"))
    for time in (0.0, 3.0, 1.0):
        filter_.UpdatePipeline(time)
    assert len(seen) == 4
    again = trained(moving(), TimeSteps="All", ModelFile=str(tmp_path / "m.apmgsrn"))
    assert len(seen) == 4 and "no training needed" in info(again, "Status")
    longer = trained(moving((*TIMES, 4.0)), TimeSteps="All", ModelFile=str(tmp_path / "m.apmgsrn"))
    assert len(seen) == 5 and "trained 1 of 5" in info(longer, "Status")


@pytest.mark.slow
def test_steps_are_appended_as_they_come(tmp_path):
    source, path = moving(), str(tmp_path / "m.apmgsrn")
    filter_ = simple.TrainNeuralVolume(Input=source, **{**TINY, "TimeSteps": "Append", "ModelFile": path})
    for time in TIMES:
        filter_.UpdatePipeline(time)
        assert info(filter_, "LastError") == ""
    filter_.UpdatePipeline(0.0)  # going back takes nothing away
    fresh = simple.NeuralVolume(FileName=path)
    fresh.UpdatePipelineInformation()
    assert tuple(fresh.TimestepValues) == TIMES


def test_what_a_simulation_gave_before_is_forgotten(tmp_path):
    source = moving()
    filter_ = simple.TrainNeuralVolume(Input=source, **{**TINY, "TimeSteps": "Append", "ModelFile": str(tmp_path / "m.apmgsrn")})
    proxy, kept = filter_.GetClientSideObject(), []
    for time in TIMES:
        source.GetClientSideObject().Modified()  # as where the data of a time step takes the place of the one before
        filter_.UpdatePipeline(time)
        kept.append((len(proxy._answers), len(proxy._surveys)))
    assert info(filter_, "LastError") == "" and kept == [(1, 1)] * len(TIMES)  # those of the last step



@pytest.mark.slow
def test_going_back_with_other_settings_loses_no_step(tmp_path, vtk_errors):
    path = str(tmp_path / "m.apmgsrn")
    filter_ = simple.TrainNeuralVolume(Input=moving(), **{**TINY, "TimeSteps": "Append", "ModelFile": path})
    for time in TIMES:
        filter_.UpdatePipeline(time)
    before = Path(path).read_bytes()
    filter_.Iterations = 40
    filter_.UpdatePipeline(1.0)
    assert "2 later steps that would be lost" in info(filter_, "LastError") and Path(path).read_bytes() == before
    vtk_errors.clear()
    filter_.UpdatePipeline(TIMES[-1])  # the last one is replaced
    assert info(filter_, "LastError") == "" and Path(path).read_bytes() != before


def test_steps_are_appended_to_the_model_of_one(tmp_path):
    path = str(tmp_path / "m.apmgsrn")
    filter_ = simple.TrainNeuralVolume(Input=moving(), **{**TINY, "ModelFile": path})
    filter_.UpdatePipeline(0.0)
    filter_.TimeSteps = "Append"
    filter_.UpdatePipeline(1.0)
    assert info(filter_, "LastError") == ""
    volume = simple.NeuralVolume(FileName=path)
    volume.UpdatePipelineInformation()
    assert tuple(volume.TimestepValues) == (0.0, 1.0)


@pytest.mark.slow
def test_several_steps_are_rounded_and_the_panel_says_so(tmp_path):
    sizes = {}
    for rounding in (-1, 0, 1):
        path = tmp_path / f"{rounding}.apmgsrn"
        filter_ = trained(moving(), TimeSteps="All", Rounding=rounding, ModelFile=str(path), Preset="Small", Iterations=60)
        assert ("numbers rounded" in info(filter_, "EffectiveModel")) == (rounding != 0)
        assert 140_000 < info(filter_, "NumberOfParameters") < 165_000  # twice those of a single step
        sizes[rounding] = path.stat().st_size
    assert sizes[1] < sizes[-1] < sizes[0] / 3
    single = simple.TrainNeuralVolume(Input=moving(), **{**TINY, "Preset": "Small"})
    single.UpdatePipelineInformation()
    assert "numbers rounded" in info(single, "EffectiveModel") and info(single, "NumberOfParameters") < 80_000


def test_a_range_of_steps():
    filter_ = trained(moving(), TimeSteps="Range", TimeStepRange=[1, -2])
    assert "trained 2 of 2 time steps" in info(filter_, "Status")


@pytest.mark.slow
@pytest.mark.parametrize(
    "source, settings, words",
    [
        (lambda: simple.Wavelet(WholeExtent=[0, 5, 0, 5, 0, 5]), {"TimeSteps": "All"}, "TimeSteps: expected an input with time steps"),
        (moving, {"TimeSteps": "Range", "TimeStepRange": [2, 9]}, "TimeStepRange: expected numbers from -4 to 3, found 2 to 9"),
        (moving, {"TimeSteps": "Append"}, "ModelFile: expected the model to append"),
        (
            lambda: simple.Wavelet(WholeExtent=[0, 5, 0, 5, 0, 5]), {"TimeSteps": "Append", "ModelFile": "never.apmgsrn"},
            "TimeSteps: expected an input with a time to append",
        ),
        (lambda: moving(grows=2.0), {"TimeSteps": "All"}, "expected a time step on the same lattice"),
    ],
)  # fmt: skip
def test_series_that_cannot_be(vtk_errors, source, settings, words):
    filter_ = trained(source(), **settings)
    assert words in info(filter_, "LastError")
    assert vtk_errors.take()


@pytest.mark.mpi
def test_ranks_write_the_same_series(tmp_path):
    reports = {}
    for ranks in (1, 2, 4):
        folder = tmp_path / str(ranks)
        folder.mkdir()
        start = [] if ranks == 1 else [*MPIRUN[:-1], str(ranks)]
        script = str(Path(__file__).parent / "series_script.py")
        reports[ranks], _ = run([*start, "pvbatch", script, PLUGIN, str(folder)], folder)
        assert "TimeStepRange: expected numbers from -3 to 2, found 0 to 7" in reports[ranks]["error"]
        for name in ("one", "bricks"):
            status, error, _ = reports[ranks][name]
            assert "trained 3 of 3 time steps" in status and error == "", (status, error)
    for name in ("one", "bricks"):
        assert len({report[name][2] for report in reports.values()}) == 1, name

"""Training live: slice by slice, shown in between, with the model of a training at one go."""

import json

import numpy as np
import pytest
from conftest import info, make_image, output, smooth_values, train, values_of
from meshes import hexahedra, image
from paraview import simple
from test_model_estimate import both
from test_parallel import HERE, MPIRUN, PLUGIN, run
from test_render_remote import server

from apmgsrn_core import read_header

DIMS = (24, 22, 20)
SLICE = 0.01


def live(source, **settings):
    """After its first slice."""
    return train(source, **{"Live": 1, "SliceTime": SLICE, "Iterations": 300, **settings})


def step(filter_, command="Step"):
    filter_.SMProxy.InvokeCommand(command)
    filter_.UpdatePipeline()
    return info(filter_, "Status")


def poll(filter_):
    """What a window does again and again; whether something was updated."""
    needed = filter_.GetClientSideObject().GetNeedsUpdate()
    if needed:
        filter_.SMProxy.MarkModified(filter_.SMProxy)
        filter_.UpdatePipeline()
    return needed


def finish(filter_, most=2000):
    for _ in range(most):
        if not step(filter_).startswith("live"):
            return
    pytest.fail(info(filter_, "Status"))


def model_of(filter_):
    with open(output(filter_).GetFieldData().GetAbstractArray("apmgsrn_model").GetValue(0), "rb") as file:
        return file.read()


def iteration(filter_):
    return int(info(filter_, "Status").split("iteration ")[1].split(" of")[0])


@pytest.fixture
def source():
    return make_image(smooth_values(DIMS))


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{}, {"Bricks": [2, 1, 2]}], ids=["whole", "bricks"])
def test_the_model_is_that_of_a_training_at_one_go(source, settings, trainings):
    slices = live(source, **settings)
    assert "paused: " in info(slices, "Status")
    finish(slices)
    at_once = train(source, Iterations=300, **settings)
    assert model_of(slices) == model_of(at_once) and len(trainings) == 2
    np.testing.assert_array_equal(values_of(output(slices)), values_of(output(at_once)))
    assert info(slices, "Status").split(" after ")[0] == info(at_once, "Status").split(" after ")[0]


def with_holes():
    values = smooth_values(DIMS)
    values[4:9, :, 5:11] = np.nan
    return make_image(values)


@pytest.mark.slow
@pytest.mark.parametrize(
    "data, settings",
    [
        (with_holes, {}), (with_holes, {"Bricks": [2, 1, 1]}),
        (lambda: both(hexahedra((7, 6, 5))), {"MeshSamples": 3000}),
        (lambda: both(image(DIMS)), {"SeveralArrays": 1, "PointArrays": ["f", "v"]}),
        (
            lambda: both(hexahedra((7, 6, 5))),
            {"SeveralArrays": 1, "PointArrays": ["f", "v"], "MeshSamples": 3000, "Bricks": [1, 2, 1]},
        ),
    ],
    ids=["holes", "holes in bricks", "mesh", "several arrays", "mesh in bricks"],
)  # fmt: skip
def test_any_data_is_shown_and_learned_as_at_one_go(data, settings):
    source = data()
    slices = live(source, Iterations=80, **settings)
    names = {array.GetName() for array in arrays_of(output(slices))}
    finish(slices)
    assert names == {array.GetName() for array in arrays_of(output(slices))}
    assert model_of(slices) == model_of(train(source, Iterations=80, **settings))


def arrays_of(data):
    return [data.GetPointData().GetArray(i) for i in range(data.GetPointData().GetNumberOfArrays())]


def test_the_error_is_shown_when_it_is_wanted(source):
    filter_ = live(source, OutputError=1)
    for _ in range(2):
        wrong = values_of(output(filter_)).astype(float) - values_of(output(source))
        np.testing.assert_allclose(values_of(output(filter_), "f_error"), wrong, atol=1e-4)
        step(filter_)
    before = iteration(filter_)
    filter_.OutputError = 0
    filter_.UpdatePipeline()
    assert iteration(filter_) == before and output(filter_).GetPointData().GetNumberOfArrays() == 1
    of_mesh = both(hexahedra((5, 4, 4)))
    filter_ = train(of_mesh, MeshSamples=1000, OutputError=1, SeveralArrays=1, PointArrays=["f", "v"])
    wrong = values_of(output(filter_), "v").astype(float) - values_of(output(of_mesh), "v")
    np.testing.assert_allclose(values_of(output(filter_), "v_error"), wrong, atol=1e-4)


def test_an_update_trains_nothing_that_was_not_asked_for(source):
    filter_ = live(source)
    first = iteration(filter_)
    assert first >= 1
    for _ in range(3):
        filter_.UpdatePipeline()
        filter_.GetClientSideObject().Modified()
        filter_.UpdatePipeline()
    simple.Contour(Input=filter_, ContourBy=["POINTS", "f"], Isosurfaces=[50]).UpdatePipeline()
    assert iteration(filter_) == first and not filter_.GetClientSideObject().GetNeedsUpdate()
    step(filter_)
    assert iteration(filter_) > first


def test_the_outputs_follow(source):
    filter_, wrong, rows = live(source, Iterations=400, SliceTime=0.03), [], []
    while info(filter_, "Status").startswith("live"):
        wrong.append(np.abs(values_of(output(filter_)) - values_of(output(source))).mean())
        rows.append(output(filter_, 1).GetNumberOfRows())
        assert output(filter_, 2).GetNumberOfCells() == 8 * 6
        step(filter_)
    assert len(wrong) > 3 and wrong[-1] < 0.8 * wrong[0]
    assert rows == sorted(rows) and rows[-1] > rows[0]


@pytest.mark.slow
def test_what_a_window_does(source):
    """It polls, and updates when it is told to."""
    filter_ = live(source, Iterations=2000, SliceTime=0.02)
    assert not poll(filter_)
    step(filter_, "Start")
    polls = []
    while info(filter_, "Status").startswith("live") and len(polls) < 1000:
        polls.append(poll(filter_))
    assert info(filter_, "Status").startswith("trained (iterations)") and not poll(filter_)
    assert sum(polls) > 2
    assert model_of(filter_) == model_of(train(source, Iterations=2000))


def test_the_panel_is_told_where_it_stands(source):
    filter_ = live(source)
    step(filter_, "Start")
    for _ in range(3):
        poll(filter_)
    filter_.GetClientSideObject().GetNeedsUpdate()
    told = filter_.GetPropertyValue("Status")  # without asking anew
    assert told.startswith("live: iteration") and told == info(filter_, "Status")


def test_a_window_brings_the_values_of_further_bricks(source):
    filter_ = live(source, Bricks=[2, 1, 1])
    step(filter_, "Start")
    for _ in range(1000):
        poll(filter_)
    assert model_of(filter_) == model_of(train(source, Iterations=300, Bricks=[2, 1, 1]))


def test_turned_off_it_goes_on_to_the_end(source, trainings):
    filter_ = live(source)
    step(filter_)
    filter_.Live = 0
    filter_.UpdatePipeline()
    assert info(filter_, "Status").startswith("trained (iterations)")
    assert len(trainings) == 1
    assert model_of(filter_) == model_of(train(source, Iterations=300))


def test_paused_it_is_in_its_file_and_goes_on_in_another_session(source, tmp_path):
    path = str(tmp_path / "m.apmgsrn")
    first = live(source, ModelFile=path)
    for _ in range(3):
        step(first)
    step(first, "Pause")
    reached = iteration(first)
    assert info(first, "Status").endswith(f"saved in {path}") and read_header(path).key == ""
    volume = simple.NeuralVolume(FileName=path)
    volume.UpdatePipeline()
    np.testing.assert_allclose(values_of(output(volume)), values_of(output(first)), atol=1e-3)
    simple.Delete(first)
    second = live(source, ModelFile=path, SliceTime=0.01)
    assert iteration(second) > reached
    finish(second)
    with open(path, "rb") as file:
        assert file.read() == model_of(train(source, Iterations=300))
    assert [p.name for p in tmp_path.iterdir()] == ["m.apmgsrn"]


def test_what_no_model_depends_on_leaves_a_live_training_alone(source, tmp_path):
    filter_ = live(source)
    for _ in range(3):
        step(filter_)
    step(filter_, "Pause")
    reached = iteration(filter_)
    path = str(tmp_path / "m.apmgsrn")
    for name, value in (("CheckpointInterval", 5.0), ("OutputReconstruction", 0), ("OutputReconstruction", 1), ("ModelFile", path)):
        filter_.SetPropertyWithName(name, value)
        filter_.UpdatePipeline()
        assert iteration(filter_) == reached, name
    step(filter_, "Pause")
    assert info(filter_, "Status").endswith(f"saved in {path}")
    finish(filter_)
    with open(path, "rb") as file:
        assert file.read() == model_of(train(source, Iterations=300))
    filter_.Seed = 3  # this one does
    filter_.UpdatePipeline()
    assert iteration(filter_) < reached


def test_a_pause_that_cannot_save_says_so_for_good(source, tmp_path, vtk_errors, monkeypatch):
    import apmgsrn_core

    filter_ = live(source, ModelFile=str(tmp_path / "m.apmgsrn"))
    step(filter_)

    def full(*_):
        raise apmgsrn_core.ModelFileError("the disk is full")

    monkeypatch.setattr(apmgsrn_core, "write_bytes", full)
    step(filter_, "Pause")
    assert len(vtk_errors.take()) == 1 and "not saved: the disk is full" in info(filter_, "Status")
    filter_.UpdatePipeline()
    assert "not saved: the disk is full" in info(filter_, "Status")


def test_bricks_that_are_not_begun_have_no_values(source, tmp_path):
    path = str(tmp_path / "m.apmgsrn")
    filter_ = live(source, Bricks=[2, 1, 1], ModelFile=path)
    step(filter_, "Pause")
    missing = np.isnan(values_of(output(filter_)))
    assert 0.3 < missing.mean() < 0.6
    assert read_header(path).layout.count == 2


def test_reset_begins_anew(source, tmp_path):
    path = str(tmp_path / "m.apmgsrn")
    filter_ = live(source, ModelFile=path)
    for _ in range(5):
        step(filter_)
    step(filter_, "Pause")
    reached = iteration(filter_)
    step(filter_, "Reset")
    assert iteration(filter_) < reached and "paused" in info(filter_, "Status")
    finish(filter_)
    with open(path, "rb") as file:
        assert file.read() == model_of(train(source, Iterations=300))
    step(filter_, "Reset")  # of a finished one as well
    assert iteration(filter_) < 200


@pytest.mark.slow
def test_limits_hold(source):
    filter_ = live(source, Iterations=10**6, TimeBudget=0.3)
    finish(filter_)
    assert info(filter_, "Status").startswith("trained (time budget)")
    filter_ = live(source, Iterations=10**6, StopPSNR=15)
    finish(filter_)
    assert info(filter_, "Status").startswith("trained (psnr reached)")


def test_several_time_steps_are_refused(source, vtk_errors):
    filter_ = live(source, TimeSteps="All")
    assert "Live: expected TimeSteps to be Current, found All" in info(filter_, "LastError")
    assert len(vtk_errors) == 1
    vtk_errors.clear()
    filter_.TimeSteps = "Current"
    filter_.UpdatePipeline()
    assert info(filter_, "Status").startswith("live")


def test_what_fails_in_a_slice_is_told_once(source, vtk_errors, monkeypatch):
    filter_ = live(source)
    step(filter_, "Start")
    algorithm = filter_.GetClientSideObject()
    monkeypatch.setattr(algorithm._live, "advance", lambda *_: 1 / 0)
    assert poll(filter_) and not poll(filter_)
    assert "ZeroDivisionError" in info(filter_, "LastError") and len(vtk_errors) == 1
    vtk_errors.clear()
    step(filter_, "Start")
    assert info(filter_, "Status").startswith("live")


@pytest.mark.mpi
def test_two_ranks_give_the_model_of_one(tmp_path):
    reports = {}
    for ranks, start in ((1, []), (2, MPIRUN)):
        folder = tmp_path / str(ranks)
        folder.mkdir()
        reports[ranks], errors = run([*start, "pvbatch", str(HERE / "live_script.py"), PLUGIN, str(folder)], folder)
        assert "Traceback" not in errors and "ERR|" not in errors, errors
    for report in reports.values():
        assert report["status"].startswith("trained") and len(report["statuses"]) > 2
        assert report["paused"].startswith("live, paused")
    models = [(tmp_path / str(r) / name).read_bytes() for r in (1, 2) for name in ("live.apmgsrn", "at once.apmgsrn")]
    assert len(set(models)) == 1


@pytest.mark.mpi
def test_a_client_of_two_ranks(tmp_path):
    with server(tmp_path) as (port, log):
        report, errors = run(["pvpython", str(HERE / "live_script.py"), PLUGIN, str(tmp_path), port], tmp_path)
    said = errors + log.read_text()
    assert "Traceback" not in said and "ERR|" not in said, said
    assert report["status"].startswith("trained"), said
    assert (tmp_path / "live.apmgsrn").read_bytes() == (tmp_path / "at once.apmgsrn").read_bytes()
    assert json.loads((tmp_path / "report.json").read_text()) == report

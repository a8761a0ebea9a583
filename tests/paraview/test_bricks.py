"""Bricks in the pipeline: the same model from 1, 2 and 4 ranks, little memory on each, errors and kills."""

import json
import os
import signal
import subprocess
import time

import numpy as np
import pytest
from conftest import TINY, info, make_image, output, smooth_values, train, values_of
from paraview import simple
from test_parallel import ENVIRONMENT, HERE, MPIRUN, PLUGIN

KINDS = [
    "wavelet", "shown", "cells", "calculator", "reader", "one", "automatic", "pieces", "piece cells", "filtered pieces",
]  # fmt: skip
BRICKS = {"one": 1, "wavelet": 4, "shown": 6, "cells": 6, "calculator": 4, "reader": 4, "automatic": 8, "pieces": 8,
          "piece cells": 3, "filtered pieces": 3}  # fmt: skip


def command(ranks, folder, what):
    mpirun = [*MPIRUN[:-1], str(ranks)] if ranks > 1 else []
    return [*mpirun, "pvbatch", str(HERE / "bricks_script.py"), PLUGIN, str(folder), what]


def run(ranks, folder, what):
    """What the script reported, and what it printed."""
    done = subprocess.run(command(ranks, folder, what), env=ENVIRONMENT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((folder / f"{what}.json").read_text()), done.stdout + done.stderr


# -- in this process ---------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("cells", [False, True])
@pytest.mark.parametrize("bricks", [(1, 1, 1), (2, 1, 1), (3, 2, 4)])
def test_bricks_and_sampling_agree(cells, bricks, tmp_path):
    values = smooth_values((13, 11, 9))
    extent = [5, 5 + 12 + cells, -3, -3 + 10 + cells, 0, 8 + cells]
    source = make_image(values, extent, origin=(1, 2, 3), spacing=(0.5, 1, -2), cells=cells)
    path = str(tmp_path / "m.apmgsrn")
    filter_ = train(source, Bricks=bricks, ModelFile=path, Iterations=200)
    volume = simple.NeuralVolume(FileName=path)
    volume.UpdatePipeline()
    side = "CellData" if cells else "PointData"
    found = values_of(output(filter_), "f", side)
    np.testing.assert_array_equal(found, values_of(output(volume), "f", side))
    assert np.sqrt(((found - values.ravel()) ** 2).mean()) < 5
    assert output(filter_).GetBounds() == output(source).GetBounds() == pytest.approx(output(volume).GetBounds())
    table = output(filter_, 1)
    numbers = {table.GetColumnByName("brick").GetValue(row) for row in range(table.GetNumberOfRows())}
    assert numbers == set(range(int(np.prod(bricks))))


def test_only_the_last_pass_leaves_outputs_and_nothing_trains_again(trainings):
    filter_ = train(make_image(smooth_values((13, 11, 9))), Bricks=[2, 2, 1])
    for port in (0, 1, 2):
        simple.OutputPort(filter_, port).UpdatePipeline()
    assert len(trainings) == 1
    filter_.Bricks = [1, 2, 2]
    filter_.UpdatePipeline()
    assert len(trainings) == 2 and "4 bricks" in info(filter_, "Status")
    filter_.Bricks = [2, 2, 1]
    filter_.UpdatePipeline()
    assert len(trainings) == 2


def test_impossible_bricks_are_told_and_mended(vtk_errors):
    filter_ = train(make_image(smooth_values((7, 8, 9))), Bricks=[7, 1, 1])
    assert vtk_errors.take() == ["TrainNeuralVolume: bricks: expected at most 6 along x for 7 values, found 7"]
    filter_.Bricks = [6, 1, 1]
    filter_.UpdatePipeline()
    assert info(filter_, "LastError") == "" and "6 bricks" in info(filter_, "Status")


def test_without_reconstruction_there_is_the_rest(tmp_path):
    path = str(tmp_path / "m.apmgsrn")
    filter_ = train(make_image(smooth_values((13, 11, 9))), Bricks=[2, 1, 1], OutputReconstruction=0, ModelFile=path)
    assert output(filter_).GetNumberOfPoints() == 0
    assert output(filter_, 1).GetNumberOfRows() == 60 and os.path.getsize(path) > 1000
    filter_.OutputReconstruction = 1
    filter_.UpdatePipeline()
    assert output(filter_).GetNumberOfPoints() == 13 * 11 * 9


def test_several_devices_train_and_sample():
    source = make_image(smooth_values((13, 11, 9)))
    one, two = (train(source, Bricks=[2, 2, 1], Device=device) for device in ("cpu", "cpu,cpu"))
    np.testing.assert_array_equal(values_of(output(one)), values_of(output(two)))


def test_parameters_are_those_of_all_bricks(tmp_path):
    source, path = make_image(smooth_values((33, 31, 29))), str(tmp_path / "m.apmgsrn")
    train(source, Bricks=[2, 2, 1], Parameters=20000, Preset="Small", Rounding=0, ModelFile=path)
    assert 0.75 * 40000 < os.path.getsize(path) < 1.4 * 40000


def test_progress_is_reported_on_request(capfd):
    train(make_image(smooth_values((13, 11, 9))), Bricks=[2, 1, 1], ReportProgress=0.001, Iterations=600)
    lines = [line for line in capfd.readouterr().out.splitlines() if line.startswith("rank 0: brick ")]
    assert len(lines) >= 2 and "(1 of 2 done): iteration 600 of 600" in lines[-1]


def test_large_models_are_left_in_their_file_and_not_mixed_up(tmp_path, monkeypatch, trainings):
    from apmgsrn_paraview import trained_model

    monkeypatch.setattr(trained_model, "LARGE_BYTES", 10)
    filter_ = train(make_image(smooth_values((13, 11, 9))), Bricks=[2, 1, 1], ModelFile=str(tmp_path / "m.apmgsrn"))
    first = values_of(output(filter_)).copy()
    filter_.Seed = 1
    filter_.UpdatePipeline()
    second = values_of(output(filter_)).copy()
    filter_.Seed = 0
    filter_.UpdatePipeline()
    assert len(trainings) == 3 and (first != second).any()
    np.testing.assert_array_equal(values_of(output(filter_)), first)


def test_an_abort_keeps_the_finished_bricks_for_the_next_time(vtk_errors, tmp_path):
    path = tmp_path / "m.apmgsrn"
    source = make_image(smooth_values((13, 11, 9)))
    settings = {**TINY, "Iterations": 300, "ModelFile": str(path), "Bricks": [2, 2, 1]}
    filter_ = simple.TrainNeuralVolume(Input=source, **settings)
    algorithm = filter_.GetClientSideObject()

    def abort(caller, event):
        if "2 of 4 done" in (caller.GetProgressText() or ""):
            caller.SetAbortExecute(1)

    tag = algorithm.AddObserver("ProgressEvent", abort)
    filter_.UpdatePipeline()
    (line,) = vtk_errors.take()
    assert "stopped by user before all 4 bricks were trained; the finished ones are kept" in line
    assert not path.exists() and len(list(tmp_path.glob("m.apmgsrn.training/*.part"))) in (2, 3)
    algorithm.RemoveObserver(tag)
    filter_.CheckpointInterval = 30  # any setting that does not matter to the model
    filter_.UpdatePipeline()
    assert info(filter_, "LastError") == "" and path.exists()


def test_an_abort_while_looking_is_heard(vtk_errors):
    filter_ = simple.TrainNeuralVolume(Input=make_image(smooth_values((13, 11, 9))), **TINY, Bricks=[2, 2, 1])
    algorithm = filter_.GetClientSideObject()
    algorithm.AddObserver("ProgressEvent", lambda caller, event: caller.SetAbortExecute(1))
    filter_.UpdatePipeline()
    (line,) = vtk_errors.take()
    assert "stopped by user while the bricks were looked at" in line


# -- on several ranks --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """{ranks: (folder, report)}"""
    above = tmp_path_factory.mktemp("bricks")
    wavelet = simple.Wavelet(WholeExtent=[-6, 6, -5, 5, -4, 6])
    simple.SaveData(str(above / "input.vti"), proxy=wavelet, DataMode="Binary")
    results = {}
    for ranks in (1, 2, 4):
        folder = above / f"ranks{ranks}"
        folder.mkdir()
        results[ranks] = folder, run(ranks, folder, "models")[0]
    return results


def read(path):
    reader = simple.OpenDataFile(str(path))
    reader.UpdatePipeline()
    image = output(reader)
    side = image.GetPointData() if image.GetPointData().GetNumberOfArrays() else image.GetCellData()
    return image.GetDimensions(), np.array(side.GetArray(0))


@pytest.mark.mpi
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ranks", [2, 4])
def test_any_number_of_ranks_gives_the_same_model(runs, kind, ranks):
    one, many = (runs[n][0] / f"{kind}.apmgsrn" for n in (1, ranks))
    assert one.read_bytes() == many.read_bytes()
    dims, values = read(runs[1][0] / f"{kind}.pvti")
    other_dims, other = read(runs[ranks][0] / f"{kind}.pvti")
    assert dims == other_dims
    np.testing.assert_allclose(values, other, atol=1e-5 * np.ptp(values))


@pytest.mark.mpi
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_every_kind_of_source_is_trained_once(runs, kind, ranks):
    report = runs[ranks][1][kind]
    assert report["Status"].startswith("trained") and report["LastError"] == ""
    assert report["again"].startswith("loaded from")
    assert report["cells"] == report["sampled"] > 500
    assert report["rows"] == 30 * BRICKS[kind]
    assert report["boxes"] == runs[1][1][kind]["boxes"] >= BRICKS[kind]


@pytest.mark.mpi
@pytest.mark.parametrize("ranks", [1, 2])
def test_an_error_on_one_rank_is_told_once_and_does_not_hang(ranks, tmp_path):
    report, printed = run(ranks, tmp_path, "errors")
    assert "expected the point array" in report["failing"]["LastError"] or "on no rank" in report["failing"]["LastError"]
    assert "ranks without any: 1" in report["failing"]["LastError"] or ranks == 1
    assert "'f'" in report["nameless"]["LastError"] or "on no rank" in report["nameless"]["LastError"]
    assert report["late"]["LastError"], report["late"]
    assert report["impossible"]["LastError"] == "bricks: expected at most 7 along x for 8 values, found 8"
    assert printed.count("expected at most 7 along x") == 1
    assert report["good"]["Status"].startswith("trained") and report["good"]["LastError"] == ""


@pytest.mark.mpi
@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="needs Linux's /proc")
def test_a_rank_holds_no_more_than_its_brick(tmp_path):
    """256^3 float32, 64 MiB: whole, and in 64 bricks of 1 MiB."""
    report, _ = run(2, tmp_path, "memory")
    assert len(report["bricks"]) == 2
    assert max(report["whole"]) > 64  # so that the measure can fail
    assert max(report["bricks"]) < 40


@pytest.mark.mpi
def test_kill_of_one_rank_ends_all_and_the_same_command_goes_on(tmp_path):
    job = subprocess.Popen(
        command(2, tmp_path, "resume"), env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    folder, end = tmp_path / "r.apmgsrn.training", time.time() + 60
    while time.time() < end and not list(folder.glob("*.part")):
        time.sleep(0.02)
    victim = ranks_of(job.pid)[-1]
    os.kill(victim, signal.SIGKILL)
    _, told = job.communicate(timeout=10)
    assert job.returncode != 0 and "signal 9" in told
    assert not (tmp_path / "r.apmgsrn").exists()
    kept = len(list(folder.glob("*.part")))
    assert kept >= 1
    report, printed = run(2, tmp_path, "resume")
    assert report["Status"].startswith("trained")
    assert f"({kept} of 4 done)" in printed and "(0 of 4 done)" not in printed
    again = tmp_path / "again"
    again.mkdir()
    run(1, again, "resume")
    assert (again / "r.apmgsrn").read_bytes() == (tmp_path / "r.apmgsrn").read_bytes()
    assert not folder.exists()


def ranks_of(parent: int) -> list:
    """The processes that mpirun has started."""
    with open(f"/proc/{parent}/task/{parent}/children") as file:
        return [int(word) for word in file.read().split()]


def test_the_panel_says_how_many_bricks_and_numbers(tmp_path):
    source = make_image(smooth_values((33, 31, 29)))
    filter_ = simple.TrainNeuralVolume(Input=source, Preset="Small", Bricks=[2, 2, 1], Rounding=0)
    filter_.UpdatePipelineInformation()
    small = 77_000
    assert 0.98 * 4 * small < info(filter_, "NumberOfParameters") <= 4 * small
    assert "in 4 bricks" in info(filter_, "EffectiveModel")
    ratio = info(filter_, "EstimatedRatio")
    filter_.Parameters = 20_000
    filter_.UpdatePipelineInformation()
    assert info(filter_, "NumberOfParameters") == 20_000
    by_numbers = ratio * 4 * small / 20_000  # a small file is more than its numbers
    assert 0.8 * by_numbers < info(filter_, "EstimatedRatio") < by_numbers
    path = str(tmp_path / "m.apmgsrn")
    train(source, Bricks=[2, 1, 1], ModelFile=path)
    volume = simple.NeuralVolume(FileName=path)
    volume.UpdatePipelineInformation()
    assert "in 2 bricks" in info(volume, "ModelInformation")

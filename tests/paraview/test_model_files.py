"""Saving, loading instead of training, states, refining."""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, info, make_image, output, smooth_values, train, values_of
from paraview import simple

from apmgsrn_core import read_header

DIMS = (12, 11, 10)


def test_save_data_writes_the_model(tmp_path):
    filter_ = train(make_image(smooth_values(DIMS)))
    path = str(tmp_path / "saved.apmgsrn")
    simple.SaveData(path, proxy=filter_)
    reader = simple.OpenDataFile(path)
    reader.UpdatePipeline()
    np.testing.assert_allclose(values_of(output(reader)), values_of(output(filter_)), atol=1e-3)
    again = str(tmp_path / "again.apmgsrn")
    simple.SaveData(again, proxy=reader)
    assert Path(path).read_bytes() == Path(again).read_bytes()


def test_saving_does_not_train_or_sample_again(tmp_path, trainings):
    filter_ = train(make_image(smooth_values(DIMS)))
    image, time = output(filter_), output(filter_).GetMTime()
    simple.SaveData(str(tmp_path / "saved.apmgsrn"), proxy=filter_)
    assert len(trainings) == 1
    assert output(filter_) is image and image.GetMTime() == time


@pytest.mark.parametrize("port", [1, 2])
def test_the_other_outputs_can_be_saved_as_model_too(port, tmp_path):
    filter_ = train(make_image(smooth_values(DIMS)))
    path = str(tmp_path / "saved.apmgsrn")
    simple.SaveData(path, proxy=simple.OutputPort(filter_, port))
    assert read_header(path).arrays[0].name == "f"


def test_saving_data_without_a_model_is_told(tmp_path, vtk_errors):
    path = tmp_path / "no.apmgsrn"
    simple.SaveData(str(path), proxy=make_image(smooth_values(DIMS)))
    lines = [line for line in vtk_errors.take() if "ModelWriter" in line]
    assert len(lines) == 1 and "apmgsrn_model" in lines[0]
    assert not path.exists()


def test_a_model_file_that_fits_is_loaded(tmp_path, trainings):
    path = str(tmp_path / "m.apmgsrn")
    source = make_image(smooth_values(DIMS))
    first = train(source, ModelFile=path)
    second = train(source, ModelFile=path)
    assert len(trainings) == 1
    assert info(second, "Status").startswith("loaded from")
    np.testing.assert_array_equal(values_of(output(first)), values_of(output(second)))
    assert output(second, 1).GetNumberOfColumns() == 6 and output(second, 1).GetNumberOfRows() == 0
    assert output(second, 2).GetNumberOfCells() == 48
    train(source, ModelFile=path, Seed=1)  # another key: trained, the file is replaced
    assert len(trainings) == 2


def test_naming_the_model_later_writes_it_without_training(tmp_path, trainings):
    filter_ = train(make_image(smooth_values(DIMS)))
    temporary = output(filter_).GetFieldData().GetAbstractArray("apmgsrn_model").GetValue(0)
    filter_.ModelFile = str(tmp_path / "m.apmgsrn")
    filter_.UpdatePipeline()
    assert len(trainings) == 1
    assert Path(temporary).read_bytes() == (tmp_path / "m.apmgsrn").read_bytes()


def test_a_state_with_a_model_file_does_not_train_again(tmp_path, trainings):
    wavelet = simple.Wavelet(WholeExtent=[-5, 5, -4, 4, -3, 6])
    wavelet.UpdatePipeline()
    filter_ = train(wavelet, ModelFile=str(tmp_path / "m.apmgsrn"))
    simple.RenameSource("Trainer", filter_)
    before = values_of(output(filter_), "RTData").copy()
    state = str(tmp_path / "state.pvsm")
    simple.SaveState(state)
    for proxy in (filter_, wavelet):
        simple.Delete(proxy)
    simple.LoadState(state)
    loaded = simple.FindSource("Trainer")
    loaded.UpdatePipeline()
    assert len(trainings) == 1
    assert loaded.Preset == "Custom" and loaded.Iterations == 30
    np.testing.assert_array_equal(values_of(output(loaded), "RTData"), before)


def test_initial_model_is_refined(tmp_path, trainings):
    path = str(tmp_path / "m.apmgsrn")
    source = make_image(smooth_values(DIMS))
    train(source, ModelFile=path, Iterations=300, BatchSize=1000)
    fresh = train(source, Iterations=2)
    refined = train(source, Iterations=2, InitialModel=path)
    truth = values_of(output(source))
    errors = [np.abs(values_of(output(f)) - truth).mean() for f in (fresh, refined)]
    assert errors[1] < 0.5 * errors[0]
    assert len(trainings) == 3


@pytest.mark.slow
def test_temporary_models_go_away_with_the_process(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(f"""
import os
from paraview import simple
simple.LoadPlugin({str(ROOT / "xml" / "apmgsrn.xml")!r}, remote=False, ns=vars(simple))
wavelet = simple.Wavelet(WholeExtent=[0, 7, 0, 7, 0, 7])
trainer = simple.TrainNeuralVolume(Input=wavelet, Preset="Custom", NumberOfGrids=2, Iterations=2, BatchSize=50)
trainer.UpdatePipeline()
data = trainer.GetClientSideObject().GetOutputDataObject(0)
path = data.GetFieldData().GetAbstractArray("apmgsrn_model").GetValue(0)
assert os.path.exists(path)
print("MODEL", path)
""")
    run = subprocess.run(["pvpython", str(script)], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    path = next(line.split()[1] for line in run.stdout.splitlines() if line.startswith("MODEL"))
    assert not os.path.exists(os.path.dirname(path))

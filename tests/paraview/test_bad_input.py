"""Each failure: one readable line that names the thing, LastError set, outputs empty but valid, ParaView alive."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, TINY, info, make_image, make_source, output, smooth_values, train
from paraview import simple
from vtkmodules.vtkCommonDataModel import vtkImageData

DIMS = (12, 11, 10)


def assert_one_line(errors, proxy, *words):
    """The one line that was shown has the words, and the proxy says the same."""
    lines = errors.take()
    assert len(lines) == 1, lines
    assert "\n" not in lines[0] and "Traceback" not in lines[0] and "unexpected" not in lines[0]
    for word in words:
        assert word in lines[0], lines[0]
    assert info(proxy, "LastError") in lines[0]
    assert info(proxy, "Status").startswith("failed")


def assert_empty_but_valid(filter_):
    """Filters downstream run on the outputs without a further error."""
    assert output(filter_).GetPointData().GetNumberOfArrays() == 0
    assert output(filter_, 1).GetNumberOfRows() == 0
    assert output(filter_, 2).GetNumberOfCells() == 0
    outline = simple.Outline(Input=filter_)
    outline.UpdatePipeline()


def failing(source, **settings):
    filter_ = simple.TrainNeuralVolume(Input=source, **{**TINY, **settings})
    filter_.UpdatePipeline()
    filter_.UpdatePipeline()
    return filter_


def test_a_table(vtk_errors):
    table = simple.ProgrammableSource(OutputDataSetType="vtkTable", Script="")
    filter_ = failing(table)
    lines = vtk_errors.take()
    assert lines and "expected a data set or composite data, found vtkTable" in lines[0]
    assert "vtkTable" in info(filter_, "LastError")


def test_a_mesh_without_the_array(vtk_errors):
    filter_ = failing(simple.Sphere(), TargetArray=["POINTS", "pressure"])
    assert_one_line(vtk_errors, filter_, "'pressure'", "point arrays: Normals")
    assert_empty_but_valid(filter_)


def test_an_array_that_is_not_there(vtk_errors):
    filter_ = failing(make_image(smooth_values(DIMS)), TargetArray=["POINTS", "pressure"])
    assert_one_line(vtk_errors, filter_, "'pressure'", "point arrays: f", "cell arrays: none")
    assert_empty_but_valid(filter_)
    filter_.TargetArray = ["POINTS", "f"]
    filter_.UpdatePipeline()
    assert info(filter_, "LastError") in ("", None)
    assert output(filter_).GetPointData().GetNumberOfArrays() == 1


def test_no_arrays(vtk_errors):
    filter_ = failing(make_source(_image((3, 3, 3))))
    assert_one_line(vtk_errors, filter_, "array")


def _image(dims):
    image = vtkImageData()
    image.SetDimensions(dims)
    return image


def test_empty_data(vtk_errors):
    filter_ = failing(make_source(vtkImageData()))
    assert_one_line(vtk_errors, filter_, "input")


def test_one_voxel(vtk_errors):
    filter_ = failing(make_image(np.ones((1, 1, 1), dtype="float32")))
    assert_one_line(vtk_errors, filter_, "'f'", "at least 2 values", "found 1")
    assert_empty_but_valid(filter_)


def test_all_nan(vtk_errors):
    filter_ = failing(make_image(np.full((5, 5, 5), np.nan, dtype="float32")))
    assert_one_line(vtk_errors, filter_, "'f'", "finite", "125")
    assert_empty_but_valid(filter_)


def test_an_unknown_device(vtk_errors, tmp_path):
    filter_ = failing(make_image(smooth_values(DIMS)), Device="abacus")
    assert_one_line(vtk_errors, filter_, "'abacus'", "cpu")
    path = str(tmp_path / "m.apmgsrn")
    train(make_image(smooth_values(DIMS)), ModelFile=path)
    source = simple.NeuralVolume(FileName=path, Device="abacus")
    source.UpdatePipeline()
    assert_one_line(vtk_errors, source, "'abacus'", "cpu")


@pytest.mark.parametrize("folder", ["/no/such/folder", "/proc"])
def test_a_folder_that_cannot_be_written_is_told_before_training(vtk_errors, trainings, folder):
    filter_ = failing(make_image(smooth_values(DIMS)), ModelFile=folder + "/m.apmgsrn")
    assert_one_line(vtk_errors, filter_, folder)
    assert trainings == []
    assert_empty_but_valid(filter_)


def test_a_file_that_is_no_model_is_not_overwritten(vtk_errors, trainings, tmp_path):
    precious = tmp_path / "data.raw"
    precious.write_bytes(b"years of work" * 100)
    filter_ = failing(make_image(smooth_values(DIMS)), ModelFile=str(precious))
    assert_one_line(vtk_errors, filter_, "data.raw", "not overwrite")
    assert trainings == []
    assert precious.read_bytes() == b"years of work" * 100


@pytest.mark.parametrize("name", ["/no/such/file.apmgsrn", None])
def test_an_initial_model_that_is_missing_or_foreign(vtk_errors, tmp_path, name):
    if name is None:
        name = str(tmp_path / "foreign.apmgsrn")
        Path(name).write_bytes(b"foreign" * 100)
    filter_ = failing(make_image(smooth_values(DIMS)), InitialModel=name)
    assert_one_line(vtk_errors, filter_, "InitialModel", name)


def test_settings_that_are_not_allowed(vtk_errors):
    filter_ = failing(make_image(smooth_values(DIMS)), NumberOfGrids=0)
    assert_one_line(vtk_errors, filter_, "number_of_grids")


@pytest.mark.parametrize("content", [None, b"", b"not a model" * 50])
def test_a_source_file_that_is_missing_empty_or_foreign(vtk_errors, tmp_path, content):
    path = tmp_path / "m.apmgsrn"
    if content is not None:
        path.write_bytes(content)
    source = simple.NeuralVolume(FileName=str(path))
    source.UpdatePipeline()
    source.UpdatePipeline()
    assert_one_line(vtk_errors, source, str(path))
    assert output(source).GetNumberOfPoints() == 0
    contour = simple.Outline(Input=source)
    contour.UpdatePipeline()


def test_a_damaged_file(vtk_errors, tmp_path):
    path = tmp_path / "m.apmgsrn"
    train(make_image(smooth_values(DIMS)), ModelFile=str(path))
    data = bytearray(path.read_bytes())
    data[200] ^= 255
    path.write_bytes(data)
    source = simple.NeuralVolume(FileName=str(path))
    source.UpdatePipeline()
    assert_one_line(vtk_errors, source, str(path), "checksum")
    assert output(source).GetDimensions() == DIMS and output(source).GetPointData().GetNumberOfArrays() == 0


def test_no_file_name_is_quiet_until_data_is_asked_for(vtk_errors):
    source = simple.NeuralVolume()
    source.UpdatePipelineInformation()
    assert vtk_errors == []
    source.UpdatePipeline()
    assert_one_line(vtk_errors, source, "FileName")


def test_a_region_outside(vtk_errors, tmp_path):
    path = str(tmp_path / "m.apmgsrn")
    train(make_image(smooth_values(DIMS)), ModelFile=path)
    source = simple.NeuralVolume(FileName=path, UseRegionOfInterest=1, RegionOfInterest=[90, 91, 90, 91, 90, 91])
    source.UpdatePipeline()
    assert_one_line(vtk_errors, source, "region of interest", "90")


@pytest.mark.parametrize("settings", [{"Scale": 0.0}, {"Scale": 100}, {"Dimensions": [-1, 0, 0]}])
def test_a_resolution_that_is_not_allowed(vtk_errors, tmp_path, settings):
    path = str(tmp_path / "m.apmgsrn")
    train(make_image(smooth_values(DIMS)), ModelFile=path)
    source = simple.NeuralVolume(FileName=path, **settings)
    source.UpdatePipeline()
    assert_one_line(vtk_errors, source, next(iter(settings)))


def test_without_torch(tmp_path):
    """The plugin loads, headers are read, and whoever needs torch says so in one line."""
    model = str(tmp_path / "m.apmgsrn")
    train(make_image(smooth_values(DIMS)), ModelFile=model)
    (tmp_path / "torch.py").write_text("raise ImportError('torch is not here')\n")
    script = tmp_path / "script.py"
    script.write_text(f"""
import sys; sys.path.insert(0, {str(tmp_path)!r})
from paraview.simple import *
LoadPlugin({str(ROOT / "xml/apmgsrn.xml")!r}, remote=False, ns=globals())
for proxy in (TrainNeuralVolume(Input=Wavelet(WholeExtent=[0, 5, 0, 5, 0, 5])), NeuralVolume(FileName={model!r})):
    proxy.UpdatePipeline()
    proxy.UpdatePropertyInformation()
    print("ERROR", proxy.GetPropertyValue("LastError"))
print("EXTENT", proxy.GetClientSideObject().GetOutputDataObject(0).GetExtent())
""")
    run = subprocess.run(["pvpython", str(script)], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    lines = [line for line in run.stdout.splitlines() if line.startswith("ERROR")]
    assert len(lines) == 2 and all("torch" in line for line in lines), run.stdout + run.stderr
    assert "EXTENT (0, 11, 0, 10, 0, 9)" in run.stdout
    assert run.stderr.count("torch is not here") == 2 and "Traceback" not in run.stderr, run.stderr


def test_importing_the_plugin_imports_nothing_heavy():
    names = ("train_neural_volume", "neural_volume", "model_writer")
    code = "import sys, " + ", ".join(f"apmgsrn_paraview.{name}" for name in names)
    code += "; print('HEAVY', sorted({'torch', 'mpi4py', 'paraview.simple'} & set(sys.modules)))"
    run = subprocess.run(["pvpython", "-c", code], capture_output=True, text=True, timeout=60)
    assert "HEAVY []" in run.stdout, run.stdout + run.stderr


def test_zero_spacing(vtk_errors):
    filter_ = failing(make_image(smooth_values(DIMS), spacing=(1, 0, 1)))
    assert_one_line(vtk_errors, filter_, "spacing", "0.0")


def test_one_file_for_initial_model_and_model_file(vtk_errors, tmp_path):
    path = str(tmp_path / "m.apmgsrn")
    source = make_image(smooth_values(DIMS))
    train(source, ModelFile=path)
    before = Path(path).read_bytes()
    filter_ = failing(source, InitialModel=path, ModelFile=path)
    assert_one_line(vtk_errors, filter_, "InitialModel and ModelFile", path)
    assert Path(path).read_bytes() == before


def test_a_failure_is_tried_again_when_a_setting_was_touched(vtk_errors, tmp_path, trainings):
    path = tmp_path / "later" / "m.apmgsrn"
    filter_ = failing(make_image(smooth_values(DIMS)), ModelFile=str(path))
    assert_one_line(vtk_errors, filter_, "later", "No such file")
    path.parent.mkdir()
    filter_.Seed = 1
    filter_.UpdatePipeline()
    filter_.Seed = 0
    filter_.UpdatePipeline()
    assert info(filter_, "LastError") == "" and len(trainings) == 2 and path.exists()


def test_a_damaged_model_file_is_trained_again(tmp_path, trainings):
    path = tmp_path / "m.apmgsrn"
    source = make_image(smooth_values(DIMS))
    train(source, ModelFile=str(path))
    good = path.read_bytes()
    path.write_bytes(good[:300] + b"\0\0\0\0" + good[304:])
    again = train(source, ModelFile=str(path))
    assert len(trainings) == 2 and path.read_bytes() == good and info(again, "LastError") == ""

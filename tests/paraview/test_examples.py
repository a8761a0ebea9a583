"""The examples do what they say."""

import csv
import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from meshes import add, linear, positions_of, rectilinear, with_fields
from paraview import servermanager
from paraview.simple import Contour, Delete, ProgrammableFilter, ProgrammableSource, UpdatePipeline, Wavelet
from vtkmodules.util.numpy_support import vtk_to_numpy
from vtkmodules.vtkIOXML import vtkXMLRectilinearGridWriter

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_programmable_filter_trains_and_programmable_source_samples(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("APMGSRN_MODEL", str(tmp_path / "wavelet.apmgsrn"))
    monkeypatch.setenv("APMGSRN_ITERATIONS", "40")
    monkeypatch.setenv("APMGSRN_SCALE", "2")
    wavelet = Wavelet(WholeExtent=[-8, 8, -7, 7, -6, 9])
    text = (EXAMPLES / "programmable_filter.py").read_text()
    trained = ProgrammableFilter(Input=wavelet, OutputDataSetType="vtkImageData", Script=text)
    UpdatePipeline(proxy=trained)
    psnr = float(re.search(r"([-\d.]+) dB", capsys.readouterr().out).group(1))
    assert psnr > 12
    reconstruction = servermanager.Fetch(trained)
    assert reconstruction.GetExtent() == (-8, 8, -7, 7, -6, 9)

    text = (EXAMPLES / "programmable_source.py").read_text()
    source = ProgrammableSource(OutputDataSetType="vtkImageData", ScriptRequestInformation=text, Script=text)
    UpdatePipeline(proxy=source)
    image = servermanager.Fetch(source)
    assert image.GetDimensions() == (33, 29, 31)
    assert image.GetBounds() == pytest.approx(reconstruction.GetBounds())
    fine = vtk_to_numpy(image.GetPointData().GetArray("RTData")).reshape(31, 29, 33)
    coarse = vtk_to_numpy(reconstruction.GetPointData().GetArray("RTData")).reshape(16, 15, 17)
    assert abs(fine[::2, ::2, ::2] - coarse).max() < 1e-3
    contour = Contour(Input=source, ContourBy=["POINTS", "RTData"], Isosurfaces=[float(coarse.mean())])
    UpdatePipeline(proxy=contour)
    assert servermanager.Fetch(contour).GetNumberOfCells() > 0
    for proxy in (contour, source, trained, wavelet):
        Delete(proxy)


@pytest.mark.slow
def test_quickstart_leaves_model_history_picture_and_figures(tmp_path):
    command = ["pvpython", str(EXAMPLES / "quickstart.py"), "--seconds", "5", "--output", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=os.environ, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = dict(re.findall(r"^(\w+): ([\d.]+)$", done.stdout, re.MULTILINE))
    assert float(figures["psnr_db"]) > 18  # five seconds on a busy machine; two minutes give more than 27
    model = tmp_path / "out" / "model.apmgsrn"
    assert int(figures["model_bytes"]) == model.stat().st_size
    assert float(figures["ratio"]) == pytest.approx(4 * 128**3 / model.stat().st_size, abs=0.1)
    assert set(figures) == {"psnr_db", "model_bytes", "ratio", "train_seconds", "sample_mpts_per_s"}
    rows = list(csv.DictReader((tmp_path / "out" / "history.csv").read_text().splitlines()))
    assert rows and {"iteration", "seconds", "loss", "psnr", "learning_rate"} <= set(rows[0])
    assert (tmp_path / "out" / "picture.png").read_bytes()[:4] == b"\x89PNG"
    assert not re.search("ERR|Traceback", done.stderr), done.stderr


def readme_block(first: str) -> str:
    """The Python of the README that begins with these words."""
    blocks = re.findall(r"```python\n(.*?)```", (EXAMPLES.parent / "README.md").read_text(), re.DOTALL)
    (block,) = [block for block in blocks if block.startswith(first)]
    return block


LOOK = """
for proxy in (values, errors, tree):
    proxy.UpdatePipeline()
valid = Threshold(Input=values, Scalars=["POINTS", "vtkValidPointMask"], LowerThreshold=1, UpperThreshold=1)
valid.UpdatePipeline()
print("places:", values.GetDataInformation().GetNumberOfPoints(), valid.GetDataInformation().GetNumberOfPoints())
print("arrays:", *sorted(array.Name for array in values.PointData))
print("errors:", *sorted(array.Name for array in errors.PointData))
print("cells:", tree.GetDataInformation().GetNumberOfCells())
"""


@pytest.mark.slow
def test_any_data_of_the_readme(tmp_path):
    """As it stands there, less most of the iterations, on a small ocean where the real one is."""
    axes = np.linspace(20.5, 379.5, 37), np.linspace(-89.5, 89.5, 19), np.array([-50.0, -30, -15, -10, -6, -3, -1, 0])
    ocean = with_fields(rectilinear(*axes))
    for name, slope in (("temperature", 0.1), ("salinity", -0.2)):
        add(ocean, name, slope * linear(positions_of(ocean)))
    writer = vtkXMLRectilinearGridWriter()
    writer.SetFileName(str(tmp_path / "ocean.vtr"))
    writer.SetDataModeToBinary()
    writer.SetInputData(ocean)
    writer.Write()
    block = readme_block("ocean =")
    assert block.count("SeveralArrays=1,") == 1
    script = tmp_path / "script.py"
    few = block.replace("SeveralArrays=1,", 'SeveralArrays=1, Iterations=40, Device="cpu",')
    script.write_text(f"from paraview.simple import *\n{few}{LOOK}")
    done = subprocess.run(["pvpython", str(script)], capture_output=True, text=True, timeout=200, env=os.environ, cwd=tmp_path)
    assert done.returncode == 0 and not re.search("ERR|Traceback|expected", done.stderr), done.stdout + done.stderr
    told = dict(re.findall(r"^(\w+): (.+)$", done.stdout, re.MULTILINE))
    places, valid = map(int, told["places"].split())
    assert places == valid > 1000
    assert {"temperature", "salinity", "temperature_Gradient", "salinity_Gradient"} <= set(told["arrays"].split())
    assert {"temperature_error", "salinity_absolute_error"} <= set(told["errors"].split())
    assert int(told["cells"]) > 1

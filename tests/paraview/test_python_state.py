"""Python states of ParaView (File > Save State, .py): they run again unchanged, in a new process, and train nothing again."""

from __future__ import annotations

import json
import subprocess

import pytest
from conftest import ROOT, make_image, output, smooth_values
from paraview import simple, smstate, smtrace
from small_models import DIMS, GRID, train_models

import apmgsrn

CUSTOM = {"Preset": "Custom", "NumberOfGrids": 4, "GridResolution": [4, 4, 4], "HiddenWidth": 16, "Iterations": 20, "Device": "cpu"}
REPORT = """
import json
from paraview import servermanager
found = {}
for (name, _), source in GetSources().items():
    source.UpdatePipeline()
    known = [n for n in source.ListProperties() if n in ("Status", "LastError", "Scale", "Preset", "Iterations", "FileName")]
    source.UpdatePropertyInformation()
    values = {n: str(source.GetPropertyValue(n)) for n in known}
    data = servermanager.Fetch(source)  # all of it: of a hidden source a filter above the model has asked for a corner
    names = sorted(data.GetPointData().GetArrayName(number) for number in range(data.GetPointData().GetNumberOfArrays()))
    found[name] = [source.GetXMLName(), values, list(data.GetBounds()), names]
RenderAllViews()
print("FOUND", json.dumps(found))
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return train_models(tmp_path_factory.mktemp("models"))


def report(text: str, folder) -> dict:
    """What a script with a report at its end says in a process of its own."""
    script = folder / "state.py"
    script.write_text(f"from paraview.simple import *\nLoadPlugin({str(ROOT / 'xml/apmgsrn.xml')!r}, ns=globals())\n{text}\n{REPORT}")
    result = subprocess.run(["pvpython", script], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0 and "ERR|" not in result.stderr, result.stdout + result.stderr
    return json.loads(result.stdout.split("FOUND ")[1])


@pytest.mark.slow
def test_a_python_state_runs_again_and_finds_the_trained_model(models, tmp_path, trainings):
    data = tmp_path / "field.vti"
    image = make_image(smooth_values(DIMS), origin=GRID.origin, spacing=GRID.spacing, name="f")
    simple.SaveData(str(data), proxy=image, DataMode="Binary")
    simple.Delete(image)
    source = simple.OpenDataFile(str(data))
    simple.RenameSource("data", source)
    trained = simple.TrainNeuralVolume(registrationName="trained", Input=source, ModelFile=str(tmp_path / "t.apmgsrn"), **CUSTOM)
    trained.UpdatePipeline()
    assert len(trainings) == 1
    volume = simple.NeuralVolume(registrationName="volume", FileName=models["several"], Scale=2)
    simple.SampleNeuralVolume(registrationName="sampled", Input=source, FileName=models["f"])
    simple.CompareNeuralVolume(registrationName="compared", Input=source, Model=volume)
    view = simple.CreateView("RenderView", ViewSize=[70, 53])
    simple.Show(volume, view)
    rendered = apmgsrn.show(view, volume)
    simple.RenameSource("rendered", rendered)
    expected = {}
    for (name, _), proxy in simple.GetSources().items():
        proxy.UpdatePipeline()
        expected[name] = [proxy.GetXMLName(), list(simple.servermanager.Fetch(proxy).GetBounds())]
    written = (tmp_path / "t.apmgsrn").stat().st_mtime_ns
    text = smstate.get_state()
    for name in ("TrainNeuralVolume(", "NeuralVolume(", "SampleNeuralVolume(", "CompareNeuralVolume(", "RenderNeuralVolume("):
        assert name in text
    found = report(text, tmp_path)
    assert {name: [kind, bounds] for name, (kind, _, bounds, _) in found.items()} == expected
    assert not [values["LastError"] for _, values, _, _ in found.values() if values.get("LastError", "''") not in ("", "''")]
    assert (tmp_path / "t.apmgsrn").stat().st_mtime_ns == written and "loaded" in found["trained"][1]["Status"].lower()
    assert found["volume"][3] == ["f", "v"] and float(found["volume"][1]["Scale"]) == 2
    assert output(trained) is not None


@pytest.mark.slow
def test_a_trace_runs_again(models, tmp_path):
    smtrace.start_trace()
    try:
        volume = simple.NeuralVolume(registrationName="volume", FileName=models["several"], Scale=2)
        volume.UpdatePipeline()
        view = simple.CreateView("RenderView", ViewSize=[70, 53])
        simple.Show(volume, view)
        contour = simple.Contour(registrationName="contour", Input=volume, ContourBy=["POINTS", "f"], Isosurfaces=[50.0])
        trained = simple.TrainNeuralVolume(registrationName="trained", Input=volume, **CUSTOM)
        trained.TargetArray = ["POINTS", "f"]
        simple.Show(contour, view)
        trained.UpdatePipeline()
    finally:
        text = smtrace.stop_trace()
    found = report(text, tmp_path)
    assert found["volume"][0] == "NeuralVolume" and found["volume"][3] == ["f", "v"]
    for name, proxy in (("volume", volume), ("contour", contour), ("trained", trained)):
        assert found[name][2] == list(proxy.GetDataInformation().GetBounds())
    assert "Custom" in found["trained"][1]["Preset"] and found["trained"][1]["Iterations"] == "20"

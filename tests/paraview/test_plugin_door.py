"""Every way to load the plugin publishes the same proxies, and what the XML names works from scripts."""

import os
import subprocess
import xml.etree.ElementTree as ElementTree

from conftest import ROOT
import pytest
from paraview import simple

SCRIPT = """
import inspect
if not hasattr(inspect, "getargspec"):  # ParaView 5.11 with Python 3.11 loads no .py plugin without it
    inspect.getargspec = lambda f: inspect.getfullargspec(f)[:4]
from paraview import simple
simple.LoadPlugin({plugin!r}, remote=False, ns=vars(simple))
wavelet = simple.Wavelet(WholeExtent=[0, 7, 0, 7, 0, 7])
wavelet.UpdatePipeline()
trainer = simple.TrainNeuralVolume(Input=wavelet, Preset="Custom", NumberOfGrids=2, Iterations=2, BatchSize=50)
trainer.UpdatePipeline()
print("ARRAYS", trainer.PointData.keys(), simple.NeuralVolume, simple.NeuralVolumeReader)
"""


@pytest.mark.slow
def test_the_py_door(tmp_path):
    """It finds its Python by itself: without our folders on PYTHONPATH."""
    path = [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if not p.startswith(str(ROOT / "plugin"))]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in path if p != str(ROOT))}
    environment.pop("PV_PLUGIN_CONFIG_FILE", None)
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(plugin=str(ROOT / "plugin" / "apmgsrn_plugin.py")))
    run = subprocess.run(["pvpython", str(script)], env=environment, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    assert "ARRAYS ['RTData']" in run.stdout, run.stdout + run.stderr


FOUND = """
from paraview import servermanager, simple  # simple connects
known = servermanager.ProxyManager().SMProxyManager.GetProxyDefinitionManager()
print("FOUND", [known.HasDefinition(*name) for name in (("sources", "NeuralVolume"), ("filters", "TrainNeuralVolume"))])
"""
OLD = simple.GetParaViewVersion() < (5, 12)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, folder",
    [
        pytest.param("PV_PLUGIN_PATH", "xml", id="a folder"),
        pytest.param(
            "PV_PLUGIN_PATH", "plugin", id="the .py in a folder",
            marks=pytest.mark.skipif(OLD, reason="ParaView 5.11 with Python 3.11 loads no .py plugin"),
        ),
        pytest.param("PV_PLUGIN_CONFIG_FILE", ".venv/apmgsrn.plugins.xml", id="a configuration file"),
    ],
)  # fmt: skip
def test_it_is_there_when_paraview_starts(tmp_path, name, folder):
    """Without LoadPlugin, by what ParaView reads at its start."""
    (tmp_path / "look.py").write_text(FOUND)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PV_PLUGIN")}
    command = ["pvpython", str(tmp_path / "look.py")]
    for more, expected in (({}, "[0, 0]"), ({name: str(ROOT / folder)}, "[1, 1]")):
        run = subprocess.run(command, env={**environment, **more}, capture_output=True, text=True, timeout=120)
        found = run.stdout.replace("True", "1").replace("False", "0")
        assert (run.returncode, f"FOUND {expected}" in found) == (0, True), run.stdout + run.stderr


def test_every_property_has_a_help_text_and_a_plain_attribute():
    root = ElementTree.parse(ROOT / "xml" / "apmgsrn.xml").getroot()
    for group in root:
        for proxy in group:
            for element in proxy:
                if element.tag.endswith("Property") and element.get("name") not in ("DeviceInfo", "ArrayInfo", "ModelBounds"):
                    text = element.findtext("Documentation") or ""
                    assert len(text.split()) > 2, (proxy.get("name"), element.get("name"))
                    assert element.get("label") is None  # scripts name attributes by the label


def test_nothing_needs_the_input_to_exist():
    """All the panel asks for before Apply works on a fresh proxy."""
    for make in (simple.NeuralVolume, simple.NeuralVolumeReader):
        proxy = make()
        proxy.UpdatePropertyInformation()
        assert "cpu" in proxy.GetProperty("Device").Available
    filter_ = simple.TrainNeuralVolume(Input=simple.Wavelet())
    filter_.UpdatePropertyInformation()
    assert filter_.GetPropertyValue("NumberOfParameters") > 64 * 2 * 8**3

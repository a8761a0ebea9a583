"""A ParaView whose Python has no torch says once what to type; what is typed depends on how it was installed."""

import os
import subprocess
from pathlib import Path

import pytest
from apmgsrn_paraview.torch_advice import PACKAGES, Surroundings, torch_advice
from conftest import ROOT
from small_models import train_models

SCRIPT = """
import sys
from paraview import simple
simple.LoadPlugin(sys.argv[1], remote=False, ns=vars(simple))
train = simple.TrainNeuralVolume(Input=simple.Wavelet(WholeExtent=[0, 7, 0, 7, 0, 7]))
volume = simple.NeuralVolume(FileName=sys.argv[2])
for proxy in (train, volume):
    print("APPLY", flush=True)
    proxy.UpdatePropertyInformation()
    for port in range(proxy.SMProxy.GetNumberOfOutputPorts()):
        simple.OutputPort(proxy, port).UpdatePipeline() if port else proxy.UpdatePipeline()
    proxy.UpdatePropertyInformation()
    print("LAST", proxy.GetProperty("LastError").GetData())
"""


def without_torch(folder: Path) -> dict:
    """An environment whose Python finds no torch."""
    (folder / "torch.py").write_text("raise ModuleNotFoundError(\"No module named 'torch'\")")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])}


@pytest.mark.slow
def test_one_message_says_what_to_type(tmp_path):
    model = train_models(tmp_path)["f"]
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = ["pvpython", str(script), str(ROOT / "xml" / "apmgsrn.xml"), str(model)]
    done = subprocess.run(
        command, env=without_torch(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120
    )
    lines = [line for line in done.stdout.splitlines() if "torch" in line or "ERR" in line]
    assert done.returncode == 0, done.stdout
    told = [line.partition(": ")[2] for line in lines if line.startswith(("TrainNeuralVolume:", "NeuralVolume:"))]
    kept = [line.partition(" ")[2] for line in lines if line.startswith("LAST")]
    assert len(lines) == 4 and told == kept, done.stdout
    assert told[0] == told[1] and "No module named 'torch'" in told[0] and told[0].endswith(torch_advice())


@pytest.fixture
def place(tmp_path):
    """A checkout beside a ParaView that has a Python of its own."""
    return {"paraview": (6, 1), "python": (3, 12), "prefix": tmp_path, "base_prefix": tmp_path, "root": tmp_path / "my project"}


def test_a_system_python(place, tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3.12").touch()
    root = place["root"]
    expected = f'bash "{root}/plugin/install.sh" && source "{root}/plugin/env.sh" && paraview'
    assert torch_advice(Surroundings(**place)).endswith("type:  " + expected)
    # of another Python, as it is after an upgrade: no help
    (root / ".venv/lib/python3.11/site-packages/torch").mkdir(parents=True)
    assert torch_advice(Surroundings(**place)).endswith("type:  " + expected)
    (root / ".venv/lib/python3.12/site-packages/torch").mkdir(parents=True)
    assert torch_advice(Surroundings(**place)).endswith(f'type:  source "{root}/plugin/env.sh" && paraview')


@pytest.mark.parametrize(
    "version, start",
    [
        ((6, 1), 'paraview --venv "$HOME/apmgsrn-torch"'),
        ((5, 12), 'PYTHONPATH="$HOME/apmgsrn-torch/lib/python3.12/site-packages:$PYTHONPATH" paraview'),
    ],
)
def test_a_python_of_its_own(place, version, start):
    make = f'python3.12 -m venv "$HOME/apmgsrn-torch" && "$HOME/apmgsrn-torch/bin/python" -m pip install {PACKAGES}'
    assert torch_advice(Surroundings(**{**place, "paraview": version})).endswith(f"type:  {make} && {start}")


def test_windows(place):
    advice = torch_advice(Surroundings(**place, windows=True))
    assert 'py -3.12 -m venv "%USERPROFILE%\\apmgsrn-torch"' in advice and "Scripts" in advice and "$HOME" not in advice


def test_a_virtual_environment_gets_what_it_lacks(place, tmp_path):
    folder = tmp_path / "some venv"
    advice = torch_advice(Surroundings(**{**place, "prefix": folder}))
    assert f'"{folder}/bin/python" -m pip install {PACKAGES}' in advice
    assert advice.endswith(f'--venv "{folder}"')

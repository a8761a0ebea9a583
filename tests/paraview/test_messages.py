"""Messages of the core and the plugin go where ParaView's go, and a warning is shown once."""

import os
import subprocess

import pytest
from conftest import ROOT, TINY, make_image, smooth_values, train

SCRIPT = """
import os, sys
from paraview import simple
from vtkmodules.vtkCommonCore import vtkOutputWindow

def note(_, event, text):
    os.write(1, f"WINDOW {text.strip()}\\n".encode())  # what is printed goes to the window, too

note.CallDataType = "string0"
for event in ("TextEvent", "WarningEvent", "ErrorEvent"):
    vtkOutputWindow.GetInstance().AddObserver(event, note)
simple.LoadPlugin(sys.argv[1], remote=False, ns=vars(simple))
wavelet = simple.Wavelet(WholeExtent=[0, 7, 0, 7, 0, 7])
for _ in range(2):
    simple.TrainNeuralVolume(Input=wavelet, **{settings}).UpdatePipeline()
"""


@pytest.mark.slow
@pytest.mark.parametrize("word", ["", "info", "loud"])
def test_messages_go_to_output_messages(tmp_path, word):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.replace("{settings}", repr(TINY)))
    environment = {**os.environ, "APMGSRN_LOG": word, "APMGSRN_KERNELS": "", "APMGSRN_CPU": ""}
    command = ["pvpython", str(script), str(ROOT / "xml" / "apmgsrn.xml")]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
    assert done.returncode == 0, done.stdout
    in_window = [line for line in done.stdout.splitlines() if line.startswith("WINDOW")]
    shown = [line for line in done.stdout.splitlines() if line.startswith("apmgsrn: info")]
    kernels = [line for line in in_window if "computing with" in line]
    unknown = [line for line in in_window if "expected one of error, warning, info, debug" in line]
    assert len(kernels) == (word == "info"), "told once, of two trainings"
    assert len(unknown) == (word == "loud")
    assert (sum("trained 'RTData'" in line for line in in_window) == 2) == (word == "info")
    assert all("WINDOW " + line in in_window for line in shown), "nothing goes past the window"


def test_a_proxy_shows_a_warning_once(warnings):
    source = make_image(smooth_values((6, 6, 6)))
    trained = train(source, Iterations=3)
    assert sum("quarter" in line for line in warnings) == 1
    trained.Iterations = 4
    trained.UpdatePipeline()
    assert sum("quarter" in line for line in warnings) == 1
    other = train(source, Iterations=5)
    assert sum("quarter" in line for line in warnings) == 2 and other is not trained, "another filter may have other data"

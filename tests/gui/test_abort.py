"""The abort button of ParaView's window stops a training, and what there is of it is shown and kept.

ParaView hears the mouse while an algorithm runs only when it plays no --test-script, so keys and mouse do all here.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from test_live_training import SAMPLE, save, share_of_blue
from test_neural_rendering import LIMIT, WRONG, Screen
from test_window import version

from apmgsrn_core import NeuralVolume, read_header

# The sample is shown; a filter that is made is to train for long, into a file, and tells how far it is.
PREPARED = """
from paraview import servermanager
from paraview.simple import GetSources, OpenDataFile, Render, Show

def made(*_):
    for proxy in GetSources().values():
        if proxy.GetXMLName() == "TrainNeuralVolume" and not proxy.GetPropertyValue("Iterations"):
            proxy.SMProxy.GetProperty("Iterations").SetElement(0, 1000000)
            proxy.SMProxy.GetProperty("ModelFile").SetElement(0, "@MODEL@")
            proxy.GetClientSideObject().AddObserver("ProgressEvent", tell)

def tell(algorithm, event):
    print(algorithm.GetProgressText(), flush=True)

data = OpenDataFile("@SAMPLE@")
Show(data)
Render()
servermanager.ProxyManager().SMProxyManager.AddObserver("RegisterEvent", made)
print("prepared", flush=True)
"""
ITERATION = re.compile(r"^iteration (\d+) of 1000000", re.MULTILINE)

pytestmark = [
    pytest.mark.gui,
    *(pytest.mark.skipif(not shutil.which(tool), reason=f"{tool} not found") for tool in ("paraview", "Xvfb", "xdotool")),
]


def wait(ready, what: str):
    """What `ready` gives, once it is something."""
    end = time.time() + LIMIT
    while not (found := ready()):
        assert time.time() < end, f"{what}: not there in time"
        time.sleep(0.2)
    return found


def abort_button(screen: np.ndarray) -> tuple | None:
    """(x, y) of its red cross in the status bar, the lowest red of the window and there the leftmost; None: it is grey."""
    red, green, blue = (screen[..., c].astype(int) for c in range(3))
    rows, columns = np.nonzero((red > 180) & (green < 80) & (blue < 80))
    if not len(rows) or rows.max() < 650:  # that of Delete
        return None
    low = rows > rows.max() - 12
    near = low & (columns < columns[low].min() + 14)
    return int(np.median(columns[near])), int(np.median(rows[near]))


@pytest.fixture
def screen(tmp_path):
    if version().startswith(("5.", "6.0")):
        pytest.skip("ParaView's abort button is always grey before 6.1")
    script = tmp_path / "prepared.py"
    script.write_text(PREPARED.replace("@MODEL@", str(tmp_path / "m.apmgsrn")).replace("@SAMPLE@", str(SAMPLE)))
    screen = Screen(tmp_path, script)
    yield screen
    screen.photographs["abort, last"] = screen.look()
    screen.close()
    folder = os.environ.get("APMGSRN_SCREENSHOTS")
    for name, taken in screen.photographs.items():
        save(taken, (Path(folder) if folder else tmp_path) / f"{name}.png")


def test_a_double_click_on_abort_stops_a_training(screen, tmp_path):
    focus = "search --onlyvisible --name ParaView windowfocus sleep 1"  # there is no window manager
    wait(lambda: "prepared" in screen.log.read_text(), "the script")
    screen.act(f"{focus} key ctrl+space sleep 2")
    screen.act("type --delay 60 'train neural'")
    screen.act("sleep 1 key Return sleep 2")
    screen.act(f"{focus} key alt+a")
    wait(lambda: ITERATION.search(screen.log.read_text()), "a training")
    x, y = wait(lambda: abort_button(screen.look()), "the button")
    screen.photographs["abort, training"] = screen.look()
    screen.act(f"mousemove {x} {y} sleep 0.5 click --repeat 2 --delay 120 1")
    wait((tmp_path / "m.apmgsrn").exists, "the model")
    wait(lambda: share_of_blue(screen.look()) > 0.05, "the slice")
    time.sleep(3)

    log = screen.log.read_text()
    steps = [int(step) for step in ITERATION.findall(log)]
    assert steps == sorted(steps) and steps[-1] < 10000  # once, and heard before the first hundredth was done
    assert [line for line in log.splitlines() if any(sign in line for sign in (*WRONG, "TrainNeuralVolume:"))] == []
    assert read_header(tmp_path / "m.apmgsrn").key == ""  # of a training that is not at its end
    assert np.isfinite(NeuralVolume.open(tmp_path / "m.apmgsrn", "cpu").reconstruct()).all()

"""ParaView's window, driven by events as a user would (ParaView's own --test-script), on a virtual screen.

To see what the test sees: `APMGSRN_SCREENSHOTS=folder bash tests/run.sh gui` keeps pictures of the screen, one a
second (needs `import` of ImageMagick).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
HERE = Path(__file__).resolve().parent
PANEL = (
    "pqClientMainWindow/propertiesDock/propertiesPanel/scrollArea/qt_scrollarea_viewport"
    "/scrollAreaWidgetContents/PropertiesFrame/ProxyPanel"
)
# ParaView 6.1 fills a menu when it is opened.
OPEN_MENU = r'<pqevent object="pqClientMainWindow/menubar" command="activate" arguments="\1"/>\n  '
NAMELESS = ("5.12", "5.13")  # ParaView whose file dialog of Manage Plugins has no name of its own
# A program in the background, a picture a second until it has ended, its exit status.
WITH_PICTURES = """
pictures="$1"; shift
"$@" & program=$!
for i in {100..999}; do
  kill -0 $program 2>/dev/null || break
  import -silent -window root "$pictures-$i.png"
  sleep 1
done
wait $program
"""

pytestmark = [
    pytest.mark.gui,
    pytest.mark.skipif(not shutil.which("paraview"), reason="paraview not found"),
    pytest.mark.skipif(not shutil.which("xvfb-run"), reason="xvfb-run not found"),
]


@cache
def version() -> str:
    """Of ParaView."""
    return subprocess.run(["pvpython", "--version"], capture_output=True, text=True, timeout=60).stdout.split()[-1]


def filled_in(script: Path, folder: Path, **places: str) -> Path:
    """The events of a script in a file of the folder, with @NAME@ replaced by the places."""
    text = script.read_text()
    files = "1pqFileDialog0" if version().startswith(NAMELESS) else "pqFileDialog"
    for name, value in {**places, "PANEL": PANEL, "FILES": files}.items():
        text = text.replace(f"@{name}@", value)
    text = re.sub(r"(?=<pqevent object=\"pqClientMainWindow/menubar/(menu\w+)/)", OPEN_MENU, text)
    events = folder / script.name
    events.write_text(text)
    return events


def play(script: Path, folder: Path, loaded: bool = True, kept: bool = False, **places: str) -> subprocess.CompletedProcess:
    """Start ParaView, with the plugin when it is to be `loaded`, let it play the events of the script, and end it.

    With `kept` it starts with the settings that are in the folder, and leaves its own there.

    Returns:
        The ended process; its exit status is 0 when every event found its widget and every check held.
    """
    events = filled_in(script, folder, **places)
    command = ["paraview", *(() if kept else ("--dr",)), f"--test-script={events}", "--exit"]
    pictures = os.environ.get("APMGSRN_SCREENSHOTS")
    if pictures:
        Path(pictures).mkdir(parents=True, exist_ok=True)
        command = ["bash", "-c", WITH_PICTURES, "bash", str(Path(pictures).resolve() / script.stem), *command]
    # timeout ends the whole group of processes: a window that waits for a click would wait for ever
    command = ["timeout", "--kill-after=10", "200", "xvfb-run", "-a", "-s", "-screen 0 1600x1000x24 -noreset", *command]
    sourced = f'source "{ROOT}/plugin/env.sh" && {"" if loaded else "unset PV_PLUGIN_CONFIG_FILE && "}exec "$@"'
    settings = {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "XDG_RUNTIME_DIR": str(folder)}
    return subprocess.run(
        ["bash", "-c", sourced, "bash", *command],
        cwd=folder, env={**os.environ, **settings}, capture_output=True, text=True, timeout=240,
    )  # fmt: skip


def told(result: subprocess.CompletedProcess) -> list[str]:
    """The lines that the window lists in Output Messages: our proxies' own, and VTK's errors."""
    ours = ("TrainNeuralVolume:", "NeuralVolume:", "NeuralVolumeReader:")
    lines = (result.stdout + result.stderr).splitlines()
    return [line for line in lines if line.startswith(ours) or "ERR|" in line or line.startswith("ERROR:")]


def test_train_and_open_by_the_menus(tmp_path):
    model, saved = tmp_path / "by menus.apmgsrn", tmp_path / "saved.apmgsrn"
    result = play(
        HERE / "train_and_open.xml", tmp_path,
        SAMPLE=str(ROOT / "examples/data/tgv_re800_t9_vortmag_128.vti"), MODEL=str(model), SAVED=str(saved),
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    assert told(result) == []

    assert saved.read_bytes() == model.read_bytes()  # Save Data copies the model
    from apmgsrn_core import read_header

    header = read_header(model)
    assert header.grid.dims == (128, 128, 128)
    assert [array.name for array in header.arrays] == ["vorticity_magnitude"]


@pytest.mark.parametrize("door", ["xml/apmgsrn.xml", "plugin/apmgsrn_plugin.py"])
def test_manage_plugins_loads_either_door(tmp_path, door):
    if door.endswith(".py") and version().startswith("5.11"):
        pytest.skip("ParaView 5.11 with Python 3.11 loads no .py plugin")
    result = play(HERE / "manage_plugins.xml", tmp_path, loaded=False, PLUGIN=str(ROOT / door))
    assert result.returncode == 0, result.stdout + result.stderr
    assert told(result) == []


def test_a_missing_file_is_told_and_a_wrong_check_fails(tmp_path):
    """ParaView lives on after the error; and without this, the test above could not fail."""
    script = tmp_path / "wrong.xml"
    script.write_text(
        """<pqevents>
        <pqevent object="pqClientMainWindow/menubar/menuSources/Neural Volume" command="activate" arguments="NeuralVolume"/>
        <pqevent object="@PANEL@/FileName/FileChooser/FileLineEdit" command="set_string" arguments="/no/such.apmgsrn"/>
        <pqevent object="pqClientMainWindow/propertiesDock/propertiesPanel/Accept" command="activate" arguments=""/>
        <pqcheck object="@PANEL@/Scale/DoubleRangeWidget/DoubleLineEdit" property="text" arguments="2"/>
        </pqevents>"""
    )
    result = play(script, tmp_path)
    output = result.stdout + result.stderr
    assert result.returncode == 1, output
    assert "property value is: 1. Expecting: 2" in output
    assert len(told(result)) == 1 and "/no/such.apmgsrn" in told(result)[0], output

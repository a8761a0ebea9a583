"""Auto Load of Manage Plugins: a later start has the plugin, with nothing but ParaView's own settings."""

from __future__ import annotations

import ast
import shutil
import subprocess

import pytest
from test_window import HERE, ROOT, play, told, version

USED = """<pqevents>
  <pqevent object="pqClientMainWindow/menubar/menuSources/Neural Volume" command="activate" arguments="NeuralVolume"/>
  <pqcheck object="@PANEL@/Scale/DoubleRangeWidget/DoubleLineEdit" property="text" arguments="1"/>
</pqevents>
"""
NAMES = """
from paraview import simple
from paraview.modules.vtkRemotingCore import vtkPVPluginTracker
known = vtkPVPluginTracker.GetInstance()
print([known.GetPluginName(i) for i in range(known.GetNumberOfPlugins())])
"""

pytestmark = [
    pytest.mark.gui,
    *(pytest.mark.skipif(not shutil.which(tool), reason=f"{tool} not found") for tool in ("paraview", "xvfb-run")),
]


def without_the_plugin(*command: str) -> str:
    """What a program of ParaView prints."""
    bare = ["env", "-u", "PV_PLUGIN_CONFIG_FILE", "-u", "PV_PLUGIN_PATH", *command]
    return subprocess.run(bare, capture_output=True, text=True, timeout=60).stdout.strip()


def place_of_auto_load() -> str:
    """Row of the plugin in the list, row of its Auto Load below: 5.11 lists both as they come, later ones by name."""
    names = [*ast.literal_eval(without_the_plugin("pvpython", "-c", NAMES).splitlines()[-1]), "apmgsrn"]
    if version().startswith("5.11"):
        return f"{names.index('apmgsrn')}.4"
    return f"{sorted(names).index('apmgsrn')}.0"


def test_auto_load_holds_for_the_next_start(tmp_path):
    (tmp_path / "ParaView").mkdir()
    for name in (f"ParaView{version()}.ini", "ParaView.ini"):  # of 5, of 6
        (tmp_path / "ParaView" / name).write_text("[General]\nGeneralSettings.ShowWelcomeDialog=false\n")
    used = tmp_path / "used.xml"
    used.write_text(USED)
    ways = {"loaded": False, "kept": True}

    result = play(used, tmp_path, **ways)
    assert result.returncode == 1, "there before it is loaded"
    place = place_of_auto_load()
    result = play(HERE / "auto_load.xml", tmp_path, **ways, PLUGIN=str(ROOT / "xml/apmgsrn.xml"), PLACE=place)
    assert result.returncode == 0, result.stdout + result.stderr
    result = play(used, tmp_path, **ways)
    assert result.returncode == 0, result.stdout + result.stderr
    assert told(result) == []

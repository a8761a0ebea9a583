"""Check Installation in the panel: found by its name, pressed, and its text shown without Apply."""

from __future__ import annotations

import shutil

import pytest
from test_window import play, told

pytestmark = [
    pytest.mark.gui,
    *(pytest.mark.skipif(not shutil.which(tool), reason=f"{tool} not found") for tool in ("paraview", "xvfb-run")),
]
TEXT = '<pqcheck object="@PANEL@/Installation/ExpressionWidget/OneLiner" property="plainText" arguments="{}"/>'
EVENTS = f"""<pqevents>
<pqevent object="pqClientMainWindow/menubar/menuSources/Neural Volume" command="activate" arguments="NeuralVolume"/>
<pqevent object="pqClientMainWindow/propertiesDock/propertiesPanel/SearchBox/SearchLineEdit" command="set_string" arguments="installation"/>
{TEXT.format("not looked at yet (Check Installation)")}
<pqevent object="@PANEL@/CheckInstallation/1QPushButton0" command="activate" arguments=""/>
{TEXT.format("SHOWN")}
</pqevents>"""


def test_the_button_fills_the_text(tmp_path):
    script = tmp_path / "check.xml"
    script.write_text(EVENTS)
    result = play(script, tmp_path)
    output = result.stdout + result.stderr
    assert result.returncode == 1, output  # the last check cannot hold, and tells what is there
    shown = output.partition("property value is: ")[2].partition(". Expecting: SHOWN")[0]
    assert shown.startswith("apmgsrn ") and "\nself-test on cpu: " in shown and ", paraview\n" in shown, output
    assert told(result) == []

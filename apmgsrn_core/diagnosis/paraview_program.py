"""ParaView as it starts here: whether it runs, has the plugin, finds torch, and reads its own files."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree

from .computer import screen_finding
from .finding import NOTE, PROBLEM, ROOT, Finding, HostProgram, is_for_paraview, set_up_command, started_with
from .packages import removal_command
from .requirements import numbers_of

AREA = "ParaView"
SECONDS = 90
MARK = "APMGSRN "
COLOUR = re.compile(r"\x1b\[[\d;]*m")
SOURCE = "source PROJECT/plugin/env.sh   # of the project's folder"
WITHOUT_PATH = "env -u PYTHONPATH pvpython -c 'print(1)'   # if that runs, something on PYTHONPATH is in its way"
OTHER_EXPAT = (
    "sudo apt-get install --allow-downgrades libexpat1=2.5.0-1+deb12u2   # or write data inline (DataMode='Binary')"
)
# What pvpython tells of itself, a line after each step: the last one stands when it crashes.
PROBE = """
import importlib.util, json, os, sys, tempfile
told = {"python": sys.version.split()[0]}
def tell(**more):
    told.update(more)
    os.write(1, ("\\n%s%s\\n" % ("MARK", json.dumps(told))).encode())
def place(name):
    spec = importlib.util.find_spec(name)
    return os.path.dirname(os.path.dirname(spec.origin)) if spec and spec.origin else ""
names = ("numpy", "vtkmodules", "paraview", "torch", "apmgsrn_core", "apmgsrn_paraview")
tell(step="starting", places={name: place(name) for name in names})
tell(step="importing numpy")
import numpy
tell(step="importing vtkmodules", numpy=numpy.__version__)
from vtkmodules.vtkCommonCore import vtkVersion
from vtkmodules.vtkCommonDataModel import vtkImageData
from vtkmodules.vtkIOXML import vtkXMLImageDataReader, vtkXMLImageDataWriter
image = vtkImageData()
image.SetDimensions(4, 4, 4)
image.AllocateScalars(10, 1)
with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "a.vti")
    for thing, feature in ((vtkXMLImageDataWriter(), "Write"), (vtkXMLImageDataReader(), "Update")):
        thing.SetFileName(path)
        if feature == "Write":
            thing.SetInputData(image)
            thing.SetDataModeToAppended()
        getattr(thing, feature)()
tell(step="importing paraview.simple", vtk=vtkVersion.GetVTKVersion(), points=thing.GetOutput().GetNumberOfPoints())
import paraview.simple
tell(step="", paraview=paraview.__version__, plugin=hasattr(paraview.simple, "TrainNeuralVolume"))
""".replace('"MARK"', repr(MARK))  # fmt: skip


def paraview_findings(host: HostProgram | None) -> list[Finding]:
    """Of the program that runs this, or of `pvpython` on the path."""
    if host is not None:
        found = [Finding(AREA, "ParaView", f"{host.paraview}, {host.program}"), Finding(AREA, "VTK", host.vtk)]
        return [*found, screen_finding(host.paraview), *plugin_files()]
    program = shutil.which("pvpython")
    if program is None:
        paraview = shutil.which("paraview")
        text = f"pvpython is not on PATH, but {paraview} is" if paraview else "not on PATH; plain Python needs none"
        return [Finding(AREA, "ParaView", text), *plugin_files()]
    told, ending = ask(program)
    return findings_of(program, told, ending)


def ask(program: str) -> tuple[dict, str]:
    """(what a pvpython tells of itself, how it ended when that was not well)."""
    environment = {**os.environ}
    environment.pop("DISPLAY", None)  # nothing is drawn
    try:
        done = subprocess.run([program, "-c", PROBE], env=environment, capture_output=True, text=True, timeout=SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        return {}, f"does not run: {' '.join(str(error).split())[:200]}"
    lines = [line for line in done.stdout.splitlines() if line.startswith(MARK)]
    told = json.loads(lines[-1][len(MARK) :]) if lines else {}
    if told.get("step") == "":
        return told, ""
    last = next((line for line in reversed(COLOUR.sub("", done.stderr).splitlines()) if line.strip()), "")
    how = f"crashes (signal {-done.returncode})" if done.returncode < 0 else f"ends with status {done.returncode}"
    return told, f"{how} while {told.get('step', 'starting')}" + (f": {last.strip()[:200]}" if last else "")


def findings_of(program: str, told: dict, ending: str) -> list[Finding]:
    """Of what a pvpython has told."""
    places = told.get("places", {})
    found = _hidden(places)
    if ending:
        return [*found, Finding(AREA, "pvpython", f"{program} {ending}", PROBLEM, WITHOUT_PATH)]
    versions = f"VTK {told['vtk']}, Python {told['python']}, numpy {told['numpy']}"
    found.insert(0, Finding(AREA, "ParaView", f"{told['paraview']}, {program}; {versions}"))
    found += [_plugin(told, places), _torch(told, places), _expat(told["points"]), screen_finding(told["paraview"])]
    return found + plugin_files() + old_plugin_door(told)


def _torch(told: dict, places: dict) -> Finding:
    """Whether ParaView's Python would find it; without the plugin it needs none."""
    name = "torch of pvpython"
    if places.get("torch"):
        return Finding(AREA, name, f"in {places['torch']}")
    there = (ROOT / ".venv").is_dir()
    fix = set_up_command(*(("env",) if there else ("install", "env"))) if is_for_paraview() else SOURCE
    return Finding(AREA, name, "not found by this ParaView's Python", PROBLEM if told["plugin"] else NOTE, fix)


def _hidden(places: dict) -> list[Finding]:
    """A numpy or vtk that pvpython finds elsewhere than ParaView."""
    home, found = places.get("paraview"), []
    for package, distribution in (("numpy", "numpy"), ("vtkmodules", "vtk")):
        place = places.get(package)
        if home and place and Path(place).resolve() != Path(home).resolve() and _would_find(home, package):
            text = f"the one in {place} hides ParaView's own in {home}"
            fix = removal_command(Path(place).resolve(), distribution)
            found.append(Finding(AREA, f"second {distribution}", text, PROBLEM, fix))
    return found


def _would_find(folder: str, package: str) -> bool:
    return Path(folder, package, "__init__.py").is_file()


def _plugin(told: dict, places: dict) -> Finding:
    """Whether it is there when ParaView starts."""
    if not told["plugin"]:
        why = "PV_PLUGIN_CONFIG_FILE does not bring it" if started_with("PV_PLUGIN_CONFIG_FILE") else "no variable names it"
        fix = set_up_command("env") if is_for_paraview() else SOURCE
        return Finding(AREA, "plugin", f"not there when ParaView starts: {why}", NOTE, fix)
    missing = [name for name in ("apmgsrn_core", "apmgsrn_paraview") if not places.get(name)]
    if missing:
        text = f"its XML is loaded, but {' and '.join(missing)} is not on PYTHONPATH: its first use ends ParaView"
        return Finding(AREA, "plugin", text, PROBLEM, set_up_command("env"))
    if Path(places["apmgsrn_core"]).resolve() != ROOT:
        text = f"there, with the apmgsrn_core of {places['apmgsrn_core']}; this is {ROOT}"
        return Finding(AREA, "plugin", text, NOTE, set_up_command("env") if is_for_paraview() else "")
    return Finding(AREA, "plugin", "there when ParaView starts")


def _expat(points: int) -> Finding:
    """Whether a file with appended data can be read back."""
    if points == 64:
        return Finding(AREA, "appended data", "read back as written")
    text = f"a .vti of 64 points is read back with {points}: Debian's libexpat1 2.5.0-1+deb12u5 breaks it in ParaView 5.11"
    return Finding(AREA, "appended data", text, PROBLEM, OTHER_EXPAT)


def plugin_files() -> list[Finding]:
    """What PV_PLUGIN_CONFIG_FILE names."""
    name, path = "PV_PLUGIN_CONFIG_FILE", os.environ.get("PV_PLUGIN_CONFIG_FILE", "")
    if not path:
        return []
    fix = set_up_command("env") if is_for_paraview() else f"unset {name}"
    try:
        entries = [plugin.get("filename", "") for plugin in ElementTree.parse(path).iter("Plugin")]
    except (OSError, ElementTree.ParseError) as error:
        return [Finding(AREA, name, f"{path}: {error}", PROBLEM, fix)]
    missing = [entry for entry in entries if entry and not Path(path).parent.joinpath(entry).is_file()]
    if missing:
        return [Finding(AREA, name, f"{path} names {', '.join(missing)}, which is not there", PROBLEM, fix)]
    return [Finding(AREA, name, f"{path}: {', '.join(entries)}")]


def old_plugin_door(told: dict) -> list[Finding]:
    """ParaView 5.11 with Python 3.11 and newer loads no plugin that is a Python file (getargspec)."""
    listed = os.environ.get("PV_PLUGIN_PATH", "").split(os.pathsep)
    files = [f for f in listed if f and (f.endswith(".py") or list(Path(f).glob("apmgsrn_plugin.py")))]
    old = numbers_of(told["paraview"])[:2] == (5, 11) and numbers_of(told["python"]) >= (3, 11)
    if not files or not old:
        return []
    text = f"{', '.join(files)}: ParaView {told['paraview']} with Python {told['python']} loads no .py plugin"
    return [Finding(AREA, "plugin file", text, PROBLEM, f"export PV_PLUGIN_PATH={ROOT / 'xml'}")]

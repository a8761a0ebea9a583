"""Makes the pictures of the guide: the real window of ParaView on a virtual screen, one scene after the other.

    python3 examples/guide/pictures.py [SCENE ...]

Needs what `bash tests/run.sh` installs, and `import` and `convert` of ImageMagick. Models that are trained for it are kept in
`guide_models/` beside the pictures for the next time.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SCREEN = (1500, 940)
READY = "guide-scene-is-there"  # a file that a scene makes at its end
LIMIT, STILL = 180.0, 4.0  # seconds for a scene; that the screen must not change
START = """
import os
from paraview.simple import *
import apmgsrn
DATA = {data!r}
MODELS = {models!r}
os.makedirs(MODELS, exist_ok=True)
MODEL = os.path.join(MODELS, "vortices.apmgsrn")
ARRAY = ["POINTS", "vorticity_magnitude"]
view = GetActiveViewOrCreate("RenderView")

def data(kind="Volume"):
    source = OpenDataFile(DATA)
    RenameSource("vorticity.vti", source)
    display = Show(source, view)
    ColorBy(display, ARRAY)
    display.SetRepresentationType(kind)
    opacity = GetOpacityTransferFunction(ARRAY[1])
    opacity.Points = [0, 0, 0.5, 0, 6, 0, 0.5, 0, 25, 0.7, 0.5, 0]
    look()
    return source

def look():
    ResetCamera(view)
    camera = GetActiveCamera()
    camera.Azimuth(35); camera.Elevation(25)
    Render(view)

def model():
    if not os.path.exists(MODEL):
        source = OpenDataFile(DATA)
        trained = TrainNeuralVolume(Input=source, ModelFile=MODEL)
        trained.TargetArray = ARRAY
        trained.UpdatePipeline()
        Delete(trained); Delete(source)
    return MODEL

def finish():
    RenderAllViews()
    open({ready!r}, "w").close()
"""
SCENES = {
    "data": "data()\n",
    "panel": """
source = data()
SetActiveSource(TrainNeuralVolume(registrationName="Train Neural Volume", Input=source))
""",
    "live": """
source = data()
trained = TrainNeuralVolume(registrationName="Train Neural Volume", Input=source, Live=1)
trained.TargetArray = ARRAY
trained.UpdatePipeline()
for number in range(12):
    trained.InvokeCommand("Step")
    trained.UpdatePipeline()
Hide(source, view)
shown = Show(trained, view)
ColorBy(shown, ARRAY)
shown.SetRepresentationType("Volume")
boxes = Show(OutputPort(trained, 2), view)
boxes.SetRepresentationType("Wireframe")
boxes.Opacity = 0.12
layout = GetLayout(view)
chart = CreateView("XYChartView")
layout.SplitHorizontal(0, 0.6)
layout.AssignView(2, chart)
history = Show(OutputPort(trained, 1), chart)
history.UseIndexForXAxis, history.XArrayName, history.SeriesVisibility = 0, "seconds", ["psnr"]
chart.LeftAxisTitle, chart.BottomAxisTitle = "PSNR in dB", "seconds"
SetActiveView(view)
look()
""",
    "contour": """
volume = OpenDataFile(model())
RenameSource("vortices.apmgsrn", volume)
volume.Scale = 2
contour = Contour(Input=volume, ContourBy=ARRAY, Isosurfaces=[9.0])
Show(contour, view)
Show(volume, view).SetRepresentationType("Outline")
look()
SetActiveSource(volume)
""",
    "compare": "source = data()\nvolume = NeuralVolume(registrationName='vortices.apmgsrn', FileName=model())\napmgsrn.compare(source, volume)\n",
    "rendering": """
volume = NeuralVolume(registrationName="vortices.apmgsrn", FileName=model())
GetOpacityTransferFunction(ARRAY[1]).Points = [0, 0, 0.5, 0, 6, 0, 0.5, 0, 25, 0.7, 0.5, 0]
volume.UpdatePipeline()
cut = Slice(registrationName="Slice", Input=volume)
cut.SliceType.Origin, cut.SliceType.Normal = [3.1, 3.1, 2.0], [0, 0, 1]
cut.UpdatePipeline()
ColorBy(Show(cut, view), ARRAY)
look()
rendering = apmgsrn.show(view, volume)
rendering.Shading = 1
""",
}  # fmt: skip


def photograph(name: str, folder: Path) -> None:
    """One scene in a window of its own -> NAME.png."""
    ready = folder / READY
    ready.unlink(missing_ok=True)
    script = folder / f"{name}.py"
    places = {
        "data": str(ROOT / "examples/data/tgv_re800_t9_vortmag_128.vti"), "models": str(HERE / "guide_models"), "ready": str(ready)
    }  # fmt: skip
    script.write_text(START.format(**places) + SCENES[name] + "\nfinish()\n")
    inside = f'source "{ROOT}/plugin/env.sh"; exec paraview --dr "--script={script}"'
    environment = {**os.environ, "HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "XDG_RUNTIME_DIR": str(folder)}
    log = folder / f"{name}.log"
    with open(log, "w") as file:
        window = subprocess.Popen(["bash", "-c", inside], env=environment, stdout=file, stderr=file)
        try:
            _fill_screen()
            _wait(ready, window, log)
            _when_still(folder / "shot.png", HERE / f"{name}.png")
            if window.poll() is not None:
                sys.exit(f"{name}: the window has closed:\n{log.read_text()[-3000:]}")
        finally:
            window.kill()
            window.wait()
    print(f"{name}.png", flush=True)


def _fill_screen() -> None:
    """Give the window, once it is there, the size of the screen; there is no window manager."""
    command = ["xdotool", "search", "--sync", "--onlyvisible", "--name", "ParaView [0-9]", "windowmove", "0", "0", "windowsize", *map(str, SCREEN)]
    subprocess.run(command, check=True, timeout=LIMIT, stdout=subprocess.DEVNULL)


def _wait(ready: Path, window, log: Path) -> None:
    end = time.time() + LIMIT
    while not ready.exists():
        if time.time() > end or window.poll() is not None or "Traceback" in log.read_text():
            sys.exit(f"the scene did not come to its end:\n{log.read_text()[-3000:]}")
        time.sleep(0.2)


def _when_still(shot: Path, target: Path) -> None:
    """Photograph the screen once it has not changed for a while."""
    last, since, end = b"", time.time(), time.time() + LIMIT
    while time.time() - since < STILL and time.time() < end:
        subprocess.run(["import", "-silent", "-window", "root", "-depth", "8", str(shot.with_suffix(".rgb"))], check=True)
        now = shot.with_suffix(".rgb").read_bytes()
        painted = 3 * now.count(now[:1]) < 2 * len(now)
        if now != last or not painted:
            last, since = now, time.time()
        time.sleep(0.3)
    subprocess.run(["import", "-silent", "-window", "root", str(shot)], check=True)
    subprocess.run(["convert", str(shot), "-strip", "-colors", "255", f"PNG8:{target}"], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scenes", nargs="*", metavar="SCENE", help=f"of {', '.join(SCENES)}; none: all")
    names = parser.parse_args().scenes or list(SCENES)
    if unknown := set(names) - set(SCENES):
        sys.exit(f"expected scenes of {', '.join(SCENES)}, found {', '.join(sorted(unknown))}")
    if missing := [tool for tool in ("paraview", "xvfb-run", "xdotool", "import", "convert") if not shutil.which(tool)]:
        sys.exit(f"missing: {', '.join(missing)}")
    if "GUIDE_SCREEN" not in os.environ:
        screen = "-screen 0 {}x{}x24 -noreset".format(*SCREEN)
        os.environ["GUIDE_SCREEN"] = screen
        os.execvp("xvfb-run", ["xvfb-run", "-a", "-s", screen, sys.executable, __file__, *names])
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            photograph(name, Path(folder))


if __name__ == "__main__":
    main()

"""The main job, once: train a neural volume in ParaView, save it, open it again, look at both.

Run by `bash examples/quickstart.sh`, or in pvpython with the plugin loaded (`source plugin/env.sh`). Leaves
model.apmgsrn, history.csv and picture.png in quickstart_output/ and prints the figures.
"""

import argparse
import sys
import time
from pathlib import Path

from paraview import servermanager
from paraview.simple import *  # noqa: F403  (the names of ParaView's own scripts)
from vtkmodules.util.numpy_support import vtk_to_numpy

from apmgsrn_core import psnr

ROOT = Path(__file__).resolve().parent.parent
ARRAY = "vorticity_magnitude"
ERROR = ARRAY + "_error"


def main() -> None:
    options = parse_arguments()
    options.output.mkdir(parents=True, exist_ok=True)
    model = options.output / "model.apmgsrn"
    model.unlink(missing_ok=True)  # a model that matches would be opened instead of trained

    original = OpenDataFile(str(options.data))
    original.UpdatePipeline()
    trainer = TrainNeuralVolume(registrationName="trained", Input=original)
    trainer.TargetArray = ["POINTS", ARRAY]
    trainer.TimeBudget = options.seconds
    trainer.ModelFile = str(model)
    show_progress(trainer)
    start = time.perf_counter()
    trainer.UpdatePipeline()
    train_seconds = time.perf_counter() - start
    if not model.exists():
        sys.exit("training failed: " + information(trainer, "LastError"))
    SaveData(str(options.output / "history.csv"), proxy=OutputPort(trainer, 1))

    neural = OpenDataFile(str(model))
    start = time.perf_counter()
    neural.UpdatePipeline()
    sample_seconds = time.perf_counter() - start
    expected, found = values_of(original), values_of(neural)
    draw(original, neural, options.output / "picture.png")

    print(f"psnr_db: {psnr(expected, found):.2f}")
    print(f"model_bytes: {model.stat().st_size}")
    print(f"ratio: {expected.nbytes / model.stat().st_size:.1f}")
    print(f"train_seconds: {train_seconds:.1f}")
    print(f"sample_mpts_per_s: {found.size / sample_seconds / 1e6:.2f}")
    print(f"picture: {options.output / 'picture.png'}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=ROOT / "examples/data/tgv_re800_t9_vortmag_128.vti")
    parser.add_argument("--output", type=Path, default=Path("quickstart_output"))
    parser.add_argument("--seconds", type=float, default=20.0, help="most time for training (default: 20)")
    return parser.parse_args()


def information(proxy, name: str):
    """The value of an information property."""
    proxy.UpdatePropertyInformation()
    return proxy.GetPropertyValue(name)


def show_progress(trainer) -> None:
    """Print ParaView's progress text every few seconds."""
    last = [0.0]

    def on_progress(algorithm, event):
        text = algorithm.GetProgressText()
        if text and "iteration" in text and time.monotonic() - last[0] > 5:
            last[0] = time.monotonic()
            print(text, flush=True)

    trainer.GetClientSideObject().AddObserver("ProgressEvent", on_progress)


def values_of(source):
    """(z, y, x) values of an image source."""
    image = servermanager.Fetch(source)
    return vtk_to_numpy(image.GetPointData().GetArray(ARRAY)).reshape(image.GetDimensions()[::-1])


def draw(original, neural, path: Path) -> None:
    """Original and neural volume with the same colours, and the error in the middle plane."""
    layout = CreateLayout("quickstart")
    left = layout.SplitHorizontal(0, 1 / 3)
    middle = layout.SplitHorizontal(left + 1, 0.5)
    layout.SetSize(1800, 640)
    compared = CompareNeuralVolume(Input=original, Model=neural)
    shown = (("original", original, ARRAY), ("neural volume", neural, ARRAY), ("its error", compared, ERROR))
    views = [add_view(layout, cell, *one) for cell, one in zip((left, middle, middle + 1), shown)]
    display = GetDisplayProperties(compared, views[2])
    display.SetRepresentationType("Slice")
    display.Slice = compared.GetDataInformation().GetExtent()[5] // 2
    box = Show(Outline(Input=original), views[2])
    box.AmbientColor = box.DiffuseColor = [0.3, 0.3, 0.3]
    set_colours()
    for view in views:
        Render(view)  # the first rendering resets the camera
        view.CameraPosition, view.CameraFocalPoint, view.CameraViewUp = (-7.5, -9, 10), (3.1, 3.1, 2.9), (0, 0, 1)
        view.CameraViewAngle = 31
    SaveScreenshot(str(path), layout, ImageResolution=[1800, 640])


def add_view(layout, cell: int, title: str, source, array: str):
    """A view in a cell of the layout that shows a volume on white."""
    view = CreateRenderView()
    layout.AssignView(cell, view)
    view.OrientationAxesVisibility = 0
    view.UseColorPaletteForBackground = 0
    view.Background = [1.0, 1.0, 1.0]
    label = Show(Text(Text=title), view)
    label.Color = [0.1, 0.1, 0.1]
    label.FontSize = 20
    label.WindowLocation = "Upper Center"
    display = Show(source, view)
    display.SetRepresentationType("Volume")
    ColorBy(display, ("POINTS", array))
    return view


def set_colours() -> None:
    """Thin vortex tubes on white, and errors around white."""
    colours = GetColorTransferFunction(ARRAY)
    colours.ApplyPreset("Viridis (matplotlib)", True)
    colours.RescaleTransferFunction(2.0, 16.0)
    opacity = GetOpacityTransferFunction(ARRAY)
    opacity.Points = [2.0, 0.0, 0.5, 0.0, 5.0, 0.02, 0.5, 0.0, 10.0, 0.35, 0.5, 0.0, 16.0, 0.9, 0.5, 0.0]
    errors = GetColorTransferFunction(ERROR)
    errors.ApplyPreset("Cool to Warm (Extended)", True)
    errors.RescaleTransferFunction(-2.0, 2.0)


if __name__ == "__main__":
    main()  # no sys.exit(): with views open, ParaView 5.11 would end in an X error

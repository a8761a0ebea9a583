"""Open the model of a simulation as an animation: its energy beside the solver's, and a picture of every time step.

    source plugin/env.sh
    pvpython examples/in_situ/animation.py [FOLDER of simulate.py] [--between 3] [--threshold 1.8]

Needs a screen; without one: xvfb-run -a -s "-screen 0 1600x1000x24 -noreset" pvpython ... Leaves frame_*.png in the folder.
"""

import argparse
import csv
import sys
from pathlib import Path

import numpy as np
from paraview import servermanager
from paraview.simple import *  # noqa: F403  (the names of ParaView's own scripts)
from vtkmodules.util.numpy_support import vtk_to_numpy


def main() -> None:
    options = parse_arguments()
    neural = OpenDataFile(str(options.folder / "flow.apmgsrn"))
    neural.UpdatePipelineInformation()
    print(f"{'time':>8}{'energy, solver':>16}{'of the model':>14}{'difference':>12}")
    for time, energy in read_energies(options.folder / "energy.csv").items():
        found = energy_of(neural, time)
        print(f"{time:>8.3f}{energy:>16.6f}{found:>14.6f}{(found - energy) / energy:>12.2%}")
    frames = draw(neural, options)
    print(f"frames: {len(frames)}\nlast: {frames[-1]}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", default=Path("in_situ_output"), help="default: in_situ_output")
    parser.add_argument("--between", type=int, default=0, metavar="N", help="pictures between two time steps, interpolated")
    parser.add_argument("--threshold", type=float, default=1.8, help="vorticity of the surfaces (default: 1.8)")
    parser.add_argument("--scale", type=float, default=2.0, help="resolution of the pictures' lattice (default: 2)")
    options = parser.parse_args()
    for name in ("flow.apmgsrn", "energy.csv"):
        if not (options.folder / name).is_file():
            sys.exit(f"animation: expected {name} of simulate.py in {options.folder}, found none")
    return options


def read_energies(path: Path) -> dict:
    """{time: energy} as the solver has it."""
    with open(path, newline="", encoding="utf-8") as file:
        return {float(row["time"]): float(row["energy"]) for row in csv.DictReader(file)}


def energy_of(neural, time: float) -> float:
    """The mean of |u|^2 / 2 over the box of what the model has for a time; the last plane is the first one again."""
    neural.UpdatePipeline(time)
    image = servermanager.Fetch(neural)
    velocity = vtk_to_numpy(image.GetPointData().GetArray("velocity"))
    velocity = velocity.reshape((*image.GetDimensions()[::-1], 3))[:-1, :-1, :-1]
    return float((velocity.astype(np.float64) ** 2).sum(axis=3).mean() / 2)


def draw(neural, options: argparse.Namespace) -> list:
    """Pictures of the tubes of vorticity, coloured by the speed."""
    times = np.array(neural.TimestepValues, dtype=float, ndmin=1)
    neural.Scale, neural.InterpolateTime = options.scale, int(options.between > 0)
    view = CreateView("RenderView")
    view.ViewSize, view.OrientationAxesVisibility = [900, 800], 0
    tubes = Contour(Input=neural, ContourBy=["POINTS", "vorticity_magnitude"], Isosurfaces=[options.threshold])
    display = Show(tubes, view)
    ColorBy(display, ("POINTS", "velocity", "Magnitude"))
    GetColorTransferFunction("velocity").RescaleTransferFunction(0.0, 1.0)
    display.SetScalarBarVisibility(view, True)
    Show(Outline(Input=neural), view)
    label = Show(AnnotateTime(Format="time {time:.2f}"), view)
    label.FontSize = 16
    view.CameraPosition, view.CameraFocalPoint, view.CameraViewUp = (-9, -11, 12), (3.14, 3.14, 3.14), (0, 0, 1)
    shown = np.interp(np.arange((len(times) - 1) * (options.between + 1) + 1) / (options.between + 1), range(len(times)), times)
    frames = []
    for number, time in enumerate(shown):
        view.ViewTime = time
        frames.append(options.folder / f"frame_{number:04d}.png")
        SaveScreenshot(str(frames[-1]), view)
    return frames


if __name__ == "__main__":
    main()

"""Train four networks of other papers on a volume, save each, and look at all of them in ParaView.

    source plugin/env.sh
    pvpython examples/foreign_networks.py [--data FILE] [--iterations N] [--output FOLDER]

Leaves NAME.network.json with its weights for each network in foreign_networks_output/, and picture.png; prints a table. A
fifth network is a function that this script registers. `open_volume(path)` opens any of them in Python, and Neural Volume,
Sample Neural Volume and Compare Neural Volume do in ParaView.
"""

import argparse
import sys
from pathlib import Path

import torch
from paraview import servermanager
from paraview.simple import *  # noqa: F403  (the names of ParaView's own scripts)
from vtkmodules.util.numpy_support import vtk_to_numpy

from apmgsrn_core import BASELINES, Grid, TrainConfig, register_network, save_network, train_baseline

ROOT = Path(__file__).resolve().parent.parent
ARRAY = "vorticity_magnitude"
# name: how it is saved, what it is made with beyond the published sizes, its learning rate (0: that of its paper)
NETWORKS = {
    "siren": ("class", dict(width=64), 1e-3),
    "fvsrn": ("torchscript", {}, 0.0),
    "hash_grid": ("export", dict(levels=8, finest=128), 0.0),
    "dense_grids": ("class", dict(levels=4, finest=48), 0.0),
}


def main() -> None:
    options = parse_arguments()
    options.output.mkdir(parents=True, exist_ok=True)
    whole = OpenDataFile(str(options.data))
    whole.UpdatePipeline()
    original = ExtractSubset(Input=whole, VOI=whole.GetDataInformation().GetExtent())
    original.SampleRateI = original.SampleRateJ = original.SampleRateK = options.stride
    original.UpdatePipeline()
    values, grid = volume_of(original)
    paths = {name: train(name, values, grid, options) for name in NETWORKS}
    paths["function"] = register_network("function", spheres, described(values, grid))

    figures, shown = {}, [("original", original)]
    for name, path in paths.items():
        network = NeuralVolume(registrationName=name, FileName=str(path))
        network.TrustFile = NETWORKS.get(name, ["class"])[0] in ("torchscript", "export")  # written by this script
        network.UpdatePipeline()
        if error := information(network, "LastError"):
            sys.exit(f"{name}: {error}")
        figures[name] = compare(original, network)
        shown.append((name, network))
    draw(shown, options.output / "picture.png")

    print(f"{'network':<12}{'PSNR dB':>9}{'bytes':>10}  saved as")
    for name, path in paths.items():
        size = sum(f.stat().st_size for f in options.output.glob(f"{name}.*"))
        print(f"{name:<12}{figures[name]:>9.2f}{size:>10}  {NETWORKS.get(name, ['registered'])[0]}")
    print(f"picture: {options.output / 'picture.png'}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=ROOT / "examples/data/tgv_re800_t9_vortmag_128.vti")
    parser.add_argument("--output", type=Path, default=Path("foreign_networks_output"))
    parser.add_argument("--iterations", type=int, default=300, help="of each network (default: 300)")
    parser.add_argument("--batch-size", type=int, default=5000)
    parser.add_argument("--stride", type=int, default=2, help="every so many points of the data (default: 2)")
    return parser.parse_args()


def train(name: str, values, grid: Grid, options: argparse.Namespace) -> Path:
    """All that it takes: make a network, train it, save it."""
    kind, sizes, rate = NETWORKS[name]
    network = BASELINES[name](**sizes)
    config = TrainConfig(iterations=options.iterations, batch_size=options.batch_size, learning_rate=rate)
    result = train_baseline(network, values, grid, config, name=ARRAY)
    return save_network(options.output / f"{name}.network.json", network, grid, result.arrays, kind)


def spheres(points: torch.Tensor) -> torch.Tensor:
    """(n, 3) -> (n, 1): any function of points will do."""
    return 0.5 + 0.5 * torch.cos(9 * points.norm(dim=1, keepdim=True))


def described(values, grid: Grid) -> dict:
    """What must be said of a function: where it is, what it is called, its range."""
    array = {"name": ARRAY, "range": [float(values.min()), float(values.max())]}
    return {"grid": {"dims": grid.dims, "bounds": grid.bounds}, "arrays": [array]}


def volume_of(source):
    """(values[z, y, x], its lattice) of an image source."""
    image = servermanager.Fetch(source)
    dims, bounds = image.GetDimensions(), image.GetBounds()
    spacing = [(high - low) / (n - 1) for n, low, high in zip(dims, bounds[::2], bounds[1::2])]
    values = vtk_to_numpy(image.GetPointData().GetArray(ARRAY)).reshape(dims[::-1])
    return values, Grid(dims, bounds[::2], spacing)


def compare(original, network) -> float:
    """PSNR in dB, by Compare Neural Volume; it is told which network by its input Model."""
    comparison = CompareNeuralVolume(Input=original, Model=network, TrustFile=network.TrustFile)
    comparison.ComputeSSIM = 0
    figures = servermanager.Fetch(comparison, idx=1)
    if error := information(comparison, "LastError"):
        sys.exit(error)
    return figures.GetColumnByName("psnr").GetValue(0)


def information(proxy, name: str):
    """The value of an information property."""
    proxy.UpdatePropertyInformation()
    return proxy.GetPropertyValue(name)


def draw(shown: list, path: Path) -> None:
    """All volumes with the same colours, three in a row."""
    colours = GetColorTransferFunction(ARRAY)
    opacity = GetOpacityTransferFunction(ARRAY)
    layout = CreateLayout("foreign networks")
    layout.SetSize(1200, 800)
    lower = layout.SplitVertical(0, 0.5)
    cells = []
    for row in (lower, lower + 1):
        left = layout.SplitHorizontal(row, 1 / 3)
        middle = layout.SplitHorizontal(left + 1, 0.5)
        cells += [left, middle, middle + 1]
    for cell, (title, source) in zip(cells, shown):
        view = CreateRenderView(OrientationAxesVisibility=0, UseColorPaletteForBackground=0, Background=[1.0, 1.0, 1.0])
        layout.AssignView(cell, view)
        label = Show(Text(Text=title), view)
        label.Color, label.WindowLocation = [0.1, 0.1, 0.1], "Upper Center"
        display = Show(source, view)
        display.SetRepresentationType("Volume")
        ColorBy(display, ("POINTS", ARRAY))
        colours.ApplyPreset("Viridis (matplotlib)", True)
        colours.RescaleTransferFunction(2.0, 16.0)
        opacity.Points = [2.0, 0.0, 0.5, 0.0, 5.0, 0.02, 0.5, 0.0, 10.0, 0.35, 0.5, 0.0, 16.0, 0.9, 0.5, 0.0]
        ResetCamera(view)
        view.GetActiveCamera().Azimuth(-35)
        view.GetActiveCamera().Elevation(25)
        Render(view)
    SaveScreenshot(str(path), layout, ImageResolution=[1200, 800])


if __name__ == "__main__":
    main()  # no sys.exit() at the end: with views open, ParaView 5.11 would end in an X error

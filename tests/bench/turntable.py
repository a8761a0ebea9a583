"""Turntables: the networks as `RenderNeuralVolume` marches them, beside ParaView's volume rendering of the decoded volumes.

    xvfb-run -a -s "-screen 0 1600x1000x24 -noreset" pvpython tests/bench/turntable.py DATA ... --models FOLDER
        [--pictures FOLDER] [--json FILE] [--views 12] [--size 256] [--scales 2 1]

DATA and FOLDER as `render.py` takes them. Both sides are what a view shows, 8 bits a colour before black: the same camera,
transfer functions and unit distance, no shading, and samples as far apart as ParaView's ray casting on the CPU has them, half
of the mean spacing of what it is given. The samples begin elsewhere, by less than one of their distances.

ParaView's ray casting on the CPU puts its picture on the screen displaced by up to half a pixel, see `displaced`. PSNR
"as shown" has that in it; for "same rays" ours is displaced alike. For "same values" our marcher is given the decoded
values that ParaView has in the first view, linear between the points of the lattice: what is left is the way of sampling
and of adding up. "covered" is the share of pixels that show something: over these alone a PSNR is 10 log10 of it lower.

A contact sheet has a column for each view: ours, ParaView's, and EXAGGERATION times the difference of the same rays.
"""

from __future__ import annotations

import argparse
import json
import statistics
from dataclasses import dataclass
from pathlib import Path

import measurement
import numpy as np
import torch
from paraview import simple
from render import distance, function_for, model_of, premultiplied, seconds_of
from vtk_picture import pixels_of
from vtkmodules.util.numpy_support import vtk_to_numpy

import apmgsrn
from apmgsrn_core import NeuralVolume
from apmgsrn_core.rendering.camera import Camera
from apmgsrn_core.rendering.picture import Picture
from apmgsrn_core.rendering.render_options import RenderOptions
from apmgsrn_core.rendering.renderer import VolumeRenderer

ELEVATION = 20  # degrees
EXAGGERATION = 8
ITERATIONS = 1500  # of a training, as in render.py


@dataclass
class Pair:
    """Two views of one model, ours and ParaView's.

    Attributes:
        views: The render views "ours" and "theirs".
        renderer: The RenderNeuralVolume of the first.
        volume: The NeuralVolume in the second.
        function: A TransferFunction, of both.
    """

    views: dict
    renderer: object
    volume: object
    function: object

    @classmethod
    def of(cls, path: Path, function, size: int) -> "Pair":
        """The views of a model file, with colours and opacities of a TransferFunction."""
        views = {name: black_view(size) for name in ("ours", "theirs")}
        for view in views.values():
            view.UseFXAA = 0  # of all views at once, and a new view sets it
        volume = simple.NeuralVolume(FileName=str(path), OutputType="Float32")
        renderer = apmgsrn.show(views["ours"], volume)
        return cls(views, renderer, volume, function)

    def decode(self, scale: int) -> float:
        """Show ParaView's volume rendering at a scale of the lattice, ours with its distance of samples, which is returned."""
        self.volume.Scale = scale
        display = simple.Show(self.volume, self.views["theirs"])
        display.SetRepresentationType("Volume")
        simple.ColorBy(display, ("POINTS", self.volume.PointData[0].Name))
        display.LookupTable, display.ScalarOpacityFunction = self.renderer.LookupTable, self.renderer.ScalarOpacityFunction
        display.VolumeRenderingMode, display.Shade = "Ray Cast Only", 0
        self._colour(display)
        image = self.volume.GetClientSideObject().GetOutputDataObject(0)
        self.renderer.Step = sum(image.GetSpacing()) / 6  # vtkVolumeMapper::SpacingAdjustedSampleDistance
        return self.renderer.Step

    def _colour(self, display) -> None:
        """Give both the function; at last, for showing a volume rescales its functions."""
        function, colours = self.function, self.renderer.LookupTable
        colours.AutomaticRescaleRangeMode, colours.ColorSpace = "Never", "RGB"
        colours.RGBPoints = np.column_stack([function.points, function.colours]).ravel().tolist()
        curve = [(x, a, 0.5, 0.0) for x, a in zip(function.points, function.opacities)]
        self.renderer.ScalarOpacityFunction.Points = np.ravel(curve).tolist()
        for proxy in (display, self.renderer):
            proxy.ScalarOpacityUnitDistance = function.unit_distance

    def look(self, camera: Camera) -> dict:
        """{name: (seconds, [h, w, 3])} of both views."""
        found = {}
        for name, view in self.views.items():
            view.CameraPosition, view.CameraFocalPoint = camera.position, camera.focal_point
            view.CameraViewUp, view.CameraViewAngle = camera.view_up, camera.view_angle
            seconds, _ = seconds_of(lambda: simple.Render(view))
            found[name] = seconds, pixels_of(view.GetRenderWindow())
        return found

    def close(self) -> None:
        """Free what it holds."""
        for proxy in (self.renderer, self.volume, *self.views.values()):
            simple.Delete(proxy)


def black_view(size: int):
    """A square view with nothing in it."""
    view = simple.CreateView("RenderView", ViewSize=[size, size], OrientationAxesVisibility=0)
    view.UseColorPaletteForBackground, view.Background = 0, [0, 0, 0]
    return view


class Lattice:
    """Decoded values as a volume that a VolumeRenderer samples: linear between the points of the lattice."""

    device = "cpu"

    def __init__(self, volume: NeuralVolume, scale: int, image):
        self.grid, self.arrays = volume.grid.scaled(scale), volume.arrays
        values = vtk_to_numpy(image.GetPointData().GetArray(0)).reshape(self.grid.dims[::-1])
        self._values = torch.from_numpy(values)[None, None]

    def step_at(self, time) -> int:
        return 0

    def macrocells(self, field, time) -> None:
        return None

    def sample_points(self, points_xyz: np.ndarray, field, time) -> np.ndarray:
        """(n, 3) in the world -> (n,)."""
        low, high = np.reshape(self.grid.bounds, (3, 2)).T
        places = torch.from_numpy((2 * (points_xyz - low) / (high - low) - 1).astype(np.float32))
        settings = {"padding_mode": "border", "align_corners": True}
        return torch.nn.functional.grid_sample(self._values, places[None, None, None], **settings).ravel().numpy()


def same_values(pair: Pair, volume: NeuralVolume, scale: int, camera: Camera) -> dict:
    """The difference of ParaView's picture and our marcher's of the same lattice."""
    image = pair.volume.GetClientSideObject().GetOutputDataObject(0)
    lattice = VolumeRenderer(Lattice(volume, scale, image))
    picture = lattice.render(camera, pair.function, RenderOptions(step=pair.renderer.Step, opacity_limit=1.0, skip=False))
    theirs = pair.look(camera)["theirs"][1]
    found = distance(displaced(premultiplied(picture), camera, volume.grid.bounds), theirs)
    return {"psnr": round(found["psnr"], 2), "largest difference": round(found["largest"], 3)}


def displaced(picture: np.ndarray, camera: Camera, bounds: tuple) -> np.ndarray:
    """A picture [h, w, 3] as vtkOpenGLRayCastImageDisplayHelper shows one.

    Of the n pixels across the volume, which it keeps in a texture, it spreads the n - 1 between the middles of the outermost
    ones over all n, with linear interpolation; n is vtkFixedPointVolumeRayCastMapper::ComputeRowBounds'.
    """
    corners = np.stack(np.meshgrid(*np.reshape(bounds, (3, 2)), indexing="ij"), axis=-1).reshape(-1, 3)
    across, above, depth = ((corners - np.array(camera.position)) @ camera.axes.T).T
    half = depth * np.tan(np.radians(camera.view_angle) / 2)
    width, height = camera.size
    for axis, share, n in ((1, across / half * height / width, width), (0, above / half, height)):
        low, high = max((share.min() + 1) / 2 * n - 2, 0), min((share.max() + 1) / 2 * n + 2, n - 1)
        first, count = int(low), int(high - low + 1)
        source = np.arange(n, dtype=float)
        source[first : first + count] = first + (np.arange(count) + 0.5) / count * (count - 1)
        left = np.minimum(source.astype(int), n - 2)
        share = (source - left).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        picture = np.take(picture, left, axis) * (1 - share) + np.take(picture, left + 1, axis) * share
    return picture


def turned(pair: Pair, cameras: list[Camera], bounds: tuple) -> tuple[dict, np.ndarray]:
    """Figures of a turntable, and its contact sheet [h, w, 3], the row at the bottom first."""
    shown, same, covered, seconds, columns = [], [], [], {"ours": [], "theirs": []}, []
    for camera in cameras:
        found = pair.look(camera)
        for name, (taken, _) in found.items():
            seconds[name].append(taken)
        (_, ours), (_, theirs) = found["ours"], found["theirs"]
        moved = displaced(ours, camera, bounds)
        covered.append(float((np.maximum(moved, theirs).max(axis=2) > 0).mean()))
        shown.append(distance(ours, theirs))
        same.append(distance(moved, theirs))
        columns.append(np.concatenate([np.clip(EXAGGERATION * np.abs(moved - theirs), 0, 1), theirs, ours]))
    return {
        "as shown": summary(shown),
        "same rays": summary(same),
        "covered": round(statistics.mean(covered), 3),
        "median seconds": {name: statistics.median(taken) for name, taken in seconds.items()},
    }, np.concatenate(columns, axis=1)  # fmt: skip


def summary(figures: list[dict]) -> dict:
    """Of what `distance` gives for each view."""
    psnr = [round(f["psnr"], 2) for f in figures]
    largest = round(max(f["largest"] for f in figures), 3)
    return {"psnr": psnr, "min": min(psnr), "median": round(statistics.median(psnr), 2), "largest difference": largest}


def save(sheet: np.ndarray, path: Path) -> None:
    """A PNG of [h, w, 3]."""
    rgba = np.concatenate([sheet, np.ones_like(sheet[..., :1])], axis=2)
    Picture(rgba, rgba[..., 0], 0).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("volumes", nargs="+", metavar="DATA")
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--views", type=int, default=12)
    parser.add_argument("--size", type=int, default=256, help="pixels along a side")
    parser.add_argument("--scales", type=int, nargs="+", default=[2, 1], help="of the decoded lattices")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = {"views": options.views, "size": options.size, "machine": measurement.machine()}
    simple._DisableFirstRenderCameraReset()
    print("PSNR in dB: min, median              step      as shown     same rays  largest same values")
    for text in options.volumes:
        name = Path(text.partition(":")[0]).stem
        volume = model_of(text, options.models, ITERATIONS, "cpu")
        grid = volume.grid
        angles = [360 * turn / options.views for turn in range(options.views)]
        cameras = [Camera.looking_at(grid.bounds, angle, ELEVATION, (options.size,) * 2) for angle in angles]
        function = function_for(name, min(abs(s) for s in grid.spacing))
        pair = Pair.of(options.models / f"{name}.apmgsrn", function, options.size)
        for scale in options.scales:
            step = pair.decode(scale)
            figures, sheet = turned(pair, cameras, grid.bounds)
            values = same_values(pair, volume, scale, cameras[0])
            found.setdefault(name, {})[f"decoded x {scale}"] = {"step": step, **figures, "same values": values}
            shown, same = figures["as shown"], figures["same rays"]
            print(
                f"{name + f' x {scale}':32s} {step:8.4f} {shown['min']:6.2f} {shown['median']:6.2f}"
                f" {same['min']:6.2f} {same['median']:6.2f} {same['largest difference']:8.3f} {values['psnr']:11.2f}",
                flush=True,
            )
            if options.pictures:
                save(sheet, options.pictures / f"{name}_x{scale}.png")
        pair.close()
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()

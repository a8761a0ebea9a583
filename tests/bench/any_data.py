"""Default training of every kind of data by the real filters: PSNR of each array on the data's own points or cells, bytes, seconds.

    source plugin/env.sh
    xvfb-run -a pvpython tests/bench/any_data.py DATA_FOLDER [--only NAME ...] [--set Property=value ...] [--json FILE] [--pictures FOLDER]

DATA_FOLDER holds the files that `SOURCES` names; what is not there is left out and said. Each is trained with the default
preset and quality, all arrays in one model, and compared by Compare Neural Volume. `decades` is |log10(model / data)|: its
median and 95 % quantile. A picture shows the data (left) beside the model (right) in a slice through the largest value, with
the same colours (the 1 % and 99 % quantiles of the data in the slice).
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from paraview.simple import *  # noqa: F403
from vtkmodules.util.numpy_support import numpy_to_vtk, vtk_to_numpy
from vtkmodules.vtkCommonDataModel import vtkImageData
from vtkmodules.vtkIOImage import vtkPNGReader, vtkPNGWriter

from apmgsrn_paraview.data_leaves import count_of, leaves_of, visible
from apmgsrn_paraview.point_positions import positions_of
from apmgsrn_paraview.vtk_arrays import attributes

COLUMNS = {"data": 14, "array": 16, "psnr_db": 8, "max_error": 10, "values": 9, "data_bytes": 11, "model_bytes": 11, "ratio": 7,
           "train_s": 8, "compare_s": 9}  # fmt: skip


@dataclass(frozen=True)
class Source:
    """A data set: how it is opened, and what is learned of it.

    Args:
        path: Below the data folder.
        points, cells: Names of the arrays; (): all on the points.
        shown: The array of the picture, and whether its colours are logarithmic.
        normal: Of the slice.
        make: (path) -> source proxy; None: by its ending.
    """

    path: str
    points: tuple = ()
    cells: tuple = ()
    shown: tuple = ("", False)
    normal: tuple = (0, 0, 1)
    make: object = None


def cube(path):
    return OutputPort(GaussianCubeReader(FileName=path), 1)


def enzo(path):
    return EnzoReader(FileNames=[path], CellArrayStatus=["Density", "Temperature", "x-velocity", "y-velocity", "z-velocity"])


SOURCES = {
    "levitus_ocean": Source("formats/levitus_ocean.vtr", shown=("temperature", False)),
    "disk_out_ref": Source(
        "formats/disk_out_ref.ex2", ("V", "Temp", "Pres", "AsH3", "GaMe3", "CH4", "H2"), shown=("Temp", False), normal=(1, 0, 0)
    ),
    "enzo_moving7": Source(
        "formats/enzo_moving7/moving7_0010.hierarchy", (), ("Density", "Temperature", "x-velocity", "y-velocity", "z-velocity"),
        ("Density", True), make=enzo,
    ),  # fmt: skip
    "carotid": Source("formats/carotid.vtk", shown=("scalars", False)),
    "acrolein": Source("acrolein_density.cube", shown=("", True), make=cube),
    "jet_vort": Source("jet_vort_240x360x60.vti"),
    "cranium_ct": Source("cranium_ct_256x256x108.vti", normal=(1, 0, 0)),
    "isabel": Source("isabel_series/isabel_32.vti", ("velocityMag",)),
    "tgv_velocity": Source("tgv_velocity_series/tgv_velocity_04.vti"),
}


def measure(name: str, source: Source, data, settings: dict, folder: Path, pictures: Path | None) -> list[dict]:
    """Train, compare, and draw one data set; a row for each array."""
    data.UpdatePipeline()
    points = source.points or (() if source.cells else tuple(data.PointData.keys()))
    path = folder / f"{name}.apmgsrn"
    trainer = TrainNeuralVolume(Input=data, ModelFile=str(path), SeveralArrays=1, PointArrays=points, CellArrays=source.cells)
    for key, value in settings.items():
        setattr(trainer, key, value)
    train_seconds = seconds_of(trainer)
    trainer.UpdatePropertyInformation()
    print(f"{name}: {trainer.GetPropertyValue('Status')}")
    errors = CompareNeuralVolume(Input=data, FileName=str(path))
    compare_seconds = seconds_of(errors)
    found = errors.GetClientSideObject()
    rows, size = rows_of(found.GetOutputDataObject(1)), path.stat().st_size
    total = sum(byte_count(found.GetOutputDataObject(0), row["array"], row["association"]) for row in rows)
    for row in rows:
        row |= {"data": name, "data_bytes": total, "model_bytes": size, "ratio": round(total / size, 2),
                "train_s": round(train_seconds, 1), "compare_s": round(compare_seconds, 1)}  # fmt: skip
        if source.shown[1] and source.shown[0] in ("", row["array"]):
            row["decades"] = decades(found.GetOutputDataObject(0), row["array"], row["association"])
    if pictures is not None:
        draw(errors, rows, source, pictures / f"{name}.png")
    for proxy in (errors, trainer):
        Delete(proxy)
    return rows


def seconds_of(proxy) -> float:
    """To update it. Raises RuntimeError when the filter tells an error."""
    start = time.perf_counter()
    proxy.UpdatePipeline()
    seconds = time.perf_counter() - start
    proxy.UpdatePropertyInformation()
    if proxy.GetPropertyValue("LastError"):
        raise RuntimeError(proxy.GetPropertyValue("LastError"))
    return seconds


def rows_of(table) -> list[dict]:
    """The rows of Compare Neural Volume's table that stand for the whole."""
    columns = {table.GetColumnName(i): table.GetColumn(i) for i in range(table.GetNumberOfColumns())}
    rows = [{name: column.GetValue(row) for name, column in columns.items()} for row in range(table.GetNumberOfRows())]
    return [
        {"array": r["array"], "association": r["association"], "psnr_db": round(r["psnr"], 2), "ssim": round(r["ssim"], 4),
         "max_error": float(f"{r['max_error']:.4g}"), "values": r["values_compared"]}
        for r in rows if r["brick"] == -1
    ]  # fmt: skip


def byte_count(data, name: str, association: str) -> int:
    """Of an array in all parts of the data, in its own type."""
    arrays = [attributes(leaf, association).GetArray(name) for leaf in leaves_of(data)]
    return sum(a.GetNumberOfValues() * a.GetDataTypeSize() for a in arrays if a is not None)


def decades(data, name: str, association: str) -> dict:
    """Median and 95 % quantile of |log10(model / data)| where both are positive, and the share of values where they are."""
    given, found = [], []
    for leaf in leaves_of(data):
        seen = visible(leaf, association, duplicates=True)
        given.append(vtk_to_numpy(attributes(leaf, association).GetArray(name))[seen].astype(float))
        found.append(vtk_to_numpy(attributes(leaf, association).GetArray(f"{name}_reconstruction"))[seen].astype(float))
    given, found = np.concatenate(given), np.concatenate(found)
    good = (given > 0) & (found > 0)
    error = np.abs(np.log10(found[good] / given[good]))
    return {"median": float(np.median(error)), "q95": float(np.quantile(error, 0.95)), "positive": float(good.mean())}


# -- pictures ------------------------------------------------------------------------------------


def draw(errors, rows: list[dict], source: Source, path: Path) -> None:
    """A slice, the data beside the model."""
    row = next((r for r in rows if r["array"] == source.shown[0]), rows[0])
    side = "CELLS" if row["association"] == "cell" else "POINTS"
    slice_ = Slice(Input=errors)
    slice_.SliceType.Origin, slice_.SliceType.Normal = place_of_largest(errors, row), source.normal
    slice_.UpdatePipeline()
    parts, limits = [], colour_limits(slice_, row, source.shown[1])
    for ending in ("", "_reconstruction"):
        part = path.with_name(f"{path.stem}{ending or '_data'}.part.png")
        picture_of(slice_, (side, row["array"] + ending), limits, source, str(part))
        parts.append(part)
    join(parts, path)
    Delete(slice_)


def place_of_largest(errors, row: dict) -> list:
    """Where the data is largest, a little inside of the bounds."""
    found, association = [], row["association"]
    for leaf in leaves_of(errors.GetClientSideObject().GetOutputDataObject(0)):
        array = attributes(leaf, association).GetArray(row["array"])
        if array is not None and array.GetNumberOfTuples():
            values = np.linalg.norm(vtk_to_numpy(array).reshape(array.GetNumberOfTuples(), -1).astype(float), axis=1)
            places = positions_of(leaf, association)
            largest = int(np.nanargmax(values))
            found.append((values[largest], places.part(largest, largest + 1)[0]))
    bounds = np.reshape(errors.GetDataInformation().GetBounds(), (3, 2))
    margin = 1e-3 * np.ptp(bounds, axis=1)
    return np.clip(max(found, key=lambda pair: pair[0])[1], bounds[:, 0] + margin, bounds[:, 1] - margin).tolist()


def colour_limits(slice_, row: dict, logarithmic: bool) -> tuple:
    """The 1 % and 99 % quantiles of the data in the slice."""
    leaves = leaves_of(slice_.GetClientSideObject().GetOutputDataObject(0))
    arrays = [attributes(leaf, row["association"]).GetArray(row["array"]) for leaf in leaves if count_of(leaf, "point")]
    values = np.concatenate([vtk_to_numpy(a) for a in arrays if a is not None]).astype(float)
    values = np.linalg.norm(values, axis=1) if values.ndim > 1 else values
    values = values[np.isfinite(values) & ((values > 0) | (not logarithmic))]
    return tuple(np.quantile(values, (0.01, 0.99)))


def picture_of(slice_, array: tuple, limits: tuple, source: Source, path: str) -> None:
    view = CreateView("RenderView")
    view.ViewSize, view.OrientationAxesVisibility, view.Background = [500, 500], 0, [1, 1, 1]
    view.UseColorPaletteForBackground = 0
    display = Show(slice_, view)
    display.Representation = "Surface"
    ColorBy(display, array)
    colours = GetColorTransferFunction(array[1])
    colours.RescaleTransferFunction(*limits)
    if source.shown[1]:
        colours.MapControlPointsToLogSpace()
        colours.UseLogScale = 1
    display.SetScalarBarVisibility(view, False)
    view.CameraParallelProjection = 1
    ResetCamera(view)
    focus, distance = np.array(view.CameraFocalPoint), view.CameraParallelScale * 4
    view.CameraPosition = (focus + distance * np.array(source.normal)).tolist()
    view.CameraViewUp = [0, 0, 1] if source.normal[2] == 0 else [0, 1, 0]
    view.CameraParallelScale *= 0.75
    SaveScreenshot(path, view)
    Delete(view)


def join(parts: list[Path], path: Path) -> None:
    """Pictures beside each other in one; the parts are deleted."""
    pixels = []
    for part in parts:
        reader = vtkPNGReader()
        reader.SetFileName(str(part))
        reader.Update()
        width, height, _ = reader.GetOutput().GetDimensions()
        pixels.append(vtk_to_numpy(reader.GetOutput().GetPointData().GetScalars()).reshape(height, width, -1))
    both, image = np.concatenate(pixels, axis=1), vtkImageData()
    image.SetDimensions(both.shape[1], both.shape[0], 1)
    image.GetPointData().SetScalars(numpy_to_vtk(both.reshape(-1, both.shape[2]), deep=1))
    writer = vtkPNGWriter()
    writer.SetInputData(image)
    writer.SetFileName(str(path))
    writer.Write()
    for part in parts:
        part.unlink()


# -- all of it -----------------------------------------------------------------------------------


def print_rows(rows: list[dict]) -> None:
    for row in rows:
        print(" ".join(f"{row[name]:>{width}}" for name, width in COLUMNS.items()), row.get("decades", ""), flush=True)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="+", choices=list(SOURCES), default=list(SOURCES))
    parser.add_argument("--set", action="append", default=[], metavar="Property=value")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--pictures", type=Path)
    return parser.parse_args()


def main() -> None:
    options, rows = arguments(), []
    settings = {key: json.loads(value) if value[:1] in '0123456789"[-' else value for key, value in (s.split("=", 1) for s in options.set)}
    if options.pictures:
        options.pictures.mkdir(parents=True, exist_ok=True)
    print(" ".join(f"{name:>{width}}" for name, width in COLUMNS.items()))
    with tempfile.TemporaryDirectory() as folder:
        for name in options.only:
            source = SOURCES[name]
            path = options.folder / source.path
            if not path.exists():
                print(f"{name}: left out, {path} is not there")
                continue
            data = source.make(str(path)) if source.make else OpenDataFile(str(path))
            found = measure(name, source, data, settings, Path(folder), options.pictures)
            print_rows(found)
            rows += found
    if options.json:
        machine = {"processor": platform.processor() or platform.machine(), "python": platform.python_version()}
        options.json.write_text(json.dumps({"machine": machine, "settings": settings, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()

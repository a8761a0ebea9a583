"""PSNR, seconds, bytes and ratio of `TrainNeuralVolume` with its default preset, for any volumes.

    source plugin/env.sh
    pvpython tests/bench/default_preset.py --json tests/bench/results/default_preset.json VOLUME.vti ...

Each volume's first point array is trained by the real filter (settings may be overridden: `--set Iterations=500`), saved,
opened again by the real source, and compared with the data. Prints a table; a row of the JSON is a volume.
"""

import argparse
import json
import platform
import tempfile
import time
from pathlib import Path

from paraview import servermanager
from paraview.simple import *  # noqa: F403
from vtkmodules.util.numpy_support import vtk_to_numpy

from apmgsrn_core import psnr, ssim

COLUMNS = ("volume", "dims", "dtype", "psnr_db", "ssim", "max_error", "train_s", "sample_s", "bytes", "ratio")


def measure(path: Path, settings: dict, folder: Path) -> dict:
    """Train, save, open, compare one volume."""
    source = OpenDataFile(str(path))
    source.UpdatePipeline()
    name = source.PointData.keys()[0]
    trainer = TrainNeuralVolume(Input=source, ModelFile=str(folder / (path.stem + ".apmgsrn")))
    trainer.TargetArray = ["POINTS", name]
    for key, value in settings.items():
        setattr(trainer, key, value)
    start = time.perf_counter()
    trainer.UpdatePipeline()
    train_seconds = time.perf_counter() - start
    neural = OpenDataFile(trainer.ModelFile)
    start = time.perf_counter()
    neural.UpdatePipeline()
    sample_seconds = time.perf_counter() - start
    expected, found = values_of(source, name), values_of(neural, name)
    size = Path(trainer.ModelFile).stat().st_size
    row = {
        "volume": path.name, "dims": "x".join(map(str, expected.shape[::-1])), "dtype": str(expected.dtype),
        "psnr_db": round(psnr(expected, found), 2), "ssim": round(ssim(expected, found), 4),
        "max_error": round(float(abs(expected.astype("f8") - found).max() / (float(expected.max()) - float(expected.min()))), 4),
        "train_s": round(train_seconds, 1), "sample_s": round(sample_seconds, 1), "bytes": size,
        "ratio": round(expected.nbytes / size, 1),
    }  # fmt: skip
    for proxy in (neural, trainer, source):
        Delete(proxy)
    return row


def values_of(source, name: str):
    image = servermanager.Fetch(source)
    return vtk_to_numpy(image.GetPointData().GetArray(name)).reshape(image.GetDimensions()[::-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("volumes", type=Path, nargs="+")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="Property=value")
    options = parser.parse_args()
    settings = {}
    for text in options.set:
        key, _, value = text.partition("=")
        settings[key] = json.loads(value) if value[:1].isdigit() or value[:1] in '"[-' else value
    rows = []
    print(("{:>34} " + "{:>12} " * (len(COLUMNS) - 1)).format(*COLUMNS))
    with tempfile.TemporaryDirectory() as folder:
        for path in options.volumes:
            rows.append(measure(path, settings, Path(folder)))
            print(("{:>34} " + "{:>12} " * (len(COLUMNS) - 1)).format(*rows[-1].values()), flush=True)
    if options.json:
        machine = {"processor": platform.processor() or platform.machine(), "python": platform.python_version()}
        options.json.write_text(json.dumps({"machine": machine, "settings": settings, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()

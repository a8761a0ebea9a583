"""Memory, files and threads of one pvpython that opens, samples, closes and trains again and again.

    source plugin/env.sh
    pvpython tests/bench/long_run.py [--opened 500] [--trained 50] [--json FILE]

A cycle of `opened` opens a model by *Neural Volume* (in turn one of several bricks, one with an error bound, a compact one), samples it at twice
the resolution and in a region, contours it, samples it at points, compares it with its data, and deletes all of that. A cycle of
`trained` trains a small model of a Wavelet, in turn at one go, live and in bricks with a model file, and deletes it.

A row is what the process holds after so many cycles: resident memory in MiB, open files, threads. `growth` is the memory of
the last row over that after the first tenth of the cycles, in which what is made once is made (kernels, thread pools, the allocator's arenas).
"""

import argparse
import gc
import json
import os
import platform
import tempfile
import time
from pathlib import Path

from paraview import servermanager, simple
from vtkmodules.vtkCommonCore import vtkOutputWindow

ROOT = Path(__file__).resolve().parents[2]
TINY = dict(Preset="Custom", NumberOfGrids=8, GridResolution=[4, 4, 4], HiddenWidth=16, BatchSize=500, Device="cpu")
EXTENT = [-12, 12, -11, 11, -10, 10]
ROWS, WARM = 20, 0.1  # of the table; share of the cycles that make what is made once
RESULTS = Path(__file__).parent / "results" / "long_run.json"


def held() -> dict:
    """What this process holds now."""
    gc.collect()
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {
        "MiB": round(int(status["VmRSS"].split()[0]) / 1024, 1), "files": len(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
    }  # fmt: skip


def wavelet():
    return simple.Wavelet(WholeExtent=EXTENT)


def value(proxy, name):
    proxy.UpdatePropertyInformation()
    return proxy.GetPropertyValue(name)


def deleted(*proxies) -> None:
    for proxy in proxies:
        simple.Delete(proxy)


# -- what a cycle does ---------------------------------------------------------------------------


def models(folder: Path) -> list[str]:
    """Paths of a model in bricks, one with an error bound and a compact one."""
    source, made = wavelet(), []
    for name, settings in {
        "bricks": {"Bricks": [2, 1, 2], **TINY},
        "bounded": {"ErrorBound": 0.02, **TINY},
        "compact": {"Preset": "Compact", "Aim": "Size", "TargetBytes": 12000, "Device": "cpu"},
    }.items():
        path = folder / f"{name}.apmgsrn"
        trainer = simple.TrainNeuralVolume(Input=source, ModelFile=str(path), Iterations=100, **settings)
        trainer.UpdatePipeline()
        assert path.is_file(), value(trainer, "LastError")
        made.append(str(path))
        deleted(trainer)
    deleted(source)
    return made


def open_and_close(cycle: int, paths: list[str]) -> None:
    """One model, seen in every way."""
    source, path = wavelet(), paths[cycle % len(paths)]
    volume = simple.NeuralVolume(FileName=path, Scale=2)
    contour = simple.Contour(Input=volume, ContourBy=["POINTS", "RTData"], Isosurfaces=[150.0])
    points = simple.Plane(XResolution=20, YResolution=20, Origin=[-9, -9, 0], Point1=[9, -9, 0], Point2=[-9, 9, 0])
    sampled = simple.SampleNeuralVolume(Input=points, FileName=path, ComputeGradient=1)
    errors = simple.CompareNeuralVolume(Input=source, FileName=path)
    for proxy in (contour, sampled, errors):
        proxy.UpdatePipeline()
    assert contour.GetDataInformation().GetNumberOfPoints() > 100
    assert servermanager.Fetch(sampled).GetPointData().GetArray("RTData").GetNumberOfTuples() == 441
    volume.UseRegionOfInterest, volume.RegionOfInterest = 1, [-5, 5, -4, 4, -3, 3]
    volume.UpdatePipeline()
    assert 0 < volume.GetDataInformation().GetNumberOfPoints() < 21 * 17 * 13 + 1
    deleted(errors, sampled, points, contour, volume, source)


def train(cycle: int, folder: Path) -> None:
    """A short training, to its end."""
    source, path = wavelet(), folder / f"trained {cycle}.apmgsrn"
    settings = [{}, {"Live": 1, "SliceTime": 0.05}, {"Bricks": [2, 1, 1], "ModelFile": str(path)}][cycle % 3]
    trainer = simple.TrainNeuralVolume(Input=source, Iterations=60, **TINY, **settings)
    trainer.UpdatePipeline()
    while settings.get("Live") and value(trainer, "Status").startswith("live"):
        trainer.SMProxy.InvokeCommand("Step")
        trainer.UpdatePipeline()
    assert not value(trainer, "LastError"), value(trainer, "LastError")
    deleted(trainer, source)
    path.unlink(missing_ok=True)


# -- runs ------------------------------------------------------------------------------------------


def repeated(what: str, count: int, cycle) -> list[dict]:
    """The rows of so many cycles."""
    start, rows = time.perf_counter(), []
    shown = {max(round(count * share / ROWS), 1) for share in range(1, ROWS + 1)} | {max(round(count * WARM), 1)}
    for done in range(1, count + 1):
        cycle(done)
        if done in shown:
            rows.append({"what": what, "cycles": done, **held(), "seconds": round(time.perf_counter() - start, 1)})
            print(("{:>8} {:>7} {:>8} {:>6} {:>8} {:>8}").format(*rows[-1].values()), flush=True)
    return rows


def summary(rows: list[dict]) -> dict:
    """How the last row differs from that after the first tenth of the cycles."""
    warm = next(row for row in rows if row["cycles"] >= WARM * rows[-1]["cycles"])
    more = {f"more {name}": rows[-1][name] - warm[name] for name in ("files", "threads")}
    return {"what": rows[0]["what"], "cycles": rows[-1]["cycles"], "growth": round(rows[-1]["MiB"] / warm["MiB"] - 1, 4), **more}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--opened", type=int, default=500, help="cycles of open, sample, close")
    parser.add_argument("--trained", type=int, default=50, help="cycles of train")
    parser.add_argument("--json", type=Path, default=RESULTS)
    options = parser.parse_args()
    errors = []
    window = vtkOutputWindow.GetInstance()
    window.AddObserver("ErrorEvent", lambda *_: errors.append(1))
    if not hasattr(simple, "TrainNeuralVolume"):
        simple.LoadPlugin(str(ROOT / "xml" / "apmgsrn.xml"), remote=False, ns=vars(simple))
    print(("{:>8} {:>7} {:>8} {:>6} {:>8} {:>8}").format("what", "cycles", "MiB", "files", "threads", "seconds"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = models(folder)
        runs = [repeated("opened", options.opened, lambda cycle: open_and_close(cycle, paths))] if options.opened else []
        runs += [repeated("trained", options.trained, lambda cycle: train(cycle, folder))] if options.trained else []
        left = sorted(path.name for path in folder.iterdir() if str(path) not in paths)
    found = [summary(rows) for rows in runs]
    for line in found:
        print(line)
    document = {
        "machine": {"processor": platform.processor() or platform.machine(), "python": platform.python_version()},
        "summary": found, "left": left, "errors": len(errors), "rows": sum(runs, []),
    }  # fmt: skip
    options.json.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""Whether a long live training stays responsive: the sample data, trained live for half an hour with a slice of it in a view.

    source plugin/env.sh
    pvpython tests/bench/live_run.py [--minutes 30] [--slice-time 0.2] [--json FILE]

Each round lets one slice be trained, updates what is shown, turns the camera a little and renders, as a user does who looks around
meanwhile. `round` is the seconds of all that, `render` of the last two alone. A row is a thirtieth of the run: middle, 95th percentile and
largest of the seconds, memory of the process in MiB, iterations and PSNR so far.
"""

import argparse
import json
import os
import platform
import re
import statistics
import time
from pathlib import Path

from paraview import simple

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "examples" / "data" / "tgv_re800_t9_vortmag_128.vti"
RESULTS = Path(__file__).parent / "results" / "live_run.json"
ROWS = 30


def memory() -> float:
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return round(int(status["VmRSS"].split()[0]) / 1024, 1)


def spread(seconds: list[float]) -> list[float]:
    """Middle, 95th percentile, largest."""
    ordered = sorted(seconds)
    return [round(x, 3) for x in (statistics.median(ordered), ordered[int(0.95 * (len(ordered) - 1))], ordered[-1])]


def status(trainer) -> str:
    trainer.UpdatePropertyInformation()
    return trainer.GetPropertyValue("Status")


def shown(minutes: float, slice_time: float) -> tuple:
    """(trainer, view) of a live training that has begun."""
    data = simple.OpenDataFile(str(DATA))
    trainer = simple.TrainNeuralVolume(
        Input=data, Live=1, SliceTime=slice_time, TimeBudget=60 * minutes, Iterations=10_000_000, Device="cpu"
    )  # fmt: skip
    trainer.UpdatePipeline()
    view = simple.CreateView("RenderView", ViewSize=[800, 600])
    plane = simple.Slice(Input=trainer)
    display = simple.Show(plane, view)
    simple.ColorBy(display, ("POINTS", "vorticity_magnitude"))
    view.ResetCamera()
    return trainer, view


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--slice-time", type=float, default=0.2)
    parser.add_argument("--json", type=Path, default=RESULTS)
    options = parser.parse_args()
    trainer, view = shown(options.minutes, options.slice_time)
    camera, rows, rounds, renders = view.GetActiveCamera(), [], [], []
    begun, text = time.perf_counter(), status(trainer)
    while text.startswith("live") and len(rows) < ROWS:
        start = time.perf_counter()
        trainer.SMProxy.InvokeCommand("Step")
        simple.UpdatePipeline(proxy=trainer)
        turned = time.perf_counter()
        camera.Azimuth(2.0)
        simple.Render(view)
        renders.append(time.perf_counter() - turned)
        rounds.append(time.perf_counter() - start)
        text = status(trainer)
        if time.perf_counter() - begun >= 60 * options.minutes * (len(rows) + 1) / ROWS:
            iteration, found = re.search(r"iteration (\d+)", text), re.search(r"([\d.]+) dB", text)
            rows.append({
                "minutes": round((time.perf_counter() - begun) / 60, 1), "rounds": len(rounds), "round": spread(rounds), "render": spread(renders),
                "MiB": memory(), "iteration": int(iteration[1]) if iteration else None, "psnr": float(found[1]) if found else None,
                "load": round(os.getloadavg()[0], 1),
            })  # fmt: skip
            print(rows[-1], flush=True)
            rounds, renders = [], []
    print(text)
    machine = {"processor": platform.processor() or platform.machine(), "python": platform.python_version()}
    options.json.write_text(json.dumps({"machine": machine, "slice_time": options.slice_time, "end": text, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""Pictures of trained models: time, evaluations saved, and how near they are to a march without skipping and to VTK's own.

    python tests/bench/render.py DATA ... --models FOLDER [--pictures FOLDER] [--json FILE] [--device cuda] [--size 1024]
    pvpython tests/bench/render.py DATA ... --models FOLDER --vtk [--json FILE]    (a virtual screen is enough)

DATA as `volumes.py` takes it; FOLDER keeps the trained models. `--vtk` adds VTK's volume rendering of the decoded volume.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from pathlib import Path

import measurement
import numpy as np
import torch
from volumes import load

from apmgsrn_core import ModelConfig, NeuralVolume, TrainConfig, train_volume
from apmgsrn_core.rendering.camera import Camera
from apmgsrn_core.rendering.ray_field import CHUNK
from apmgsrn_core.rendering.render_options import RenderOptions
from apmgsrn_core.rendering.renderer import VolumeRenderer
from apmgsrn_core.rendering.transfer_function import TransferFunction

FUNCTIONS = {  # RGB points, opacity points, unit distance in lattice spacings
    "cranium": (
        [150, 0.8, 0.4, 0.3, 400, 0.95, 0.9, 0.8, 2000, 1, 1, 1], [180, 0, 0.5, 0, 500, 0.6, 0.5, 0, 2986, 0.9, 0.5, 0], 2,
    ),
    "rm_ppm": ([0, 0.1, 0.1, 0.6, 120, 0.9, 0.6, 0.1, 255, 1, 1, 0.6], [60, 0, 0.5, 0, 120, 0.25, 0.5, 0, 180, 0, 0.5, 0], 2),
    "tgv": ([0, 0.2, 0.3, 0.9, 8, 0.9, 0.9, 0.9, 20, 0.8, 0.1, 0.1], [4, 0, 0.5, 0, 20, 0.6, 0.5, 0], 1),
}
ROUNDS = 3


def function_for(name: str, spacing: float) -> TransferFunction:
    """The transfer function of a data set; a ramp over the range where it has none."""
    rgb, opacity, distance = next(f for key, f in FUNCTIONS.items() if name.startswith(key))
    return TransferFunction.from_points(rgb, opacity, distance * spacing)


def model_of(text: str, folder: Path, iterations: int, device: str) -> NeuralVolume:
    """The trained model of a data set, trained when the folder has none."""
    path = folder / (Path(text.partition(":")[0]).stem + ".apmgsrn")
    if not path.exists():
        data = load(text)
        train = TrainConfig(iterations=iterations)
        train_volume(data.values, data.grid, model=ModelConfig.preset("small"), train=train, bricks=(1, 1, 1), path=path)
    return NeuralVolume.open(path, device)


def seconds_of(action) -> tuple[float, object]:
    """(seconds, result)."""
    start = time.perf_counter()
    result = action()
    return time.perf_counter() - start, result


def first_pass(renderer: VolumeRenderer, camera: Camera, function: TransferFunction) -> float:
    """Seconds to the first picture."""
    return seconds_of(lambda: next(renderer.passes(camera, function)))[0]


def measure(volume: NeuralVolume, camera: Camera, function: TransferFunction, pictures: Path | None, name: str) -> dict:
    """The figures of one model; `brute` has no skipping, no termination, and one step everywhere."""
    renderer = VolumeRenderer(volume)
    stored = list(renderer.cells.counts)
    from_file = seconds_of(lambda: next(renderer.passes(camera, function)))[0]
    unsharp_seconds, unsharp = seconds_of(lambda: renderer.render(camera, function))
    ranges = seconds_of(renderer.sharpen)[0]
    step = renderer.step_of(RenderOptions())
    brute_options = RenderOptions(skip=False, opacity_limit=1.0, step=step)
    renderer.render(camera, function)
    firsts = [first_pass(renderer, camera, function) for _ in range(ROUNDS)]
    runs = [seconds_of(lambda: renderer.render(camera, function)) for _ in range(ROUNDS)]
    converged, picture = statistics.median(s for s, _ in runs), runs[0][1]
    brute_seconds, brute = seconds_of(lambda: renderer.render(camera, function, brute_options))
    same = renderer.render(camera, function, RenderOptions(step=step))
    if pictures is not None:
        picture.over((0.2, 0.2, 0.25)).save(pictures / f"{name}.png")
    return {
        "dims": list(volume.grid.dims), "step": step, "cells": list(renderer.cells.counts), "cells in the file": stored,
        "seconds": {
            "first picture after opening": from_file, "ranges": ranges, "first pass": statistics.median(firsts),
            "converged": converged, "converged with the ranges of the file": unsharp_seconds, "brute": brute_seconds,
        },
        "samples": {"converged": picture.samples, "with the ranges of the file": unsharp.samples, "equal steps": same.samples, "brute": brute.samples},
        "evaluations saved": brute.samples / picture.samples,
        "evaluations saved with the ranges of the file": brute.samples / unsharp.samples,
        "evaluations saved at equal steps": brute.samples / same.samples,
        "Mrays/s": camera.pixel_count / converged / 1e6,
        "Msamples/s": picture.samples / converged / 1e6,
        "Msamples/s of the kernel": kernel_rate(renderer) / 1e6,
        "equal steps against brute": difference(same, brute),
        "against brute": difference(picture, brute),
    }  # fmt: skip


def kernel_rate(renderer: VolumeRenderer) -> float:
    """Evaluations a second at scattered points."""
    points = torch.rand(CHUNK, 3, generator=torch.Generator().manual_seed(0))
    return CHUNK / min(seconds_of(lambda: renderer.field.values(points))[0] for _ in range(ROUNDS))


def premultiplied(picture) -> np.ndarray:
    """Colours as they are seen before black."""
    return picture.rgba[..., :3] * picture.rgba[..., 3:]


def difference(picture, other) -> dict:
    """Of pictures before black: the largest one, pixels above 2e-3, and PSNR in dB."""
    return distance(premultiplied(picture), premultiplied(other))


def distance(one: np.ndarray, other: np.ndarray) -> dict:
    """The same of arrays [h, w, 3]."""
    error = np.abs(one - other)
    noise = float((error**2).mean())
    return {
        "largest": float(error.max()),
        "pixels above 2e-3": int((error.max(axis=2) > 2e-3).sum()),
        "psnr": None if noise == 0 else -10 * np.log10(noise),
    }


def torch_rate(volume_path: Path, camera: Camera, function: TransferFunction) -> float:
    """Evaluations a second of a march without skipping in plain torch, in pictures of a quarter of the width."""
    os.environ["APMGSRN_KERNELS"] = "torch"
    try:
        renderer = VolumeRenderer(NeuralVolume.open(volume_path))
        size = tuple(max(n // 4, 1) for n in camera.size)
        small = Camera(camera.position, camera.focal_point, camera.view_up, camera.view_angle, None, size)
        options = RenderOptions(skip=False, opacity_limit=1.0, step=renderer.step_of(RenderOptions()))
        seconds, picture = seconds_of(lambda: renderer.render(small, function, options))
    finally:
        del os.environ["APMGSRN_KERNELS"]
    return picture.samples / seconds


def vtk_picture(volume: NeuralVolume, scale: int, camera: Camera, function: TransferFunction, step: float) -> np.ndarray:
    """[h, w, 3] of VTK's ray casting of the decoded volume, before black."""
    from vtk_picture import rendered

    grid = volume.grid.scaled(scale)
    return rendered(volume.sample_region(grid=grid), grid, camera, function, step)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("volumes", nargs="+", metavar="DATA")
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--iterations", type=int, default=1500)
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--size", type=int, default=512, help="pixels along a side")
    parser.add_argument("--vtk", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = json.loads(options.json.read_text()) if options.json and options.json.exists() else {}
    for text in options.volumes:
        name = Path(text.partition(":")[0]).stem
        volume = model_of(text, options.models, options.iterations, options.device)
        spacing = min(abs(s) for s in volume.grid.spacing)
        function = function_for(name, spacing)
        camera = Camera.looking_at(volume.grid.bounds, 30, 20, (options.size, options.size), 1.3)
        entry = found.setdefault(name, {})
        if options.vtk:
            ours = VolumeRenderer(volume).render(camera, function, RenderOptions(step=spacing / 2))
            for scale in (1, 2):
                theirs = vtk_picture(volume, scale, camera, function, spacing / 2)
                entry[f"against VTK, decoded x {scale}"] = distance(premultiplied(ours), theirs)
        else:
            entry.update(measure(volume, camera, function, options.pictures, name))
            entry["Msamples/s of torch without skipping"] = torch_rate(options.models / f"{name}.apmgsrn", camera, function) / 1e6
        print(name, json.dumps(entry, indent=1), flush=True)
    if options.json:
        found["machine"] = measurement.machine()
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()

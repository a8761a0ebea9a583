"""A volume that is larger than what is kept of it: trained brick by brick from a function, opened again, one slab compared.

    python tests/bench/bricks.py large [--dims 1024 1024 1024] [--counts 4 4 4] [--iterations 200] [--json FILE] [DATA]

The volume is made of copies of DATA, see `tiled.py`. `peak` is the resident memory of the process at its highest (VmHWM of
Linux), `before` the same before the training: Python, torch and the small volume. Both PSNR are over the volume's range.
"""

from __future__ import annotations

import argparse
import math
import os
import tempfile
import time
from pathlib import Path

from measurement import print_table, write_json  # isort: skip

import numpy as np
from apmgsrn_core import BrickLayout, ModelConfig, NeuralVolume, Region, TrainConfig, train_volume
from brick_runs import QUIET, begin, brick_parser
from tiled import Tiled
from volumes import load


def arguments(given: list[str]) -> argparse.Namespace:
    made = brick_parser(__doc__)
    made.add_argument("--dims", type=int, nargs=3, default=(1024, 1024, 1024))
    made.add_argument("--counts", type=int, nargs=3, default=(4, 4, 4))
    made.add_argument("--iterations", type=int, default=200, help="of each brick")
    made.add_argument("--dtype", default="float32", choices=("float32", "uint8"))
    made.add_argument("--slab", type=int, default=8, help="layers that are compared, around the middle")
    return made.parse_args(given)


def peak_megabytes() -> float:
    """VmHWM of this process; NaN where there is none."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), float("nan"))


def main(given: list[str]) -> None:
    options = arguments(given)
    begin(options)
    base = load(options.volumes[0]).values
    values = Tiled(base, tuple(options.dims), options.dtype)
    layout = BrickLayout(values.dims, tuple(options.counts))
    before, asked = peak_megabytes(), []

    def read(region: Region) -> np.ndarray:
        start = time.perf_counter()
        found = values(region)
        asked.append(time.perf_counter() - start)
        return found

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "large.apmgsrn")
        start = time.perf_counter()
        result = train_volume(
            read, values.grid, model=ModelConfig.preset("small"), train=TrainConfig(iterations=options.iterations),
            bricks=layout, device=options.device, path=path, **QUIET,
        )  # fmt: skip
        whole, trained = time.perf_counter() - start, peak_megabytes()
        size, left = os.path.getsize(path), sorted(p.name for p in Path(folder).iterdir())
        start = time.perf_counter()
        volume = NeuralVolume.open(path, options.device)
        first = values.dims[2] // 2 - options.slab // 2
        slab = Region((0, 0, first), (values.dims[0], values.dims[1], first + options.slab))
        found = volume.sample_region(slab)
        sampled = time.perf_counter() - start
        low, high = volume.arrays[0].range
        error = np.square((found - values(slab).astype(np.float64)) / (high - low)).mean()
        row = {
            "dims": "x".join(map(str, values.dims)), "type": options.dtype, "bricks": "x".join(map(str, layout.counts)),
            "steps": options.iterations, "volume MB": round(values.nbytes / 2**20), "before": round(before),
            "peak": round(trained), "peak at last": round(peak_megabytes()), "model MB": round(size / 2**20, 2),
            "seconds": round(whole, 1), "survey": round(whole - result.seconds, 1), "making values": round(sum(asked), 1),
            "psnr": round(result.psnr, 2), "slab psnr": round(-10 * math.log10(error), 2), "slab seconds": round(sampled, 2),
        }  # fmt: skip
    print_table([row])
    if left != [path.name]:
        print(f"left beside the model: {left}")
    write_json(options, [row], what="large")

"""PSNR at equal stored bytes: our networks and those of others.

    python tests/bench/baselines.py [--parameters 65536,1048576] [--methods compact,fvsrn] [--seeds 0,1,2] [--side 128] DATA ...

- compact: `TrainConfig.rate_bytes`; placed: our own family in float16. Bytes of the whole file; when it has more than two for each of `--parameters`, it is trained again for less.
- fvsrn, hash_grid, dense_grids, siren: `apmgsrn_core.baselines` with the sizes and rates of their papers, but for what gives
  them as many parameters, up to 6 % more (`baseline_sizes.py`). Each number is rounded to float16; bytes are two for each,
  without a header.

Everything is trained on `--steps` batches of `--batch` values that the same sampler draws, with the same Adam, a cosine and the
squared error. PSNR is over the range, of the stored numbers, at every value; `before rounding` is on 65 536 of them. `--side`
cuts out the middle, at most so many values along an axis, or where the data is, see `cropped`. `count` is of trained numbers.

Every result is written to the JSON file as soon as it is there and is not computed again.
"""

from __future__ import annotations

import itertools
import math
import os
import time
from dataclasses import replace
from pathlib import Path

from measurement import begin, numbers, parser, print_table, rows_before, words, write_json  # isort: skip (sets the path)

import numpy as np
import torch
from apmgsrn_core import (
    BASELINES, ModelConfig, NeuralVolume, TrainConfig, parameters_for, psnr, rate_bytes_for, train_baseline, train_volume,
)  # fmt: skip
from baseline_sizes import settings_for
from ours import axes, warm_up
from volumes import Volume, load

OURS = ["compact", "placed"]
METHODS = OURS + list(BASELINES)
NUMBER_BYTES = 2  # float16
AIMED, AGAIN = 0.97, 0.985  # bytes that ours are trained for, of the target; of what came out too large
CHUNK = 1 << 14  # points evaluated at a time
EMPTY, PLACES = 0.5, (0.0, 0.25, 0.5, 0.75, 1.0)  # see `cropped`
RESULTS = Path(__file__).parent / "results" / "baselines.json"


# -- the networks of others --------------------------------------------------------------------


def other(name: str, volume: Volume, parameters: int, train: TrainConfig) -> dict:
    """Figures of a baseline."""
    settings = settings_for(name, parameters, volume.grid.dims, components_of(volume))
    network = BASELINES[name](**settings, seed=train.seed)
    start = time.perf_counter()
    result = train_baseline(network, volume.values, volume.grid, train, "cpu")
    seconds = time.perf_counter() - start
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(parameter.half().float())
    stored = psnr(volume.values, values_of(network, volume, result.arrays[0].range))
    count = sum(parameter.numel() for parameter in network.parameters())
    return {
        "count": count, "bytes": NUMBER_BYTES * count, "psnr": round(stored, 2), "before rounding": round(result.psnr, 2),
        "seconds": round(seconds, 1), "setting": ", ".join(f"{k} {v}" for k, v in settings.items()),
    }  # fmt: skip


def values_of(network: torch.nn.Module, volume: Volume, span: tuple[float, float]) -> np.ndarray:
    """[z, y, x] or [z, y, x, component] float32, layer by layer."""
    x, y, z = axes(volume.values.shape[:3], "cpu")
    layers = []
    with torch.no_grad():
        for height in z:
            points = torch.stack([part.reshape(-1) for part in torch.meshgrid(height[None], y, x, indexing="ij")][::-1], dim=1)
            layers.append(torch.cat([network(part) for part in points.split(CHUNK)]))
    found = torch.stack(layers).reshape(volume.values.shape).numpy()
    return found * np.float32(span[1] - span[0]) + np.float32(span[0])


# -- ours --------------------------------------------------------------------------------------


def ours(name: str, volume: Volume, parameters: int, train: TrainConfig) -> dict:
    """Figures of a file that has no more bytes than the numbers of the others."""
    target, components = NUMBER_BYTES * parameters, components_of(volume)
    aimed, quiet = AIMED * target, {"on_progress": lambda _: True, "on_warning": lambda _: None}
    while True:
        model, config = None, train
        if name == "placed":
            small = ModelConfig.preset("small")
            model = small.with_parameters(parameters_for(round(aimed), small, components, 1))
            config = replace(train, rounding=0.0)
        else:
            config = replace(train, rate_bytes=rate_bytes_for(round(aimed), 1))
        start = time.perf_counter()
        result = train_volume(volume.values, volume.grid, model=model, train=config, device="cpu", bricks=(1, 1, 1), **quiet)
        data = result.to_bytes()
        seconds = time.perf_counter() - start
        if len(data) <= target:
            break
        aimed *= AGAIN * target / len(data)
    opened = NeuralVolume.from_bytes(data, "cpu")
    sizes = f"{config.rate_bytes} rate_bytes" if model is None else f"{model.number_of_grids} x {model.grid_resolution}"
    return {
        "count": sum(network.config.parameter_count(components) for network in opened.networks), "bytes": len(data),
        "psnr": round(psnr(volume.values, opened.reconstruct()), 2), "seconds": round(seconds, 1), "setting": sizes,
    }  # fmt: skip


# -- volumes and rows --------------------------------------------------------------------------


def components_of(volume: Volume) -> int:
    return volume.values.shape[3] if volume.values.ndim == 4 else 1


def cropped(volume: Volume, side: int) -> Volume:
    """At most `side` values along each axis: the middle, or where that has less than EMPTY of the whole's standard deviation,
    the one of 5^3 places with the largest."""
    sizes = [min(n, side) for n in volume.values.shape[:3]]
    if not side or sizes == list(volume.values.shape[:3]):
        return volume

    def cut(place) -> np.ndarray:
        firsts = [round((n - size) * share) for n, size, share in zip(volume.values.shape, sizes, place)]
        return volume.values[tuple(slice(first, first + size) for first, size in zip(firsts, sizes))]

    place = (0.5, 0.5, 0.5)
    if cut(place).std() < EMPTY * volume.values.std():
        place = max(itertools.product(PLACES, repeat=3), key=lambda one: cut(one).std())
    where = "" if place == (0.5, 0.5, 0.5) else " at " + ",".join(f"{share:g}" for share in place[::-1])
    return Volume(f"{volume.name} {side}^3{where}", np.ascontiguousarray(cut(place)), volume.spacing)


def measure(volume: Volume, parameters: int, method: str, seed: int, options) -> dict:
    """A row."""
    train = TrainConfig(iterations=options.steps, batch_size=options.batch, seed=seed)
    load_before = os.getloadavg()[0]
    found = (ours if method in OURS else other)(method, volume, parameters, train)
    about = {"volume": volume.name, "parameters": parameters, "method": method, "seed": seed}
    data = {"dims": list(volume.grid.dims), "ratio": round(volume.values.nbytes / found["bytes"], 2)}
    samples = {"steps": options.steps, "batch": options.batch, "load": round((load_before + os.getloadavg()[0]) / 2, 1)}
    return {**about, **found, **data, **samples}


def verdict(rows: list[dict]) -> list[dict]:
    """A line for each volume, size and seed: PSNR of all methods, and how far the better one of compact and placed is above
    each of the others."""
    found = []
    for key in dict.fromkeys(map(key_of, rows)):
        values = {row["method"]: row["psnr"] for row in rows if key_of(row) == key}
        best = max((values[method] for method in OURS[:2] if method in values), default=math.nan)
        above = {f"over {name}": round(best - values[name], 2) for name in BASELINES if name in values}
        found.append({"volume": key[0], "parameters": key[1], "seed": key[2], **values, **above})
    return found


def key_of(row: dict) -> tuple[str, int, int]:
    return row["volume"], row["parameters"], row["seed"]


def arguments():
    made = parser(__doc__)
    made.add_argument("--parameters", type=numbers, default=[1 << 16, 1 << 20])
    made.add_argument("--methods", type=words, default=METHODS, help=f"some of {','.join(METHODS)}")
    made.add_argument("--seeds", type=numbers, default=[0])
    made.add_argument("--steps", type=int, default=1000)
    made.add_argument("--batch", type=int, default=8192)
    made.add_argument("--side", type=int, default=128, help="crop to so many values along an axis; 0: the whole volume")
    made.set_defaults(json=RESULTS)
    return made.parse_args()


def main() -> None:
    options = arguments()
    begin(options)
    warm_up(options.device)
    rows = rows_before(options)
    wanted = itertools.product(options.parameters, options.volumes, options.methods, options.seeds)
    for parameters, name, method, seed in wanted:
        volume = cropped(load(name), options.side)
        key = (volume.name, parameters, seed)
        if not any(key_of(row) == key and row["method"] == method for row in rows):
            rows.append(measure(volume, parameters, method, seed, options))
            print(rows[-1], flush=True)
            write_json(options, rows)
    print_table(verdict(rows))


if __name__ == "__main__":
    main()

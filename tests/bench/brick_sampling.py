"""Points a second of a model of many bricks against one of a single brick of the same shape.

    python tests/bench/bricks.py sample [--counts 8 8 8] [--side 64] [--json FILE] [DATA]

One small network is trained on a corner of DATA and stands in every brick of a real model file. `lattice`: `sample_region` at
native resolution, of `--layers` layers of bricks, against the whole single brick; `scattered`: `sample_points` at random points
of the whole domain. `rate` is million points a second in the median round, `of one` the share of the single brick's, in turns
round by round; `first` the first call's seconds, in which the networks are read.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

from measurement import paired, print_table, ratio, write_json  # isort: skip

import numpy as np
from apmgsrn_core import BrickLayout, Communicator, Grid, ModelConfig, NeuralVolume, Region, TrainConfig, train_volume
from apmgsrn_core.file.model_writer import StoredBrick, write_model
from apmgsrn_core.file.weights import describe_brick, describe_model, pack_section
from brick_runs import QUIET, begin, brick_parser
from tiled import Tiled
from volumes import load


def arguments(given: list[str]) -> argparse.Namespace:
    made = brick_parser(__doc__)
    made.add_argument("--counts", type=int, nargs=3, default=(8, 8, 8))
    made.add_argument("--side", type=int, default=64, help="intervals along a brick")
    made.add_argument("--layers", type=int, default=2)
    made.add_argument("--points", type=int, default=1_000_000)
    made.add_argument("--rounds", type=int, default=5)
    made.add_argument("--repeat", type=int, default=20, help="calls of the single brick in a round")
    made.add_argument("--precision", default="auto", help="auto, full or fast")
    return made.parse_args(given)


def models(folder: Path, options) -> dict[str, Path]:
    """The files of the single brick and of the many."""
    base, config = load(options.volumes[0]).values, TrainConfig(quality="draft")
    corner = Tiled(base, (options.side + 1,) * 3, depth=0.0)
    small = ModelConfig.preset("small")
    single = train_volume(corner, corner.grid, model=small, train=config, device="cpu", **QUIET)
    single.save(folder / "one.apmgsrn")
    network, header = single.volume.network(0), single.volume.header
    grid = Grid(tuple(n * options.side + 1 for n in options.counts))
    layout = BrickLayout(grid.value_dims, tuple(options.counts))
    model = small.with_components(1)
    section = pack_section(network)
    bricks = [StoredBrick.of_bytes(b, describe_brick(network, layout, b, model), section) for b in range(layout.count)]
    manifest = describe_model(grid, layout, header.arrays, (None,), model, config.resolved(grid), "")
    write_model(folder / "many.apmgsrn", manifest, bricks, Communicator())
    return {"one": folder / "one.apmgsrn", "many": folder / "many.apmgsrn"}


def main(given: list[str]) -> None:
    options = arguments(given)
    begin(options)
    rows, random = [], np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        paths = models(Path(folder), options)
        sizes = {name: os.path.getsize(path) for name, path in paths.items()}
        start = time.perf_counter()
        volumes = {name: NeuralVolume.open(path, options.device, options.precision) for name, path in paths.items()}
        opened = time.perf_counter() - start
        counts = {name: volume.layout.count for name, volume in volumes.items()}
        dims = volumes["many"].grid.value_dims
        part = Region((0, 0, 0), (dims[0], dims[1], min(options.layers * options.side + 1, dims[2])))
        regions = {"one": volumes["one"].grid.region, "many": part}
        spread = {name: random.random((options.points, 3)) * (np.array(v.grid.dims) - 1) for name, v in volumes.items()}
        work = {
            "lattice": {name: lambda n=name: volumes[n].sample_region(regions[n]) for name in volumes},
            "scattered": {name: lambda n=name: volumes[n].sample_points(spread[n]) for name in volumes},
        }
        for kind, actions in work.items():
            first, seconds, points = {}, {name: [] for name in actions}, {}
            for name, action in actions.items():
                start = time.perf_counter()
                action()
                first[name] = time.perf_counter() - start
                points[name] = regions[name].count if kind == "lattice" else options.points
            repeats = {"one": options.repeat if kind == "lattice" else 1, "many": 1}
            for _ in range(options.rounds):
                for name, action in actions.items():
                    seconds[name] += paired({name: action}, 1, options.device, repeats[name], warm_up=0)[name]
            each = {name: [s / points[name] for s in taken] for name, taken in seconds.items()}
            for name in actions:
                rows.append({
                    "points": kind, "bricks": counts[name], "count": points[name], "bytes": sizes[name],
                    "first": round(first[name], 3), "rate": round(1e-6 / float(np.median(each[name])), 2),
                    "of one": [round(x, 3) for x in ratio(each["one"], each[name])],
                })  # fmt: skip
    print_table(rows)
    write_json(options, rows, what="sample", seconds_to_open=round(opened, 3))

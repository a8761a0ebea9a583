"""PSNR of several models and trainings at an equal number of parameters, on several volumes, with several seeds.

    python tests/bench/quality.py [--seeds 3] [--json FILE] [DATA ...]
    python tests/bench/quality.py --variants '{"NAME": {"model": {...}, "train": {...}}}' [DATA ...]

A variant is what it changes in `ModelConfig` and `TrainConfig`; the built-in ones (`--only a,b` picks some) have about
the parameters of the published small model:
- default: ours, 196 grids of 1 x 7^3 placed by the k-d trees;
- placed: the published shape, 64 grids of 2 x 8^3, placed in the same way;
- published: the same grids moved by the density loss, on uniform samples but with our schedule (its own would not have
  begun to act); random: near the identity, frozen;
- lattices: three lattices of features over the whole domain, no placed grids; mixed: 32 placed grids, three lattices.
All are trained on batches of `--batch` points for `--iterations` steps, so that all see the same number of samples; the
published method's own 10 000 x 100 000 are in `time_to_psnr.py`.

PSNR is that of the stored model at every value: mean over the seeds, smallest and largest. Seconds are of the training,
parameters and bytes of what is stored. Which kernel trains is its own choice, or that of APMGSRN_KERNELS and
APMGSRN_CPU.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

from measurement import begin, parser, print_table, settings, words, write_json  # isort: skip

from apmgsrn_core import ModelConfig, TrainConfig, psnr, train_volume
from ours import warm_up
from volumes import Volume, load


def lattices(*levels: tuple[tuple[int, int, int], int]) -> list[dict]:
    """[(resolution, features)] as `ModelConfig.lattices`."""
    return [{"resolution": resolution, "features": features} for resolution, features in levels]


BUILT_IN = {
    "default": {"model": ModelConfig.preset("small").to_dict()},
    "placed": {},
    "published": {"train": {"placement": "published", "positions": "values", "schedule": "cosine"}},
    "random": {"train": {"placement": "random"}},
    "lattices": {
        "model": {
            "number_of_grids": 0,
            "lattices": lattices(((8, 8, 8), 8), ((16, 16, 16), 4), ((30, 30, 29), 2)),
        }
    },
    "mixed": {
        "model": {
            "number_of_grids": 32,
            "lattices": lattices(((8, 8, 8), 4), ((16, 16, 16), 4), ((21, 21, 20), 2)),
        }
    },
}


def arguments() -> argparse.Namespace:
    made = parser(__doc__)
    made.add_argument("--variants", type=json.loads, default=BUILT_IN, help="JSON, instead of the built-in ones")
    made.add_argument("--only", type=words, default=[], help="names of those to run")
    made.add_argument("--seeds", type=int, default=3)
    made.add_argument("--iterations", type=int, default=4000)
    made.add_argument("--batch", type=int, default=5000)
    made.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="of the training, for all")
    return made.parse_args()


def train(volume: Volume, model: ModelConfig, variant: dict, seed: int, options) -> tuple[float, float, int]:
    """(PSNR, seconds, bytes) of one training."""
    same = {"iterations": options.iterations, "batch_size": options.batch, "seed": seed, "rounding": 0.0}
    config = TrainConfig(**{**same, **variant.get("train", {}), **settings(options.set)})
    start = time.perf_counter()
    result = train_volume(
        volume.values, volume.grid, model=model, train=config, device=options.device, on_progress=lambda _: True
    )
    seconds = time.perf_counter() - start
    return psnr(volume.values, result.volume.reconstruct()), seconds, len(result.model)


def measure(volume: Volume, name: str, variant: dict, options) -> dict:
    """The row of one variant on one volume."""
    model = ModelConfig.from_dict({**ModelConfig().to_dict(), **variant.get("model", {})})
    taken = [train(volume, model, variant, seed, options) for seed in range(options.seeds)]
    qualities, seconds, sizes = zip(*taken)
    lowest, highest = min(qualities), max(qualities)
    return {
        "volume": volume.name, "variant": name, "parameters": model.fitted_to(volume.grid).parameter_count(),
        "bytes": max(sizes), "psnr": [round(x, 2) for x in (statistics.mean(qualities), lowest, highest)],
        "seconds": round(statistics.mean(seconds), 2), "psnr of seeds": [round(x, 3) for x in qualities],
    }  # fmt: skip


def main() -> None:
    options = arguments()
    begin(options)
    warm_up(options.device)
    chosen = options.only or list(options.variants)
    rows = []
    for volume in map(load, options.volumes):
        taken = [measure(volume, name, options.variants[name], options) for name in chosen]
        rows += taken
        print_table([{k: v for k, v in row.items() if k != "psnr of seeds"} for row in taken])
    write_json(options, rows)


if __name__ == "__main__":
    main()

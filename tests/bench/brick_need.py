"""Parameters of bricks by need against equal shares: the power of a brick's detail that its share grows with.

    python tests/bench/bricks.py need [--counts 4 4 4] [--powers 0,0.25,0.5] [--bounds 0.125 4] [--json FILE] [DATA ...]

All powers train the same bricks with the same parameters in all and the same steps. `shares` are the smallest and the largest
share relative to the mean; `of detail` those of the bricks' detail.
"""

from __future__ import annotations

import argparse
import statistics

from measurement import print_table, words, write_json  # isort: skip

from apmgsrn_core.bricks import budget as brick_budget
from apmgsrn_core import ArraySpec, BrickLayout, TrainConfig, ssim
from apmgsrn_core.bricks.survey import survey_brick
from brick_runs import begin, brick_parser, trained
from volumes import Volume, load


def arguments(given: list[str]) -> argparse.Namespace:
    made = brick_parser(__doc__)
    made.add_argument("--counts", type=int, nargs=3, default=(4, 4, 4))
    made.add_argument("--parameters", type=int, default=308_000, help="of all bricks together")
    made.add_argument("--iterations", type=int, default=300, help="of each brick")
    made.add_argument("--powers", type=words, default=["0", "0.25", "0.5", "0.75", "1"])
    made.add_argument("--bounds", type=float, nargs=2, default=(brick_budget.LEAST_OF_MEAN, brick_budget.MOST_OF_MEAN))
    made.add_argument("--seeds", type=int, default=1)
    return made.parse_args(given)


def details(volume: Volume, layout: BrickLayout) -> list[float]:
    """Of the bricks that are not constant."""
    found, array = [], ArraySpec(volume.name, association=volume.grid.association)
    for brick in range(layout.count):
        part = layout.trained(brick)
        values = volume.values[tuple(slice(a, b) for a, b in zip(part.start, part.stop))[::-1]]
        summary = survey_brick(values, volume.grid, layout, brick, (array,))
        found += [] if summary.constant else [summary.details[0]]
    return found


def spread(numbers: list[float]) -> list[float]:
    """[smallest, largest] relative to the mean."""
    return [round(f(numbers) / statistics.mean(numbers), 3) for f in (min, max)]


def measure(volume: Volume, layout: BrickLayout, needs: list[float], options) -> dict:
    """The row of the power that is set."""
    runs = [
        trained(volume, layout, options.parameters, TrainConfig(iterations=options.iterations, seed=seed), options.device)
        for seed in range(options.seeds)
    ]
    shares = spread(brick_budget.share_out(options.parameters, needs))
    return {
        "volume": volume.name, "power": brick_budget.NEED_POWER, "psnr": round(statistics.mean(r.psnr for r in runs), 2),
        "psnr of seeds": " ".join(f"{r.psnr:.2f}" for r in runs),
        "ssim": round(statistics.mean(ssim(volume.values, r.reconstruction) for r in runs), 4),
        "shares": "{} {}".format(*shares), "of detail": "{} {}".format(*spread(needs)), "constant": layout.count - len(needs),
        "bytes": max(len(r.result.model) for r in runs), "seconds": round(statistics.mean(r.seconds for r in runs), 1),
    }  # fmt: skip


def main(given: list[str]) -> None:
    options = arguments(given)
    begin(options)
    brick_budget.LEAST_OF_MEAN, brick_budget.MOST_OF_MEAN = options.bounds
    rows = []
    for volume in map(load, options.volumes):
        layout = BrickLayout(volume.grid.value_dims, tuple(options.counts))
        needs, taken = details(volume, layout), []
        for power in options.powers:
            brick_budget.NEED_POWER = float(power)
            taken.append(measure(volume, layout, needs, options))
        print_table(taken)
        rows += taken
        write_json(options, rows, what="need")

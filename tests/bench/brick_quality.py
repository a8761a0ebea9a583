"""One model of some parameters against bricks that have as many together, over whole volumes.

    python tests/bench/bricks.py quality [--counts 2 2 2] [--parameters 77000] [--json FILE] [DATA ...]

Both are trained with the automatic number of steps at each of `--qualities` (bricks at each of `--of-bricks`). A brick has a
training of its own, eight of them take together six times the steps of the single model: compare rows of about equal seconds
too. `--equal-steps` adds the single model at the bricks' steps. PSNR and SSIM are those of the stored model at every value.
"""

from __future__ import annotations

import argparse

from measurement import print_table, words, write_json  # isort: skip

from apmgsrn_core import TrainConfig, ssim
from brick_runs import begin, brick_parser, trained
from volumes import Volume, load


def arguments(given: list[str]) -> argparse.Namespace:
    made = brick_parser(__doc__)
    made.add_argument("--counts", type=int, nargs=3, default=(2, 2, 2))
    made.add_argument("--parameters", type=int, default=77_000, help="of all bricks together")
    made.add_argument("--qualities", type=words, default=["normal", "best"], help="of the one model")
    made.add_argument("--of-bricks", type=words, default=["draft", "normal"], help="qualities of the bricks")
    made.add_argument("--equal-steps", action="store_true")
    made.add_argument("--seed", type=int, default=0)
    return made.parse_args(given)


def measure(volume: Volume, counts: tuple[int, int, int], quality: str, options, steps: int = 0) -> dict:
    """A row; `steps` instead of those of the quality."""
    config = TrainConfig(iterations=steps, seed=options.seed) if steps else TrainConfig(quality=quality, seed=options.seed)
    run = trained(volume, counts, options.parameters, config, options.device)
    size = len(run.result.model)
    return {
        "volume": volume.name, "bricks": "x".join(map(str, counts)), "quality": quality, "psnr": round(run.psnr, 2),
        "ssim": round(ssim(volume.values, run.reconstruction), 4), "bytes": size, "steps": run.steps,
        "seconds": round(run.seconds, 1), "ms a step": round(1e3 * run.result.seconds / run.steps, 2),
        "expected psnr": round(run.result.psnr, 2),
    }  # fmt: skip


def main(given: list[str]) -> None:
    options = arguments(given)
    begin(options)
    rows = []
    for volume in map(load, options.volumes):
        taken = [measure(volume, (1, 1, 1), quality, options) for quality in options.qualities]
        taken += [measure(volume, tuple(options.counts), quality, options) for quality in options.of_bricks]
        if options.equal_steps:
            taken.append(measure(volume, (1, 1, 1), "as many steps", options, taken[-1]["steps"]))
        print_table(taken)
        rows += taken
        write_json(options, rows, what="quality")

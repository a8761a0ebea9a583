"""How long a training takes to reach a quality: ours with its default settings, and the published one.

    python tests/bench/time_to_psnr.py --reference PATH --published-iterations 10000 [--json FILE] [DATA ...]

Ours is trained once for each number of `--iterations`, from start to end (a training is planned for its length, so a
long one that is cut is not a short one). Seconds are those of the whole call `train_volume`: placement, training,
packing. PSNR is that of the stored model at every value of the volume.

The published training is measured in milliseconds a step, in this run, by a few steps of the reference without and with
the density loss; its whole time is that of `--published-length` steps, of which those from its 501 to 80 % have it.
They are taken with the grids where our published mode has moved them, or without that run where our k-d tree places them
(on which it is faster than at its own start). Its quality is `--late-psnr`, where that is known, or
comes from our own published mode (`--published-iterations`), the same steps but faster: PSNR about every 250 steps of
the last fifth, worst, median and best, as it swings there. `--reference-iterations` trains the reference itself.

Which kernel ours takes is its own choice, or that of APMGSRN_KERNELS and APMGSRN_CPU, which the JSON records.

The ratio is the published time over ours, to the quickest of our trainings that reaches the median late PSNR.
"""

from __future__ import annotations

import statistics
import time

from measurement import (  # isort: skip
    numbers, paired, parser, print_machine, print_table, settings, steps_in_turn, write_json,
)  # fmt: skip

import torch
from apmgsrn_core import ModelConfig, TrainConfig, psnr, train_volume
from apmgsrn_core.data.field_data import FieldData
from apmgsrn_core.kernels import kernel_for
from apmgsrn_core.network.model import Network
from apmgsrn_core.training.placement import start_transforms
from apmgsrn_core.training.sampler import Sampler
from apmgsrn_core.bricks.training import train_brick
from ours import network_psnr, warm_up
from reference import Reference
from volumes import Volume, load

SNAPSHOT_STEPS = 250
STILL, LAST_STILL, MOVES = 100, 500, 501  # numbers of the reference's steps: its grids move after LAST_STILL


def arguments():
    made = parser(__doc__)
    made.add_argument("--iterations", type=numbers, default=[250, 500, 1000, 2000, 4000], help="of our trainings")
    made.add_argument("--levels", type=numbers, default=[], help="PSNR in dB; empty: 30, 32, ... as far as reached")
    made.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="of our training")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--rounds", type=int, default=5, help="steps of the reference that count")
    made.add_argument("--reference-iterations", type=int, default=0, help="train the reference for so many")
    made.add_argument("--published-length", type=int, default=10_000, help="steps of the published training")
    made.add_argument("--published-iterations", type=int, default=0, help="train ours in published mode")
    made.add_argument("--late-psnr", type=float, help="of the published training, dB, if known")
    return made.parse_args()


def our_curve(volume: Volume, options) -> list[dict]:
    """A row for each length of our training."""
    rows = []
    for iterations in options.iterations:
        config = TrainConfig(**{"iterations": iterations, "seed": options.seed, **settings(options.set)})
        start = time.perf_counter()
        result = train_volume(
            volume.values, volume.grid, train=config, device=options.device, on_progress=lambda _: True
        )
        seconds = time.perf_counter() - start
        quality = psnr(volume.values, result.volume.reconstruct())
        rows.append({"volume": volume.name, "training": "ours, default", "iterations": iterations})
        rows[-1].update({"seconds": round(seconds, 2), "psnr": round(quality, 2), "bytes": len(result.model)})
    return rows


def placed_network(volume: Volume, placement: str, seed: int, device: str) -> Network:
    """The published shape, placed."""
    data, generator = FieldData(volume.values, volume.grid), torch.Generator().manual_seed(seed)
    model = ModelConfig(output_components=1)
    network = Network(model, generator)
    with torch.no_grad():
        network.transforms.copy_(start_transforms(data, model, TrainConfig(placement=placement), generator))
    return network.to(device)


def published_snapshots(volume: Volume, options) -> tuple[list[tuple[int, float]], Network]:
    """[(step, PSNR)] about every 250 steps of the last fifth of a training of ours in published mode; its network.

    Our loop reports by the clock, so that a snapshot is the first report after its step.
    """
    steps = options.published_iterations
    network = placed_network(volume, "published", options.seed, options.device)
    data, generator = FieldData(volume.values, volume.grid), torch.Generator().manual_seed(options.seed)
    config = TrainConfig(placement="published", iterations=steps, seed=options.seed).resolved(volume.grid)
    kernel = kernel_for(network)
    due, taken = [steps - steps // 5], []

    def snapshot(state) -> bool:
        if state.iteration >= due[0]:
            taken.append((state.iteration, network_psnr(kernel, network, volume)))
            due[0] = state.iteration // SNAPSHOT_STEPS * SNAPSHOT_STEPS + SNAPSHOT_STEPS
        return True

    train_brick(network, Sampler(data, config, generator), config, snapshot)
    return taken, network


def reference_rows(volume: Volume, network: Network, options) -> list[dict]:
    """What the published training takes with the grids of `network`, and what it gives where it was run."""
    reference = Reference(options.reference, volume.values, options.device, iterations=options.published_length)
    length, row = options.published_length, {"volume": volume.name, "training": "reference"}
    start, rows = time.perf_counter(), []
    for iteration in range(options.reference_iterations):
        reference.step(iteration)
    if options.reference_iterations:
        seconds = time.perf_counter() - start
        rows.append({**row, "iterations": options.reference_iterations, "seconds": round(seconds, 2)})
        rows[-1]["psnr"] = round(reference.psnr(volume.values), 2)
    reference.parameters_from(network)
    actions = {"still": lambda: reference.step(STILL), "moving": lambda: reference.step(MOVES)}
    taken = paired(actions, options.rounds, options.device, steps_in_turn(options.device))
    still, moving = statistics.median(taken["still"]), statistics.median(taken["moving"])
    moves = max(int(0.8 * length) - 1 - LAST_STILL, 0)
    rows.append({**row, "iterations": length, "seconds": round(moves * moving + (length - moves) * still, 1)})
    rows[-1].update({"ms still": round(still * 1e3, 1), "ms moving": round(moving * 1e3, 1)})
    return rows


def first_reaching(rows: list[dict], level: float) -> dict | None:
    """The quickest training with at least this PSNR."""
    good = [row for row in rows if row["psnr"] >= level]
    return min(good, key=lambda row: row["seconds"]) if good else None


def level_rows(curve: list[dict], levels: list[int]) -> list[dict]:
    """The quickest of our trainings to each level; without numbers where none reaches it."""
    levels = levels or list(range(30, int(max(row["psnr"] for row in curve)) + 1, 2))
    rows = []
    for level in levels:
        first = first_reaching(curve, level) or {}
        row = {"volume": curve[0]["volume"], "training": f"ours to {level} dB", "psnr": level}
        rows.append({**row, **{key: first[key] for key in ("iterations", "seconds") if key in first}})
    return rows


def snapshot_row(volume: Volume, snapshots: list[tuple[int, float]], iterations: int) -> dict:
    """The late quality of the published training."""
    found = [round(quality, 2) for _, quality in snapshots]
    return {
        "volume": volume.name, "training": "ours, published mode, late", "iterations": iterations,
        "psnr": round(statistics.median(found), 2), "worst": min(found), "best": max(found),
        "snapshots": [(step, round(quality, 2)) for step, quality in snapshots],
    }  # fmt: skip


def comparison_row(curve: list[dict], published: dict, late: float) -> dict:
    """The ratio of times, when one of our trainings is good enough."""
    row = {"volume": published["volume"], "training": f"published / ours, to {late:.2f} dB", "psnr": late}
    first = first_reaching(curve, late)
    if first is None:
        return row
    return {**row, "seconds": first["seconds"], "faster": round(published["seconds"] / first["seconds"], 1)}


def measure(volume: Volume, options) -> list[dict]:
    """The rows of one volume: curve, levels, published quality, reference, comparison."""
    curve = our_curve(volume, options)
    network = placed_network(volume, "kdtree", options.seed, options.device)
    rows = curve + level_rows(curve, options.levels)
    late = options.late_psnr
    if options.published_iterations:
        snapshots, network = published_snapshots(volume, options)
        rows.append(snapshot_row(volume, snapshots, options.published_iterations))
        late = rows[-1]["psnr"]
    if options.reference:
        rows += reference_rows(volume, network, options)
        if late is not None:
            rows.append(comparison_row(curve, rows[-1], late))
    return rows


def main() -> None:
    options = arguments()
    if options.threads:
        torch.set_num_threads(options.threads)
    print_machine(options.device)
    warm_up(options.device)
    rows = []
    for volume in map(load, options.volumes):
        taken = measure(volume, options)
        rows += taken
        print_table([{k: v for k, v in row.items() if k != "snapshots"} for row in taken])
    write_json(options, rows)


if __name__ == "__main__":
    main()

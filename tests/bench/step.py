"""Milliseconds of a training step of the published method, by part: ours with each kernel, and the reference.

    python tests/bench/step.py --reference PATH [--json FILE] [--device cuda] [DATA ...]

All take batches of 100 000 points (`--batch`) from the same volume, without ("off") and with ("on") the density loss,
and start from the same weights: those of a network that was trained first (`--transforms`), because how fast a step is
depends on where the grids stand. Before they are timed, their outputs are compared (`differs`, `rms`).

`total` is the median of steps that were run in turns (all variants once, then all again); `min` the fastest; `faster`
is the reference's time over the variant's: median, smallest and largest over the rounds. The parts come from further
steps in turns, timed at each part's end. For the reference, `forward` and `backward` are sums of encoding and decoder;
both are in the JSON.
"""

from __future__ import annotations

import copy
import statistics

from measurement import (  # isort: skip
    median_parts, paired, parser, print_machine, print_table, ratio, steps_in_turn, words, write_json,
)  # fmt: skip

import torch
from apmgsrn_core import ModelConfig
from ours import PATHS, PublishedStep, Variant, trained_network, variants
from reference import Reference
from volumes import Volume, load

STEPS = {"off": 100, "on": 1000}  # numbers of steps at which the reference does not, and does, move its grids
PARTS = ("sampling", "forward", "backward", "density loss", "optimizers", "rest")


def arguments():
    made = parser(__doc__)
    made.add_argument("--batch", type=int, default=100_000)
    made.add_argument("--rounds", type=int, default=7, help="steps of each variant that count")
    made.add_argument("--kernels", type=words, default=["torch", "native"], help="torch,native")
    made.add_argument("--paths", type=words, default=list(PATHS), help="of the native kernel on a CPU")
    made.add_argument("--density", type=words, default=["off", "on"])
    made.add_argument("--grids", type=int, default=64)
    made.add_argument("--features", type=int, default=2)
    made.add_argument("--resolution", type=int, default=8)
    made.add_argument(
        "--transforms", default="kdtree", metavar="HOW",
        help="kdtree, published or random: a training of ours from that placement; or a .apmgsrn file",
    )  # fmt: skip
    made.add_argument("--training-steps", type=int, default=200, help="of the training that --transforms names")
    return made.parse_args()


def measure(volume: Volume, options, kernels: list[Variant]) -> list[dict]:
    """The rows of one volume."""
    model = ModelConfig(options.grids, options.features, (options.resolution,) * 3, output_components=1)
    network = trained_network(volume, model, options.transforms, options.training_steps, options.device)
    reference = None
    if options.reference is not None:
        shape = (options.grids, options.features, options.resolution)
        reference = Reference(options.reference, volume.values, options.device, *shape, batch=options.batch)
        reference.parameters_from(network)
    apart = differences(network, kernels, reference, options.device)
    common = (volume, options.batch, options.device)
    steps = {v.name: PublishedStep(v.kernel, copy.deepcopy(network), *common) for v in kernels}
    rows = []
    for density in options.density:
        actions = {} if reference is None else {"reference": lambda at=STEPS[density]: reference.step(at)}
        parts = {} if reference is None else {"reference": lambda at=STEPS[density]: reference.step_parts(at)}
        for name, ours in steps.items():
            actions[name] = lambda step=ours.step, moves=density == "on": step(moves)
            parts[name] = lambda part=ours.parts, moves=density == "on": part(moves)
        seconds = paired(actions, options.rounds, options.device, steps_in_turn(options.device))
        for name, ms in median_parts(parts, options.rounds).items():
            row = {"volume": volume.name, "density": density, "variant": name}
            rows.append({**row, **figures(seconds, name, ms), **apart[name]})
    return rows


def figures(seconds: dict[str, list[float]], name: str, parts: dict[str, float]) -> dict:
    """The numbers of a row, ms."""
    detail = {label: round(ms, 3) for label, ms in parts.items()}
    for whole in ("forward", "backward"):
        halves = [ms for label, ms in parts.items() if label.endswith(" " + whole)]
        if halves:
            parts[whole] = sum(halves)
    row = {label: round(parts[label], 2) if label in parts else None for label in PARTS}
    ms = [1e3 * s for s in seconds[name]]
    row.update(total=round(statistics.median(ms), 2), min=round(min(ms), 2))
    against = "reference" in seconds and name != "reference"
    row["faster"] = [round(x, 2) for x in ratio(seconds["reference"], seconds[name])] if against else None
    return {**row, "detail": detail, "rounds": [round(x, 2) for x in ms]}


def differences(network, kernels: list[Variant], reference: Reference | None, device: str) -> dict[str, dict]:
    """{variant: largest and rms difference of its outputs from the readable torch code, relative to their range}."""
    points = torch.rand(20_000, 3, generator=torch.Generator().manual_seed(1)).to(device) * 2 - 1
    with torch.no_grad():
        expected = network(points)
        found = {v.name: v.kernel.values(network, points) for v in kernels}
    if reference is not None:
        found["reference"] = (reference.values(points) - reference.minimum) / reference.span
    scale = float(expected.max() - expected.min())
    errors = {name: (values.reshape(expected.shape) - expected) / scale for name, values in found.items()}
    return {
        name: {"differs": float(e.abs().max()), "rms": float(e.square().mean().sqrt())} for name, e in errors.items()
    }


def main() -> None:
    options = arguments()
    if options.threads:
        torch.set_num_threads(options.threads)
    print_machine(options.device)
    kernels = variants(options.kernels, options.paths, options.device)
    rows = []
    for volume in map(load, options.volumes):
        taken = measure(volume, options, kernels)
        rows += taken
        print_table([{k: v for k, v in row.items() if k not in ("detail", "rounds")} for row in taken])
    write_json(options, rows, kernels={v.name: v.kernel.name for v in kernels})


if __name__ == "__main__":
    main()

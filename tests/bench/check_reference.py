"""How far our network with the same weights is from the published code, as `reference.py` drives it.

    python tests/bench/check_reference.py --reference PATH [--train 300] [--device cuda] [--json FILE] [DATA ...]

Compared are the outputs at random points (features random in [-1, 1], so that the outputs are not about 0), and the
transforms after a few steps of the density loss on the same batches. Prints also what one step takes, by part. With
`--train`, both are trained from the same start on the same batches for so many steps, ours by the kernel that
APMGSRN_KERNELS and APMGSRN_CPU choose, and their PSNR is printed every 100 steps.
"""

from __future__ import annotations

from measurement import median_parts, parser, print_table, write_json  # isort: skip (sets the path)

import torch
from apmgsrn_core import ModelConfig, TrainConfig
from apmgsrn_core.network.encoding import density_loss, feature_density, to_local
from apmgsrn_core.kernels import choose
from apmgsrn_core.network.model import Network
from apmgsrn_core.training.sampler import Batch
from apmgsrn_core.training.training_step import HostStep
from ours import network_psnr
from reference import Reference
from volumes import load

STILL, FIRST_MOVE, MOVES = 100, 501, 1000  # numbers of steps: grids rest, grids move first, grids move


def check(reference: Reference, grid, steps: int = 5, count: int = 20_000) -> dict:
    """How far ours is from it with the same weights: outputs, and transforms after steps of the density loss."""
    network = Network(ModelConfig(output_components=1)).to(reference.device)
    with torch.no_grad():
        network.features.uniform_(-1, 1)  # at the start they are so small that all outputs are about 0
    reference.parameters_from(network)
    config = TrainConfig(placement="published").resolved(grid)
    betas = (config.beta_1, config.beta_2)
    adam = torch.optim.Adam([network.transforms], config.transform_learning_rate, betas, config.epsilon)
    schedule = torch.optim.lr_scheduler.LinearLR(adam, start_factor=1.0, end_factor=0.5)
    start, (points, _) = network.transforms.detach().clone(), reference.draw(count)
    with torch.no_grad():
        expected = (reference.values(points) - reference.minimum) / reference.span
        outputs = (network(points) - expected).abs().max() / (expected.max() - expected.min())
    for iteration in range(FIRST_MOVE, FIRST_MOVE + steps):
        points, targets = batch = reference.draw(count)
        with torch.no_grad():
            error = (network(points) - (targets - reference.minimum) / reference.span) ** 2
        adam.zero_grad()
        local = to_local(network.transforms, points)
        density_loss(feature_density(network.transforms, local), error[:, 0]).backward()
        adam.step()
        schedule.step()
        reference.step_on(iteration, batch)
        moved = network.transforms.detach().clone()
        reference.parameters_into(network)  # its features have learned; its transforms are compared, not taken
        apart = float((moved - network.transforms.detach()).abs().max())
        with torch.no_grad():
            network.transforms.copy_(moved)
    return {
        "largest difference of outputs / range": float(outputs), "density steps": steps,
        "largest difference of transforms": apart, "they moved by up to": float((moved - start).abs().max()),
    }  # fmt: skip


def train_beside(reference: Reference, volume, steps: int) -> list[dict]:
    """PSNR of both every 100 steps, from one start, on the same batches."""
    network = Network(ModelConfig(output_components=1)).to(reference.device)
    reference.parameters_into(network)
    config = TrainConfig(placement="published").resolved(volume.grid)
    ours, kernel, rows = HostStep(network, config), choose(torch.device(reference.device)), []
    for iteration in range(steps):
        points, targets = batch = reference.draw(config.batch_size)
        reference.step_on(iteration, batch)
        scaled = (targets - reference.minimum) / reference.span
        ours.run(Batch(points, scaled, torch.ones_like(scaled), None), False, iteration / config.iterations)
        if (iteration + 1) % 100 == 0:
            found, expected = network_psnr(kernel, network, volume), reference.psnr(volume.values)
            rows.append({"volume": volume.name, "steps": iteration + 1, "reference": expected, "ours": found})
    return rows


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--train", type=int, default=0, help="steps of a training of both")
    options = made.parse_args()
    if options.reference is None:
        raise SystemExit("--reference PATH is needed")
    if options.threads:
        torch.set_num_threads(options.threads)
    rows, parts, beside = [], [], []
    for volume in map(load, options.volumes):
        reference = Reference(options.reference, volume.values, options.device)
        rows.append({"volume": volume.name, **check(reference, volume.grid)})
        measures = {"off": lambda: reference.step_parts(STILL), "on": lambda: reference.step_parts(MOVES)}
        for density, ms in median_parts(measures, 3).items():
            parts.append({"volume": volume.name, "density": density, **ms, "total": sum(ms.values())})
        beside += train_beside(Reference(options.reference, volume.values, options.device), volume, options.train)
    for row in rows:
        print(*(f"{key}: {value}" for key, value in row.items()), sep="\n")
    print_table(parts)
    print_table(beside)
    write_json(options, rows, parts=parts, trained=beside)


if __name__ == "__main__":
    main()

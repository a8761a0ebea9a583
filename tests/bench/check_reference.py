"""How far our network with the same weights is from the published code, as `reference.py` drives it.

    python tests/bench/check_reference.py --reference PATH [--device cuda] [--json FILE] [DATA ...]

Compared are the outputs at random points (features random in [-1, 1], so that the outputs are not about 0), and the
transforms after a few steps of the density loss on the same batches. Prints also what one step takes, by part.
"""

from __future__ import annotations

from measurement import median_parts, parser, print_table, write_json  # isort: skip (sets the path)

import torch
from apmgsrn_core import ModelConfig, TrainConfig
from apmgsrn_core.encoding import density_loss, feature_density, to_local
from apmgsrn_core.model import Network
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


def main() -> None:
    options = parser(__doc__).parse_args()
    if options.reference is None:
        raise SystemExit("--reference PATH is needed")
    if options.threads:
        torch.set_num_threads(options.threads)
    rows, parts = [], []
    for volume in map(load, options.volumes):
        reference = Reference(options.reference, volume.values, options.device)
        rows.append({"volume": volume.name, **check(reference, volume.grid)})
        measures = {"off": lambda: reference.step_parts(STILL), "on": lambda: reference.step_parts(MOVES)}
        for density, ms in median_parts(measures, 3).items():
            parts.append({"volume": volume.name, "density": density, **ms, "total": sum(ms.values())})
    for row in rows:
        print(*(f"{key}: {value}" for key, value in row.items()), sep="\n")
    print_table(parts)
    write_json(options, rows, parts=parts)


if __name__ == "__main__":
    main()

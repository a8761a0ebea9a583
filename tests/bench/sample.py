"""Millions of points a second that a network is evaluated at: ours with each kernel, and the reference.

    python tests/bench/sample.py --reference PATH [--json FILE] [--device cuda] [DATA ...]

"scattered" points are uniformly random in the domain, "lattice" points are those of a cube of values in voxel order
(`--points`, `--lattice`). Shapes are the published sizes and one more, GRIDSxFEATURESxRESOLUTION, with the grids where
the k-d tree puts them for the first volume and random features; and multi-resolution lattices of features without
placed grids, which the reference has not. The reference has the same weights and evaluates batches of
`--reference-batches` points, each size a row of its own (its own default is 100 000).

`Mpts/s` is that of the median round, `best` of the fastest; `faster` is the reference's time, with the batch that suits
it best, over the variant's: median, smallest and largest over rounds run in turns.
"""

from __future__ import annotations

import statistics

from measurement import begin, numbers, paired, parser, print_table, ratio, words, write_json  # isort: skip

import torch
from apmgsrn_core import LatticeConfig, ModelConfig, TrainConfig
from apmgsrn_core.data.field_data import FieldData
from apmgsrn_core.network.model import Network
from apmgsrn_core.training.placement import start_transforms
from ours import PATHS, axes, variants
from reference import Reference
from volumes import Volume, load

SHAPES = ["64x2x8", "16x1x16", "16x2x32", "16x4x64", "lattices", "lattices-quadratic"]
LATTICES = ((8, 8), (16, 4), (32, 2))  # resolution, features


def arguments():
    made = parser(__doc__)
    made.add_argument("--shapes", type=words, default=SHAPES)
    made.add_argument("--points", type=int, default=1 << 20, help="scattered points")
    made.add_argument("--lattice", type=int, default=96, help="values along an axis of the lattice")
    made.add_argument("--rounds", type=int, default=5)
    made.add_argument("--kernels", type=words, default=["torch", "native"], help="torch,native")
    made.add_argument("--paths", type=words, default=list(PATHS), help="of the native kernel on a CPU")
    made.add_argument("--reference-batches", type=numbers, default=[8192, 100_000], help="points it takes at a time")
    return made.parse_args()


def model_of(shape: str) -> ModelConfig:
    """The model that a name of `SHAPES`' kind stands for."""
    if shape.startswith("lattices"):
        reading = "quadratic" if shape.endswith("quadratic") else "linear"
        lattices = tuple(LatticeConfig((r, r, r), f) for r, f in LATTICES)
        return ModelConfig(0, lattices=lattices, interpolation=reading, output_components=1)
    grids, features, resolution = (int(word) for word in shape.split("x"))
    return ModelConfig(grids, features, (resolution,) * 3, output_components=1)


def network_of(model: ModelConfig, volume: Volume, device: str) -> Network:
    """Random features; grids as the k-d tree places them."""
    generator = torch.Generator().manual_seed(0)
    network = Network(model, generator)
    data = FieldData(volume.values, volume.grid)
    with torch.no_grad():
        network.features.uniform_(-1, 1, generator=generator)
        if model.number_of_grids:
            config = TrainConfig().resolved(volume.grid)
            network.transforms.copy_(start_transforms(data, model, config, generator))
    return network.to(device)


def measure(shape: str, volume: Volume, options, kernels) -> list[dict]:
    """The rows of one shape."""
    model = model_of(shape)
    network = network_of(model, volume, options.device)
    points = torch.rand(options.points, 3, generator=torch.Generator().manual_seed(1)).to(options.device) * 2 - 1
    x, y, z = axes((options.lattice,) * 3, options.device)
    actions = {"scattered": {}, "lattice": {}}
    if options.reference is not None and model.number_of_grids:
        sizes = (model.number_of_grids, model.features_per_grid, model.grid_resolution[0])
        reference = Reference(options.reference, volume.values, options.device, *sizes)
        reference.parameters_from(network)
        voxels = reference.lattice((options.lattice,) * 3)
        for batch in options.reference_batches:
            actions["scattered"][f"reference by {batch}"] = lambda b=batch: reference.values(points, b)
            actions["lattice"][f"reference by {batch}"] = lambda b=batch: reference.values(voxels, b)
    for variant in kernels:
        why = variant.kernel.supports(network)
        if why:
            print(f"{shape}, {variant.name} is left out: {why}")
            continue
        actions["scattered"][variant.name] = lambda k=variant.kernel: k.values(network, points)
        actions["lattice"][variant.name] = lambda k=variant.kernel: k.lattice(network, x, y, z)
    rows = []
    with torch.no_grad():
        for order, count in (("scattered", options.points), ("lattice", options.lattice**3)):
            seconds = paired(actions[order], options.rounds, options.device)
            rows += [{"shape": shape, "points": order, **row} for row in rates(seconds, count)]
    return rows


def rates(seconds: dict[str, list[float]], count: int) -> list[dict]:
    """A row for each variant."""
    medians = {name: statistics.median(taken) for name, taken in seconds.items()}
    best = min((name for name in medians if name.startswith("reference")), key=medians.get, default=None)
    rows = []
    for name, taken in seconds.items():
        rate, fastest = (count / seconds / 1e6 for seconds in (medians[name], min(taken)))
        row = {"variant": name, "Mpts/s": round(rate, 3), "best": round(fastest, 3)}
        if best is not None and not name.startswith("reference"):
            row["faster"] = [round(x, 2) for x in ratio(seconds[best], taken)]
        rows.append({**row, "seconds": [round(s, 5) for s in taken]})
    return rows


def main() -> None:
    options = arguments()
    begin(options)
    kernels = variants(options.kernels, options.paths, options.device)
    volume = load(options.volumes[0])
    rows = []
    for shape in options.shapes:
        taken = measure(shape, volume, options, kernels)
        rows += taken
        print_table([{k: v for k, v in row.items() if k != "seconds"} for row in taken])
    write_json(options, rows, kernels={v.name: v.kernel.name for v in kernels})


if __name__ == "__main__":
    main()

"""What ghosts and blending do at the faces between bricks, and what they cost.

    python tests/bench/bricks.py seams [--counts 2 2 2] [--seeds 3] [--layouts 0/0,0/1,16/0] [--json FILE] [DATA ...]

A layout is GHOSTS/OVERLAP; 16/0 is the reference's way. The overlap only matters when a model is evaluated, so layouts with
the same ghosts share their trainings.

- `psnr` over the volume, and `against 0/1` (the default): difference seed by seed; mean, smallest, largest.
- `jump`: the two neighbours' networks on their common face, at the values and in the middle of four of them, before they
  are blended; `left`: what remains of it in `sample_points` at 1e-4 intervals on both sides.
- `error`: of the reconstruction; `near` at values at most 2 from an inner face.
All relative to the range; rms over faces and seeds.
"""

from __future__ import annotations

import argparse
import statistics

from measurement import print_table, words, write_json  # isort: skip

import numpy as np
import torch
from apmgsrn_core import BrickLayout, NeuralVolume, TrainConfig, psnr
from apmgsrn_core.bricks.coordinates import BrickCoordinates
from apmgsrn_core.network.model import evaluate
from apmgsrn_core.file.model_file import ModelFile
from apmgsrn_core.file.model_writer import StoredBrick, pack_model
from brick_runs import begin, brick_parser, trained
from volumes import Volume, load

NEAR = 2
ASIDE = 1e-4  # of an interval
LAYOUTS = ["0/0", "0/1", "1/0", "1/1", "1/2", "2/0", "2/1", "2/3", "16/0"]


def arguments(given: list[str]) -> argparse.Namespace:
    made = brick_parser(__doc__)
    made.add_argument("--counts", type=int, nargs=3, default=(2, 2, 2))
    made.add_argument("--parameters", type=int, default=77_000, help="of all bricks together")
    made.add_argument("--iterations", type=int, default=750, help="of each brick")
    made.add_argument("--seeds", type=int, default=3)
    made.add_argument("--layouts", type=words, default=LAYOUTS)
    return made.parse_args(given)


def with_overlap(model: bytes, overlap: int, device: str) -> NeuralVolume:
    """The model with another width of its bands."""
    whole = ModelFile(model).header.manifest
    manifest = {name: part for name, part in whole.items() if name not in ("bricks", "sections")}
    manifest["layout"] = {**manifest["layout"], "overlap": overlap}
    bricks = [
        StoredBrick.of_bytes(s["brick"], whole["bricks"][s["brick"]], model[s["offset"] : s["offset"] + s["length"]])
        for s in whole["sections"]
    ]
    return NeuralVolume.from_bytes(pack_model(manifest, bricks), device)


def faces(layout: BrickLayout) -> list[tuple[int, int, int, np.ndarray]]:
    """Each inner face: (axis, brick below, brick above, (n, 3) positions of its values and in the middle of four)."""
    found = []
    for brick in range(layout.count):
        place, core = layout.place(brick), layout.core(brick)
        for axis in range(3):
            if place[axis] + 1 == layout.counts[axis]:
                continue
            above = layout.number(*(p + (a == axis) for a, p in enumerate(place)))
            both = []
            for between in (0.0, 0.5):
                lines = [np.arange(low, high - 2 * between) + between for low, high in zip(core.start, core.stop)]
                lines[axis] = np.array([float(layout.faces[axis][place[axis] + 1])])
                both.append(np.stack([g.ravel() for g in np.meshgrid(*lines, indexing="ij")], axis=1))
            found.append((axis, brick, above, np.concatenate(both)))
    return found


def jumps(volume: NeuralVolume) -> tuple[np.ndarray, np.ndarray]:
    """Differences across all inner faces relative to the range: of the networks, and of what is sampled."""
    low, high = volume.arrays[0].range
    coordinates, before, after = BrickCoordinates(volume.layout), [], []
    for axis, below, above, positions in faces(volume.layout):
        sides = []
        for brick in (below, above):
            with torch.no_grad():
                sides.append(evaluate([volume.network(brick)], coordinates.of_points(positions, brick))[:, 0].numpy())
        before.append(sides[0] - sides[1])
        sampled = []
        for aside in (-ASIDE, ASIDE):
            moved = positions.copy()
            moved[:, axis] += aside
            sampled.append(volume.sample_points(volume.grid.index_to_world(moved)).astype(np.float64))
        after.append((sampled[0] - sampled[1]) / (high - low))
    return np.concatenate(before), np.concatenate(after)


def near_faces(layout: BrickLayout) -> np.ndarray:
    """[z, y, x] bool: at most NEAR values from an inner face."""
    near = np.zeros(layout.dims[::-1], dtype=bool)
    for axis, positions in enumerate(layout.faces):
        for face in positions[1:-1]:
            np.moveaxis(near, 2 - axis, 0)[max(face - NEAR, 0) : face + NEAR + 1] = True
    return near


def measure(volume: Volume, overlap: int, model: bytes, device: str) -> dict:
    """What one trained model shows with one overlap."""
    neural = with_overlap(model, overlap, device)
    values = neural.reconstruct()
    span = float(volume.values.max()) - float(volume.values.min())
    square = ((values - volume.values.astype(np.float64)) / span) ** 2
    before, after = jumps(neural)
    return {
        "psnr": psnr(volume.values, values), "jump": np.mean(before**2), "jump max": np.abs(before).max(),
        "left": np.mean(after**2), "left max": np.abs(after).max(), "error": square.mean(),
        "near": square[near_faces(neural.layout)].mean(), "bytes": len(model),
    }  # fmt: skip


def table(volume: Volume, options) -> list[dict]:
    """A row for each layout."""
    pairs = [tuple(map(int, text.split("/"))) for text in options.layouts]
    taken: dict[tuple[int, int], list[dict]] = {pair: [] for pair in pairs}
    for seed in range(options.seeds):
        for ghosts in dict.fromkeys(ghosts for ghosts, _ in pairs):
            layout = BrickLayout(volume.grid.value_dims, tuple(options.counts), ghosts, 0)
            config = TrainConfig(iterations=options.iterations, seed=seed)
            model = trained(volume, layout, options.parameters, config, options.device).result.model
            for pair in pairs:
                if pair[0] == ghosts:
                    taken[pair].append(measure(volume, pair[1], model, options.device))
    rows = []
    for pair, found in taken.items():
        against = [one["psnr"] - base["psnr"] for one, base in zip(found, taken.get((0, 1), []))]
        root = {name: float(np.sqrt(np.mean([f[name] for f in found]))) for name in ("jump", "left", "error", "near")}
        most = {name: float(max(f[name] for f in found)) for name in ("jump max", "left max")}
        rows.append({
            "volume": volume.name, "ghosts/overlap": "{}/{}".format(*pair),
            "psnr": round(statistics.mean(f["psnr"] for f in found), 2),
            "against 0/1": [round(x, 3) for x in (statistics.mean(against), min(against), max(against))] if against else None,
            "jump": root["jump"], "jump max": most["jump max"], "left": root["left"], "left max": most["left max"],
            "error": root["error"], "near": root["near"], "bytes": max(f["bytes"] for f in found),
        })  # fmt: skip
    return rows


def main(given: list[str]) -> None:
    options = arguments(given)
    begin(options)
    rows = []
    for volume in map(load, options.volumes):
        taken = table(volume, options)
        print_table(taken)
        rows += taken
        write_json(options, rows, what="seams")

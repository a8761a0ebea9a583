"""What a training would be on many ranks, without any: bricks, passes, memory and halos of each rank, and size of the model.

    python tests/bench/bricks.py plan [--ranks 4096] [--dims 8192 8192 8192] [--bricks 32 32 32] [--json FILE]

- `read`: every rank reads the bricks it trains; `pieces`: each rank has one block of the values, cut by the same rule as
  bricks with the ranks' prime factors dealt to the longest axes, sharing points as VTK's pieces do (`--pieces N N N`: other
  blocks); a brick is then trained by the rank that has most of it.
- `halo`: bytes that a rank sends and gets for all its bricks once, as `pieces.py` cuts them (they travel twice, for the look
  and for the training, where a rank has more than one brick); mean / largest.
- `memory`: values of the brick that is worked on (and the block), and weights, gradients and two moments in float32.
- `own work` (`--slow`): seconds that each rank computes alone at this size: which rank has which brick, shares, passes, the
  owners of pieces (these two measured in part and blown up), and the manifest of the model, with its bytes.
- `histories`: of all bricks, which every rank gets at the end; estimated from their rows.
"""

from __future__ import annotations

import argparse
import itertools
import math
import time

from measurement import parser, print_machine, print_table, write_json  # isort: skip

import numpy as np
from apmgsrn_core import BrickLayout, Grid, ModelConfig, TrainConfig
from apmgsrn_core.bricks.budget import share_out
from apmgsrn_core.bricks.passes import plan_rounds
from apmgsrn_core.training.history import COLUMNS
from apmgsrn_core.file.manifest import ArrayInfo
from apmgsrn_core.network.model import Network
from apmgsrn_core.file.model_writer import _plan
from apmgsrn_core.data.pieces import owners_of
from apmgsrn_core.training.volume_job import BrickPlan
from apmgsrn_core.file.weights import describe_brick, describe_model

ENTRY_BYTES = 350  # of a brick in the manifest, about


def arguments(given: list[str]) -> argparse.Namespace:
    made = parser(__doc__, data=False)
    made.add_argument("--ranks", type=int, default=4096)
    made.add_argument("--dims", type=int, nargs=3, default=(8192, 8192, 8192))
    made.add_argument("--bricks", type=int, nargs=3, default=(32, 32, 32))
    made.add_argument("--pieces", type=int, nargs=3, default=None, help="blocks along x, y, z; automatic")
    made.add_argument("--ghosts", type=int, default=0)
    made.add_argument("--value-bytes", type=int, default=4)
    made.add_argument("--parameters", type=int, default=0, help="of all bricks; 0: the small preset for each")
    made.add_argument("--slow", action="store_true", help="measure `own work` too")
    return made.parse_args(given)


def blocks_of(ranks: int, dims: tuple[int, int, int]) -> tuple[int, int, int]:
    """Blocks along x, y, z, as many as ranks: the largest prime factor first, to the axis with the longest blocks."""
    counts, factor, factors = [1, 1, 1], 2, []
    while ranks > 1:
        while ranks % factor == 0:
            factors.append(factor)
            ranks //= factor
        factor += 1
    for factor in reversed(factors):
        counts[max(range(3), key=lambda a: (dims[a] / counts[a], a))] *= factor
    return tuple(counts)


def sides(layout: BrickLayout, axis: int, ghosts: int) -> np.ndarray:
    """(parts, 2): first value and last + 1 of each part of an axis, its faces and ghosts included."""
    faces = layout.faces[axis]
    return np.stack([np.maximum(faces[:-1] - ghosts, 0), np.minimum(faces[1:] + ghosts, layout.dims[axis] - 1) + 1], axis=1)


class AxisHalo:
    """Along one axis: the owner of each part of the bricks, and how much each piece has of it (parts, pieces) and shares with
    the owner's piece."""

    def __init__(self, bricks: np.ndarray, pieces: np.ndarray):
        low = np.maximum(bricks[:, None, 0], pieces[None, :, 0])
        high = np.minimum(bricks[:, None, 1], pieces[None, :, 1])
        common = np.maximum(high - low, 0)
        self.owner = common.argmax(axis=1)
        own = pieces[self.owner]
        known = np.maximum(np.minimum(high, own[:, None, 1]) - np.maximum(low, own[:, None, 0]), 0)
        most = int((common > 0).sum(axis=1).max())
        self.near = np.argsort(common == 0, axis=1, kind="stable")[:, :most]  # the pieces that have some of a part
        take = lambda table: np.take_along_axis(table, self.near, axis=1)  # noqa: E731
        self.common, self.known = take(common), take(known)


def halos(layout: BrickLayout, pieces: BrickLayout, ghosts: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(owner of each brick, values that each rank sends, and gets), as `Pieces` would."""
    x, y, z = (AxisHalo(sides(layout, a, ghosts), sides(pieces, a, 0)) for a in range(3))

    def lattice(of_x, of_y, of_z):
        return of_x[None, None, :], of_y[None, :, None], of_z[:, None, None]

    owner = pieces.number(*lattice(x.owner, y.owner, z.owner))
    sent, got = np.zeros(pieces.count), np.zeros(pieces.count)
    for i, j, k in itertools.product(range(x.near.shape[1]), range(y.near.shape[1]), range(z.near.shape[1])):
        rank = pieces.number(*lattice(x.near[:, i], y.near[:, j], z.near[:, k]))
        parts = lattice(x.common[:, i], y.common[:, j], z.common[:, k])
        known = lattice(x.known[:, i], y.known[:, j], z.known[:, k])
        part, inside = (np.prod(np.broadcast_arrays(*three), axis=0, dtype=np.float64) for three in (parts, known))
        cuts = sum((a != b).astype(int) for a, b in zip(parts, known))
        count = np.where((inside == 0) | (cuts > 1), part, part - inside)
        count[(rank == owner) | (cuts == 0) & (inside > 0)] = 0
        sent += np.bincount(rank.ravel(), count.ravel(), pieces.count)
        got += np.bincount(owner.ravel(), count.ravel(), pieces.count)
    return owner.ravel(), sent, got


def own_work(layout: BrickLayout, pieces: BrickLayout, model: ModelConfig) -> dict[str, float]:
    """Seconds of what every rank computes for itself."""
    plan = BrickPlan(0, Grid((65, 65, 65)), model, TrainConfig().resolved(Grid((65, 65, 65))))
    plans = [BrickPlan(brick, plan.grid, model, plan.train) for brick in range(layout.count)]
    details = np.random.default_rng(0).lognormal(size=layout.count).tolist()
    places = [(rank, 0) for rank in range(pieces.count)]
    taken = {}

    def timed(name: str, work) -> None:
        start = time.perf_counter()
        work()
        taken[name] = round(time.perf_counter() - start, 2)

    trained = []
    timed("ranks", lambda: layout.ranks(pieces.count))
    timed("shares", lambda: share_out(77_000.0 * layout.count, details))
    timed("rounds", lambda: plan_rounds(plans, places, None))
    timed("regions", lambda: trained.extend(layout.trained(b) for b in range(layout.count)))
    timed("owners", lambda: owners_of(layout, [pieces.core(rank) for rank in range(pieces.count)]))
    owners = np.arange(layout.count) * pieces.count // layout.count
    timed("rounds of owners", lambda: plan_rounds(plans, places, owners))
    grid, train = Grid(layout.dims), plan.train
    array = ArrayInfo("values", "point", 1, "float32", (0.0, 1.0), "")
    manifest = describe_model(grid, layout, (array,), (None,), model.with_components(1), train, "")
    network = Network(model.with_components(1))
    described = [(b, describe_brick(network, layout, b, network.config), 160_000, "0" * 64) for b in range(layout.count)]
    texts = []
    timed("manifest", lambda: texts.append(_plan("model", manifest, described).text))
    taken["manifest MB"] = round(len(texts[0]) / 1e6, 1)
    return taken


def spread(numbers: np.ndarray) -> str:
    """'mean / largest' in MB."""
    return f"{numbers.mean() / 1e6:.2f} / {numbers.max() / 1e6:.2f}"


def main(given: list[str]) -> None:
    options = arguments(given)
    print_machine(options.device)
    start = time.perf_counter()
    dims, small = tuple(options.dims), ModelConfig.preset("small")
    layout = BrickLayout(dims, tuple(options.bricks), options.ghosts, min(1, options.ghosts + 1))
    pieces = BrickLayout(dims, tuple(options.pieces) if options.pieces else blocks_of(options.ranks, dims))
    each = options.parameters // layout.count if options.parameters else small.parameter_count()
    model = small.with_parameters(each)
    values = math.prod(int(np.diff(sides(layout, a, options.ghosts)).max()) for a in range(3))
    block = math.prod(int(np.diff(sides(pieces, a, 0)).max()) for a in range(3))
    network = 4 * 4 * model.parameter_count()
    size = layout.count * (model.model_bytes() + ENTRY_BYTES)
    owner, sent, got = halos(layout, pieces, options.ghosts)
    rows = []
    for kind, ranks in (("read", layout.ranks(options.ranks)), ("pieces", owner)):
        bricks = np.bincount(ranks, minlength=options.ranks)
        memory = values * options.value_bytes + network + (block * options.value_bytes if kind == "pieces" else 0)
        passes = -(-layout.count // options.ranks) if kind == "read" else int(bricks.max())
        rows.append({
            "values": kind, "bricks": layout.count, "of a rank": f"{bricks.min()} to {bricks.max()}", "passes": passes,
            "balance": round(layout.count / (options.ranks * passes), 3), "memory MB": round(memory / 1e6, 1),
            "halo sent MB": spread(sent * options.value_bytes) if kind == "pieces" else None,
            "halo got MB": spread(got * options.value_bytes) if kind == "pieces" else None,
            "histories MB": round(layout.count * 100 * 8 * len(COLUMNS) / 1e6), "model MB": round(size / 1e6),
            "ratio": round(math.prod(dims) * options.value_bytes / size),
        })  # fmt: skip
    print_table(rows)
    seconds = time.perf_counter() - start
    work = own_work(layout, pieces, model) if options.slow else {}
    print(f"planned in {seconds:.2f} s; blocks {pieces.counts}, bricks of {values} values at most; own work {work}")
    write_json(options, rows, what="plan", seconds=round(seconds, 2), blocks=pieces.counts, own_work=work)

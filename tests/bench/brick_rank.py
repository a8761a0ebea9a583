"""What each rank of `bricks.py scaling` and `bricks.py halo` does; started by them with mpirun.

    mpirun -np N python -m mpi4py tests/bench/brick_rank.py TASK

TASK is JSON with `dims`, `counts`, `ghosts`, `iterations`, `volume` and `pieces`: "" (every rank can read everything) or how
the values are spread over the ranks, see `piece_of`. The last line that rank 0 prints is JSON: seconds of the training, and
of each rank its CPU seconds, the bytes it sent and those of its largest brick.
"""

from __future__ import annotations

import json
import sys
import time

import measurement  # noqa: F401  isort: skip (sets the path)

import torch
from apmgsrn_core.training import trainer
from apmgsrn_core import BrickLayout, Communicator, ModelConfig, Region, TrainConfig, train_volume
from brick_runs import QUIET
from mpi4py import MPI
from tiled import Tiled
from volumes import load

SHIFT = 3


class Counting(Communicator):
    """Remembers the last one that was made, whose bytes are asked for at the end."""

    last: Communicator

    def __init__(self, comm=None):
        super().__init__(comm)
        Counting.last = self


def piece_of(kind: str, dims: tuple, counts: tuple, rank: int, size: int) -> Region:
    """The values that a rank has.

    "shared": a brick and all its faces, as VTK's pieces of point data; "owned": each value on one rank; "shifted": as "owned",
    with the inner borders SHIFT values above the bricks' faces; "slabs": as "owned", in slabs along z instead of bricks.
    """
    if kind == "slabs":
        return BrickLayout(dims, (1, 1, size)).owned(rank)
    layout = BrickLayout(dims, counts)
    if kind == "shared":
        return layout.core(rank)
    owned, shift = layout.owned(rank), SHIFT if kind == "shifted" else 0
    start = [a + shift if a else a for a in owned.start]
    return Region(start, [b + shift if b < n else b for b, n in zip(owned.stop, dims)])


def main() -> None:
    task = json.loads(sys.argv[1])
    torch.set_num_threads(1)
    comm = MPI.COMM_WORLD
    trainer.Communicator = Counting
    dims, counts = tuple(task["dims"]), tuple(task["counts"])
    values = Tiled(load(task["volume"]).values, dims)
    layout = BrickLayout(dims, counts, task.get("ghosts", 0), min(1, task.get("ghosts", 0) + 1))
    region = piece_of(task["pieces"], dims, counts, comm.rank, comm.size) if task["pieces"] else None
    held = values if region is None else values(region)
    config = TrainConfig(iterations=task["iterations"])
    busy = time.process_time()
    result = train_volume(
        held, values.grid, model=ModelConfig.preset("small"), train=config, bricks=layout, device="cpu", comm=comm,
        region=region, **QUIET,
    )  # fmt: skip
    busy = time.process_time() - busy
    everything = comm.gather((busy, Counting.last.bytes_sent))
    if comm.rank == 0:
        seconds, sent = zip(*everything)
        largest = max(layout.trained(brick).count for brick in range(layout.count)) * 4
        told = {"seconds": result.seconds, "busy": seconds, "sent": sent, "brick_bytes": largest, "psnr": result.psnr}
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()

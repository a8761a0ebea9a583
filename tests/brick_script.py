"""Run by test_brick_training.py, by itself or on several ranks: `brick_script.py WHAT PATH ...`."""

import json
import os
import sys
from pathlib import Path

from mpi4py import MPI
from volumes import tiny, wave

from apmgsrn_core import ApmgsrnError, DataError, ModelConfig, Region, train_volume
from apmgsrn_core.training.sampler import Sampler

MODEL = ModelConfig(number_of_grids=8, grid_resolution=(4, 4, 4), hidden_width=16)
QUIET = {"on_progress": lambda state: True, "on_warning": lambda line: None}
COMM = MPI.COMM_WORLD
CASES = [
    {"name": "a", "dims": (17, 16, 15), "bricks": (2, 2, 1), "association": "point"},
    {"name": "b", "dims": (17, 16, 15), "bricks": (3, 1, 2), "association": "cell"},
    {"name": "c", "dims": (7, 8, 9), "bricks": (1, 1, 1), "association": "point"},
    {"name": "d", "dims": (7, 8, 9), "bricks": (2, 1, 1), "association": "cell"},
    {"name": "e", "dims": (13, 11, 1), "bricks": (4, 3, 1), "association": "point"},
    {"name": "f", "dims": (23, 19, 29), "bricks": (1, 3, 5), "association": "point"},
]


def slab(grid, shared: int) -> Region:
    """This rank's piece: a slab along y, or x where y is thin, with planes that its neighbours have too."""
    start, stop = [0, 0, 0], list(grid.value_dims)
    axis = 1
    n = stop[axis]
    start[axis] = max(COMM.rank * n // COMM.size - shared, 0)
    stop[axis] = min((COMM.rank + 1) * n // COMM.size + shared, n)
    return Region(start, stop)


def cut(values, region: Region):
    return values[tuple(slice(a, b) for a, b in zip(region.start, region.stop))[::-1]]


def ranks(folder: Path) -> None:
    for case in CASES:
        values, grid = wave(case["dims"], association=case["association"])
        settings = dict(model=MODEL, train=tiny(), bricks=case["bricks"], comm=COMM, **QUIET)
        target = str(folder / case["name"]) + "-{}.apmgsrn"
        memory = train_volume(values, grid, **settings)
        memory.save(target.format("memory")) if COMM.rank == COMM.size - 1 else None
        train_volume(values, grid, path=target.format("file"), **settings)
        region = slab(grid, shared=COMM.size % 2 + case["dims"][0] % 3)
        pieces = train_volume(cut(values, region), grid, region=region, **settings)
        pieces.save(target.format("pieces")) if COMM.rank == 0 else None
    if COMM.rank == 0:
        (folder / "cases.json").write_text(json.dumps(CASES))


def errors(folder: Path) -> None:
    """On the last rank something goes wrong: while looking, training, writing, and with a piece missing."""
    values, grid = wave((17, 16, 15))
    last = COMM.rank == COMM.size - 1

    def broken(at: int):
        asked = []

        def read(region):
            asked.append(region)
            if last and len(asked) == at:
                raise OSError("disk 7 is gone")
            return cut(values, region)

        return read

    region = slab(grid, 0)
    short = Region(region.start, (region.stop[0] - (1 if last else 0), *region.stop[1:]))

    def complain(line):
        raise OSError("the log is full")

    def without_memory(region):
        if last and asked_by:
            raise MemoryError("no memory for a brick")
        asked_by.append(region)
        return cut(values, region)

    asked_by = []
    mixed = cut(values, region) if COMM.rank == 0 else cut(values, region).astype("float64")
    attempts = [
        (values, {"on_warning": complain}, ApmgsrnError, "the log is full"),
        (without_memory, {}, ApmgsrnError, "no memory for a brick"),
        (mixed, {"region": region}, DataError, "1 x float32, 1 x float64"),
        (broken(2), {}, ApmgsrnError, "disk 7 is gone"),
        (broken(4 if COMM.size == 2 else 2), {}, ApmgsrnError, "disk 7 is gone"),
        (values, {"path": folder / "no" / "folder" / "m.apmgsrn"}, ApmgsrnError, "cannot be written"),
        (cut(values, short), {"region": short}, DataError, "are on no rank"),
    ]
    for source, more, kind, words in attempts:
        try:
            train_volume(source, grid, model=MODEL, train=tiny(), bricks=(2, 2, 1), comm=COMM, **{**QUIET, **more})
            line = "no error"
        except kind as error:
            line = "good" if words in str(error) else f"other words: {error}"
        COMM.Barrier()
        sys.stdout.write(f"rank {COMM.rank}: {line}\n")


def stop(folder: Path) -> None:
    values, grid = wave((17, 16, 15))
    settings = tiny(iterations=10**6)
    try:
        train_volume(
            values, grid, model=MODEL, train=settings, bricks=(2, 2, 2), comm=COMM, on_warning=print,
            on_progress=lambda state: COMM.rank == 0 or state.iteration < 300,
        )  # fmt: skip
    except ApmgsrnError as error:
        sys.stdout.write(f"rank {COMM.rank}: {error}\n")


def resume(path: Path, bricks: str, report: str) -> None:
    """A training of some seconds with a checkpoint ten times a second."""
    with open(f"{path}.pids", "a", encoding="utf-8") if COMM.size > 1 else open(os.devnull, "w") as file:
        file.write(f"{os.getpid()}\n")
    values, grid = wave((33, 32, 31))
    done, draw = [], Sampler.draw
    Sampler.draw = lambda sampler: done.append(1) or draw(sampler)
    counts = tuple(json.loads(bricks))
    steps = 6000 // (counts[0] * counts[1])
    train_volume(
        values, grid, model=MODEL, train=tiny(iterations=steps, batch_size=4000), bricks=counts, comm=COMM, path=path,
        checkpoint_interval=0.1, **QUIET,
    )  # fmt: skip
    done = COMM.allreduce(len(done))
    if COMM.rank == 0:
        Path(report).write_text(json.dumps({"steps": done, "all": 6000}))
        if COMM.size > 1:
            os.unlink(f"{path}.pids")


{"ranks": ranks, "errors": errors, "stop": stop, "resume": resume}[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:])

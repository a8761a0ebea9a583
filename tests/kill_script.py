"""The training that `kills.py` kills: `[mpirun -np N] python -m mpi4py kill_script.py MODEL BEGUN [CALL]`.

BEGUN is a file that is there once the training has begun. With CALL the process kills itself before the so many-th call that
changes (or opens) a file once all bricks are finished: while the model is written and what is not needed any more goes.
"""

import os
import signal
import sys
from pathlib import Path

from mpi4py import MPI
from volumes import tiny, wave

from apmgsrn_core import ModelConfig, train_volume

DIMS, BRICKS = (21, 20, 19), (2, 2, 1)
MODEL = ModelConfig(number_of_grids=8, grid_resolution=(4, 4, 4), hidden_width=16)
TRAIN = tiny(iterations=300, batch_size=2000)
INTERVAL = 0.02  # seconds between two checkpoints
CHANGES = ("pwrite", "fsync", "replace", "unlink", "rmdir", "open")


def die_before(call: int, model: Path) -> None:
    """Let the so many-th of the last changes of files never come to be."""
    folder, seen = Path(f"{model}.training"), []

    def counted(name: str):
        function = getattr(os, name)

        def change(*arguments, **settings):
            if seen or len(list(folder.glob("*.part"))) == BRICKS[0] * BRICKS[1] * BRICKS[2]:
                seen.append(name)
                if len(seen) == call:
                    os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **settings)

        return change

    for name in CHANGES:
        setattr(os, name, counted(name))


def main(model: str, begun: str, call: str = "0") -> None:
    comm = MPI.COMM_WORLD if MPI.COMM_WORLD.size > 1 else None
    if int(call):
        die_before(int(call), Path(model))
    values, grid = wave(DIMS)
    Path(begun).touch()
    train_volume(
        values, grid, model=MODEL, train=TRAIN, bricks=BRICKS, comm=comm, path=model, checkpoint_interval=INTERVAL,
        on_progress=lambda state: True, on_warning=lambda line: None,
    )  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Run by test_taylor_green.py as `mpirun -np N python taylor_green_script.py folder report`: the flow in slabs, restarted."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from mpi4py import MPI


def main(example: str, report: str) -> None:
    sys.path.insert(0, example)
    from flow_state import check_same, load_state, save_state
    from taylor_green import TaylorGreen

    ranks, found = MPI.COMM_WORLD, {}
    for points in (12, 15):
        flow = TaylorGreen(points, 100.0, ranks)
        for _ in range(5):
            flow.step(0.2)
        velocity = ranks.gather(flow.velocity()[:, :, ::3, ::3])
        path = Path(f"{report}.npz")
        save_state(flow, 0.2, path)
        ranks.Barrier()
        again = TaylorGreen(points, 100.0, ranks)
        check_same(again, 0.2, path)
        try:
            check_same(again, 0.1, path)
        except ValueError as error:
            found["another"] = str(error)
        load_state(again, path)
        again.step(0.2)
        found[str(points)] = {
            "energy": flow.energy(), "enstrophy": flow.enstrophy(), "restarted": [again.energy(), again.time, again.steps],
            "velocity": np.concatenate(velocity, axis=1).ravel().tolist() if ranks.rank == 0 else None,
        }  # fmt: skip
    try:
        TaylorGreen(3, 100.0, ranks)
    except ValueError as error:
        found["refused"] = str(error)
    if ranks.rank == 0:
        Path(report).write_text(json.dumps(found))


main(*sys.argv[1:3])

"""How the training of bricks speeds up with the ranks, one thread to each.

    python tests/bench/bricks.py scaling [--ranks 1,2] [--pairs 3] [--only weak,strong] [--json FILE] [DATA]

- weak: one brick of `--side`^3 values for each rank: seconds of one rank / seconds of N;
- strong: 2x2x2 bricks, on one rank and on N: seconds of one rank / (N times the seconds of N).
The volume is made of copies of DATA, see `tiled.py`. All steps are fixed. Ranks are started in turns with mpirun, a pair a
round; `efficiency` is of the training's seconds (start, imports and the look at the values left out): median, smallest
and largest pair. `of busy time` is the same of the CPU seconds of the ranks (their mean), in which time that a neighbour on a shared machine
takes away is not counted, nor is waiting for other ranks; `balance` is the mean of these CPU seconds over their maximum.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from measurement import numbers, print_machine, print_table, words, write_json  # isort: skip

from brick_runs import brick_parser

RANK = Path(__file__).with_name("brick_rank.py")
LIMIT = 600  # seconds of a run
ENVIRONMENT = {
    **os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "OMP_NUM_THREADS": "1",
}  # fmt: skip


def on_ranks(ranks: int, task: dict) -> dict:
    """Run `brick_rank.py` on so many ranks; what its rank 0 tells."""
    command = ["mpirun", "--oversubscribe", "--bind-to", "none", "-np", str(ranks), sys.executable, "-m", "mpi4py"]
    command += [str(RANK), json.dumps(task)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, env=ENVIRONMENT)
    if done.returncode:
        raise SystemExit(f"{ranks} ranks failed:\n{done.stdout}{done.stderr}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def arguments(given: list[str]) -> argparse.Namespace:
    made = brick_parser(__doc__)
    made.add_argument("--ranks", type=numbers, default=[1, 2])
    made.add_argument("--pairs", type=int, default=3)
    made.add_argument("--only", type=words, default=["weak", "strong"])
    made.add_argument("--side", type=int, default=96, help="values along a brick (weak)")
    made.add_argument("--strong-side", type=int, default=129, help="values along the volume (strong)")
    made.add_argument("--iterations", type=int, default=800, help="of each brick (weak; a quarter of them in strong)")
    return made.parse_args(given)


def task_of(kind: str, ranks: int, options) -> dict:
    """What so many ranks train."""
    task = {"volume": options.volumes[0], "pieces": ""}
    if kind == "weak":
        side = options.side
        dims = (ranks * (side - 1) + 1, side, side)
        return {**task, "dims": dims, "counts": (ranks, 1, 1), "iterations": options.iterations}
    return {**task, "dims": (options.strong_side,) * 3, "counts": (2, 2, 2), "iterations": options.iterations // 4}


def spread(ratios: list[float]) -> list[float]:
    """[median, smallest, largest]."""
    return [round(f(ratios), 3) for f in (statistics.median, min, max)]


def measure(kind: str, options) -> list[dict]:
    """A row for each number of ranks."""
    taken: dict[int, list[dict]] = {ranks: [] for ranks in options.ranks}
    for _ in range(options.pairs):
        for ranks in options.ranks:
            taken[ranks].append(on_ranks(ranks, task_of(kind, ranks, options)))
    least = min(options.ranks)
    rows = []
    for ranks, found in taken.items():
        more = ranks / least if kind == "strong" else 1
        pairs = list(zip(taken[least], found))
        rows.append({
            "scaling": kind, "ranks": ranks, "bricks": 8 if kind == "strong" else ranks,
            "seconds": round(statistics.median(f["seconds"] for f in found), 2),
            "efficiency": spread([a["seconds"] / (more * b["seconds"]) for a, b in pairs]),
            "of busy time": spread([statistics.mean(a["busy"]) / (more * statistics.mean(b["busy"])) for a, b in pairs]),
            "balance": round(statistics.median(statistics.mean(f["busy"]) / max(f["busy"]) for f in found), 3),
            "of pairs": {"seconds": [f["seconds"] for f in found], "busy": [f["busy"] for f in found]},
        })  # fmt: skip
    return rows


def main(given: list[str]) -> None:
    options = arguments(given)
    print_machine(options.device)
    rows = []
    for kind in options.only:
        taken = measure(kind, options)
        print_table([{k: v for k, v in row.items() if k != "of pairs"} for row in taken])
        rows += taken
        write_json(options, rows, what="scaling")

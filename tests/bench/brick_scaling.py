"""How the training of bricks speeds up with the ranks, one thread to each.

    python tests/bench/bricks.py scaling [--ranks 1,2] [--pairs 3] [--only weak,strong] [--json FILE] [DATA]

- weak: one brick of `--side`^3 values for each rank: seconds of one rank / seconds of N;
- strong: 2x2x2 bricks, on one rank and on N: seconds of one rank / (N times the seconds of N).
The volume is made of copies of DATA, see `tiled.py`. All steps are fixed. Ranks are started in turns with mpirun, a pair a
round; `efficiency` is of the training's seconds (start, imports and the look at the values left out): median, smallest and
largest pair. Each run waits until the machine is quiet (`--patience` seconds at most); `others` is how many cores other
programs took meanwhile (Linux), and pairs in which that was more than DISTURBING are left out while there are others.
`of busy time` is the same of the CPU seconds of the ranks (their mean), in which neither what a neighbour on a
shared machine takes away is counted nor waiting for other ranks; `balance` is the mean of these CPU seconds over their
maximum.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

from measurement import numbers, print_machine, print_table, words, write_json  # isort: skip

from brick_runs import brick_parser

RANK = Path(__file__).with_name("brick_rank.py")
LIMIT = 600  # seconds of a run
DISTURBING = 0.15  # cores that other programs take
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


def busy_seconds() -> float:
    """CPU seconds of all programs since the machine was started; 0 where /proc/stat is missing."""
    path = Path("/proc/stat")
    if not path.exists():
        return 0.0
    user, nice, system, _, _, irq, softirq, *_ = map(int, path.read_text().split("\n")[0].split()[1:])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def own_seconds() -> float:
    """CPU seconds of this program and of those it has started and that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


class Others:
    """How many cores other programs took since it was made."""

    def __init__(self):
        self._start, self._busy, self._own = time.perf_counter(), busy_seconds(), own_seconds()

    def cores(self) -> float:
        taken = (busy_seconds() - self._busy) - (own_seconds() - self._own)
        return max(taken, 0.0) / (time.perf_counter() - self._start)


def wait_for_quiet(patience: float) -> None:
    """Until others take less than DISTURBING for a second."""
    end = time.perf_counter() + patience
    while time.perf_counter() < end:
        others = Others()
        time.sleep(1)
        if others.cores() < DISTURBING:
            return


def arguments(given: list[str]) -> argparse.Namespace:
    made = brick_parser(__doc__)
    made.add_argument("--ranks", type=numbers, default=[1, 2])
    made.add_argument("--pairs", type=int, default=3)
    made.add_argument("--patience", type=float, default=60.0)
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
            wait_for_quiet(options.patience)
            others = Others()
            told = on_ranks(ranks, task_of(kind, ranks, options))
            taken[ranks].append({**told, "others": others.cores()})
    least = min(options.ranks)
    rows = []
    for ranks, found in taken.items():
        more = ranks / least if kind == "strong" else 1
        both = list(zip(taken[least], found))
        pairs = [(a, b) for a, b in both if max(a["others"], b["others"]) < DISTURBING] or both
        rows.append({
            "scaling": kind, "ranks": ranks, "bricks": 8 if kind == "strong" else ranks,
            "pairs": f"{len(pairs)} of {len(both)}", "seconds": round(statistics.median(b["seconds"] for _, b in pairs), 2),
            "efficiency": spread([a["seconds"] / (more * b["seconds"]) for a, b in pairs]),
            "of busy time": spread([statistics.mean(a["busy"]) / (more * statistics.mean(b["busy"])) for a, b in pairs]),
            "balance": round(statistics.median(statistics.mean(f["busy"]) / max(f["busy"]) for f in found), 3),
            "others": round(statistics.median(b["others"] for _, b in pairs), 2),
            "of pairs": {name: [f[name] for f in found] for name in ("seconds", "busy", "others")},
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

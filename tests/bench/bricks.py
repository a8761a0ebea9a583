"""Volumes trained in bricks: quality, seams, shares of the parameters, ranks, plans for many ranks, sampling, large volumes.

    python tests/bench/bricks.py quality [--qualities draft,normal] [--json FILE] [DATA ...]
    python tests/bench/bricks.py seams   [--seeds 3] [--json FILE] [DATA ...]
    python tests/bench/bricks.py need    [--powers 0,0.5,1] [--json FILE] [DATA ...]
    python tests/bench/bricks.py scaling [--pairs 3] [--json FILE]                     (starts mpirun)
    python tests/bench/bricks.py halo    [--json FILE]                                 (starts mpirun)
    python tests/bench/bricks.py plan    [--ranks 4096] [--dims 8192 8192 8192] [--json FILE]
    python tests/bench/bricks.py sample  [--counts 8 8 8] [--json FILE] [DATA]
    python tests/bench/bricks.py large   [--dims 1024 1024 1024] [--json FILE] [DATA]

Each command is in a file of its own, `brick_*.py`, whose first lines say what it measures; `COMMAND --help` lists its
arguments. Where no data are named, the Taylor-Green volume of the repository is used.
"""

from __future__ import annotations

import argparse
import importlib

HOMES = {
    "quality": "brick_quality", "seams": "brick_seams", "need": "brick_need", "scaling": "brick_scaling",
    "halo": "brick_halo", "plan": "brick_plan", "sample": "brick_sampling", "large": "brick_large",
}  # fmt: skip


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("command", choices=HOMES)
    made.add_argument("arguments", nargs=argparse.REMAINDER)
    chosen = made.parse_args()
    importlib.import_module(HOMES[chosen.command]).main(chosen.arguments)


if __name__ == "__main__":
    main()

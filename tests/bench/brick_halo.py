"""Bytes that ranks send when each has one piece of the values (`region=` of `train_volume`).

    python tests/bench/bricks.py halo [--sides 17,33,65,97] [--json FILE] [DATA]

Eight ranks, 2x2x2 bricks of growing sides, pieces of four kinds (`piece_of` in `brick_rank.py`); real trainings of one step,
in which every rank has one brick, so that its values travel once. `sent` is of the rank that sends most, `of a brick` that
over the bytes of a brick, `growth` the power of the side that it grows with from the row above: 2 is the surface, 3 the volume.
"""

from __future__ import annotations

import argparse
import math

from measurement import numbers, print_machine, print_table, words, write_json  # isort: skip

from brick_runs import brick_parser
from brick_scaling import on_ranks

KINDS = ["shared", "owned", "shifted", "slabs"]


def arguments(given: list[str]) -> argparse.Namespace:
    made = brick_parser(__doc__)
    made.add_argument("--sides", type=numbers, default=[17, 33, 65, 97])
    made.add_argument("--kinds", type=words, default=KINDS)
    made.add_argument("--ghosts", type=numbers, default=[0, 2])
    return made.parse_args(given)


def measure(kind: str, ghosts: int, options) -> list[dict]:
    """A row for each side."""
    rows: list[dict] = []
    for side in options.sides:
        dims = (2 * (side - 1) + 1,) * 3
        task = {"volume": options.volumes[0], "pieces": kind, "dims": dims, "counts": (2, 2, 2), "iterations": 1}
        told = on_ranks(8, {**task, "ghosts": ghosts})
        most, growth = max(told["sent"]), None
        if rows and most and rows[-1]["sent"]:
            growth = round(math.log(most / rows[-1]["sent"]) / math.log((side - 1) / (rows[-1]["side"] - 1)), 2)
        rows.append({
            "pieces": kind, "ghosts": ghosts, "side": side, "sent": most, "sent mean": round(sum(told["sent"]) / 8),
            "of a brick": round(most / told["brick_bytes"], 3), "growth": growth,
        })  # fmt: skip
    return rows


def main(given: list[str]) -> None:
    options = arguments(given)
    print_machine(options.device)
    rows = []
    for ghosts in options.ghosts:
        for kind in options.kinds:
            taken = measure(kind, ghosts, options)
            print_table(taken)
            rows += taken
            write_json(options, rows, what="halo")

"""Trainings that are killed (kill -9, all processes) at random moments and started again.

    python tests/bench/kills.py [--kills 50] [--seed N] [--ranks 1,2] [--last-writes] [--json FILE]

A training of 21 x 20 x 19 values in 2 x 2 x 1 bricks, with a checkpoint every 0.02 s, is killed at a moment that is drawn
uniformly from its whole duration; before every second kill an older model lies there. After a kill there is no model, the older
one or the whole new one (anything else ends the benchmark); then the same command is run to its end, and nothing but the model is
left. Per row: `found`: what was there after the kill; `difference`: PSNR of the model after the resumed run minus that of an
uninterrupted one, in dB; `same`: whether the two are the same byte for byte. With `--last-writes` the training is killed once
before each change of a file that follows its last finished brick, while the model is written.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from measurement import numbers, parser, print_machine, print_table, write_json  # isort: skip (sets the path)

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from kills import Kill, KilledTraining, kill_at_random, kill_in_last_writes  # noqa: E402


def rows_of(training: KilledTraining, kills: list[Kill], ranks: int, what: str) -> list[dict]:
    """The kills as rows."""
    return [
        {
            "ranks": ranks, "moment": what, "at": round(kill.moment, 3), "found": kill.found,
            "difference": round(kill.psnr - training.psnr, 4), "same": kill.same,
        }
        for kill in kills
    ]  # fmt: skip


def summary(rows: list[dict]) -> dict:
    """Of some rows: how many, the worst difference, how many models are the same."""
    return {
        "ranks": rows[0]["ranks"], "moment": rows[0]["moment"], "kills": len(rows),
        "worst": max((row["difference"] for row in rows), key=abs), "same": sum(row["same"] for row in rows),
    }  # fmt: skip


def main() -> None:
    made = parser(__doc__, data=False)
    made.add_argument("--kills", type=int, default=50, help="of each number of ranks")
    made.add_argument("--seed", type=int, default=20261129, help="of the moments")
    made.add_argument("--ranks", type=numbers, default=[1, 2])
    made.add_argument("--last-writes", action="store_true", help="kill before each of the last changes of files as well")
    options = made.parse_args()
    print_machine(options.device)
    stages = [(ranks, "random", lambda f, n=ranks: kill_at_random(f, n, options.kills, options.seed + n)) for ranks in options.ranks]
    if options.last_writes:
        stages.insert(1, (1, "before a change of a file", kill_in_last_writes))
    rows, summaries = [], []
    for ranks, what, kill in stages:
        with tempfile.TemporaryDirectory() as folder:
            found = rows_of(*kill(Path(folder)), ranks, what)
        rows += found
        summaries.append(summary(found))
        print_table(found)
        print_table(summaries)
        write_json(options, rows, summaries=summaries)


if __name__ == "__main__":
    main()

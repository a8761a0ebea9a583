"""What a training reports while it runs, and the table that it leaves."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np

COLUMNS = ("iteration", "seconds", "loss", "psnr", "learning_rate")
SMOOTHING_STEPS = 50  # of the running mean of the loss


@dataclass(frozen=True)
class TrainingState:
    """Where a training stands. PSNR in dB over the data's range, estimated from the last steps' loss.

    Of a volume in several bricks: iteration, loss, psnr and learning_rate are those of `brick`, one that this rank trains;
    `finished` of `bricks` are done on all ranks; seconds, seconds_left and fraction are of the whole.
    """

    iteration: int
    iterations: int
    seconds: float
    seconds_left: float
    loss: float
    psnr: float
    learning_rate: float
    fraction: float
    brick: int = 0
    bricks: int = 1
    finished: int = 0

    @property
    def message(self) -> str:
        """One readable line."""
        left = _duration(self.seconds_left) if math.isfinite(self.seconds_left) else "unknown time"
        which = f"brick {self.brick} ({self.finished} of {self.bricks} done): " if self.bricks > 1 else ""
        return f"{which}iteration {self.iteration} of {self.iterations}, {self.psnr:.1f} dB, {left} left"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def psnr_of(mean_squared_error: float) -> float:
    """PSNR in dB of an error relative to the range: -10 log10(MSE); infinite for 0."""
    return math.inf if mean_squared_error == 0 else -10 * math.log10(mean_squared_error)


class RunningMean:
    """Mean of the last SMOOTHING_STEPS losses, about.

    Attributes:
        weight: Of all of them together, less than 1; 0: there was none.
    """

    def __init__(self):
        self._mean = self.weight = 0.0

    def add(self, loss: float) -> None:
        """Take up the loss of a step."""
        decay = 1 - 1 / SMOOTHING_STEPS
        self._mean = self._mean * decay + loss * (1 - decay)
        self.weight = self.weight * decay + (1 - decay)

    @property
    def value(self) -> float:
        """NaN before the first loss."""
        return self._mean / self.weight if self.weight else math.nan

    def state(self) -> dict:
        """For a checkpoint."""
        return {"mean": self._mean, "weight": self.weight}

    def restore(self, state: dict) -> None:
        """Go on from a `state`."""
        self._mean, self.weight = state["mean"], state["weight"]


class History:
    """Collects rows, and knows how much of the training is done.

    Args:
        iterations: Steps planned.
        time_budget: Seconds; 0 = none.
        arrays: Names of the arrays that have a column `psnr NAME` of their own.

    Attributes:
        loss: Mean squared error relative to the range, smoothed, as it was last read from the training.
        notes: What a user should know of how it went, in lines.
    """

    def __init__(self, iterations: int, time_budget: float = 0.0, arrays: tuple[str, ...] = ()):
        self._iterations = iterations
        self._columns = (*COLUMNS, *(f"psnr {name}" for name in arrays))
        self._budget = time_budget
        self._start = time.perf_counter()
        self.loss = math.nan
        self.notes: list[str] = []
        self._rows: list[tuple] = []

    @property
    def seconds(self) -> float:
        """Since the training began; what passed between a checkpoint and the restart does not count."""
        return time.perf_counter() - self._start

    def leave_out(self, seconds: float) -> None:
        """What has just passed was no training: it does not count."""
        self._start += seconds

    def progress(self, iteration: int) -> float:
        """Share of the training that is done, by steps or by time, whichever is further."""
        by_time = self.seconds / self._budget if self._budget else 0.0
        return min(max(iteration / self._iterations, by_time), 1.0)

    def state(self, iteration: int, learning_rate: float) -> TrainingState:
        """What a progress callback is given."""
        seconds, fraction = self.seconds, self.progress(iteration)
        left = seconds * (1 - fraction) / fraction if fraction else math.inf
        psnr = psnr_of(self.loss)
        return TrainingState(iteration, self._iterations, seconds, left, self.loss, psnr, learning_rate, fraction)

    def add_row(self, iteration: int, loss: float, learning_rate: float, of_arrays: tuple[float, ...] = ()) -> None:
        """A row of the table; one iteration has one row, the last one given. `of_arrays`: the PSNR of each array."""
        if self._rows and self._rows[-1][0] == iteration:
            self._rows.pop()
        self._rows.append((iteration, self.seconds, loss, psnr_of(loss), learning_rate, *of_arrays))

    def table(self) -> dict[str, np.ndarray]:
        """The columns iteration, seconds, loss, psnr, learning_rate and those of the arrays, equally long."""
        columns = list(zip(*self._rows)) or [()] * len(self._columns)
        kinds = (np.int64, *(np.float64,) * (len(self._columns) - 1))
        return {name: np.array(c, dtype=k) for name, c, k in zip(self._columns, columns, kinds)}

    def checkpoint(self) -> dict:
        """For a checkpoint: the table, and the time until now. (`state` is what a progress callback is given.)"""
        return {"seconds": self.seconds, "loss": self.loss, "rows": self.table(), "notes": self.notes}

    def restore(self, state: dict) -> None:
        """Go on from a `checkpoint`, in its rows and its time."""
        self._start = time.perf_counter() - state["seconds"]
        self.loss, self.notes = state["loss"], list(state.get("notes", ()))
        self._rows = list(zip(*(state["rows"][name].tolist() for name in self._columns)))


def merged_table(tables: list[tuple[int, dict[str, np.ndarray]]]) -> dict[str, np.ndarray]:
    """The tables of (brick, table), one after the other, with a column `brick` more."""
    if not tables:
        return dict.fromkeys((*COLUMNS, "brick"), np.zeros(0))
    columns = {name: np.concatenate([table[name] for _, table in tables]) for name in tables[0][1]}
    return {**columns, "brick": np.concatenate([np.full(len(table["iteration"]), b, np.int64) for b, table in tables])}

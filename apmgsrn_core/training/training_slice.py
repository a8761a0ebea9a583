"""A training that is held between two slices of it: what it shows of itself, and what goes on with it."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from time import perf_counter

from ..data.mask import VOXELS
from ..distributed import Communicator
from ..file.model_writer import StoredBrick, pack_model
from ..file.weights import describe_model
from .history import TrainingState, merged_table
from .time_series import time_entry


@dataclass
class TrainingSlice:
    """Where a training stands between two slices; what is yielded for one, and answered with the seconds of the next.

    Args:
        worker: The `BrickWorker` of the job.
        communicator: Of the ranks; all methods but `keep` are collective.
        finished: `FinishedBrick` of this rank; both are those of the training, and change with it: where values are needed before
            the next slice, a brick may have ended since.
        running: Brick -> its `BrickTraining` on this rank.
        seconds: Of training so far.
    """

    worker: object
    communicator: Communicator
    finished: list
    running: dict
    seconds: float

    def state(self) -> TrainingState:
        """Of the first brick that is trained now, or the last one that was, the fraction and the seconds those of the whole."""
        mine = [(brick, training.report()) for brick, training in sorted(self.running.items())]
        ended = [] if mine or not self.finished else [_last_state(self.finished[-1])]
        told = self.communicator.everywhere((mine, len(self.finished), ended))
        states = [pair for part, _, _ in told for pair in part]
        done, bricks = sum(count for _, count, _ in told), self.worker.layout.count
        brick, state = (states or [pair for _, _, part in told for pair in part])[0]
        fraction = (done + sum(s.fraction for _, s in states)) / bricks
        left = self.seconds * (1 - fraction) / fraction if fraction else math.inf
        return replace(
            state, brick=brick, bricks=bricks, finished=done, fraction=fraction, seconds=self.seconds, seconds_left=left
        )

    def model(self) -> bytes:
        """A model file of the networks as they are; a brick whose training has not begun has no values."""
        worker, job = self.worker, self.worker.job
        mine = [f.stored for f in self.finished]
        mine += [worker.unfinished(brick, training.network) for brick, training in self.running.items()]
        packed = [(s.brick, s.entry, s.section(), s.time, s.coder) for s in mine]
        stored = [StoredBrick.of_bytes(*one) for part in self.communicator.everywhere(packed) for one in part]
        missing = set(range(worker.layout.count)) - {s.brick for s in stored}
        masked = bool(missing) or worker.masked or job.mask in VOXELS
        manifest = describe_model(
            job.grid, job.layout, worker.arrays, [time_entry(job.time, worker.arrays, "", False)], job.fitted_model,
            job.train.resolved(job.grid), "", job.mask if masked else None,
        )  # fmt: skip
        return pack_model(manifest, stored + [worker.untrained(brick) for brick in sorted(missing)])

    def history(self) -> dict:
        """As that of a `TrainingResult`, so far."""
        mine = [(f.stored.brick, f.history) for f in self.finished]
        mine += [(brick, training.history.table()) for brick, training in self.running.items()]
        tables = [pair for part in self.communicator.everywhere(mine) for pair in part]
        return merged_table(sorted(tables, key=lambda pair: pair[0]))

    def keep(self) -> None:
        """Write the checkpoints of the bricks that are trained now, from which the same training goes on later: this one, or
        another one that takes the model's folder before the next slice of this one begins."""
        for training in self.running.values():
            training.keep()
        if self.worker.folder is not None:
            self.worker.folder.close()


def _last_state(finished) -> tuple[int, TrainingState]:
    """(brick, state) at the end of its training."""
    last = {name: column[-1] for name, column in finished.history.items()}
    iteration, numbers = int(last["iteration"]), (float(last[name]) for name in ("loss", "psnr", "learning_rate"))
    return finished.stored.brick, TrainingState(iteration, iteration, float(last["seconds"]), 0.0, *numbers, 1.0)


class LiveTraining:
    """A training that is advanced slice by slice (collective).

    Args:
        passes: `volume_passes`, with `live`.
        fetch: See `drive_passes`.

    Attributes:
        at: Where it stands; None before the first slice and after the last.
        result: What the passes have returned; None until then.
    """

    def __init__(self, passes: Generator, fetch: Callable):
        self._passes, self._fetch, self._wanted = passes, fetch, next
        self.at: TrainingSlice | None = None
        self.result = None

    def advance(self, seconds: float, may_fetch: bool = True) -> bool:
        """Train for about so many seconds, at least a step.

        Args:
            may_fetch: Whether values may be asked for; otherwise the slice ends where they are needed.

        Returns:
            Whether the slice is at its end, and not at values that are needed.
        """
        try:
            found = self._resumed(seconds, may_fetch)
            while may_fetch and not isinstance(found, TrainingSlice):
                found = self._passes.send(self._fetch(found))
        except StopIteration as end:
            self.at, self.result = None, end.value
            return True
        self._wanted = found
        if isinstance(found, TrainingSlice):
            self.at = found
        return isinstance(found, TrainingSlice)

    def _resumed(self, seconds: float, may_fetch: bool):
        """What the passes yield next."""
        if self._wanted is next:
            return next(self._passes)
        if isinstance(self._wanted, TrainingSlice):
            return self._passes.send(seconds)
        return self._passes.send(self._fetch(self._wanted)) if may_fetch else self._wanted


def in_slices(
    worker, tasks: list, devices: list, budget: float, progress, communicator: Communicator, finished: list
) -> Generator[TrainingSlice, float, list]:
    """Train bricks at once, one on each device, and yield a TrainingSlice whenever the seconds that were sent are over.

    Returns:
        A `FinishedBrick` of each task; `finished` has them then, too.
    """
    steps = {brick: worker.steps(brick, values, device, budget, progress) for (brick, values), device in zip(tasks, devices)}
    running, trained, seconds = {}, [], 0.0

    def advance() -> None:
        if worker.folder is not None:
            worker.folder.open_again()
        end = perf_counter() + seconds
        while steps:
            for brick in list(steps):
                try:
                    running[brick] = next(steps[brick])
                except StopIteration as over:
                    del steps[brick]
                    running.pop(brick, None)
                    trained.append(over.value)
                    finished.append(over.value)
            if perf_counter() >= end:
                return

    while True:
        communicator.together(advance)
        if not any(communicator.everywhere(bool(steps))):
            return trained
        held = perf_counter()
        seconds = yield TrainingSlice(worker, communicator, finished, running, progress.seconds)
        progress.leave_out(perf_counter() - held)

"""The passes over the bricks of a volume, on all ranks together: first a look at each, then their training.

Both are generators: they yield the region whose values this rank needs next (None: nothing, but another rank does) and are
sent those values, or the exception that stood in their way. Whoever drives them brings the data: from an array, from a
pipeline pass by pass, from other ranks. All ranks make the same number of passes. Of the values no more is kept than the
bricks that are being worked on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from dataclasses import replace
from time import perf_counter

import numpy as np

from .brick_folder import BrickFolder, FinishedBrick
from .brick_survey import BrickSummary, Survey, survey_brick
from .brick_worker import BrickWorker, train_side_by_side
from .bricks import BrickLayout
from .distributed import Communicator
from .errors import ApmgsrnError
from .grid import Region
from .history import TrainingState
from .volume_job import BrickPlan, VolumeJob

logger = logging.getLogger(__name__)

Passes = Generator[Region | None, np.ndarray | Exception | None, object]


def survey_passes(
    job: VolumeJob, communicator: Communicator, owners: np.ndarray
) -> Generator[Region | None, np.ndarray | Exception | None, tuple[Survey, dict[int, np.ndarray]]]:
    """Look at every brick once.

    Args:
        owners: The rank that looks at each brick, (count,).

    Returns:
        The survey, the same on every rank, and the brick that this rank has seen last: {its number: its values}.

    Raises:
        ApmgsrnError: On all ranks, what went wrong on the first of them.
    """
    mine = np.flatnonzero(owners == communicator.rank).tolist()
    found: list[tuple[int, BrickSummary]] = []
    last: dict[int, np.ndarray] = {}
    for number in range(int(np.bincount(owners).max())):
        brick = mine[number] if number < len(mine) else None
        values = yield None if brick is None else job.layout.trained(brick)

        def look(brick=brick, values=values):
            if isinstance(values, Exception):
                raise values
            if brick is not None:
                found.append((brick, survey_brick(values, job.grid, job.layout, brick, job.name)))

        communicator.together(look)
        last = {} if brick is None else {brick: values}
    everything = sorted(pair for part in communicator.everywhere(found) for pair in part)
    survey = Survey(tuple(summary for _, summary in everything))
    survey.check(job.name)
    return survey, last


def training_passes(
    job: VolumeJob,
    plans: tuple[BrickPlan, ...],
    survey: Survey,
    communicator: Communicator,
    devices: list,
    folder: BrickFolder | None = None,
    key: str = "",
    owners: np.ndarray | None = None,
    at_hand: dict[int, np.ndarray] | None = None,
    on_progress: Callable[[TrainingState], bool | None] | None = None,
) -> Generator[Region | None, np.ndarray | Exception | None, list[FinishedBrick]]:
    """Train every brick that is not finished yet.

    Args:
        plans, survey: Of all bricks.
        devices: Of this rank; one brick is trained on each at a time.
        folder: Keeps checkpoints and finished bricks; None: in memory.
        key: Of the training, for the folder.
        owners: The rank of each brick when its values can be had there only; None: bricks are handed out, the costliest
            first, so that the bricks of one pass cost about the same.
        at_hand: The values of this rank's bricks, when every rank has all of its own (`owners` says which): nothing is asked
            for any more. None: they are asked for.
        on_progress: See `train_volume`.

    Returns:
        The bricks that this rank has trained or taken over, each brick on one rank.

    Raises:
        ApmgsrnError: On all ranks: what went wrong on the first of them, or that the user stopped it.
    """
    layout, rank = job.layout, communicator.rank
    worker = BrickWorker(job, survey, plans, folder)
    done = folder.open(key, communicator) if folder else set()
    spread = layout.ranks(communicator.size)
    finished = [folder.load(b) for b in sorted(done) if spread[b] == rank]
    constant = [p.brick for p in plans if p.value is not None and p.brick not in done]
    finished += communicator.together(lambda: [worker.constant(b) for b in constant if spread[b] == rank])
    pending = [p for p in plans if p.value is None and p.brick not in done]
    places = [(r, slot) for r, slots in enumerate(communicator.everywhere(len(devices))) for slot in range(slots)]
    rounds = plan_rounds(pending, places, owners)
    communicator.forget_stop()
    budget = job.train.time_budget / len(rounds) if rounds and job.train.time_budget else 0.0
    progress = _Progress(communicator, layout.count, len(rounds), on_progress)
    for number, given in enumerate(rounds):
        progress.round, progress.finished = number, layout.count - sum(len(r) for r in rounds[number:])
        mine = [b for (r, _), b in sorted(given.items()) if r == rank]
        tasks: list[tuple[int, np.ndarray]] = []
        wanting = max(sum(1 for r, _ in given if r == other) for other in range(communicator.size))
        failure = None
        for slot in range(wanting):
            brick = mine[slot] if slot < len(mine) else None
            if at_hand is not None:
                values = at_hand.get(brick)
            else:
                values = yield None if brick is None else layout.trained(brick)
            if isinstance(values, Exception):
                failure = failure or values
            elif brick is not None:
                tasks.append((brick, values if wanting == 1 else np.array(values)))

        def work(tasks=tasks, failure=failure):
            if failure is not None:
                raise failure
            return train_side_by_side(worker, tasks, devices, budget, progress)

        trained = communicator.together(work)
        finished += trained
        if any(communicator.everywhere(communicator.stop_requested())) and layout.count > 1:
            raise ApmgsrnError(_stopped(layout.count, folder))
    return finished


def _stopped(count: int, folder: BrickFolder | None) -> str:
    kept = "the finished ones are kept, and the same training goes on from them" if folder else "nothing is kept"
    return f"stopped by user before all {count} bricks were trained; {kept}"


def plan_rounds(
    pending: list[BrickPlan], places: list[tuple[int, int]], owners: np.ndarray | None
) -> list[dict[tuple[int, int], int]]:
    """Which brick is trained where in each pass, the same on every rank.

    Args:
        pending: The bricks to train.
        places: (rank, slot) of all devices.
        owners: The rank of each brick; None: any.

    Returns:
        For each round, place -> brick.
    """
    queue = [p.brick for p in sorted(pending, key=lambda p: (-p.cost, p.brick))]
    if owners is None:
        return [
            dict(zip(places, queue[first : first + len(places)])) for first in range(0, len(queue), len(places))
        ]
    rounds = []
    while queue:
        given = {}
        for rank, slot in places:
            brick = next((b for b in queue if owners[b] == rank), None)
            if brick is not None:
                given[rank, slot] = brick
                queue.remove(brick)
        rounds.append(given)
    return rounds


class _Progress:
    """Turns what one brick reports into the state of the whole, and carries a stop to all ranks."""

    def __init__(self, communicator: Communicator, bricks: int, rounds: int, callback):
        self._communicator, self._bricks, self._rounds, self._callback = communicator, bricks, max(rounds, 1), callback
        self._start = perf_counter()
        self.round = self.finished = 0

    def __call__(self, state: TrainingState) -> bool:
        if self._bricks > 1:
            fraction = (self.round + state.fraction) / self._rounds
            seconds = perf_counter() - self._start
            left = seconds * (1 - fraction) / fraction if fraction else state.seconds_left
            state = replace(
                state, fraction=fraction, seconds=seconds, seconds_left=left, bricks=self._bricks, finished=self.finished
            )
        if self._callback is not None and self._callback(state) is False:
            self._communicator.request_stop()
        return not self._communicator.stop_requested()

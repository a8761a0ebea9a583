"""The passes over the bricks of a volume, on all ranks together: first a look at each, then their training.

Both are generators: they yield the region whose values this rank needs next (None: nothing, but another rank does) and are
sent those values, or the exception that stood in their way. Whoever drives them brings the data: from an array, from a
pipeline pass by pass, from other ranks. All ranks make the same number of passes. Of the values no more is kept than the
bricks that are being worked on.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Generator
from dataclasses import replace
from time import perf_counter

import numpy as np

from ..brick_layout import BrickLayout
from ..data.mesh_values import MeshValues, survey_mesh_brick
from ..distributed import Communicator
from ..errors import ApmgsrnError, ModelFileError
from ..grid import Region
from ..training.history import TrainingState
from ..training.training_slice import TrainingSlice, in_slices
from ..training.volume_job import BrickPlan, VolumeJob
from .folder import BrickFolder, FinishedBrick
from .side_by_side import train_side_by_side
from .survey import BrickSummary, Survey, survey_brick
from .worker import BrickWorker

Given = np.ndarray | MeshValues | Exception | None  # what is sent to a generator of passes


def survey_passes(
    job: VolumeJob,
    communicator: Communicator,
    owners: np.ndarray,
    on_look: Callable[[float], bool | None] | None = None,
) -> Generator[Region | None, Given, tuple[Survey, dict[int, np.ndarray]]]:
    """Look at every brick once.

    Args:
        owners: The rank that looks at each brick, (count,).
        on_look: See `volume_passes`.

    Returns:
        The survey, the same on every rank, and the brick that this rank has seen last: {its number: its values}.

    Raises:
        ApmgsrnError: On all ranks, what went wrong on the first of them.
    """
    mine = np.flatnonzero(owners == communicator.rank).tolist()
    found: list[tuple[int, BrickSummary]] = []
    last: dict[int, np.ndarray] = {}
    passes = int(np.bincount(owners).max())
    for number in range(passes):
        brick = mine[number] if number < len(mine) else None
        last.clear()  # before the next one comes
        values = yield None if brick is None else job.layout.trained(brick)
        if isinstance(values, (np.ndarray, MeshValues)) and brick is not None:
            last[brick] = values

        def look(brick=brick, failure=values if isinstance(values, Exception) else None, number=number):
            if failure is not None:
                raise failure
            if brick is not None:
                found.append((brick, _look_at(last[brick], job, brick)))
            if on_look is not None and on_look((number + 1) / passes) is False and job.layout.count > 1:
                raise ApmgsrnError("stopped by user while the bricks were looked at")

        communicator.together(look)
        values = None
    everything = sorted(pair for part in communicator.everywhere(found) for pair in part)
    survey = Survey(tuple(summary for _, summary in everything))
    survey.check(job.arrays)
    return survey, last


def _look_at(values: np.ndarray | MeshValues, job: VolumeJob, brick: int) -> BrickSummary:
    if isinstance(values, MeshValues):
        return survey_mesh_brick(values, job.layout, brick, job.arrays, job.mask)
    return survey_brick(values, job.grid, job.layout, brick, job.arrays)


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
    live: bool = False,
) -> Generator[Region | TrainingSlice | None, Given | float, tuple[list[FinishedBrick], float]]:
    """Train every brick that is not finished yet.

    Args:
        plans, survey: Of all bricks.
        devices: Of this rank; one brick is trained on each at a time. Of `FoundDevices` that are automatic the CPU takes the place
            of one that fails.
        folder: Keeps checkpoints and finished bricks; None: in memory.
        key: Of the training, for the folder.
        owners: The rank of each brick when its values can be had there only; None: bricks are handed out, the costliest
            first, so that the bricks of one pass cost about the same.
        at_hand: The values of this rank's bricks, when every rank has all of its own (`owners` says which): nothing is asked
            for any more. None: they are asked for.
        on_progress: See `train_volume`.
        live: See `volume_passes`.

    Returns:
        The bricks that this rank has trained or taken over, each brick on one rank, and the seconds that it took.

    Raises:
        ApmgsrnError: On all ranks: what went wrong on the first of them, or that the user stopped it.
    """
    layout = job.layout
    worker = BrickWorker(job, survey, plans, folder, getattr(devices, "automatic", False))
    done = folder.open(key, communicator) if folder else set()
    finished = _without_training(plans, done, worker, folder, communicator)
    pending = [p for p in plans if p.value is None and p.brick not in done]
    places = _places(devices, communicator)
    rounds = plan_rounds(pending, places, owners)
    of_all = plan_rounds([p for p in plans if p.value is None], places, owners)  # a resumed training has its share of the budget
    budget = job.train.time_budget / len(of_all) if of_all else 0.0
    communicator.forget_stop()
    progress = _Progress(communicator, layout.count, len(rounds), on_progress)
    for number, given in enumerate(rounds):
        progress.round, progress.finished = number, layout.count - sum(len(r) for r in rounds[number:])
        tasks = yield from _bring(given, layout, communicator.rank, at_hand)

        def work():
            _raise_failure(tasks)
            return train_side_by_side(worker, tasks, devices, budget, progress)

        if live:
            communicator.together(lambda: _raise_failure(tasks))
            trained = yield from in_slices(worker, tasks, devices, budget, progress, communicator, finished)
        else:
            trained = communicator.together(work)
            finished += trained
        tasks = None  # nothing of this round is kept while the next one is brought
        cut = any(f.reason == "stopped by user" for f in trained)
        stop = communicator.everywhere((communicator.stop_requested(), cut))
        more = number + 1 < len(rounds)
        if layout.count > 1 and any((asked and more) or cut for asked, cut in stop):
            raise ApmgsrnError(_stopped(layout.count, folder))
    return finished, progress.seconds


def _raise_failure(tasks: list[tuple]) -> None:
    """What stood in the way of the values, if anything did."""
    failure = next((values for _, values in tasks if isinstance(values, Exception)), None)
    if failure is not None:
        raise failure


def _without_training(
    plans: tuple[BrickPlan, ...], done: set[int], worker: BrickWorker, folder: BrickFolder | None,
    communicator: Communicator,
) -> list[FinishedBrick]:  # fmt: skip
    """This rank's share of the bricks that are finished, and of the constant ones."""
    mine = worker.layout.ranks(communicator.size) == communicator.rank
    constant = [p.brick for p in plans if p.value is not None and p.brick not in done and mine[p.brick]]
    return communicator.together(
        lambda: [_taken(folder, b, worker) for b in sorted(done) if mine[b]] + [worker.constant(b) for b in constant]
    )


def _taken(folder: BrickFolder, brick: int, worker: BrickWorker) -> FinishedBrick:
    """A finished brick of the folder. ModelFileError: it is of other arrays."""
    finished, columns = folder.take(brick), worker.columns
    if set(finished.history) != set(columns) or len(finished.errors) != len(worker.arrays):
        found = f"{', '.join(finished.history)}, {len(finished.errors)} errors"
        raise ModelFileError(
            f"finished brick {brick}: expected a history of {', '.join(columns)} and {len(worker.arrays)} errors, found {found}"
        )
    return finished


def _places(devices: list, communicator: Communicator) -> list[tuple[int, int]]:
    """(rank, slot) of the devices of all ranks."""
    return [(rank, slot) for rank, slots in enumerate(communicator.everywhere(len(devices))) for slot in range(slots)]


def _bring(given: dict, layout: BrickLayout, rank: int, at_hand: dict[int, np.ndarray] | None) -> Generator:
    """The (brick, values) of this rank in one round; as many passes on every rank as the busiest one needs."""
    mine = [brick for (r, _), brick in sorted(given.items()) if r == rank]
    if at_hand is not None:
        return [(brick, at_hand[brick]) for brick in mine]
    tasks, passes = [], max(Counter(r for r, _ in given).values())
    for brick in mine + [None] * (passes - len(mine)):
        values = yield None if brick is None else layout.trained(brick)
        if brick is not None or isinstance(values, Exception):
            keep = passes == 1 or isinstance(values, Exception)
            tasks.append((brick, values if keep else _copied(values)))  # the next pass may end a view
        values = None
    return tasks


def _copied(values: np.ndarray | MeshValues) -> np.ndarray | MeshValues | Exception:
    """A copy, or why there is none; samples of a mesh are copies already."""
    if isinstance(values, MeshValues):
        return values
    try:
        return np.array(values)
    except MemoryError as error:  # told to all ranks by who asked
        return error


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
    waiting: dict[int, deque[int]] = {}
    for brick in queue:
        waiting.setdefault(int(owners[brick]), deque()).append(brick)
    rounds = []
    while any(waiting.values()):
        rounds.append({(rank, slot): waiting[rank].popleft() for rank, slot in places if waiting.get(rank)})
    return rounds


class _Progress:
    """Turns what one brick reports into the state of the whole, and carries a stop to all ranks."""

    def __init__(self, communicator: Communicator, bricks: int, rounds: int, callback):
        self._communicator, self._bricks, self._rounds, self._callback = communicator, bricks, max(rounds, 1), callback
        self._start = perf_counter()
        self.round = self.finished = 0

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return perf_counter() - self._start

    def leave_out(self, seconds: float) -> None:
        """What has just passed was no training: it does not count."""
        self._start += seconds

    def __call__(self, state: TrainingState) -> bool:
        if self._bricks > 1:
            fraction = (self.round + state.fraction) / self._rounds
            seconds = self.seconds
            left = seconds * (1 - fraction) / fraction if fraction else state.seconds_left
            state = replace(
                state, fraction=fraction, seconds=seconds, seconds_left=left, bricks=self._bricks, finished=self.finished
            )
        if self._callback is not None and self._callback(state) is False:
            self._communicator.request_stop()
        return not self._communicator.stop_requested()

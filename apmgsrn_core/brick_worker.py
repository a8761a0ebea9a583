"""One brick from its values to its stored network; several side by side on several devices."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace

import numpy as np
import torch

from .brick_folder import BrickFolder, FinishedBrick
from .brick_survey import Survey
from .brick_training import DeadNetwork, mean_squared_error, train_brick
from .device_sampler import DeviceSampler
from .field_data import FieldData
from .history import History, TrainingState
from .model import Network
from .model_file import ModelFile
from .model_writer import StoredBrick
from .placement import start_transforms
from .sampler import Sampler
from .training_step import stays_on_device
from .volume_job import BrickPlan, VolumeJob
from .weights import describe_brick, pack_section, read_network, round_to_stored

logger = logging.getLogger(__name__)

SEED_STRIDE = 1_000_003  # seeds of different bricks do not meet
ATTEMPTS, ATTEMPT_STRIDE = 4, 500_009  # with other seeds, when a network dies
LOOK_SECONDS = 0.2  # between two reports when several bricks are trained at once


class BrickWorker:
    """Trains bricks of one job.

    Args:
        survey, plans: Of all bricks.
        folder: Keeps checkpoints and finished bricks; None: in memory.
    """

    def __init__(self, job: VolumeJob, survey: Survey, plans: tuple[BrickPlan, ...], folder: BrickFolder | None):
        self._job, self._plans, self._folder = job, plans, folder
        self._arrays = survey.infos(job.arrays)
        self._masks = [summary.mask for summary in survey.bricks]
        self.layout = job.layout

    def constant(self, brick: int) -> FinishedBrick:
        """A brick of one value: exact, without training."""
        plan = self._plans[brick]
        network = Network(plan.model, torch.Generator().manual_seed(0))
        with torch.no_grad():
            network.layers[-1].weight.zero_()
            network.layers[-1].bias.copy_(torch.tensor(plan.value))
        history = History(1)
        history.add_row(0, 0.0, 0.0)
        return self._finished(brick, network, "constant data", 0.0, history)

    def train(
        self, brick: int, values: np.ndarray, device: torch.device, budget: float, on_progress: Callable
    ) -> FinishedBrick:
        """Train a brick.

        Args:
            values: [z, y, x] or [z, y, x, component] of `layout.trained(brick)`.
            budget: Seconds; 0 = none.
            on_progress: See `train_brick`.

        Small networks die now and then: all neurons of a layer stop, the output is one value (10 of 64 bricks of a head at 1500 to
        5000 parameters). Then another seed and half the rates are tried. Where the values are a little noise, that one value is as
        good as it gets, and it stays after the last attempt.
        """
        data = FieldData.of_arrays(values, self._plans[brick].grid, self._arrays)
        for attempt in range(ATTEMPTS - 1):
            try:
                return self._train(brick, data, attempt, device, budget, on_progress)
            except DeadNetwork as error:
                logger.info("brick %d, attempt %d: %s", brick, attempt, error)
        return self._train(brick, data, ATTEMPTS - 1, device, budget, on_progress)

    def _train(
        self, brick: int, data: FieldData, attempt: int, device: torch.device, budget: float, on_progress: Callable
    ) -> FinishedBrick:
        """With the seed and the rates of one attempt; the last one may die."""
        plan, slower = self._plans[brick], 0.5**attempt
        train = replace(
            plan.train, time_budget=budget, learning_rate=plan.train.learning_rate * slower,
            transform_learning_rate=plan.train.transform_learning_rate * slower,
        )  # fmt: skip
        seed = train.seed * SEED_STRIDE + brick + attempt * ATTEMPT_STRIDE
        generator = torch.Generator().manual_seed(seed)
        network = self._start(data, plan, generator)
        on_device = stays_on_device(device, train)
        sampler = DeviceSampler(data, train, seed, device) if on_device else Sampler(data, train, generator)
        reason, history = train_brick(
            network.to(device), sampler, train, lambda state: on_progress(replace(state, brick=brick)),
            constant=not data.span, must_live=attempt + 1 < ATTEMPTS,
            checkpoint=self._folder.checkpoint(brick, attempt) if self._folder else None,
        )  # fmt: skip
        error = mean_squared_error([round_to_stored(network)], Sampler(data, train, generator))
        last = history.table()
        history.add_row(int(last["iteration"][-1]), error, float(last["learning_rate"][-1]))
        return self._finished(brick, network, reason, error, history)

    def _start(self, data: FieldData, plan: BrickPlan, generator: torch.Generator) -> Network:
        """The network before the first step: fresh and placed, or the initial model's."""
        network = Network(plan.model, generator)
        if self._job.initial:
            saved = read_network(ModelFile(self._job.initial, "initial model"), plan.brick, self._job.components)
            network.load_state_dict(saved.state_dict())
            return network
        with torch.no_grad():
            network.transforms.copy_(start_transforms(data, plan.model, plan.train, generator))
        return network

    def _finished(self, brick: int, network: Network, reason: str, error: float, history: History) -> FinishedBrick:
        section = pack_section(network, self._masks[brick])
        entry = describe_brick(network, self.layout, brick, self._job.fitted_model)
        stored = StoredBrick.of_bytes(brick, entry, section)
        finished = FinishedBrick(stored, reason, error, history.table())
        if self._folder is None or reason == "stopped by user":
            return finished
        return self._folder.save(finished, section)


def train_side_by_side(
    worker: BrickWorker, tasks: list[tuple[int, np.ndarray]], devices: list, budget: float, on_progress: Callable
) -> list[FinishedBrick]:
    """Train bricks at once, one on each device; `on_progress` is called by this thread alone, with the state of one of
    them and the mean fraction."""
    if not tasks:
        return []
    if len(tasks) == 1:
        return [worker.train(*tasks[0], devices[0], budget, on_progress)]
    states: dict[int, TrainingState] = {}
    stop = threading.Event()

    def note(state: TrainingState) -> bool:
        states.pop(state.brick, None)
        states[state.brick] = state  # the last one is the newest
        return not stop.is_set()

    with ThreadPoolExecutor(len(tasks)) as pool:
        futures = [pool.submit(worker.train, *task, device, budget, note) for task, device in zip(tasks, devices)]
        try:
            while waiting := wait(futures, LOOK_SECONDS).not_done:
                seen = list(dict(states).values())
                fraction = sum(s.fraction for s in seen) / len(tasks)
                failed = any(f.exception() for f in futures if f not in waiting)
                if failed or (seen and not on_progress(replace(seen[-1], fraction=fraction))):
                    stop.set()
        finally:
            stop.set()
    return [future.result() for future in futures]

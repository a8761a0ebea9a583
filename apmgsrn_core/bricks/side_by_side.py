"""Several bricks at a time, one on each of several devices."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace

import numpy as np

from ..training.history import TrainingState
from .folder import FinishedBrick
from .worker import BrickWorker

LOOK_SECONDS = 0.2  # between two reports


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

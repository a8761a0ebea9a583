"""The learning rate of a step."""

from __future__ import annotations

import math
from collections import deque

import numpy as np

from .optimizer import Adam
from .train_config import TrainConfig


class CosineSchedule:
    """From `learning_rate` to `final_learning_rate` (when that is lower) along half a cosine of the progress."""

    def __init__(self, optimizer: Adam, config: TrainConfig):
        self._groups = optimizer.groups
        self._starts = [group.rate for group in optimizer.groups]
        self._floor, self._factor = min(config.final_learning_rate / config.learning_rate, 1.0), 1.0
        self.finished = False

    def step(self, progress: float, loss: float, grids_converged: bool) -> None:
        """Set the rates for a progress in [0, 1]."""
        factor = self._floor + (1 - self._floor) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
        for group, start in zip(self._groups, self._starts):
            group.rate = start * factor * self._factor

    def slow_down(self, factor: float) -> None:
        """Set rates that are so much lower from the next step on."""
        self._factor = factor

    def state(self) -> dict:
        """For a checkpoint: nothing, the progress says all."""
        return {}

    def restore(self, state: dict) -> None:
        """Go on from a `state`. The rates are the optimizer's; this object was made before those were restored."""


class PlateauSchedule:
    """Published: once the grids have converged, a tenth of the rate whenever the mean loss stalls; done below 1 %.

    Source: the authors' `train.py`: torch's ReduceLROnPlateau with these numbers, followed here rule by rule.
    """

    WINDOW = 1000  # steps that the mean loss is taken over
    FACTOR, PATIENCE, COOLDOWN, THRESHOLD = 0.1, 500, 250, 1e-4

    def __init__(self, optimizer: Adam, config: TrainConfig):
        self._groups = optimizer.groups
        self._stop, self._factor = config.learning_rate * 1e-2, 1.0
        self._losses: deque[float] = deque(maxlen=self.WINDOW)
        self._best = math.inf
        self._bad = self._cooldown = 0
        self.finished = False

    def step(self, progress: float, loss: float, grids_converged: bool) -> None:
        """Record the loss; after convergence, let the plateau rule act."""
        self._losses.append(loss)
        if not grids_converged:
            return
        mean = sum(self._losses) / len(self._losses)
        if mean < self._best * (1 - self.THRESHOLD):
            self._best, self._bad = mean, 0
        else:
            self._bad += 1
        if self._cooldown > 0:
            self._cooldown, self._bad = self._cooldown - 1, 0
        if self._bad > self.PATIENCE:
            for group in self._groups:
                group.rate *= self.FACTOR
            self._cooldown, self._bad = self.COOLDOWN, 0
        self.finished = self._groups[0].rate < self._stop * self._factor

    def slow_down(self, factor: float) -> None:
        """Take rates that are so much lower for those of the start; the rates themselves are the optimizer's."""
        self._factor = factor

    def state(self) -> dict:
        """For a checkpoint; the rates are the optimizer's."""
        return {
            "losses": np.array(self._losses, dtype=np.float64), "best": self._best, "bad": self._bad,
            "cooldown": self._cooldown, "finished": self.finished,
        }  # fmt: skip

    def restore(self, state: dict) -> None:
        """Go on from a `state`."""
        self._losses = deque(state["losses"].tolist(), maxlen=self.WINDOW)
        self._best, self._bad = state["best"], state["bad"]
        self._cooldown, self.finished = state["cooldown"], state["finished"]


def make_schedule(optimizer: Adam, config: TrainConfig) -> CosineSchedule | PlateauSchedule:
    """The schedule that a resolved config names."""
    return {"cosine": CosineSchedule, "plateau": PlateauSchedule}[config.schedule](optimizer, config)

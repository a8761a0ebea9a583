"""The learning rate of a step."""

from __future__ import annotations

import math
from collections import deque

import torch

from .config import TrainConfig


class CosineSchedule:
    """From `learning_rate` to `final_learning_rate` (when that is lower) along half a cosine of the progress."""

    def __init__(self, optimizer: torch.optim.Optimizer, config: TrainConfig):
        self._optimizer = optimizer
        self._starts = [group["lr"] for group in optimizer.param_groups]
        self._floor = min(config.final_learning_rate / config.learning_rate, 1.0)
        self.finished = False

    def step(self, progress: float, loss: torch.Tensor, grids_converged: bool) -> None:
        """Set the rates for a progress in [0, 1]."""
        factor = self._floor + (1 - self._floor) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
        for group, start in zip(self._optimizer.param_groups, self._starts):
            group["lr"] = start * factor


class PlateauSchedule:
    """Published: once the grids have converged, a tenth of the rate whenever the mean loss stalls; done below 1 %.

    Source: the authors' `train.py` (ReduceLROnPlateau with patience 500, relative threshold 1e-4, cooldown 250).
    """

    WINDOW = 1000

    def __init__(self, optimizer: torch.optim.Optimizer, config: TrainConfig):
        self._optimizer = optimizer
        self._stop = config.learning_rate * 1e-2
        self._losses: deque[float] = deque(maxlen=self.WINDOW)
        self._plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer, mode="min", factor=0.1, patience=500, threshold=1e-4, threshold_mode="rel", cooldown=250
        )
        self.finished = False

    def step(self, progress: float, loss: torch.Tensor, grids_converged: bool) -> None:
        """Record the loss; after convergence, let the plateau rule act."""
        self._losses.append(float(loss))
        if grids_converged:
            self._plateau.step(sum(self._losses) / len(self._losses))
            self.finished = self._optimizer.param_groups[0]["lr"] < self._stop


def make_schedule(optimizer: torch.optim.Optimizer, config: TrainConfig) -> CosineSchedule | PlateauSchedule:
    """The schedule that a resolved config names."""
    return {"cosine": CosineSchedule, "plateau": PlateauSchedule}[config.schedule](optimizer, config)

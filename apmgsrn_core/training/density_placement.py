"""The published placement: grids move so that the feature density follows the error.

Source: Wurster et al. 2024, TVCG 30(1), section 3; the numbers are those of the authors' `train.py`: an Adam of its own
with 0.05 of the learning rate (`transform_learning_rate`), brought to half of it over 5 steps, from 5 % (its step 500 of
10 000) to 80 % of the training, until the density loss has converged.
"""

from __future__ import annotations

import numpy as np
import torch

from .optimizer import Adam, ParameterGroup
from .train_config import TrainConfig

HALVING_STEPS = 5  # over which the learning rate is brought to half of it
FLAT_WINDOWS = 2  # steps in a row that must find the density loss flat


class DensityPlacement:
    """Moves the transforms of a network by the density loss.

    Args:
        transforms: The (m, 3, 4) parameter.
        config: Resolved.
        kernel: Finds the density loss.
    """

    def __init__(self, transforms: torch.nn.Parameter, config: TrainConfig, kernel):
        self._transforms = transforms
        self._config = config
        self._kernel = kernel
        self._group = ParameterGroup([transforms], config.transform_learning_rate)
        self._optimizer = Adam([self._group], config, kernel)
        self._losses: list[float] = []
        self._flat = 0
        self.converged = False

    def active(self, progress: float) -> bool:
        """Whether grids move now, when this share of the training is done."""
        return not self.converged and self._config.transform_start < progress < self._config.transform_stop

    def step(self, points: torch.Tensor, squared_error: torch.Tensor) -> float:
        """One step from points (n, 3) and their squared errors (n,)."""
        self._transforms.grad = None
        loss = self._kernel.density_loss(self._transforms, points, squared_error)
        loss.backward()
        self._optimizer.step()
        self._transforms.grad = None
        share = min(len(self._losses) + 1, HALVING_STEPS) / HALVING_STEPS
        self._group.rate = self._config.transform_learning_rate * (1.0 - 0.5 * share)
        self.record(float(loss.detach()))
        return self._losses[-1]

    def record(self, loss: float) -> None:
        """Take up a density loss and test for convergence.

        Converged: the last window's mean is not below the one before by more than the tolerance, twice in a row.
        """
        self._losses.append(loss)
        window = self._config.density_window
        if len(self._losses) < 2 * window:
            return
        recent = sum(self._losses[-window:]) / window
        before = sum(self._losses[-2 * window : -window]) / window
        self._flat = self._flat + 1 if before - recent < before * self._config.density_tolerance else 0
        self.converged = self._flat >= FLAT_WINDOWS

    def state(self) -> dict:
        """For a checkpoint."""
        losses = np.array(self._losses, dtype=np.float64)
        return {"optimizer": self._optimizer.state(), "losses": losses, "flat": self._flat, "converged": self.converged}

    def restore(self, state: dict) -> None:
        """Go on from a `state`."""
        self._optimizer.restore(state["optimizer"])
        self._losses = state["losses"].tolist()
        self._flat, self.converged = state["flat"], state["converged"]

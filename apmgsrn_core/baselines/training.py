"""Training a baseline on the data and the batches of our own networks."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import nn

from ..data.field_data import FieldData
from ..device import resolve_device
from ..errors import ConfigError, DataError
from ..file.manifest import ArrayInfo
from ..grid import Grid
from ..kernels.readable import TorchKernel
from ..training.history import RunningMean, TrainingState, psnr_of
from ..training.optimizer import Adam, ParameterGroup
from ..training.sampler import Sampler
from ..training.schedule import CosineSchedule
from ..training.train_config import TrainConfig

USED = {  # fields of a TrainConfig that mean something here; the others must have their defaults
    "quality", "iterations", "time_budget", "stop_psnr", "seed", "batch_size", "learning_rate", "final_learning_rate",
    "beta_1", "beta_2", "epsilon", "positions", "importance_fraction", "importance_blocks", "importance_start",
    "importance_refresh",
}  # fmt: skip
REPORT = 50  # steps between two calls of on_progress
CHECKED = 1 << 16  # values that the PSNR is measured on


@dataclass(frozen=True)
class BaselineResult:
    """What a training gave: the array for `save_network`, steps, seconds, and the PSNR in dB on some of the values."""

    arrays: tuple[ArrayInfo, ...]
    iterations: int
    seconds: float
    psnr: float


def train_baseline(
    network: nn.Module,
    values: np.ndarray,
    grid: Grid,
    config: TrainConfig | None = None,
    device: str = "auto",
    name: str = "values",
    on_progress: Callable[[TrainingState], bool | None] | None = None,
) -> BaselineResult:
    """Train a network in place: mean squared error, Adam, a cosine of the learning rate, our own batches.

    Args:
        network: (n, 3) points in [-1, 1] -> (n, components); it is moved to the device.
        values: [z, y, x] or [z, y, x, component]; 0 and 1 of the network are their range.
        grid: The lattice they live on.
        config: Steps, batches and rates. A learning rate of 0 is that of the network's paper.
        device: As `resolve_device` takes it.
        name: Of the array.
        on_progress: Called now and then; returning False ends the training.

    Raises:
        ConfigError: A setting that is about feature grids is not at its default.
        DataError: As `FieldData`, or the network has other outputs than the values have components.
    """
    config = _resolved(config or TrainConfig(), network, grid)
    data = FieldData(values, grid, name)
    network.to(resolve_device(device)).train()
    _check_outputs(network, data)
    sampler = Sampler(data, config, torch.Generator().manual_seed(config.seed))
    iterations, seconds, psnr = _Run(network, sampler, config, on_progress).finish()
    network.eval()
    info = ArrayInfo(name, grid.association, data.components, np.asarray(values).dtype.name, (data.minimum, data.maximum))
    return BaselineResult((info,), iterations, seconds, psnr)


class _Run:
    """The steps of one training."""

    def __init__(self, network: nn.Module, sampler: Sampler, config: TrainConfig, on_progress: Callable | None):
        self._network, self._sampler, self._config, self._on_progress = network, sampler, config, on_progress
        self._device = next(network.parameters()).device
        group = ParameterGroup(list(network.parameters()), config.learning_rate)
        self._optimizer = Adam([group], config, TorchKernel())
        self._schedule = CosineSchedule(self._optimizer, config)
        self._mean, self._start = RunningMean(), time.perf_counter()

    def finish(self) -> tuple[int, float, float]:
        """Train to the end; (steps, seconds, PSNR)."""
        done, steps, budget, wanted = 0, self._config.iterations, self._config.time_budget, self._config.stop_psnr
        for iteration in range(steps):
            seconds = time.perf_counter() - self._start
            progress = max(iteration / steps, seconds / budget if budget else 0.0)
            if progress >= 1.0:
                break
            self._step(iteration, progress)
            done = iteration + 1
            if done % REPORT == 0 or done == steps:
                if wanted and psnr_of(self._mean.value) >= wanted and self._psnr() >= wanted:
                    break
                if self._on_progress is not None and self._on_progress(self._state(done, progress)) is False:
                    break
        return done, time.perf_counter() - self._start, self._psnr()

    def _psnr(self) -> float:
        """Of the network as it is, on values that are always the same."""
        batch = self._sampler.draw_uniform(CHECKED)
        with torch.no_grad():
            parts = [self._network(part.to(self._device)).cpu() for part in batch.points.split(1 << 13)]
        error = (torch.cat(parts) - batch.targets).square().mean(dim=1)[batch.weights[:, 0] > 0]
        return psnr_of(float(error.double().mean()))

    def _step(self, iteration: int, progress: float) -> None:
        drawn = self._sampler.draw()
        batch = drawn.to(self._device)
        for parameter in self._network.parameters():
            parameter.grad = None
        error = ((self._network(batch.points) - batch.targets) ** 2).mean(dim=1)
        loss = (error * batch.weights[:, 0]).mean()
        loss.backward()
        self._schedule.step(progress, 0.0, True)
        self._optimizer.step()
        share = float((batch.weights > 0).float().mean())
        if share:
            self._mean.add(float(loss.detach()) / share)
        self._sampler.report(iteration, drawn, error.detach())

    def _state(self, done: int, progress: float) -> TrainingState:
        seconds, steps = time.perf_counter() - self._start, self._config.iterations
        left = seconds * (1.0 / max(progress, 1.0 / steps) - 1.0)
        loss, rate = self._mean.value, self._optimizer.groups[0].rate
        return TrainingState(done, steps, seconds, left, loss, psnr_of(loss), rate, max(progress, done / steps))


def _resolved(config: TrainConfig, network: nn.Module, grid: Grid) -> TrainConfig:
    """With all automatic values filled in, the rate by the network's own."""
    other = [f.name for f in fields(config) if f.name not in USED and getattr(config, f.name) != f.default]
    if other:
        found = getattr(config, other[0])
        raise ConfigError(f"{other[0]}: expected its default, for it is about adaptive grids, found {found!r}")
    own = getattr(network, "learning_rate", 0.0)
    if not config.learning_rate and not own:
        name = type(network).__name__
        raise ConfigError(f"learning_rate: expected a positive number for {name}, which has none of its own")
    return replace(config, learning_rate=config.learning_rate or own).resolved(grid)


def _check_outputs(network: nn.Module, data: FieldData) -> None:
    device = next(network.parameters()).device
    with torch.no_grad():
        found = tuple(network(torch.zeros(2, 3, device=device)).shape)
    if found != (2, data.components):
        raise DataError(f"network: expected outputs (n, {data.components}), as the values have, found (n, {found[-1]})")
